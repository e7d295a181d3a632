"""The writer that every format shares: frames go to a temporary file that gets its name at the end."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.layout import Layout

Provenance = dict[str, Any]
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class StackSpec:
    """What an output stack is to hold. Axes: frame axes first, then C if any, then Y and X."""

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    calibration: Calibration
    dialect: str | None
    provenance: Provenance = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return Layout(self.axes, self.shape)

    @property
    def data_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def check(self, where: str) -> None:
        """Raise LowdoseError unless axes, shape and dtype can be written frame after frame."""
        if len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes):
            raise LowdoseError(f"{where}: axes {self.axes!r} do not fit the shape {self.shape}.")
        if not re.fullmatch("[ABD-RT-WZ]*C?YX", self.axes):
            raise LowdoseError(
                f"{where}: axes {self.axes!r} cannot be written frame after frame; "
                "expected frame axes, then C, then YX, for example TCYX."
            )
        if min(self.shape) < 1:
            raise LowdoseError(f"{where}: the stack is empty: its shape is {self.shape}.")
        names = self.calibration.channel_names
        if names is not None and len(names) != self.layout.n_channels:
            raise LowdoseError(f"{where}: {len(names)} channel names {names} for {self.layout.n_channels} channels.")
        if self.dtype.kind not in "uif":
            raise LowdoseError(f"{where}: cannot write pixels of type {self.dtype}; expected real numbers.")


class StackWriter(ABC):
    """Writes one stack; use it in a `with` block.

    Every format lays its header and reserves contiguous room, then frames are written one after the
    other with plain file writes (a memory map would turn a full disk into SIGBUS). The final name
    appears only when the block ends in order with exactly the promised number of frames; otherwise
    nothing is left behind.
    """

    def __init__(self, path: Path, spec: StackSpec, *, overwrite: bool) -> None:
        spec.check(str(path))
        self.path = path
        self.spec = spec
        self._overwrite = overwrite
        self._frame_shape = (spec.layout.n_channels, *spec.shape[-2:])
        self._written = 0
        self._stored_dtype = spec.dtype
        self._temporary = path.parent / f".lowdose-{secrets.token_hex(6)}.part"
        self._file: BinaryIO | None = None
        self._check_target()

    @abstractmethod
    def _lay_out(self, temporary: Path) -> int:
        """Write all but the pixels into the existing empty file `temporary`; return the data's offset."""

    def _seen(self, frame: npt.NDArray[Any]) -> None:  # noqa: B027 - most formats need none
        """Called with every frame written, for formats that store statistics."""

    def _complete(self, file: BinaryIO) -> None:  # noqa: B027
        """Called after the last frame, for formats that go back to their header."""

    def _publish(self, temporary: Path) -> None:
        """Give the finished file its name."""
        temporary.replace(self.path)

    def _check_target(self) -> None:
        if not self.path.parent.is_dir():
            raise LowdoseError(f"{self.path}: the folder {self.path.parent} does not exist.")
        if self.path.is_dir():
            raise LowdoseError(f"{self.path}: this is a folder; give the name of a file.")
        if self.path.exists() and not self._overwrite:
            raise LowdoseError(f"{self.path}: exists already. Choose another name, or pass --overwrite.")

    def __enter__(self) -> StackWriter:
        try:
            with self._readable_errors():
                free_bytes = shutil.disk_usage(self.path.parent).free
                if free_bytes < self.spec.data_bytes:
                    raise LowdoseError(f"{self._full_message()} {_size(free_bytes)} are free.")
                self._temporary.open("xb").close()
                offset_bytes = self._lay_out(self._temporary)
                # Unbuffered, so that a full disk shows in the write that hits it.
                self._file = self._temporary.open("r+b", buffering=0)
                self._file.seek(offset_bytes)
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, frame: npt.NDArray[Any]) -> None:
        """Append one frame (n_channels, height, width) of the promised dtype.

        Raises ValueError for another shape, dtype, or one frame too many, LowdoseError for a full disk.
        """
        if self._file is None:
            raise ValueError("the writer is not open: use it in a `with` block")
        if frame.shape != self._frame_shape or frame.dtype != self.spec.dtype:
            raise ValueError(f"expected a frame {self._frame_shape} {self.spec.dtype}, got {frame.shape} {frame.dtype}")
        if self._written == self.spec.layout.n_frames:
            raise ValueError(f"all {self._written} frames are written already")
        stored = np.ascontiguousarray(frame, dtype=self._stored_dtype)
        view = stored.reshape(-1).view(np.uint8).data
        with self._readable_errors():
            while view:
                view = view[self._file.write(view) :]
        self._seen(frame)
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        assert file is not None
        try:
            with self._readable_errors():
                try:
                    if error is None:
                        self._check_complete()
                        self._complete(file)
                        os.fsync(file.fileno())
                finally:
                    file.close()
                if error is None:
                    self._check_target()  # something may have taken the name meanwhile
                    self._publish(self._temporary)
        finally:
            self._discard()

    def _check_complete(self) -> None:
        if self._written != self.spec.layout.n_frames:
            raise LowdoseError(
                f"{self.path}: {self._written} of {self.spec.layout.n_frames} frames were written; nothing is kept."
            )

    def _discard(self) -> None:
        self._temporary.unlink(missing_ok=True)

    def _full_message(self) -> str:
        return (
            f"{self.path}: the disk is full: the file needs {_size(self.spec.data_bytes)} "
            f"({self.spec.data_bytes} bytes) in {self.path.parent}; nothing is kept."
        )

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # HDF5 hides the number in its text.
            if error.errno in FULL_DISK or "No space left" in str(error):
                raise LowdoseError(self._full_message()) from error
            raise LowdoseError(f"{self.path}: cannot write here: {error.strerror or error}") from error


def _size(count_bytes: int) -> str:
    return f"{count_bytes / 1e9:.2f} GB" if count_bytes >= 1e8 else f"{count_bytes / 1e6:.2f} MB"
