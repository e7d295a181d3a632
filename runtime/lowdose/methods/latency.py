"""How long frames take, in the form of `lowdose.Stream.stats`, for streams that do not run in the compiled core."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Latency:
    """Counts frames and keeps the time that each result took."""

    def __init__(self) -> None:
        self.frames_in = 0
        self._times_ms = array("d")

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the work for one result."""
        start = time.perf_counter()
        yield
        self.add(start)

    def add(self, start_s: float) -> None:
        """Count a result whose work began at `start_s`, by time.perf_counter."""
        self._times_ms.append((time.perf_counter() - start_s) * 1e3)

    @property
    def stats(self) -> dict[str, Any]:
        """As `lowdose.Stream.stats`; of the stages there is only `total`."""
        times = np.asarray(self._times_ms)
        p50, p95, p99 = np.quantile(times, [0.5, 0.95, 0.99]).tolist() if times.size else (0.0, 0.0, 0.0)
        total = {
            "count": times.size,
            "mean_ms": float(times.mean()) if times.size else 0.0,
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "max_ms": float(times.max()) if times.size else 0.0,
        }
        return {"n_tiles": 1, "frames_in": self.frames_in, "frames_out": times.size, "total": total}
