"""Growing BigTIFF: a page per frame, linked into the file when it is complete."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from typing import BinaryIO

from lowdose import __version__
from lowdose.io.tiff_write import pixels_per_unit
from lowdose.live.output.growing import OneFile, write_at
from lowdose.source import Frame

_ASCII, _SHORT, _RATIONAL, _LONG8 = 2, 3, 5, 16
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_CENTIMETRE = 3
_HEADER = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0)
_FIRST_LINK = 8


class GrowingTiff(OneFile):
    """Uncompressed little-endian pages, one strip each; the first one carries pixel size and provenance.

    The patterns of a scan are pages, row by row.
    """

    def _lay_out(self, file: BinaryIO) -> None:
        write_at(file, 0, _HEADER)
        self._end = len(_HEADER)
        self._link = _FIRST_LINK

    def _append(self, frame: Frame) -> None:
        assert self._file is not None
        write_at(self._file, self._end, frame)
        tags_at = -(-(self._end + frame.nbytes) // 8) * 8
        block, link = self._directory(frame, tags_at)
        write_at(self._file, tags_at, block)
        write_at(self._file, self._link, struct.pack("<Q", tags_at))
        self._end, self._link = tags_at + len(block), link

    def _directory(self, frame: Frame, at: int) -> tuple[bytes, int]:
        """The page's directory with its long values behind it, to stand at `at`; and where its link to the next is."""
        height, width = frame.shape
        tags: list[tuple[int, int, int, bytes]] = [
            (256, _LONG8, 1, struct.pack("<Q", width)),
            (257, _LONG8, 1, struct.pack("<Q", height)),
            (258, _SHORT, 1, struct.pack("<H", 8 * frame.dtype.itemsize)),
            (259, _SHORT, 1, struct.pack("<H", 1)),  # no compression
            (262, _SHORT, 1, struct.pack("<H", 1)),  # black is zero
            (273, _LONG8, 1, struct.pack("<Q", self._end)),
            (277, _SHORT, 1, struct.pack("<H", 1)),  # samples per pixel
            (278, _LONG8, 1, struct.pack("<Q", height)),  # rows per strip
            (279, _LONG8, 1, struct.pack("<Q", frame.nbytes)),
            (339, _SHORT, 1, struct.pack("<H", _SAMPLE_FORMATS[frame.dtype.kind])),
        ]
        if self.n_frames == 0:
            software = f"lowdose {__version__} {json.dumps(self.spec.provenance)}".encode() + b"\0"
            tags.append((305, _ASCII, len(software), software))
        per_unit, _ = pixels_per_unit(self.spec, "plain")
        if per_unit is not None:
            x, y = (Fraction(value).limit_denominator(10**6) for value in per_unit)
            tags += [
                (282, _RATIONAL, 1, struct.pack("<II", x.numerator, x.denominator)),
                (283, _RATIONAL, 1, struct.pack("<II", y.numerator, y.denominator)),
                (296, _SHORT, 1, struct.pack("<H", _CENTIMETRE)),
            ]
        tags.sort()
        entries, behind = b"", b""
        behind_at = at + 8 + 20 * len(tags) + 8
        for tag, kind, count, value in tags:
            stored = value
            if len(value) > 8:
                stored = struct.pack("<Q", behind_at + len(behind))
                behind += value + bytes(-len(value) % 8)
            entries += struct.pack("<HHQ", tag, kind, count) + stored.ljust(8, b"\0")
        return struct.pack("<Q", len(tags)) + entries + bytes(8) + behind, at + 8 + 20 * len(tags)
