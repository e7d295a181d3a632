"""A blind filter that follows a stream: dose, magnification and scene may change, and the weights with them."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose import _core
from lowdose.errors import LowdoseError
from lowdose.sample import middle
from lowdose.source import Frame
from lowdose.wiener.blind_filter import BlindFilter
from lowdose.wiener.movie import fit_movie

EVERY_FRAMES = 32
MEMORY_FRAMES = 24


class FollowingStream:
    """A stream of a fitted filter that is fitted again, in another thread, to the frames that came last.

    fitted: to begin with. every_frames: how often it is fitted again; memory_frames: to how many frames. A new filter
    takes over between two frames; `swaps` says before which ones (numbers of the frames pushed). Its window along time
    stays that of the first, because the latency does. Not for scans, which are fitted as a whole.
    """

    def __init__(
        self,
        fitted: BlindFilter,
        height: int,
        width: int,
        dtype: DTypeLike,
        *,
        out_dtype: DTypeLike = np.float32,
        every_frames: int = EVERY_FRAMES,
        memory_frames: int = MEMORY_FRAMES,
    ) -> None:
        if any(dy for dy, _ in fitted.taps):
            raise LowdoseError("a filter over a scan cannot follow a stream: fit it to the scan")
        self._fitted = fitted
        self._inner = fitted.stream(height, width, dtype, out_dtype=out_dtype)
        self._every = every_frames
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=max(memory_frames, len(fitted.taps)))
        self._n_in = 0
        self._worker: threading.Thread | None = None
        self._ready: _core.FilterKernels | None = None
        self.swaps: list[int] = []

    @property
    def latency_frames(self) -> int:
        """How many frames a result comes after its frame."""
        return self._inner.latency_frames

    @property
    def stats(self) -> dict[str, Any]:
        """As `lowdose.Stream.stats`."""
        return self._inner.stats

    def push(self, frame: Frame) -> Frame | None:
        """Take one frame; return the next result, or None at the start. Errors as those of `lowdose.Stream.push`."""
        ready, self._ready = self._ready, None
        if ready is not None:
            self._inner.use(ready)
            self.swaps.append(self._n_in)
        result = self._inner.push(frame)
        part = np.array(middle(frame), np.float32)
        self._recent.append(part.reshape(self._fitted.n_channels, *part.shape[-2:]))
        self._n_in += 1
        if self._n_in % self._every == 0 and not (self._worker and self._worker.is_alive()):
            self._worker = threading.Thread(target=self._fit, args=(list(self._recent),), daemon=True)
            self._worker.start()
        return result

    def flush(self) -> list[Frame]:
        """End the sequence and return the results still due, so that as many frames come out as went in."""
        self.wait()
        return self._inner.flush()

    def wait(self) -> None:
        """Wait for a fit that is under way; the next frame is filtered with it."""
        if self._worker is not None:
            self._worker.join()

    def _fit(self, recent: list[NDArray[np.float32]]) -> None:
        level, window_frames = self._fitted.level[:, 0, 0], len(self._fitted.taps)
        try:
            fitted = fit_movie([np.stack(recent)], level=level, window_frames=window_frames)
        except LowdoseError:
            return  # constant frames, such as a closed shutter: the weights stay as they are
        self._ready = self._inner.prepare(fitted)
