"""MRC and CCP4 files, read (also .gz and .bz2) and written.

Modes, machine stamp and the meaning of `ispg` and `mz` follow Cheng et al., "MRC2014: Extensions to
the MRC format header for electron cryo-microscopy and tomography", J. Struct. Biol. 192 (2015) 146.
"""

from __future__ import annotations

import bz2
import gzip
import json
import math
from pathlib import Path
from typing import Any, BinaryIO, cast

import mrcfile.dtypes
import mrcfile.utils
import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration, convert_length
from lowdose.io.layout import choose_layout
from lowdose.io.raw import STREAM_ERRORS, RawReader
from lowdose.io.writer import Provenance, StackSpec, StackWriter

SUFFIXES = (".mrc", ".mrcs", ".map", ".st", ".ali")
_SERIES = (".mrcs", ".st", ".ali")  # series by name; their programs often leave ispg at 1
_HEADER_BYTES = 1024
_IMOD_STAMP, _IMOD_STAMP_AT, _IMOD_FLAGS_AT = 1146047817, 152, 156
_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint8": 6, "uint16": 6, "float16": 12}
_LABEL_CHARACTERS, _N_LABELS, _LABEL_PREFIX = 80, 10, "lowdose: "


def open_mrc(path: Path, axes: str | None) -> RawReader:
    """Open an MRC file. `ispg` 0, or a suffix of series, makes its sections T, anything else Z.

    Pixel sizes are in Å; the map axes (`mapc`, `mapr`, `maps`) choose which cell edge is which, but
    the stored order (sections, rows, columns) is kept.
    """
    file = _open(path)
    try:
        header = _read_header(path, file)
        shape, file_axes = _shape(header, is_series=path.with_suffix("").suffix in _SERIES or path.suffix in _SERIES)
        layout = choose_layout(str(path), shape, file_axes, axes)
        return RawReader(
            path,
            file,
            _HEADER_BYTES + max(0, int(header.nsymbt)),
            _dtype(path, header),
            layout,
            _calibration(header),
            stream=path.suffix.lower() in (".gz", ".bz2"),
        )
    except BaseException:
        file.close()
        raise


def _open(path: Path) -> BinaryIO:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(path))
    return cast(BinaryIO, bz2.BZ2File(path)) if suffix == ".bz2" else path.open("rb")


def _read_header(path: Path, file: BinaryIO) -> Any:
    try:
        raw = file.read(_HEADER_BYTES)
    except STREAM_ERRORS as error:
        raise LowdoseError(f"{path}: cannot be unpacked ({error}).") from error
    if len(raw) < _HEADER_BYTES:
        raise LowdoseError(f"{path}: not an MRC file, or truncated: shorter than its header of 1024 bytes.")
    header = np.frombuffer(raw, mrcfile.dtypes.HEADER_DTYPE).reshape(()).view(np.recarray)
    if not _credible(header):
        header = header.view(header.dtype.newbyteorder())
    if not _credible(header):
        raise LowdoseError(f"{path}: not an MRC file: the header's sizes and mode make no sense.")
    return header


def _credible(header: Any) -> bool:
    # More telling than the machine stamp, which old programs leave out or get wrong.
    return 0 <= int(header.mode) <= 127 and all(0 <= int(header[n]) < 2**24 for n in ("nx", "ny", "nz"))


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    if int(header.mode) == 0 and _bytes_are_unsigned(header):
        return np.dtype(np.uint8)
    try:
        dtype = mrcfile.utils.data_dtype_from_header(header)
    except ValueError as error:
        raise LowdoseError(
            f"{path}: MRC mode {int(header.mode)} is not supported; expected 0, 1, 2, 6 or 12."
        ) from error
    stored: np.dtype[Any] = dtype.newbyteorder(header["mode"].dtype.byteorder)
    return stored


def _bytes_are_unsigned(header: Any) -> bool:
    """MRC2014 bytes are signed; IMOD's flag, or a maximum that int8 cannot hold, says otherwise."""
    order = header["mode"].dtype.byteorder
    raw = header.tobytes()
    stamp, flags = (int(np.frombuffer(raw, f"{order}i4", 1, at)[0]) for at in (_IMOD_STAMP_AT, _IMOD_FLAGS_AT))
    if stamp == _IMOD_STAMP:
        return not flags & 1
    return float(header.dmin) >= 0 and 127 < float(header.dmax) <= 255


def _shape(header: Any, *, is_series: bool) -> tuple[tuple[int, ...], str]:
    nx, ny, nz, mz, ispg = (int(header[name]) for name in ("nx", "ny", "nz", "mz", "ispg"))
    if 401 <= ispg <= 630 and mz > 0 and nz % mz == 0:
        return (nz // mz, mz, ny, nx), "TZYX"
    if ispg == 0 or is_series:
        return ((ny, nx), "YX") if nz == 1 else ((nz, ny, nx), "TYX")
    return (nz, ny, nx), "ZYX"


def _calibration(header: Any) -> Calibration:
    cell = [float(header.cella[name]) for name in "xyz"]
    steps = [int(header[name]) for name in ("mx", "my", "mz")]
    sizes = [c / n if n > 0 and c > 0 and math.isfinite(c) else None for c, n in zip(cell, steps, strict=True)]
    order = [int(header[name]) - 1 for name in ("mapc", "mapr", "maps")]
    x, y, z = (sizes[axis] for axis in (order if sorted(order) == [0, 1, 2] else range(3)))
    if x is None or y is None:
        return Calibration()
    return Calibration((y, x), "Å", z if int(header.ispg) != 0 else None)


class MrcWriter(StackWriter):
    """Writes an MRC2014 file in the machine's byte order; uint8 becomes mode 6 (uint16), the same values."""

    def __init__(self, path: Path, spec: StackSpec, *, overwrite: bool) -> None:
        super().__init__(path, spec, overwrite=overwrite)
        if spec.dtype.name not in _MODES:
            raise LowdoseError(
                f"{path}: MRC cannot hold {spec.dtype.name}, only {', '.join(_MODES)}. "
                "Write float32, or choose .tif, .h5 or .npy."
            )
        if spec.axes not in ("YX", "TYX", "ZYX", "TZYX"):
            raise LowdoseError(
                f"{path}: MRC cannot hold the axes {spec.axes}, only YX, TYX, ZYX and TZYX. "
                "Choose one --channel, or write .tif, .h5 or .npy."
            )
        self._mode = _MODES[spec.dtype.name]
        self._stored_dtype = np.dtype(np.uint16) if self._mode == 6 else spec.dtype
        self._least, self._most, self._sum, self._square_sum = math.inf, -math.inf, 0.0, 0.0

    def _seen(self, frame: npt.NDArray[Any]) -> None:
        self._least = min(self._least, float(frame.min()))
        self._most = max(self._most, float(frame.max()))
        self._sum += float(frame.sum(dtype=np.float64))
        flat = frame.reshape(-1).astype(np.float64)
        self._square_sum += float(flat @ flat)

    def _lay_out(self, temporary: Path) -> int:
        with temporary.open("r+b") as file:
            file.write(self._header().tobytes())
        return _HEADER_BYTES

    def _complete(self, file: BinaryIO) -> None:
        count = math.prod(self.spec.shape)
        mean = self._sum / count
        header = self._header()
        header["dmin"], header["dmax"], header["dmean"] = self._least, self._most, mean
        header["rms"] = math.sqrt(max(0.0, self._square_sum / count - mean * mean))
        file.seek(0)
        file.write(header.tobytes())

    def _header(self) -> npt.NDArray[Any]:
        shape, axes, known = self.spec.shape, self.spec.axes, self.spec.calibration
        header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE)
        header["nx"], header["ny"], header["nz"] = shape[-1], shape[-2], math.prod(shape[:-2])
        depth = shape[-3] if "Z" in axes else 1
        header["mx"], header["my"], header["mz"] = shape[-1], shape[-2], depth
        header["mode"] = self._mode
        header["ispg"] = {"TZYX": 401, "ZYX": 1}.get(axes, 0)
        header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
        header["cellb"]["alpha"] = header["cellb"]["beta"] = header["cellb"]["gamma"] = 90.0
        if known.pixel_size is not None:
            spacing = known.z_spacing or 0.0
            sizes = [convert_length(v, known.pixel_unit, "Å") or 0.0 for v in (*known.pixel_size[::-1], spacing)]
            for name, size, steps in zip("xyz", sizes, (shape[-1], shape[-2], depth), strict=True):
                header["cella"][name] = size * steps
        header["map"] = b"MAP "
        header["machst"] = mrcfile.utils.machine_stamp_from_byte_order("=")
        header["nversion"] = 20141
        labels = _labels(self.spec.provenance)
        header["nlabl"] = len(labels)
        header["label"][: len(labels)] = labels
        return header


def mrc_provenance(path: Path) -> Provenance | None:
    """The short form kept in the labels, or None; values longer than a label come back cut."""
    with _open(path) as file:
        header = _read_header(path, file)
    texts = [label.decode("ascii", "replace").rstrip(" \0") for label in header.label.tolist()]
    found: Provenance = {}
    for text in texts:
        if text.startswith(_LABEL_PREFIX):
            for item in text.removeprefix(_LABEL_PREFIX).split("; "):
                key, _, value = item.partition("=")
                try:
                    found[key] = json.loads(value)
                except ValueError:
                    found[key] = value.strip('"')
    return found or None


def _labels(provenance: Provenance) -> list[bytes]:
    room = _LABEL_CHARACTERS - len(_LABEL_PREFIX)
    lines: list[str] = []
    for key, value in provenance.items():
        item = f"{key}={json.dumps(value, separators=(',', ':'))}"[:room]
        if lines and len(lines[-1]) + 2 + len(item) <= room:
            lines[-1] += "; " + item
        else:
            lines.append(item)
    return [(_LABEL_PREFIX + line).encode("ascii") for line in lines[:_N_LABELS]]
