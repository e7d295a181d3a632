"""Merlin (Quantum Detectors) `.mib`: frames one after the other, each behind a header of its own.

A header is ASCII with commas, filled up with zeros to the length that it tells: MQ1, number of the frame, length,
chips, width, height, type of the pixels, arrangement of the chips, chips in use, time, exposure in seconds, and
settings; near its end stands MQ1A, time, exposure, depth of the counters in bits.
Pixels are U08, U16 or U32, big-endian, or R64: as the detector sent them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.calibration import from_axes
from lowdose.io.layout import SCAN_AXES, choose_layout, frame_dtype
from lowdose.io.reader import StackReader

SUFFIXES = (".mib",)
# What the longest headers (four chips) need, with room to spare.
HEADER_LIMIT_BYTES = 4096
_PIXELS = {"U08": "u1", "U16": ">u2", "U32": ">u4"}
# Bits per pixel as stored and the type of the result, by the depth of the counters.
_RAW = {1: (1, "u1"), 6: (8, "u1"), 12: (16, "u2"), 24: (32, "u4")}


@dataclass(frozen=True)
class FrameHeader:
    """What one frame says of itself. `width` and `height` are the stored ones; see `shape`."""

    number: int
    header_bytes: int
    n_chips: int
    width: int
    height: int
    pixels: str
    chips: str
    time: str
    exposure_s: float | None
    counter_bits: int | None

    @property
    def is_quad_raw(self) -> bool:
        """Whether four chips lie side by side that belong in a square."""
        return self.pixels == "R64" and self.n_chips == 4

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the frame that `decode` makes."""
        return (2 * self.height, self.width // 2) if self.is_quad_raw else (self.height, self.width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels that `decode` makes, native."""
        kind = _RAW[self.counter_bits or 0][1] if self.pixels == "R64" else _PIXELS[self.pixels]
        return frame_dtype(np.dtype(kind))

    @property
    def payload_bytes(self) -> int:
        """The length of the pixels behind the header."""
        if self.pixels == "R64":
            return self.width * self.height * _RAW[self.counter_bits or 0][0] // 8
        return self.width * self.height * np.dtype(_PIXELS[self.pixels]).itemsize

    def fits(self, other: FrameHeader) -> bool:
        """Whether both frames belong to one sequence."""
        return (self.header_bytes, self.shape, self.pixels, self.counter_bits, self.chips) == (
            (other.header_bytes, other.shape, other.pixels, other.counter_bits, other.chips)
        )


def parse_header(start: bytes, where: str) -> FrameHeader:
    """The header at the beginning of `start`, which may be longer; from a file or a stream.

    Raises LowdoseError, beginning with `where`, for anything but a header of pixels that `decode` knows.
    """
    fields = start[:HEADER_LIMIT_BYTES].split(b"\0", 1)[0].decode("latin-1").split(",")
    if fields[0] != "MQ1":
        raise LowdoseError(f"{where}: not the header of a Merlin frame: it begins with {start[:12]!r}, expected MQ1.")
    try:
        number, length, n_chips, width, height = (int(field) for field in fields[1:6])
        pixels, chips, time, exposure = fields[6].strip(), fields[7].strip(), fields[9].strip(), float(fields[10])
        counter_bits = None
        if "MQ1A" in fields:
            time, exact, depth = fields[fields.index("MQ1A") + 1 :][:3]
            counter_bits, exposure = int(depth), int(exact.removesuffix("ns")) * 1e-9
    except (ValueError, IndexError) as error:
        raise LowdoseError(f"{where}: damaged header of a Merlin frame ({error}).") from error
    header = FrameHeader(
        number, length, n_chips, width, height, pixels, chips, time, exposure if exposure > 0 else None, counter_bits
    )
    _check(header, where)
    return header


def _check(header: FrameHeader, where: str) -> None:
    known = f"{', '.join(_PIXELS)} and R64 (raw) with {', '.join(map(str, _RAW))} bits"
    if header.pixels not in _PIXELS and not (header.pixels == "R64" and header.counter_bits in _RAW):
        bits = "" if header.counter_bits is None else f" with {header.counter_bits} bits"
        raise LowdoseError(f"{where}: Merlin pixels {header.pixels}{bits} are not supported; known: {known}.")
    if min(header.width, header.height) < 1 or not 64 <= header.header_bytes <= HEADER_LIMIT_BYTES:
        raise LowdoseError(
            f"{where}: damaged header of a Merlin frame: {header.height}x{header.width} pixels behind "
            f"{header.header_bytes} bytes."
        )
    if header.pixels != "R64":
        return
    if header.n_chips not in (1, 4) or (header.n_chips == 4 and not header.chips.startswith("2x2")):
        raise LowdoseError(
            f"{where}: raw frames of {header.n_chips} chips as {header.chips} are not supported, only 1x1 and 2x2. "
            "Save them as U08, U16 or U32."
        )
    if header.width % (64 * header.n_chips):
        raise LowdoseError(f"{where}: raw rows of {header.width} pixels do not fill the 64-bit words of each chip.")


def decode(header: FrameHeader, payload: bytes) -> npt.NDArray[Any]:
    """The frame `header.shape` of `header.dtype` from the `header.payload_bytes` behind its header; a new array.

    Raw pixels come in big-endian words of 64 bits, the first pixel in the lowest bits: 64 pixels of 1 bit, 8 of
    6 bits (a byte each), 4 of 12 bits (two bytes each). 24 bits are two such frames of 12, the upper half first.
    """
    stored = header.height, header.width
    if header.pixels != "R64":
        return np.frombuffer(payload, _PIXELS[header.pixels]).reshape(stored).astype(header.dtype)
    words = np.frombuffer(payload, ">u8").astype("<u8").view(np.uint8)
    if header.counter_bits == 1:
        return assemble(np.unpackbits(words, bitorder="little").reshape(stored), header)
    if header.counter_bits == 6:
        return assemble(words.reshape(stored), header)
    halves = words.view("<u2").reshape(-1, *stored)
    if header.counter_bits == 12:
        return assemble(halves[0], header).astype(header.dtype)
    upper, lower = (assemble(half, header).astype(np.uint32) for half in halves)
    return upper << 12 | lower


def assemble(pixels: npt.NDArray[Any], header: FrameHeader) -> npt.NDArray[Any]:
    """The frame of a quad from its chips side by side; others come back as they are.

    From the left they are: lower right and lower left, both upside down, upper right, upper left.
    """
    if not header.is_quad_raw:
        return pixels
    lower_right, lower_left, upper_right, upper_left = np.split(pixels, 4, axis=1)
    lower = np.concatenate([lower_left[::-1, ::-1], lower_right[::-1, ::-1]], axis=1)
    return np.concatenate([np.concatenate([upper_left, upper_right], axis=1), lower])


def open_mib(path: Path, axes: str | None) -> MibReader:
    """Open a `.mib` file. With NAME.hdr beside it that tells several frames per trigger, these make rows of a scan.

    Raises LowdoseError for files that are not Merlin's or that end inside a frame.
    """
    file = path.open("rb")
    try:
        header = parse_header(file.read(HEADER_LIMIT_BYTES), str(path))
        frame_bytes = header.header_bytes + header.payload_bytes
        n_frames, rest_bytes = divmod(os.fstat(file.fileno()).st_size, frame_bytes)
        if rest_bytes:
            raise LowdoseError(
                f"{path}: the file is truncated: after {n_frames} frames of {frame_bytes} bytes there are {rest_bytes} "
                "more. Copy it again from its source."
            )
        shape: tuple[int, ...] = (n_frames, *header.shape)
        file_axes = "TYX"
        per_row = _frames_per_trigger(path.with_suffix(".hdr"))
        wants_scan = axes is None or len(axes) == 4
        if wants_scan and 1 < per_row < n_frames and n_frames % per_row == 0:
            shape, file_axes = (n_frames // per_row, per_row, *header.shape), SCAN_AXES + "YX"
        return MibReader(path, file, header, shape, file_axes, axes)
    except BaseException:
        file.close()
        raise


def _frames_per_trigger(path: Path) -> int:
    """What the acquisition's `.hdr` file says, or 1."""
    try:
        found = re.search(rb"(?m)^Frames per Trigger[^:\n]*:\s*(\d+)", path.read_bytes())
    except OSError:
        return 1
    return int(found[1]) if found else 1


class MibReader(StackReader):
    """Reads and decodes one frame at a time, and checks that its header is like the first one."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: FrameHeader,
        shape: tuple[int, ...],
        file_axes: str,
        axes: str | None,
    ) -> None:
        layout = choose_layout(str(path), shape, file_axes, axes)
        if not layout.axes.endswith("YX"):
            raise LowdoseError(f"{path}: axes {layout.axes!r}: Merlin frames are stored whole, so the last are YX.")
        exposure = [header.exposure_s if axis == "T" else None for axis in layout.axes]
        units = ["s" if axis == "T" else None for axis in layout.axes]
        super().__init__(path, layout, header.dtype, from_axes(layout.axes, exposure, units))
        self._file = file
        self._header = header

    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]:
        frames = [self._frame(number) for number in self.layout.blocks(position, len(self.layout.axes) - 2)]
        return self.layout.join(frames, position, len(self.layout.axes) - 2)

    def _frame(self, number: int) -> npt.NDArray[Any]:
        first = self._header
        self._file.seek(number * (first.header_bytes + first.payload_bytes))
        header = parse_header(self._file.read(first.header_bytes), f"{self.path}: frame {number}")
        if not header.fits(first):
            raise LowdoseError(
                f"{self.path}: frame {number} is {header.shape} {header.pixels} behind {header.header_bytes} bytes, "
                f"frame 0 was {first.shape} {first.pixels} behind {first.header_bytes}."
            )
        payload = self._file.read(header.payload_bytes)
        if len(payload) < header.payload_bytes:
            raise LowdoseError(f"{self.path}: the file is truncated: it ends inside frame {number}.")
        return decode(header, payload)

    def close(self) -> None:
        self._file.close()
