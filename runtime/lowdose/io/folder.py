"""A folder with one image per frame or pattern, read as one stack."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.layout import Layout
from lowdose.io.reader import StackReader

OpenFile = Callable[[Path], StackReader]


def images_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files directly in `folder` with one of `suffixes`, in natural order: frame_2 before frame_10."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in suffixes and f.is_file() and f.name[0] != "."]
    return sorted(files, key=natural_order)


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """A key that sorts names by the numbers in them; the name itself parts 1 from 01."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


class FolderReader(StackReader):
    """The images in `files` (at least one) as the frames of a stack in this order; one is open at a time.

    Raises LowdoseError, naming the file, for one that cannot be read, that holds several images, or that
    differs from the first in shape or dtype.
    """

    def __init__(self, folder: Path, files: Sequence[Path], open_file: OpenFile) -> None:
        self._files = files
        self._open_file = open_file
        with open_file(files[0]) as first:
            has_channels = any(axis in first.axes for axis in "CS")
            channels = (first.n_channels,) if has_channels else ()
            axes = "TCYX" if has_channels else "TYX"
            layout = Layout(axes, (len(files), *channels, first.height, first.width))
            super().__init__(folder, layout, first.dtype, first.calibration, first.dialect)
        # Opening many thousand files takes long, so those as long as the first wait until they are read.
        size_bytes = files[0].stat().st_size
        for file in files:
            if file == files[0] or file.stat().st_size != size_bytes:
                self._open(file).close()

    def _open(self, file: Path) -> StackReader:
        image = self._open_file(file)
        expected = (self.n_channels, self.height, self.width), self.dtype
        given = (image.n_channels, image.height, image.width), image.dtype
        if image.n_frames == 1 and given == expected:
            return image
        image.close()
        if image.n_frames != 1:
            raise LowdoseError(f"{file}: holds {image.n_frames} frames; a folder is a stack with one image per file.")
        raise LowdoseError(
            f"{file}: (channels, height, width) and type are {given[0]} {given[1]}, but {self._files[0].name} has "
            f"{expected[0]} {expected[1]}; all images of a folder must be alike."
        )

    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]:
        with self._open(self._files[position["T"]]) as image:
            return image.read(0)

    def close(self) -> None:
        """Nothing stays open."""
