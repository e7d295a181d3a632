"""TIFF reading: plain, ImageJ hyperstacks, OME-TIFF, BigTIFF.

Contiguous data are read by seek and read; compressed, tiled or scattered pages are decoded one by one.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.layout import Layout, choose_layout
from lowdose.io.raw import RawReader
from lowdose.io.reader import StackReader
from lowdose.io.tiff_calibration import tiff_calibration
from lowdose.io.tiff_chain import check_pages_complete
from lowdose.io.writer import Provenance

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_DECODE_ERRORS = (ValueError, OSError, NotImplementedError, RuntimeError, IndexError, KeyError, struct.error)


def open_tiff(path: Path, axes: str | None, dataset: str | None) -> StackReader:
    """Open one series of a TIFF file: number `dataset`, else the largest.

    Raises LowdoseError for files that are not TIFF, are truncated, or whose compression cannot be read.
    """
    tif = _open(path)
    try:
        check_pages_complete(path)
        if tif.is_imagej:
            _check_imagej_complete(path, tif)
        try:
            found = list(tif.series)
        except _DECODE_ERRORS as error:
            raise LowdoseError(f"{path}: damaged TIFF file ({error}).") from error
        number = _choose_series(path, found, dataset)
        series = found[number]
        dialect = {"imagej": "imagej", "ome": "ome"}.get(series.kind, "plain")
        shape, file_axes = _stored_axes(series)
        layout = choose_layout(str(path), shape, file_axes, axes)
        calibration = tiff_calibration(tif, series, number, layout)
        if series.dtype is None:
            raise LowdoseError(f"{path}: the type of the pixels is not supported.")
        stored_dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        _check_pages_present(path, series)
        offset_bytes = series.dataoffset
        if offset_bytes is None or stored_dtype.kind == "b":
            return PagesReader(path, tif, series, layout, calibration, dialect)
    except BaseException:
        tif.close()
        raise
    tif.close()
    file = path.open("rb")
    try:
        return RawReader(path, file, offset_bytes, stored_dtype, layout, calibration, dialect)
    except BaseException:
        file.close()
        raise


class PagesReader(StackReader):
    """Decodes the TIFF pages that a frame lies in."""

    def __init__(
        self,
        path: Path,
        tif: tifffile.TiffFile,
        series: tifffile.TiffPageSeries,
        layout: Layout,
        calibration: Calibration,
        dialect: str,
    ) -> None:
        super().__init__(path, layout, np.dtype(series.dtype), calibration, dialect)
        self._tif = tif
        self._series = series
        self._size_bytes = tif.filehandle.size
        # Leading axes count pages, the others lie inside each page.
        self._n_leading = next(
            n for n in range(len(layout.shape) + 1) if math.prod(layout.shape[:n]) == len(series.pages)
        )
        _check_decodable(path, series)

    def _read(self, position: dict[str, int]) -> npt.NDArray[Any]:
        numbers = self.layout.blocks(position, self._n_leading)
        return self.layout.join([self._page(number) for number in numbers], position, self._n_leading)

    def _page(self, number: int) -> npt.NDArray[Any]:
        page = self._series.pages[number]
        assert page is not None  # checked when the file was opened
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if count == 0 or offset + count > self._size_bytes:
                raise LowdoseError(f"{self.path}: the file is truncated: page {number} lacks its data.")
        try:
            array = np.asarray(page.asarray(maxworkers=1))
        except _DECODE_ERRORS as error:
            raise LowdoseError(f"{self.path}: cannot decode page {number}: {error}") from error
        return array.reshape(self.layout.shape[self._n_leading :])

    def close(self) -> None:
        self._tif.close()


def tiff_provenance(path: Path) -> Provenance | None:
    """What the Software tag of the first page says lowdose did, or None."""
    with _open(path) as tif:
        words = str(tif.pages.first.software or "").split(" ", 2)
    if len(words) < 3 or words[0] != "lowdose":
        return None
    try:
        found = json.loads(words[2])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _open(path: Path) -> tifffile.TiffFile:
    try:
        return tifffile.TiffFile(path)
    except (tifffile.TiffFileError, struct.error, IndexError, ValueError) as error:
        raise LowdoseError(f"{path}: not a TIFF file, or truncated ({error}).") from error


def _choose_series(path: Path, found: list[tifffile.TiffPageSeries], dataset: str | None) -> int:
    if not found:
        raise LowdoseError(f"{path}: the TIFF file holds no image.")
    listing = ", ".join(f"{number} {series.axes} {series.shape}" for number, series in enumerate(found))
    if dataset is not None:
        if not dataset.isdecimal() or int(dataset) >= len(found):
            raise LowdoseError(f"{path}: no image {dataset!r}; it holds {listing}.")
        return int(dataset)
    sizes = [series.size for series in found]
    if sizes.count(max(sizes)) > 1:
        raise LowdoseError(f"{path}: several images could be the stack: {listing}. Name one: {path.name}::NUMBER.")
    return sizes.index(max(sizes))


def _stored_axes(series: tifffile.TiffPageSeries) -> tuple[tuple[int, ...], str | None]:
    """Shape and axes; ImageJ and OME fill up to five axes, so theirs of length one are left out.

    tifffile calls an axis that nothing explains I or Q: a single one before the image is time.
    """
    squeeze = series.kind != "shaped"
    shape = tuple(int(size) for size in series.get_shape(squeeze))
    axes = str(series.get_axes(squeeze))
    unknown = [axis for axis in axes if axis in "IQ"]
    if len(unknown) == 1 and "T" not in axes:
        axes = axes.replace(unknown[0], "T")
    # The description of a "shaped" file may name I and Q itself, and then tells them apart.
    named = series.kind not in ("generic", "uniform", "shaped") or (series.kind == "shaped" and axes.count("Q") < 2)
    return shape, axes if len(unknown) < 2 or named else None


def _check_imagej_complete(path: Path, tif: tifffile.TiffFile) -> None:
    """A hyperstack may keep all its frames behind one page directory; make sure that they are there."""
    said = (tif.imagej_metadata or {}).get("images", 1)
    first = tif.pages.first
    if not first.is_contiguous or not isinstance(said, int) or len(tif.pages) >= said:
        return
    needed_bytes = first.dataoffsets[0] + said * first.nbytes
    if needed_bytes > tif.filehandle.size:
        raise LowdoseError(
            f"{path}: the file is truncated: {said} frames need {needed_bytes} bytes, the file has "
            f"{tif.filehandle.size}. Copy it again from its source."
        )


def _check_pages_present(path: Path, series: tifffile.TiffPageSeries) -> None:
    if series.dataoffset is None and any(page is None for page in series.pages):
        raise LowdoseError(
            f"{path}: planes are missing. They may lie in other files of the same set: keep those beside it."
        )


def _check_decodable(path: Path, series: tifffile.TiffPageSeries) -> None:
    page = series.keyframe
    compression = getattr(page.compression, "name", str(page.compression))
    try:
        if page.compression != 1:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != 1:
            tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        raise LowdoseError(
            f"{path}: its {compression} compression is read only with imagecodecs: pip install imagecodecs, "
            "or save the file uncompressed."
        ) from error
