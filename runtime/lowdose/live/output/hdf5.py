"""Growing HDF5, laid out as lowdose writes it elsewhere.

The dataset is one piece at the end of the file, so one more frame needs its pixels appended and four numbers raised:
the end of the file, and the dataset's bytes, largest and present length. Where they stand is seen by laying the file
out for one frame and for two.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import BinaryIO

from lowdose.errors import LowdoseError
from lowdose.io.hdf5 import lay_out
from lowdose.io.sparse import SparseFile
from lowdose.live.output.growing import OneFile, write_at
from lowdose.source import Frame


class GrowingHdf5(OneFile):
    """A movie, /entry/data/data (n_frames, height, width), or a scan (scan_y, scan_x, height, width)."""

    def _lay_out(self, file: BinaryIO) -> None:
        spec = self.spec
        self._is_movie = spec.layout.scan_shape is None
        self._numbers: list[tuple[int, int, int]] = []
        sparse, self._offset_bytes = lay_out(str(self.path), spec, growing=self._is_movie)
        self._frame_bytes = spec.shape[-2] * spec.shape[-1] * spec.dtype.itemsize
        sparse.copy_to(file)
        if self._is_movie:
            two, _ = lay_out(str(self.path), replace(spec, shape=(2, *spec.shape[1:])), growing=True)
            one_head, two_head = (head(layout, self._offset_bytes) for layout in (sparse, two))
            ends = self._offset_bytes + self._frame_bytes, self._offset_bytes + 2 * self._frame_bytes
            pairs = [ends, (self._frame_bytes, 2 * self._frame_bytes), (1, 2)]
            self._numbers = changed_numbers(one_head, two_head, pairs)
            if len(self._numbers) != 4:
                raise LowdoseError(f"{self.path}: unknown layout of this HDF5; use .tif or .zarr")

    def _append(self, frame: Frame) -> None:
        assert self._file is not None
        write_at(self._file, self._offset_bytes + self.n_frames * self._frame_bytes, frame)
        if self.n_frames == 0:
            return  # laid out for one
        # The end of the file comes first and the present length last, so that none tells more than there is.
        for place, first, step in self._numbers:
            write_at(self._file, place, struct.pack("<Q", first + self.n_frames * step))


def head(file: SparseFile, n_bytes: int) -> bytes:
    file.seek(0)
    data = bytearray(n_bytes)
    file.readinto(data)
    return bytes(data)


def changed_numbers(one: bytes, two: bytes, pairs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Where 8-byte little-endian numbers differ between two files: (place, value in `one`, difference).

    pairs: the values in one and two that can be. In the order in which they must be raised: the first place, which
    is the superblock's, then the others from the last. Raises LowdoseError for a difference that is no such pair.
    """
    found = []
    place = 0
    while (place := next((i for i in range(place, len(one)) if one[i] != two[i]), len(one))) < len(one):
        for values in pairs:
            packed = [struct.pack("<Q", value) for value in values]
            start = place - next(i for i in range(8) if packed[0][i] != packed[1][i])
            if [one[start : start + 8], two[start : start + 8]] == packed:
                found.append((start, values[0], values[1] - values[0]))
                place = start + 8
                break
        else:
            raise LowdoseError(f"byte {place} of the HDF5 layout changes with the number of frames for no known reason")
    return found[:1] + found[:0:-1]
