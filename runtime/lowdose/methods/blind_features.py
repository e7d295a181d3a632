"""What the last layer of a blind-feature network sees of noisy frames, in NumPy: to fit that layer to them.

The same numbers as the node BlindFeatures of the model file (export/lowdose_export/blind_features.py), but for the
layer itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdose._fourier import fast_length
from lowdose.model_weights import Weights

Planes = NDArray[np.float32]

NEAR_PX = 5
"""Side of the square whose mean stands for what the linear filter would see beyond the frame."""


def seen_by_last_layer(weights: Weights, planes: Planes, rows: slice) -> tuple[Planes, Planes]:
    """For a band of rows of one frame's planes (n_planes, height, width), normalised, tap by tap.

    weights: by their names in the model file, filter and own shares in place. Returns L, the features and both hidden
    layers, (n_channels, n, n_rows * width); and the filter's own result, (n_channels, n_rows * width).
    """
    filters = weights["filter.weight"]
    n_channels, n_planes, side, _ = filters.shape
    width = planes.shape[-1]
    r = weights["features.vertical"].shape[-1] // 2
    n_rows = rows.stop - rows.start
    wide = cut(planes, rows, r + side // 2)
    linear = correlated(wide, filters) + weights["filter.bias"][:, None, None]
    seen = wide[:, side // 2 : side // 2 + n_rows + 2 * r, side // 2 : side // 2 + width + 2 * r]
    inside = linear[:, r : r + n_rows, r : r + width]
    filtered = (inside + border(weights, planes, rows)).reshape(n_channels, -1)
    own_planes = [n_planes // n_channels // 2 * n_channels + channel for channel in range(n_channels)]
    everything = []
    for c in range(n_channels):
        features = separable(weights, c, np.concatenate([seen, linear[c : c + 1]]))
        features -= weights["own"][c, :, 0, 0][:, None, None] * planes[own_planes[c], rows]
        inputs = np.concatenate([inside[c : c + 1], features]).reshape(len(features) + 1, -1)
        first = layer(weights, "1", c, inputs)
        everything.append(np.concatenate([inputs, first, layer(weights, "2", c, first)]))
    return np.stack(everything), filtered


def cut(planes: Planes, rows: slice, margin: int) -> Planes:
    """The rows and a margin all around, zero outside the frame."""
    top, bottom = rows.start - margin, rows.stop + margin
    outside = max(0, -top), max(0, bottom - planes.shape[1])
    part = planes[:, max(0, top) : bottom]
    return np.pad(part, [(0, 0), outside, (margin, margin)])


def correlated(planes: Planes, kernels: Planes) -> Planes:
    """The sums over planes (n, height, width) of their correlations with kernels (n_out, n, side, side), where those
    lie inside. By transforms; planes whose kernels are zero cost nothing."""
    side = kernels.shape[-1]
    used = np.flatnonzero(kernels.any(axis=(0, 2, 3)))
    height, width = planes.shape[1:]
    size = fast_length(height), fast_length(width)
    spectrum = np.zeros((len(kernels), size[0], size[1] // 2 + 1), np.complex64)
    for plane in used:
        of_kernels = np.conj(np.fft.rfft2(kernels[:, plane], s=size))
        spectrum += (np.fft.rfft2(planes[plane], s=size) * of_kernels).astype(np.complex64, copy=False)
    result = np.fft.irfft2(spectrum, s=size)[:, : height - side + 1, : width - side + 1]
    return np.ascontiguousarray(result, np.float32)


def border(weights: Weights, planes: Planes, rows: slice) -> Planes:
    """What the filter misses beyond the frame, if it is there as near the pixel: (n_channels, n_rows, width)."""
    filters = weights["filter.weight"]
    n_channels, n_planes, side, _ = filters.shape
    by_channel = filters.reshape(n_channels, -1, n_channels, side, side).sum(axis=1)  # (out, in, side, side)
    ones = np.ones((1, *planes.shape[1:]), np.float32)
    inside = correlated(cut(ones, rows, side // 2), by_channel.reshape(-1, 1, side, side))
    missing = by_channel.sum(axis=(2, 3))[:, :, None, None] - inside.reshape(n_channels, n_channels, *inside.shape[1:])
    box = np.ones((1, 1, NEAR_PX, NEAR_PX), np.float32)
    n_taps = n_planes // n_channels
    count = n_taps * correlated(cut(ones, rows, NEAR_PX // 2), box)[0] - 1
    near = []
    for channel in range(n_channels):
        total = planes[channel::n_channels].sum(axis=0, keepdims=True)
        own = planes[n_taps // 2 * n_channels + channel, rows]
        near.append((correlated(cut(total, rows, NEAR_PX // 2), box)[0] - own) / np.maximum(count, 1))
    return np.asarray(np.einsum("oihw,ihw->ohw", missing, np.stack(near)), np.float32)


def separable(weights: Weights, channel: int, planes: Planes) -> Planes:
    """The features of a channel, own pixels included, by products with band matrices: planes with the margin that they
    see, and last L, to (n_features, height, width)."""
    mix, vertical, horizontal = (weights[f"features.{name}"][channel] for name in ("mix", "vertical", "horizontal"))
    mixed = np.tensordot(mix, planes, 1)
    down, across = band(vertical, planes.shape[1]), band(horizontal, planes.shape[2])
    return np.asarray(np.matmul(down, np.matmul(mixed, across.swapaxes(1, 2))), np.float32)


def band(kernels: Planes, length: int) -> Planes:
    """(n, length - n_taps + 1, length): the matrices of correlations with kernels (n, n_taps)."""
    n, n_taps = kernels.shape
    row = np.arange(length - n_taps + 1)
    matrices = np.zeros((n, len(row), length), np.float32)
    for tap in range(n_taps):
        matrices[:, row, row + tap] = kernels[:, tap, None]
    return matrices


def layer(weights: Weights, number: str, channel: int, inputs: Planes) -> Planes:
    sums = weights[f"perceptron.w{number}"][channel] @ inputs + weights[f"perceptron.b{number}"][channel, :, None]
    result: Planes = np.maximum(sums, 0)
    return result
