"""What is decided from the data: which frames are looked at, and the dtype of the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.source import FrameSource

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
    return [[neighbour(centre, tap, n_frames) for tap in taps] for centre in centres]


def sample_windows(frames: FrameSource, taps: Sequence[int]) -> NDArray[np.float32]:
    """Windows (n_windows, n_taps, [n_channels,] height, width) to choose from: the middle of frames, 768 px at most.

    Raises LowdoseError for NaN or infinite pixels in them.
    """
    windows = [[middle(frames[i]) for i in window] for window in spread_windows(len(frames), taps)]
    sample = np.asarray(windows, dtype=np.float32)
    if not np.isfinite(sample).all():
        raise LowdoseError("there are NaN or infinite pixels; replace them first")
    return sample


def middle(frame: NDArray[Any], side_px: int = SAMPLE_SIDE_PX) -> NDArray[Any]:
    """The middle of a frame (..., height, width), at most side_px a side."""
    starts = [max(0, size - side_px) // 2 for size in frame.shape[-2:]]
    return frame[..., starts[0] : starts[0] + side_px, starts[1] : starts[1] + side_px]


def neighbour(at: int, step: int, n_frames: int) -> int:
    """The frame that stands for frame at + step in a sequence mirrored at its ends, seen from frame `at`.

    Where it is not there, the one as far on the other side; where that is missing too, the nearest that is not `at`.
    A blind-spot network never meets its own frame among its neighbours.
    """
    for index in (at + step, at - step):
        if 0 <= index < n_frames:
            return index
    ends = [0, n_frames - 1] if step < 0 else [n_frames - 1, 0]
    return ends[0] if ends[0] != at else ends[1]


def output_dtype(frames: FrameSource) -> np.dtype[Any]:
    """The input's dtype, or float32 where rounding would cost more than 1 % of the signal's standard deviation.

    Counts of a few electrons per pixel would round to nothing. Where there are several channels, the weakest decides.
    """
    if frames.dtype.kind not in "iu":
        return frames.dtype
    if signal_std(sample_windows(frames, [0])) * ROUNDING_SHARE < 1 / np.sqrt(12):
        return np.dtype(np.float32)
    return frames.dtype


def signal_std(windows: NDArray[np.float32]) -> float:
    """Standard deviation of the signal in noisy frames (n_windows, n_taps, [n_channels,] height, width), least channel.

    Noise is independent from pixel to pixel, so the covariance of neighbours holds the signal alone; the larger one
    of those along x and y is taken, because it falls where the signal is sharp.
    """
    n_channels = windows.shape[2] if windows.ndim == 5 else 1
    channels = windows.reshape(-1, n_channels, *windows.shape[-2:]).swapaxes(0, 1)  # (channels, frames, h, w)
    weakest = np.inf
    for frames in channels:
        contrast = frames - frames.mean(axis=(-2, -1), keepdims=True)
        products = (contrast[:, 1:] * contrast[:, :-1], contrast[:, :, 1:] * contrast[:, :, :-1])
        covariance = max((float(p.mean(dtype=np.float64)) for p in products if p.size), default=0.0)
        weakest = min(weakest, max(0.0, covariance))
    return float(np.sqrt(weakest))
