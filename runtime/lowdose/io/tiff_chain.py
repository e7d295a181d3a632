"""Follow the chain of page directories of a TIFF file to see whether the file is whole.

tifffile only logs a chain that leaves the file, and goes on with the pages that it found.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from lowdose.errors import LowdoseError

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}


def check_pages_complete(path: Path) -> None:
    """Raise LowdoseError if a page directory, or a tag of the first or last, lies beyond the end.

    `path` must be a TIFF file (its first four bytes have been looked at). Pixels are not looked at.
    """
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        order = ">" if file.read(2) == b"MM" else "<"
        big = struct.unpack(f"{order}H", file.read(2))[0] == 43
        pointer = struct.Struct(order + ("Q" if big else "I"))
        count = struct.Struct(order + ("Q" if big else "H"))
        entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
        file.seek(8 if big else 4)
        place = pointer.unpack(file.read(pointer.size))[0]
        seen: set[int] = set()
        ends = [place]
        entries = b""
        while place:
            first = not seen
            if place in seen:
                raise LowdoseError(f"{path}: damaged TIFF file: its pages form a loop.")
            seen.add(place)
            found = _read_directory(file, place, count, entry, pointer)
            if found is None:
                ends.append(max(place, size_bytes) + 1)
                break
            entries, place = found
            if first:
                ends += _value_ends(entries, entry, pointer)
        ends += _value_ends(entries, entry, pointer)
        if max(ends) > size_bytes:
            raise LowdoseError(
                f"{path}: the TIFF file is truncated: page {len(seen)} or what belongs to it lies "
                f"beyond byte {size_bytes}, where the file ends. Copy it again from its source."
            )


def _read_directory(
    file: BinaryIO, place: int, count: struct.Struct, entry: struct.Struct, pointer: struct.Struct
) -> tuple[bytes, int] | None:
    """Its entries and the place of the next directory, or None where the file ends before."""
    file.seek(place)
    raw = file.read(count.size)
    if len(raw) < count.size:
        return None
    entries_bytes = count.unpack(raw)[0] * entry.size
    entries = file.read(min(entries_bytes, 2**20))  # a damaged count must not fill the memory
    following = file.read(pointer.size)
    if len(entries) < entries_bytes or len(following) < pointer.size:
        return None
    return entries, pointer.unpack(following)[0]


def _value_ends(entries: bytes, entry: struct.Struct, pointer: struct.Struct) -> list[int]:
    """Where the values end that are too long to lie in the directory itself."""
    ends = []
    for _, kind, n_values, offset in entry.iter_unpack(entries):
        value_bytes = n_values * _TYPE_BYTES.get(kind, 1)
        if value_bytes > pointer.size:
            ends.append(offset + value_bytes)
    return ends
