"""Autocovariances of noisy frames over time, channels, y and x."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lowdose._fourier import fast_length

Floats = NDArray[np.float64]
NOTHING = slice(0, 0)
MOST_FILLED = 1.5
"""Where rows are left out there are fewer pairs far apart than near by; their sums are made up for that, so far."""


@dataclass(frozen=True)
class Covariances:
    """values[i, j, dt + max_dt, dy + max_px, dx + max_px] = mean of y_i(t, y, x) y_j(t + dt, y + dy, x + dx).

    y_i is channel i less its level, zero outside the frames; the mean runs over all pixels of all pairs of frames that
    are there. n_values: pixels of a channel that went in. n_frames: of the longest run.
    """

    values: Floats
    max_dt: int
    max_px: int
    n_values: int
    n_frames: int

    def tapered(self) -> Covariances:
        """The same with frames outside a run taken as zero too. Means over the pairs that are there need not be the
        covariances of anything (a matrix of them can have negative eigenvalues); these always are."""
        dt = np.abs(np.arange(-self.max_dt, self.max_dt + 1))
        share = np.maximum(0, 1 - dt / self.n_frames)[:, None, None]
        return replace(self, values=self.values * share)

    @property
    def n_channels(self) -> int:
        return len(self.values)


def covariances(
    runs: Iterable[NDArray[np.float32]],
    level: NDArray[np.float32],
    max_dt: int,
    max_px: int,
    left_out: slice = NOTHING,
) -> Covariances:
    """Covariances of runs of consecutive frames, each (n_frames, n_channels, height, width), all of one frame size.

    level: per channel, subtracted. left_out: rows of the frames that no pair may touch. One transform per frame, padded
    so that no pair wraps around the border, and one product per pair of frames; Wiener-Khinchin.
    """
    runs = list(runs)
    n_channels, height, width = runs[0].shape[1:]
    kept = np.ones(height, np.float32)
    kept[left_out] = 0
    padded = (fast_length(height + max_px), fast_length(width + max_px))
    sums = np.zeros((max_dt + 1, n_channels, n_channels, padded[0], padded[1] // 2 + 1), np.complex64)
    n_pairs = np.zeros(max_dt + 1, int)
    for run in runs:
        recent: deque[NDArray[np.complex64]] = deque(maxlen=max_dt + 1)
        for frame in run:
            recent.appendleft(
                np.fft.rfft2((frame - level[:, None, None]) * kept[:, None], s=padded).astype(np.complex64, copy=False)
            )
            for dt, earlier in enumerate(recent):
                n_pairs[dt] += 1
                for i in range(n_channels):
                    for j in range(n_channels):
                        sums[dt, i, j] += np.conj(earlier[i]) * recent[0][j]
    lags = np.arange(-max_px, max_px + 1)
    pairs = np.correlate(kept, np.pad(kept, max_px))  # of rows, by lag
    expected = kept.mean() * np.maximum(height - np.abs(lags), 0)
    share = np.minimum(expected / np.maximum(pairs, 1), MOST_FILLED)
    values = np.zeros((n_channels, n_channels, 2 * max_dt + 1, len(lags), len(lags)))
    for dt in range(max_dt + 1):
        plane = np.fft.irfft2(sums[dt], s=padded)[..., lags[:, None], lags[None, :]]
        mean = (
            plane * share[:, None] / (kept.sum() * width * max(1, n_pairs[dt]))
        )  # (n_channels, n_channels, lags, lags)
        values[:, :, max_dt + dt] = mean
        values[:, :, max_dt - dt] = mean.swapaxes(0, 1)[..., ::-1, ::-1]
    return Covariances(values, max_dt, max_px, int(n_pairs[0] * kept.sum()) * width, max(map(len, runs)))
