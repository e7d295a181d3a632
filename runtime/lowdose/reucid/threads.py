"""Work shared among threads; NumPy's transforms and our compiled loops let go of Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def for_each(work: Callable[[int], None], items: Iterable[int], threads: int) -> None:
    """Call `work` with every item; in this thread where `threads` is 1."""
    if threads == 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass
