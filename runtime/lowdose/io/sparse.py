"""A file in memory that costs only the parts that were written."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

_PAGE_BYTES = 2**16


class SparseFile(io.RawIOBase):
    """A readable, writable, seekable file whose holes take no memory; for laying out large files."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._size = 0
        self._place = 0

    def copy_to(self, target: BinaryIO) -> None:
        """Write what was written here to the same places of `target`, and give it the same size."""
        for number, page in sorted(self._pages.items()):
            target.seek(number * _PAGE_BYTES)
            view = memoryview(page)[: max(0, self._size - number * _PAGE_BYTES)]
            while view:
                view = view[target.write(view) :]
        target.truncate(self._size)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        return self._size

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._place))
        done = 0
        while done < wanted:
            number, start = divmod(self._place, _PAGE_BYTES)
            step = min(wanted - done, _PAGE_BYTES - start)
            page = self._pages.get(number)
            view[done : done + step] = page[start : start + step] if page else bytes(step)
            self._place += step
            done += step
        return done

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            number, start = divmod(self._place, _PAGE_BYTES)
            step = min(len(view) - done, _PAGE_BYTES - start)
            page = self._pages.setdefault(number, bytearray(_PAGE_BYTES))
            page[start : start + step] = view[done : done + step]
            self._place += step
            done += step
        self._size = max(self._size, self._place)
        return done
