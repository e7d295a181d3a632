"""One place in shared memory where the newest frame stands; the writer never waits for a reader."""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lowdose.source import Frame

_HEAD = struct.Struct("<QQQ")  # version (odd while it is written), whether it is wanted, bytes of the notes
_NOTES_AT = 64
_PLANES_AT = 64 + 2**18
_TRIES = 50

Planes = dict[str, Frame]


class Slot:
    """Planes by name and JSON notes in a file mapped by two processes; `wanted` is set by the reader."""

    def __init__(self, path: Path, n_bytes: int = 0) -> None:
        """With `n_bytes` the file is made, for planes of so many bytes in all; without, it is there."""
        self.path = path
        with path.open("w+b" if n_bytes else "r+b") as file:
            if n_bytes:
                file.truncate(_PLANES_AT + n_bytes)
            self._map = mmap.mmap(file.fileno(), 0)

    @property
    def version(self) -> int:
        return int(_HEAD.unpack_from(self._map)[0])

    @property
    def wanted(self) -> bool:
        return bool(_HEAD.unpack_from(self._map)[1])

    @wanted.setter
    def wanted(self, wanted: bool) -> None:
        struct.pack_into("<Q", self._map, 8, wanted)

    def write(self, notes: dict[str, Any], planes: Planes) -> None:
        """Put the newest frame here; it is no longer wanted then."""
        version = self.version
        struct.pack_into("<Q", self._map, 0, version + 1)
        place = _PLANES_AT
        listed = []
        for name, plane in planes.items():
            view = np.ndarray(plane.shape, plane.dtype, self._map, place)
            view[...] = plane
            listed.append([name, plane.dtype.str, list(plane.shape), place])
            place += plane.nbytes
        told = json.dumps(notes | {"planes": listed}).encode()[: _PLANES_AT - _NOTES_AT]
        self._map[_NOTES_AT : _NOTES_AT + len(told)] = told
        struct.pack_into("<QQ", self._map, 8, 0, len(told))
        struct.pack_into("<Q", self._map, 0, version + 2)

    def read(self) -> tuple[int, dict[str, Any], Planes] | None:
        """Version, notes and copies of the planes; None while nothing complete is there."""
        for _ in range(_TRIES):
            version, _, n_bytes = _HEAD.unpack_from(self._map)
            if version == 0:
                return None
            if version % 2 == 0:
                told = self._map[_NOTES_AT : _NOTES_AT + n_bytes]
                try:
                    notes = json.loads(told)
                    planes = {n: np.ndarray(s, d, self._map, at).copy() for n, d, s, at in notes.pop("planes")}
                except (ValueError, TypeError):
                    continue  # it was written over meanwhile
                if self.version == version:
                    return version, notes, planes
        return None

    def close(self) -> None:
        self._map.close()


def slot_path() -> Path:
    """A new name where files are memory, if there is such a place."""
    shared = Path("/dev/shm")
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    handle, name = tempfile.mkstemp(prefix="lowdose-view-", dir=folder)
    os.close(handle)
    return Path(name)
