"""A file that grows by one frame at a time and can be opened after every one, even when the process was killed."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io.writer import FULL_DISK, StackSpec
from lowdose.source import Frame


class GrowingFile(ABC):
    """Frames appended to `path`; each counts from the moment that `append` returns.

    spec: of a movie the first axis is T and its length 1, whatever will come; of a scan it is the whole scan, and
    positions that never come stay zero. The pixels are written before the numbers that make them count, with plain
    writes, so that neither a kill nor a full disk takes back a frame that counts. The name comes with the first frame.
    """

    def __init__(self, path: Path, spec: StackSpec) -> None:
        spec.check(str(path))
        self.path = path
        self.spec = spec
        self.n_frames = 0

    def append(self, frame: Frame) -> None:
        """Save one frame (height, width) of the spec's dtype. Raises LowdoseError when the disk is full."""
        try:
            if self.n_frames == 0:
                self._begin()
            self._append(np.ascontiguousarray(frame, self.spec.dtype.newbyteorder("<")))
            if self.n_frames == 0:
                self._appear()
        except OSError as error:
            problem = "the disk is full" if error.errno in FULL_DISK else f"cannot write ({error.strerror or error})"
            raise LowdoseError(f"{self.path}: {problem}; the {self.n_frames} frames before are saved") from error
        self.n_frames += 1

    @abstractmethod
    def _begin(self) -> None:
        """Make what the first frame goes into, under another name."""

    @abstractmethod
    def _append(self, frame: Frame) -> None: ...

    @abstractmethod
    def _appear(self) -> None:
        """Give it its name."""

    @abstractmethod
    def close(self) -> None:
        """No frame comes any more."""


class OneFile(GrowingFile):
    """A growing file that is one file on the disk."""

    def __init__(self, path: Path, spec: StackSpec) -> None:
        super().__init__(path, spec)
        self._temporary = path.parent / f".lowdose-{secrets.token_hex(6)}.part"
        self._file: BinaryIO | None = None

    def _begin(self) -> None:
        if self._file is None:
            self._file = self._temporary.open("x+b", buffering=0)
        self._lay_out(self._file)

    @abstractmethod
    def _lay_out(self, file: BinaryIO) -> None: ...

    def _appear(self) -> None:
        self._temporary.replace(self.path)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # all that counts was written; on a full disk there may be no more
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        self._temporary.unlink(missing_ok=True)


def write_at(file: BinaryIO, place: int, data: bytes | Frame) -> None:
    """Write all of `data` at the byte `place`."""
    view = memoryview(data).cast("B") if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data
    file.seek(place)
    while view:
        view = view[file.write(view) :]
