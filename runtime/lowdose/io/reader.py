"""The reader that every format gives: frames in order, one in memory at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.layout import Layout, frame_dtype

_Reader = TypeVar("_Reader", bound="StackReader")


class StackReader(ABC):
    """An opened stack; use it in a `with` block.

    axes, shape: the file's own, one letter per dimension. Every axis but C, S, Y and X counts frames,
    in C order; C and S (RGB samples) count channels.
    channel_names: one per channel, from the file; "0", "1", ... where it names none.
    scan_shape: (scan_y, scan_x) of a 4D-STEM scan, else None; pattern (y, x) is frame y * scan_x + x.
    dtype: what `read` returns, native byte order.
    pixel_size: (y, x) in pixel_unit, or None; z_spacing is in the same unit.
    frame_interval: time per frame in frame_interval_unit, or None.
    dialect: the flavour of the format ("imagej", "ome", "plain", "volume", ...), for writing alike.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        stored_dtype: np.dtype[Any],
        calibration: Calibration,
        dialect: str | None = None,
    ) -> None:
        check_real(str(path), stored_dtype)
        self.path = path
        self.layout = layout
        self.calibration = calibration
        self.dialect = dialect
        self.axes = layout.axes
        self.shape = layout.shape
        self.n_frames = layout.n_frames
        self.scan_shape = layout.scan_shape
        self.n_channels = layout.n_channels
        names = calibration.channel_names or ()
        self.channel_names = names if len(names) == self.n_channels else tuple(map(str, range(self.n_channels)))
        self.height = layout.size("Y")
        self.width = layout.size("X")
        self.dtype = frame_dtype(stored_dtype)
        self.pixel_size = calibration.pixel_size
        self.pixel_unit = calibration.pixel_unit
        self.z_spacing = calibration.z_spacing
        self.frame_interval = calibration.frame_interval
        self.frame_interval_unit = calibration.frame_interval_unit

    def read(self, frame: int) -> npt.NDArray[Any]:
        """Frame number `frame` as (n_channels, height, width): a new C-contiguous array of `dtype`.

        Raises IndexError outside 0 ... n_frames - 1 and LowdoseError when the data are damaged.
        """
        if not 0 <= frame < self.n_frames:
            raise IndexError(f"{self.path}: frame {frame} of {self.n_frames}")
        return self._read(self.layout.position(frame))

    @abstractmethod
    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self: _Reader) -> _Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArrayReader(StackReader):
    """Frames of anything that can be indexed like an array: HDF5 dataset, lazy array, array."""

    def __init__(
        self,
        path: Path,
        array: Any,
        layout: Layout,
        calibration: Calibration,
        dialect: str | None = None,
        owner: Any = None,
    ) -> None:
        super().__init__(path, layout, np.dtype(array.dtype), calibration, dialect)
        self._array = array
        self._owner = owner

    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]:
        try:
            taken = np.array(self._array[self.layout.index(position)])
        except (OSError, ValueError, RuntimeError) as error:
            raise LowdoseError(f"{self.path}: cannot read the frame at {position}: {error}") from error
        return self.layout.arrange(taken)

    def close(self) -> None:
        self._array = None
        if self._owner is not None:
            self._owner.close()


def check_real(where: str, dtype: np.dtype[Any]) -> None:
    """Raise LowdoseError unless pixels of `dtype` are real numbers."""
    if dtype.kind == "c":
        raise LowdoseError(
            f"{where}: the pixels are complex ({dtype.name}); lowdose denoises real images. "
            "Save the modulus, the phase, or the real part first."
        )
    if dtype.kind not in "uifb":
        raise LowdoseError(f"{where}: pixels of type {dtype} are not numbers; expected integers or floats.")
