"""Growing zarr (format 2): a folder with one uncompressed chunk per frame, written here byte by byte."""

from __future__ import annotations

import json
import secrets
import shutil
from typing import Any

import numpy as np

from lowdose.live.output.growing import GrowingFile
from lowdose.source import Frame


class GrowingZarr(GrowingFile):
    """An array (n_frames, height, width), or a scan's (scan_y, scan_x, height, width), of one chunk per frame."""

    def _begin(self) -> None:
        self._temporary = self.path.parent / f".lowdose-{secrets.token_hex(6)}.part"
        self._temporary.mkdir()
        self._folder = self._temporary
        notes: dict[str, Any] = {"lowdose": self.spec.provenance, "axes": list(self.spec.axes)}
        known = self.spec.calibration
        if known.pixel_size is not None:
            notes |= {"pixel_size": list(known.pixel_size), "pixel_unit": known.pixel_unit}
        self._write(".zattrs", json.dumps(notes).encode())

    def _append(self, frame: Frame) -> None:
        position = self.spec.layout.position(self.n_frames) if self.spec.layout.scan_shape else {"T": self.n_frames}
        place = [position[axis] for axis in self.spec.axes[:-2]]
        self._write(".".join(map(str, [*place, 0, 0])), frame.tobytes())
        if self.n_frames == 0 or not self.spec.layout.scan_shape:
            self._write(".zarray", json.dumps(self._description(frame)).encode())

    def _description(self, frame: Frame) -> dict[str, Any]:
        shape = list(self.spec.shape)
        if not self.spec.layout.scan_shape:
            shape[0] = self.n_frames + 1
        return {
            "zarr_format": 2,
            "shape": shape,
            "chunks": [1] * (len(shape) - 2) + shape[-2:],
            "dtype": np.dtype(frame.dtype).newbyteorder("<").str,
            "compressor": None,
            "fill_value": 0,
            "filters": None,
            "order": "C",
        }

    def _write(self, name: str, data: bytes) -> None:
        """A reader sees the old file or the new one."""
        fresh = self._folder / f".{name}.part"
        fresh.write_bytes(data)
        fresh.replace(self._folder / name)

    def _appear(self) -> None:
        self._folder.replace(self.path)
        self._folder = self.path

    def close(self) -> None:
        if self.n_frames == 0 and hasattr(self, "_temporary"):
            shutil.rmtree(self._temporary, ignore_errors=True)
