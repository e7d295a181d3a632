"""The bundled blind-feature network over a scan: what is fitted to the scan before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.model import Model
from lowdose.model_weights import Weights
from lowdose.wiener import BlindFilter
from lowdose.wiener.own_pixel import Residuals, brightness_classes, counted_electrons, own_pixel_planes

SAMPLED_PIXELS = 2e6
"""Of patterns that strength and own-pixel step are found from."""
MOST_STRENGTH = 1.25
SMALLEST = 3
"""Positions a side of a scan: the network's neighbours are mirrored at its edges."""

Scan = NDArray[np.float32]


@dataclass(frozen=True)
class ScanFit:
    """Strength of the network, weights of the own-pixel step by their names in the file (none where it is refused), and
    what it found."""

    strength: float
    own_planes: Weights
    own_pixel: dict[str, Any]


def fit_to_scan(fitted: BlindFilter, block: Scan, opened: Callable[[float], Model]) -> ScanFit:
    """How far to go from the filter's result to the network's, and the own-pixel step after it.

    block: the patterns that the filter was fitted to. opened: the model at a strength. The strength is what predicts
    the noisy pixels best, weighted by one over the noise's standard deviation, as in training.
    """
    part = sample_of(block)
    level, scale = fitted.level[0], fitted.scale[0]
    filtered, corrected = (opened(strength).denoise(part) for strength in (0.0, 1.0))
    change, left = corrected - filtered, part - filtered
    size = float((np.square(change, dtype=np.float64) / scale).sum())
    along = float((change * left / scale).sum(dtype=np.float64))
    strength = float(np.clip(along / size, 0, MOST_STRENGTH)) if size > 0 else 0.0
    blind = (filtered + np.float32(strength) * change).reshape(-1, *level.shape)
    classes = np.broadcast_to(brightness_classes(level, scale), blind.shape)
    seen = Residuals(part.reshape(blind.shape) - blind, blind, classes)
    planes, found = own_pixel_planes(level, scale, seen, seen, counted_electrons(block))
    own: Weights = {"own_error": planes[:1], "own_constant": planes[1:]} if found["used"] else {}
    return ScanFit(strength, own, found)


def sample_of(block: Scan) -> Scan:
    """As many positions in the middle of a block as hold SAMPLED_PIXELS, SMALLEST a side at least."""
    side = max(SMALLEST, int((SAMPLED_PIXELS / block[0, 0].size) ** 0.5))
    first = [max(0, n - side) // 2 for n in block.shape[:2]]
    return np.ascontiguousarray(block[first[0] : first[0] + side, first[1] : first[1] + side])
