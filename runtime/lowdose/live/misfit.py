"""Whether a model still suits a stream: its error on the frames that came last, beside what could be fitted to them."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.live.arrival import Arrival
from lowdose.methods.method import Options, Prepared
from lowdose.methods.risk import CROP_PX, N_FRAMES, SCAN_SIDE, relative_risk, take_sample
from lowdose.methods.wiener import PreparedWiener, Wiener, sample_runs
from lowdose.sample import middle
from lowdose.source import ArraySource, Frame, FrameSource
from lowdose.wiener import fit_movie

EVERY_S = 5.0
# Estimates take at most this share of the time.
SHARE = 0.1
# Of a movie's reference: a fit of a good part of a second, where the best window would take several.
WINDOW_FRAMES = 3
# The first estimates after a calibration say what is usual. Two in a row that lie above their mean by more than this,
# and by so many of their standard deviations, are a drift. On simulated movies of 0.3 to 4 electrons per pixel the
# estimates scattered by 0.0005 to 0.002, and pixels of 0.24 A in place of 0.15 raised them by 0.03.
N_USUAL = 4
RISE = 0.005
N_SIGMA = 5.0


class Misfit:
    """Estimates, every so often and in another thread, the relative risk (`lowdose.methods.risk`) of one model.

    The last frames of a movie are looked at, 192 px at most a side, or 11x11 patterns in the middle of each scan. A
    small blind filter is fitted to them anew, and the model's error and noise is given in units of that filter's: near
    1 for a model that suits the frames, whatever their dose.

    name: of the model. estimates: all of them, in order. drifted: whether the last two lie above the first ones by more
    than chance.
    """

    def __init__(self, name: str, prepared: Prepared, every_s: float = EVERY_S) -> None:
        self.name = name
        self._prepared = prepared
        self._every_s = every_s
        self._not_before_s = time.perf_counter() + every_s
        self._frames: deque[Frame] = deque(maxlen=N_FRAMES)
        self._patterns: dict[int, Frame] = {}
        self._worker: threading.Thread | None = None
        self.estimates: list[float] = []
        self.drifted = False

    @property
    def usual(self) -> float:
        """The mean of the first estimates."""
        return float(np.mean(self.estimates[:N_USUAL]))

    def see(self, arrival: Arrival) -> None:
        """Take a frame; every so often an estimate is begun."""
        if arrival.scan is not None:
            self._see_pattern(arrival, arrival.scan)
            return
        self._frames.append(middle(arrival.frame.pixels, CROP_PX).copy())  # not to keep whole frames
        if len(self._frames) == N_FRAMES and self._is_due():
            self._begin(ArraySource(np.stack(self._frames)))

    def end(self) -> None:
        """The sequence is over: what comes next is no neighbour of what came."""
        self._frames.clear()
        self._patterns.clear()

    def wait(self) -> None:
        """Wait for an estimate that is under way."""
        if self._worker is not None:
            self._worker.join()

    def _see_pattern(self, arrival: Arrival, scan: tuple[int, int]) -> None:
        sides = [min(n, SCAN_SIDE) for n in scan]
        first = [(n - side) // 2 for n, side in zip(scan, sides, strict=True)]
        y, x = divmod(arrival.frame.number, scan[1])
        if 0 <= y - first[0] < sides[0] and 0 <= x - first[1] < sides[1]:
            self._patterns[arrival.frame.number] = arrival.frame.pixels
        if len(self._patterns) == sides[0] * sides[1] and self._is_due():
            block = np.stack([self._patterns[number] for number in sorted(self._patterns)])
            self._begin(ArraySource(block.reshape(*sides, *block.shape[1:]), is_scan=True))
            self._patterns.clear()

    def _is_due(self) -> bool:
        busy = self._worker is not None and self._worker.is_alive()
        return not busy and time.perf_counter() >= self._not_before_s

    def _begin(self, frames: ArraySource) -> None:
        self._worker = threading.Thread(target=self._estimate, args=(frames,), name="misfit", daemon=True)
        self._worker.start()

    def _estimate(self, frames: ArraySource) -> None:
        start_s = time.perf_counter()
        with suppress(LowdoseError):  # a closed shutter, say: nothing can be said of such frames
            self.estimates.append(misfit_of(self._prepared, frames))
        recent = self.estimates[N_USUAL:][-2:]
        if len(recent) == 2:
            scatter = float(np.std(self.estimates[:N_USUAL], ddof=1))
            self.drifted = min(recent) > self.usual + max(RISE, N_SIGMA * scatter)
        end_s = time.perf_counter()
        self._not_before_s = end_s + max(self._every_s, (end_s - start_s) / SHARE)


def misfit_of(prepared: Prepared, frames: FrameSource) -> float:
    """Error and noise of a model on these frames, in units of those of a small blind filter fitted to them."""
    if frames.scan is not None:
        reference = Wiener().prepare(frames, Options())
    else:
        reference = PreparedWiener(fit_movie(sample_runs(frames), window_frames=WINDOW_FRAMES), "frames")
    return relative_risk(prepared, take_sample(frames, reference))
