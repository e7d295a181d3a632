"""Frames that lie uncompressed in a file, or in a stream that can only be read forward."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.layout import Layout
from lowdose.io.reader import StackReader

STREAM_ERRORS = (EOFError, OSError, zlib.error)


class RawReader(StackReader):
    """Reads each frame by seek and read, so memory holds one frame whatever the size of the file.

    `file` is owned by the reader. With `stream` it is a decompressing file: reading forward costs
    nothing extra, going back starts again from the beginning. `fortran`: first axis runs fastest.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        offset_bytes: int,
        stored_dtype: np.dtype[Any],
        layout: Layout,
        calibration: Calibration,
        dialect: str | None = None,
        *,
        stream: bool = False,
        fortran: bool = False,
    ) -> None:
        super().__init__(path, layout, stored_dtype, calibration, dialect)
        self._file = file
        self._offset_bytes = offset_bytes
        self._stored_dtype = stored_dtype
        self._stored = Layout(layout.axes[::-1], layout.shape[::-1]) if fortran else layout
        axes = self._stored.axes
        # The part of the array behind the last frame axis lies in one piece for every frame.
        self._n_leading = max((axes.index(axis) + 1 for axis in self._stored.frame_axes), default=0)
        self._mapped: npt.NDArray[Any] | None = None
        if not stream:
            self._check_length(offset_bytes + math.prod(layout.shape) * stored_dtype.itemsize)
        if self._n_leading > min(axes.index("Y"), axes.index("X")):
            if stream:
                raise LowdoseError(
                    f"{path}: the frames are interleaved inside a compressed file, so one frame cannot be "
                    "read alone. Save the stack uncompressed, or with the frame axis first."
                )
            self._mapped = np.memmap(file, stored_dtype, "r", offset_bytes, self._stored.shape)

    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]:
        if self._mapped is not None:
            return self._stored.arrange(np.array(self._mapped[self._stored.index(position)]))
        shape = self._stored.shape[self._n_leading :]
        blocks = [self._block(number, shape) for number in self._stored.blocks(position, self._n_leading)]
        return self._stored.join(blocks, position, self._n_leading)

    def _block(self, number: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        block = np.empty(shape, self._stored_dtype)
        view = block.reshape(-1).view(np.uint8).data
        done = 0
        try:
            self._file.seek(self._offset_bytes + number * block.nbytes)
            while done < block.nbytes:
                count = self._file.readinto(view[done:])  # type: ignore[attr-defined]
                if not count:
                    break
                done += count
        except STREAM_ERRORS as error:
            raise LowdoseError(f"{self.path}: the data are damaged or cut short ({error}).") from error
        if done < block.nbytes:
            raise LowdoseError(
                f"{self.path}: the file is truncated: it ends inside a frame, after {done} of {block.nbytes} bytes."
            )
        return block

    def _check_length(self, needed_bytes: int) -> None:
        size_bytes = os.fstat(self._file.fileno()).st_size
        if size_bytes < needed_bytes:
            raise LowdoseError(
                f"{self.path}: the file is truncated: {self.axes} {self.shape} needs {needed_bytes} bytes, "
                f"the file has {size_bytes}. Copy it again from its source."
            )

    def close(self) -> None:
        self._mapped = None
        self._file.close()
