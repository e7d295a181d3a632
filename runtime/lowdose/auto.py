"""What is decided from the data: which frames are looked at, and the dtype of the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose.errors import LowdoseError

N_WINDOWS = 3
SAMPLE_SIDE_PX = 768

# Rounding to integers adds an error of 1/sqrt(12); it may cost this share of the denoised signal's
# standard deviation before the output becomes float32.
ROUNDING_SHARE = 0.01


def spread_windows(n_frames: int, taps: Sequence[int], n_windows: int = N_WINDOWS) -> list[list[int]]:
    """Frame indices of up to `n_windows` windows spread evenly over a sequence, each in the order of `taps`.

    Windows lie inside the sequence where it is long enough; otherwise the ends are mirrored.
    """
    reach = taps[-1]
    first, last = (reach, n_frames - 1 - reach) if n_frames > 2 * reach else (0, n_frames - 1)
    centres = sorted({round(c) for c in np.linspace(first, last, min(n_windows, last - first + 1) + 2)[1:-1]})
    return [[mirrored(centre + tap, n_frames) for tap in taps] for centre in centres]


class FrameSource(Protocol):
    """An array (n_frames, height, width), or anything that reads frame number `index` when asked for it."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> NDArray[Any]: ...


def sample_windows(frames: FrameSource, taps: Sequence[int]) -> NDArray[np.float32]:
    """Windows (n_windows, n_taps, height, width) to choose settings from: the middle of each frame, 768 px at most.

    Raises LowdoseError for NaN or infinite pixels in them.
    """
    windows = [[middle(frames[i]) for i in window] for window in spread_windows(len(frames), taps)]
    sample = np.asarray(windows, dtype=np.float32)
    if not np.isfinite(sample).all():
        raise LowdoseError("there are NaN or infinite pixels; replace them first")
    return sample


def middle(frame: NDArray[Any]) -> NDArray[Any]:
    """The middle of a frame (height, width), at most SAMPLE_SIDE_PX a side."""
    starts = [max(0, size - SAMPLE_SIDE_PX) // 2 for size in frame.shape]
    return frame[starts[0] : starts[0] + SAMPLE_SIDE_PX, starts[1] : starts[1] + SAMPLE_SIDE_PX]


def mirrored(index: int, n_frames: int) -> int:
    """The frame that stands in for `index` when the sequence is mirrored about its first and last frame."""
    last = n_frames - 1
    return -index if index < 0 else 2 * last - index if index > last else index


def output_dtype(dtype: DTypeLike, signal_std: float) -> np.dtype[np.generic]:
    """The input's dtype, or float32 where rounding would cost more than 1 % of the denoised signal's std.

    Counts of a few electrons per pixel would round to nothing.
    """
    kept = np.dtype(dtype)
    if kept.kind in "iu" and signal_std * ROUNDING_SHARE < 1 / np.sqrt(12):
        return np.dtype(np.float32)
    return kept
