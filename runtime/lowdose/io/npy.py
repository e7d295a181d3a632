"""NumPy: `.npy` read and written, `.npz` read.

`.npy` has no place for axes, calibration or provenance, so they go to NAME.npy.json beside it.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration, as_channel_names
from lowdose.io.layout import choose_layout
from lowdose.io.raw import RawReader
from lowdose.io.writer import Provenance, StackWriter


def open_npy(path: Path, axes: str | None) -> RawReader:
    """Open a `.npy` file; a sidecar that fits its shape names axes and pixel size."""
    file = path.open("rb")
    try:
        dtype, fortran, shape = _header(str(path), file)
        file_axes, calibration = _read_sidecar(path, len(shape))
        layout = choose_layout(str(path), shape, file_axes, axes)
        return RawReader(path, file, file.tell(), dtype, layout, calibration, fortran=fortran)
    except BaseException:
        file.close()
        raise


def open_npz(path: Path, axes: str | None, dataset: str | None) -> RawReader:
    """Open one array of a `.npz` archive: `dataset`, or the only one with two dimensions or more."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise LowdoseError(f"{path}: not a NumPy archive, or cut short ({error}).") from error
    with archive:
        found: dict[str, tuple[int, ...]] = {}
        for member in archive.namelist():
            with archive.open(member) as file:
                shape = _header(f"{path}::{member}", cast(BinaryIO, file))[2]
            found[member.removesuffix(".npy")] = shape
        images = [name for name, shape in found.items() if len(shape) >= 2]
        if dataset is None and len(images) == 1:
            dataset = images[0]
        if dataset not in found:
            listing = ", ".join(f"{name} {shape}" for name, shape in found.items()) or "no array"
            asked = "several arrays could be the stack" if dataset is None else f"no array {dataset!r}"
            raise LowdoseError(f"{path}: {asked}; it holds {listing}. Name one: {path.name}::NAME.")
        # The member keeps the archive's file open for itself.
        stream = cast(BinaryIO, archive.open(f"{dataset}.npy"))
    try:
        dtype, fortran, shape = _header(str(path), stream)
        layout = choose_layout(str(path), shape, None, axes)
        return RawReader(path, stream, stream.tell(), dtype, layout, Calibration(), stream=True, fortran=fortran)
    except BaseException:
        stream.close()
        raise


class NpyWriter(StackWriter):
    """Writes NAME.npy and, beside it, NAME.npy.json."""

    def _check_target(self) -> None:
        super()._check_target()
        if sidecar_path(self.path).exists() and not self._overwrite:
            raise LowdoseError(f"{sidecar_path(self.path)}: exists already. Choose another name, or pass --overwrite.")

    def _lay_out(self, temporary: Path) -> int:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.spec.dtype),
            "fortran_order": False,
            "shape": self.spec.shape,
        }
        with temporary.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            return file.tell()

    def _publish(self, temporary: Path) -> None:
        note = {
            "axes": self.spec.axes,
            **asdict(self.spec.calibration),
            "lowdose": self.spec.provenance,
        }
        part = temporary.with_suffix(".json.part")
        try:
            with part.open("x", encoding="utf-8") as file:
                json.dump(note, file, indent=1, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            super()._publish(temporary)
            part.replace(sidecar_path(self.path))
        finally:
            part.unlink(missing_ok=True)


def sidecar_path(path: Path) -> Path:
    """Where the notes of a `.npy` file lie."""
    return path.with_name(path.name + ".json")


def npy_provenance(path: Path) -> Provenance | None:
    """What the sidecar of `path` says lowdose did, or None."""
    found = _load_sidecar(path).get("lowdose")
    return found if isinstance(found, dict) else None


def _load_sidecar(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _read_sidecar(path: Path, n_dimensions: int) -> tuple[str | None, Calibration]:
    note = _load_sidecar(path)
    axes = note.get("axes")
    if not isinstance(axes, str) or len(axes) != n_dimensions or "lowdose" not in note:
        return None, Calibration()
    known = {key: note[key] for key in asdict(Calibration()) if key in note}
    calibration = Calibration(**known)
    if calibration.pixel_size is not None:
        y, x = calibration.pixel_size
        calibration = replace(calibration, pixel_size=(float(y), float(x)))
    return axes, replace(calibration, channel_names=as_channel_names(calibration.channel_names or ()))


def _header(where: str, file: BinaryIO) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """dtype, Fortran order and shape; leaves `file` at the first pixel."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LowdoseError(f"{where}: not a NumPy file, or cut short ({error}).") from error
    return dtype, fortran, shape
