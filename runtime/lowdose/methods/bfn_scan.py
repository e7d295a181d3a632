"""The bundled blind-feature network over a scan: last layer and own-pixel step, fitted to the scan before it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.methods.blind_features import seen_by_last_layer
from lowdose.methods.last_layer import LastLayer, Moments, fit_last_layer
from lowdose.model import Model
from lowdose.model_weights import Weights
from lowdose.sample import neighbour
from lowdose.wiener import BlindFilter
from lowdose.wiener.own_pixel import Residuals, brightness_classes, counted_electrons, own_pixel_planes

MOST_PIXELS = 1.2e6
"""Of patterns that the last layer is fitted to."""
SAMPLED_PIXELS = 2e6
"""Of patterns that the own-pixel step is found from."""
SMALLEST = 3
"""Positions a side of a scan: the network's neighbours are mirrored at its edges."""
LEAST_PARTS = 8
"""Patterns, for cross-validation."""

Scan = NDArray[np.float32]


def fit_last_layer_of_scan(
    weights: Weights, trained: NDArray[np.float64], fitted: BlindFilter, block: Scan
) -> LastLayer:
    """The last layer that predicts the noisy pixels of patterns from all over a block best.

    weights: by their names in the file, the filter's in place. trained: (n,), the layer as trained. block: (scan_y,
    scan_x, height, width), what the filter was fitted to. Errors count by the noise's standard deviation in the
    scan's units, as in training.
    """
    n_y, n_x, height, width = block.shape
    scale = fitted.scale[0]
    root = np.sqrt(scale / scale.mean()).ravel()
    n = min(n_y * n_x, max(LEAST_PARTS, int(MOST_PIXELS / (height * width))))
    parts = []
    for i in range(n):
        y, x = divmod(i * n_y * n_x // n, n_x)
        window = np.stack([block[neighbour(y, dy, n_y), neighbour(x, dx, n_x)] for dy, dx in fitted.taps])
        planes = (window - fitted.level) / fitted.scale
        seen, filtered = seen_by_last_layer(weights, planes, slice(0, height))
        left = planes[len(planes) // 2].ravel() - filtered[0]
        inputs = np.concatenate([seen[0], np.ones_like(filtered)])
        parts.append(Moments.of(inputs * root, left * root))
    return fit_last_layer(parts, trained)


def fit_own_pixel(fitted: BlindFilter, block: Scan, model: Model) -> tuple[Weights, dict[str, Any]]:
    """The own-pixel step after a model without one: weights by their names in the file, none where the step is refused;
    and what was found."""
    level, scale = fitted.level[0], fitted.scale[0]
    part = sample_of(block)
    blind = model.denoise(part).reshape(-1, *level.shape)
    classes = np.broadcast_to(brightness_classes(level, scale), blind.shape)
    seen = Residuals(part.reshape(blind.shape) - blind, blind, classes)
    planes, found = own_pixel_planes(level, scale, seen, seen, counted_electrons(block))
    return {"own_error": planes[:1], "own_constant": planes[1:]} if found["used"] else {}, found


def sample_of(block: Scan) -> Scan:
    """As many positions in the middle of a block as hold SAMPLED_PIXELS, SMALLEST a side at least."""
    side = max(SMALLEST, int((SAMPLED_PIXELS / block[0, 0].size) ** 0.5))
    first = [max(0, n - side) // 2 for n in block.shape[:2]]
    return np.ascontiguousarray(block[first[0] : first[0] + side, first[1] : first[1] + side])
