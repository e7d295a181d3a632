"""`watch:FOLDER`: files that appear in a folder, or stacks in it that grow, as a stream.

The folder is polled, because network shares report no changes.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lowdose.errors import LowdoseError
from lowdose.io import READABLE_SUFFIXES, open_stack
from lowdose.io.folder import natural_order
from lowdose.live.frame import END, Item, LiveFrame, Source, SourceOptions

POLL_S = 0.2
# A file that cannot be read though it does not change is given up after this time, so that the next ones come.
PATIENCE_S = 10.0
# So many files that were read last are looked at again, in case that they grow.
_MAY_GROW = 8


@dataclass
class _File:
    """What is known of a file: size and time of change at the last look, since when they are so, frames taken."""

    seen: tuple[int, int]
    since_s: float
    n_taken: int = 0
    read_at: tuple[int, int] | None = None


class WatchSource(Source):
    """Frames of the files directly in a folder, in natural order of their names, each when it is complete.

    A file is complete when its size and time of change are the same in two looks and it can be read. A stack that grows
    is read on from where it ended. A frame of another shape or dtype begins a new sequence.
    done: frames to pass over, by `origin`, when a run is resumed.
    """

    def __init__(self, address: str, options: SourceOptions) -> None:
        super().__init__()
        self.folder = Path(address)
        if not self.folder.is_dir():
            raise LowdoseError(f"watch:{address}: no such folder")
        self.channel = options.channel or 0
        self.done: Counter[str] = Counter()
        self.patience_s = PATIENCE_S
        self._files: dict[str, _File] = {}
        self._settled: set[str] = set()
        self._may_grow: deque[str] = deque()
        self._last: str | None = None
        self._number = 0

    def frames(self) -> Iterator[Item]:
        """Without end. Files that vanish and files that stay broken are counted and passed over."""
        n_done: Counter[str] = Counter()
        for origin in self.done:
            n_done[origin.rpartition("#")[0]] += 1
        # Of what was done before, too, only the last files may have grown.
        self._settled.update(sorted(n_done, key=lambda name: natural_order(Path(name)))[:-_MAY_GROW])
        poll_s = POLL_S
        while not self.stopping.wait(poll_s):
            start_s = time.monotonic()
            complete = self._complete(n_done)
            # Of a large folder most of the time is left to others.
            poll_s = max(POLL_S, 4 * (time.monotonic() - start_s))
            for name in complete:
                if self.stopping.is_set():
                    return
                yield from self._read(name)
                if name in self._files and self._files[name].read_at is None:
                    break  # not complete after all

    def _complete(self, n_done: Counter[str]) -> list[str]:
        """Names of the files that are complete and hold frames not taken, up to the first that is not complete."""
        try:
            names = {entry.name: entry for entry in os.scandir(self.folder) if readable(entry.name)}
        except OSError as error:
            if self.counters["folder_away"] == 0:
                self.messages.append(f"watch:{self.folder} cannot be listed ({error.strerror}); waiting for it")
            self.counters["folder_away"] += 1
            return []
        now_s = time.monotonic()
        complete = []
        in_order = True
        for name in sorted(names.keys() - self._settled, key=lambda name: natural_order(Path(name))):
            try:
                status = names[name].stat()
            except OSError:
                if name in self._files and self._files[name].read_at is None:
                    self._gone(name)
                continue
            seen = status.st_size, status.st_mtime_ns
            file = self._files.setdefault(name, _File((-1, -1), now_s, n_done.pop(name, 0)))
            if file.seen != seen:
                file.seen, file.since_s = seen, now_s
            elif file.read_at != seen and in_order:
                complete.append(name)
                continue
            if file.read_at is None:
                in_order = False  # the names behind it wait
        return complete

    def _read(self, name: str) -> Iterator[Item]:
        """The frames of a file from where it was left; a broken one is tried again until patience ends."""
        file = self._files[name]
        path = self.folder / name
        try:
            with open_stack(path) as reader:
                if self.channel >= reader.n_channels:
                    raise LowdoseError(f"{path}: no channel {self.channel}; the file has {reader.n_channels}, from 0")
                self.calibration = reader.calibration
                kind = f"{reader.height}x{reader.width} {reader.dtype}"
                if self._last not in (None, kind):
                    yield END
                    self._number = 0
                self._last = kind
                while file.n_taken < reader.n_frames:
                    pixels = reader.read(file.n_taken)[self.channel]
                    yield LiveFrame(pixels, self._number, origin=f"{name}#{file.n_taken}")
                    self._number += 1
                    file.n_taken += 1
        except FileNotFoundError:
            self._gone(name)
            return
        except (LowdoseError, OSError) as error:
            if not path.exists():
                self._gone(name)
                return
            if time.monotonic() - file.since_s < self.patience_s:
                return  # still being written, perhaps
            self.survived("broken_files", f"passed over: {error}")
        file.read_at = file.seen
        if name not in self._may_grow:
            self._may_grow.append(name)
        while len(self._may_grow) > _MAY_GROW:
            settled = self._may_grow.popleft()
            self._settled.add(settled)
            del self._files[settled]

    def _gone(self, name: str) -> None:
        self.survived("vanished", f"{self.folder / name} vanished before it was read")
        self._files.pop(name, None)
        if name in self._may_grow:
            self._may_grow.remove(name)


def readable(name: str) -> bool:
    """Whether a name is of an image, not of a hidden or half-written file."""
    return not name.startswith(".") and re.sub(r"\.(gz|bz2)$", "", name.lower()).endswith(READABLE_SUFFIXES)
