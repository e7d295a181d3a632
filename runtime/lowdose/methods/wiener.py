"""The self-calibrating blind filter as a method: fitted to the noisy frames it then denoises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose.errors import LowdoseError
from lowdose.methods.method import FrameStream, Options
from lowdose.sample import middle
from lowdose.source import FrameSource
from lowdose.wiener import BlindFilter, FollowingStream, fit_movie, fit_scan
from lowdose.wiener.blind_filter import stream_bytes
from lowdose.wiener.movie import FRAMES

# Pixels that are fitted to, of all frames and channels: enough that the weights hardly fit the noise, few enough for
# a second.
FITTED_PIXELS = 8e6
MIN_FITTED_FRAMES = 16
N_RUNS = 3
FITTED_SCAN_SIDE = 32
N_MEAN_PATTERNS = 1024
REST = 4.0
"""A fit takes seconds of a core, which the stream needs as well; it may take a fifth of the time."""


class Wiener:
    """The self-calibrating blind filter (`lowdose.wiener`): no training, no parameters.

    following: a movie's filter is fitted again and again to the frames that came last.
    """

    name = "wiener"
    device = "cpu"
    runtime = "closed-form fit"

    def __init__(self, following: bool = False) -> None:
        self.following = following

    def prepare(self, frames: FrameSource, options: Options) -> PreparedWiener:
        if options.settings.cutoff is not None or options.settings.weight_set is not None:
            raise LowdoseError("wiener takes no low-pass and no weight set: leave out --lowpass")
        if self.following and frames.scan is not None:
            raise LowdoseError("a filter over a scan is fitted as a whole and cannot follow: leave out --follow")
        if frames.scan is not None:
            fitted = fit_scan(*sample_scan(frames, frames.scan))
            needed = stream_bytes(len(fitted.taps), 4 * (frames.scan[1] + 1) + 1, 1, frames.height, frames.width)
            check_memory(needed, options.max_bytes)
        else:
            fitted = fit_movie(sample_runs(frames), max_frames=window_for_memory(frames, options.max_bytes))
        if self.following:
            return FollowingWiener(fitted, "frames")
        return PreparedWiener(fitted, "frames" if frames.scan is None else "patterns")


@dataclass
class PreparedWiener:
    fitted: BlindFilter
    unit: str

    @property
    def report(self) -> dict[str, Any]:
        return dict(self.fitted.report)

    @property
    def summary(self) -> str:
        n, diameter, _ = self.fitted.report["window"]
        return (
            f"window of {n} {self.unit} and {diameter} px, fitted to {self.fitted.report['fitted_frames']} {self.unit}"
        )

    @property
    def alone(self) -> bool:
        return len(self.fitted.taps) == 1

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        return self.fitted.stream(frames.height, frames.width, frames.dtype, out_dtype=out_dtype, scan=frames.scan)


class FollowingWiener(PreparedWiener):
    """Its streams follow their frames; a later one begins with the filter that the one before ended with."""

    _last: FollowingStream | None = None

    @property
    def report(self) -> dict[str, Any]:
        return {**super().report, "follows": True}

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FollowingStream:
        last = self._last
        fitted = self.fitted if last is None else last.fitted
        size = frames.height, frames.width
        stream = FollowingStream(fitted, *size, frames.dtype, out_dtype=out_dtype, rest=REST)
        stream.n_fits = 1 if last is None else last.n_fits
        self._last = stream
        return stream


def window_for_memory(frames: FrameSource, max_bytes: float) -> int:
    """The most frames of a window whose stream stays within `max_bytes` (0: no cap)."""
    needed = {n: stream_bytes(n, n, frames.n_channels, frames.height, frames.width) for n in FRAMES}
    check_memory(needed[1], max_bytes)
    return max(n for n in FRAMES if not max_bytes or needed[n] <= max_bytes)


def check_memory(needed: float, max_bytes: float) -> None:
    """Raise LowdoseError when a stream does not stay within `max_bytes` (0: no cap)."""
    if max_bytes and needed > max_bytes:
        raise LowdoseError(
            f"the blind filter needs {needed / 1e6:.0f} MB for these frames and may take {max_bytes / 1e6:.0f} MB; "
            "raise the cap (--max-mem)"
        )


def sample_runs(frames: FrameSource) -> list[NDArray[np.float32]]:
    """Runs of consecutive frames to fit to, (n_frames, n_channels, height, width), spread over a long sequence.

    Of large frames the middle is taken.
    """
    pixels = middle(frames[0]).size
    n_frames = max(MIN_FITTED_FRAMES, int(FITTED_PIXELS / pixels))
    if n_frames >= len(frames):
        starts, length = [0], len(frames)
    else:
        length = n_frames // N_RUNS
        starts = [round(i * (len(frames) - length) / (N_RUNS - 1)) for i in range(N_RUNS)]
    runs = [[middle(frames[start + i]) for i in range(length)] for start in starts]
    return [np.asarray(run, np.float32).reshape(length, -1, *run[0].shape[-2:]) for run in runs]


def sample_scan(frames: FrameSource, scan: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The middle of a scan, (n_y, n_x, height, width), and the mean of patterns from all over it, (height, width)."""
    sides = [min(n, FITTED_SCAN_SIDE) for n in scan]
    first = [(n - side) // 2 for n, side in zip(scan, sides, strict=True)]
    rows, columns = (range(start, start + side) for start, side in zip(first, sides, strict=True))
    block = np.array([[np.asarray(frames[y * scan[1] + x], np.float32) for x in columns] for y in rows])
    spread = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), N_MEAN_PATTERNS)).round().astype(int))
    total = np.zeros((frames.height, frames.width))
    for index in spread:
        total += frames[int(index)]
    return block, (total / len(spread)).astype(np.float32)
