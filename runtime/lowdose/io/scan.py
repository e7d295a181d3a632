"""A file of patterns one after the other, read as the scan that they were recorded in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.layout import SCAN_AXES, Layout
from lowdose.io.reader import StackReader


def as_scan(reader: StackReader, scan: tuple[int, int]) -> StackReader:
    """The frames of `reader` as a scan (scan_y, scan_x), in C order; it then belongs to the new reader.

    Raises LowdoseError when the file does not hold scan_y * scan_x frames.
    """
    if reader.scan_shape == scan:
        return reader
    scan_y, scan_x = scan
    if min(scan) < 1 or scan_y * scan_x != reader.n_frames:
        known = "" if reader.scan_shape is None else " in a scan of {}x{}".format(*reader.scan_shape)
        raise LowdoseError(
            f"{reader.path}: a scan of {scan_y}x{scan_x} has {scan_y * scan_x} patterns, the file has "
            f"{reader.n_frames}{known} ({reader.axes} {reader.shape}). Give the rows and columns of the scan."
        )
    return ScanReader(reader, scan)


class ScanReader(StackReader):
    """The frames of another reader, counted by the rows and columns of a scan."""

    def __init__(self, frames: StackReader, scan: tuple[int, int]) -> None:
        has_channels = any(axis in frames.axes for axis in "CS")
        axes = SCAN_AXES + ("C" if has_channels else "") + "YX"
        channels = (frames.n_channels,) if has_channels else ()
        layout = Layout(axes, (*scan, *channels, frames.height, frames.width))
        calibration = replace(frames.calibration, z_spacing=None)
        super().__init__(frames.path, layout, frames.dtype, calibration, frames.dialect)
        self._frames = frames

    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]:
        return self._frames.read(position["V"] * self.layout.size("U") + position["U"])

    def close(self) -> None:
        self._frames.close()
