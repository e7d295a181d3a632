"""The queue between source and denoiser: what happens to frames that come faster than they are denoised."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

POLICIES = ("block", "drop-oldest", "newest-wins")


class FrameQueue(Generic[_Item]):
    """Frames in order between two threads, at most `capacity`.

    policy, for a frame that finds the queue full: "block" lets the source wait; "drop-oldest" gives up the frame that
    waits longest; "newest-wins" gives up all that wait. Ends (see `end`) are never given up.
    dropped: how many frames were given up. deepest: the most that ever waited.
    """

    def __init__(self, capacity: int, policy: str) -> None:
        self.capacity = max(1, capacity)
        self.policy = policy
        self.dropped = 0
        self.deepest = 0
        self._waiting: deque[_Item | None] = deque()
        self._n_frames = 0
        self._open = True
        self._changed = threading.Condition()

    def put(self, item: _Item) -> None:
        """Offer a frame; after `close` it is let go."""
        with self._changed:
            while self._open and self.policy == "block" and self._n_frames >= self.capacity:
                self._changed.wait()
            if not self._open:
                return
            if self._n_frames >= self.capacity:
                self._drop(1 if self.policy == "drop-oldest" else self._n_frames)
            self._waiting.append(item)
            self._n_frames += 1
            self.deepest = max(self.deepest, self._n_frames)
            self._changed.notify_all()

    def end(self) -> None:
        """Mark that a sequence has ended: `get` will give None here."""
        with self._changed:
            self._waiting.append(None)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> _Item | None:
        """The next frame, or None for an end. Raises TimeoutError, and EOFError when closed and empty."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or not self._open, timeout_s):
                raise TimeoutError
            if not self._waiting:
                raise EOFError
            item = self._waiting.popleft()
            self._n_frames -= item is not None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No frame comes any more; those that wait can still be taken."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def __len__(self) -> int:
        return self._n_frames

    def _drop(self, n_frames: int) -> None:
        kept: deque[_Item | None] = deque()
        while n_frames:
            item = self._waiting.popleft()
            if item is None:
                kept.append(None)
                continue
            self.dropped += 1
            self._n_frames -= 1
            n_frames -= 1
        self._waiting.extendleft(reversed(kept))
