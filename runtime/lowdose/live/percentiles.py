"""Percentiles of times in fixed memory, however many there are."""

from __future__ import annotations

import math
import threading

import numpy as np

# Bins grow by 2 % from a microsecond to a day, so a percentile is known to 2 %.
_FIRST_MS = 1e-3
_LAST_MS = 8.64e7
_GROWTH = math.log(1.02)
_N_BINS = math.ceil(math.log(_LAST_MS / _FIRST_MS) / _GROWTH) + 1


class Percentiles:
    """Counts times in ms by size; from any thread."""

    def __init__(self) -> None:
        self._counts = np.zeros(_N_BINS, np.int64)
        self._total_ms = 0.0
        self._max_ms = 0.0
        self._lock = threading.Lock()

    def add(self, time_ms: float) -> None:
        place = math.ceil(math.log(max(time_ms, _FIRST_MS) / _FIRST_MS) / _GROWTH)
        with self._lock:
            self._counts[min(place, _N_BINS - 1)] += 1
            self._total_ms += time_ms
            self._max_ms = max(self._max_ms, time_ms)

    def report(self) -> dict[str, float]:
        """As a stage of `lowdose.Stream.stats`: count, mean_ms, p50_ms, p95_ms, p99_ms, max_ms; zeros for no times."""
        with self._lock:
            counts, total_ms, max_ms = self._counts.copy(), self._total_ms, self._max_ms
        n = int(counts.sum())
        reached = counts.cumsum()
        report: dict[str, float] = {"count": n, "mean_ms": total_ms / n if n else 0.0}
        for share in (50, 95, 99):
            place = int(np.searchsorted(reached, max(1, math.ceil(n * share / 100))))
            report[f"p{share}_ms"] = min(max_ms, _FIRST_MS * math.exp(place * _GROWTH)) if n else 0.0
        return report | {"max_ms": max_ms}
