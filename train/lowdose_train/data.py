"""Noisy data for training: read from files, checked, and brought to a common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.io import open_stack

PEDESTAL_PERCENTILE = 0.1
N_SAMPLED_FRAMES = 8
N_SAMPLED_PIXELS = 1 << 20
MAX_HELD_OUT = 4

Array = NDArray[Any]


def read_movie(path: str | Path, axes: str | None, channel: int | None, max_stack_mb: float) -> Array:
    """One channel of a file as (n_frames, height, width) in the file's type.

    `axes` overrules what the file says, one letter per dimension. Raises LowdoseError for a file that
    `lowdose.io` cannot read, or of several channels when none was chosen.
    """
    with open_stack(path, axes=axes) as stack:
        if channel is None and stack.n_channels > 1:
            raise LowdoseError(
                f"{path} has {stack.n_channels} channels; choose one with --channel 0 to {stack.n_channels - 1}"
            )
        chosen = channel or 0
        if not 0 <= chosen < stack.n_channels:
            raise LowdoseError(
                f"{path} has {stack.n_channels} channel(s), counted from 0; channel {chosen} is not there"
            )
        n_frames = frames_that_fit(stack.n_frames, stack.height * stack.width, stack.dtype, max_stack_mb)
        return np.stack([stack.read(frame)[chosen] for frame in range(n_frames)])


def read_channels(path: str | Path, axes: str | None, max_stack_mb: float) -> Array:
    """All channels of a file as (n_frames, n_channels, height, width) in the file's type."""
    with open_stack(path, axes=axes) as stack:
        n_pixels = stack.n_channels * stack.height * stack.width
        n_frames = frames_that_fit(stack.n_frames, n_pixels, stack.dtype, max_stack_mb)
        return np.stack([stack.read(frame) for frame in range(n_frames)])


def read_scan(path: str | Path, axes: str | None, max_stack_mb: float) -> Array:
    """A 4D file as (scan_y, scan_x, height, width) in the file's type; of a large one the first rows of the scan.

    Raises LowdoseError where the file does not have two axes of scan positions and one channel.
    """
    with open_stack(path, axes=axes) as stack:
        positions = [stack.layout.size(axis) for axis in stack.layout.frame_axes]
        if len(positions) != 2 or stack.n_channels != 1:
            raise LowdoseError(
                f"{path} has axes {stack.axes} {stack.shape}; expected a scan (scan_y, scan_x, height, width). "
                "Say what the dimensions are with --axes, for example --axes QRYX"
            )
        scan_y, scan_x = positions
        n_rows = frames_that_fit(scan_y, scan_x * stack.height * stack.width, stack.dtype, max_stack_mb)
        patterns = np.stack([stack.read(position)[0] for position in range(n_rows * scan_x)])
        return patterns.reshape(n_rows, scan_x, stack.height, stack.width)


def frames_that_fit(n_frames: int, n_pixels: int, dtype: np.dtype[Any], max_stack_mb: float) -> int:
    """How many frames of `n_pixels` are read into memory: three at least, where there are three."""
    frame_mb = n_pixels * np.dtype(dtype).itemsize / 1e6
    return min(n_frames, max(3, math.floor(max_stack_mb / frame_mb)))


def check_frames(name: str, frames: Array, axes: str) -> None:
    """Raise LowdoseError unless `frames` are finite real numbers with as many dimensions as `axes` names.

    `axes` is what is expected, such as "n_frames, height, width".
    """
    if frames.ndim != len(axes.split(",")) or frames.dtype.kind not in "uif" or frames.size == 0:
        raise LowdoseError(f"{name}: got {frames.dtype} data of shape {frames.shape}; expected real numbers ({axes})")
    bad = next((t for t in range(len(frames)) if not np.isfinite(frames[t]).all()), None)
    if bad is not None:
        raise LowdoseError(f"{name}: frame {bad} holds NaN or infinite pixels; replace them before training")


def offset_and_noise(name: str, frames: Array) -> tuple[float, float]:
    """Pedestal, and white-noise level, of frames (n_frames, height, width), estimated on a sample of them.

    Raises LowdoseError where neighbours do not differ.
    """
    sampled = np.unique(np.linspace(0, len(frames) - 1, N_SAMPLED_FRAMES).round().astype(int))
    values = frames[sampled].reshape(-1)
    values = values[:: max(1, values.size // N_SAMPLED_PIXELS)]
    offset = float(np.percentile(values, PEDESTAL_PERCENTILE, method="lower"))  # as the runtime's core does
    noise_std = _noise_std(frames, sampled)
    if noise_std == 0:
        raise LowdoseError(f"{name}: neighbouring pixels or frames are all equal; there is no noise to learn from")
    return offset, noise_std


def _noise_std(frames: Array, sampled: NDArray[np.int_]) -> float:
    """White-noise level from differences of neighbours: the smallest over time, y and x (which holds least signal)."""
    some = frames[sampled].astype(np.float32)
    variances = [0.5 * float(np.square(np.diff(some, axis=axis)).mean()) for axis in (1, 2) if some.shape[axis] > 1]
    pairs = sampled[sampled + 1 < len(frames)]
    if len(pairs):
        steps = frames[pairs + 1].astype(np.float32) - frames[pairs].astype(np.float32)
        variances.append(0.5 * float(np.square(steps).mean()))
    return math.sqrt(min(variances, default=0.0))


def spread(items: Sequence[int], share: float, at_most: int = MAX_HELD_OUT) -> list[int]:
    """About `share` of the items, 1 to `at_most` of them, evenly spread and away from the ends."""
    n_chosen = min(max(1, round(share * len(items))), at_most)
    return [items[int((i + 0.5) * len(items) / n_chosen)] for i in range(n_chosen)]
