"""Open a stack of any format, create one, and carry what one file knows over to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io import dm, hdf5, mib, mrc, npy, other, tiff
from lowdose.io.calibration import Calibration, canonical_unit
from lowdose.io.folder import FolderReader, images_in
from lowdose.io.layout import CHANNEL_AXES, SCAN_AXES, UnknownAxesError
from lowdose.io.reader import StackReader
from lowdose.io.scan import as_scan
from lowdose.io.tiff_write import TiffWriter
from lowdose.io.writer import Provenance, StackSpec, StackWriter

_PACKED = (".gz", ".bz2")

WRITABLE_SUFFIXES = (*tiff.SUFFIXES, *mrc.SUFFIXES, ".npy", *(s for s in hdf5.SUFFIXES if s != ".hspy"))
READABLE_SUFFIXES = (*WRITABLE_SUFFIXES, ".npz", ".hspy", *dm.SUFFIXES, *mib.SUFFIXES)
"""What the base install and [dm] read; any other suffix is left to the extra [formats]."""


def open_stack(
    path: str | Path, *, axes: str | None = None, dataset: str | None = None, scan: tuple[int, int] | None = None
) -> StackReader:
    """Open a stack for reading frame by frame.

    path: the file, FILE::DATASET, or a folder whose images (those directly in it, one frame each, in the natural
    order of their names) make the stack. axes: overrules what the file says, one letter per dimension (see
    `layout`). dataset: the HDF5 dataset, the array of a .npz, or the number of an image in a TIFF file.
    scan: (scan_y, scan_x) of a 4D-STEM scan whose patterns the file holds in C order.
    Raises LowdoseError for files that are missing, truncated, not images, empty or complex, for a scan that has
    not as many patterns as the file, and for folders whose images differ.
    """
    path, dataset = _split(path, dataset)
    if not path.exists():
        raise LowdoseError(f"{path}: no such file.")
    if path.is_dir():
        files = images_in(path, READABLE_SUFFIXES)
        if not files:
            raise LowdoseError(
                f"{path}: no image of a known format lies directly in this folder ({', '.join(READABLE_SUFFIXES)})."
            )
        return _shaped(FolderReader(path, files, lambda file: _open_file(file, axes, dataset)), scan)
    try:
        reader = _open_file(path, axes, dataset)
    except UnknownAxesError:
        if scan is None:
            raise
        reader = _open_file(path, SCAN_AXES + "YX", dataset)
        if reader.scan_shape != scan:  # so the scan does not explain the dimensions
            reader.close()
            raise
    return _shaped(reader, scan)


def _shaped(reader: StackReader, scan: tuple[int, int] | None) -> StackReader:
    try:
        return reader if scan is None else as_scan(reader, scan)
    except BaseException:
        reader.close()
        raise


def _open_file(path: Path, axes: str | None, dataset: str | None) -> StackReader:
    try:
        if path.stat().st_size == 0:
            raise LowdoseError(f"{path}: the file is empty (0 bytes).")
        kind = _suffix(path)
        if kind in tiff.SUFFIXES:
            return tiff.open_tiff(path, axes, dataset)
        if kind in hdf5.SUFFIXES:
            return hdf5.open_hdf5(path, axes, dataset)
        if kind == ".npz":
            return npy.open_npz(path, axes, dataset)
        if kind == ".npy":
            return npy.open_npy(path, axes)
        if kind in mrc.SUFFIXES:
            return mrc.open_mrc(path, axes)
        if kind in dm.SUFFIXES:
            return dm.open_dm(path, axes)
        if kind in mib.SUFFIXES:
            return mib.open_mib(path, axes)
        return other.open_other(path, axes, dataset)
    except OSError as error:
        raise LowdoseError(f"{path}: cannot be read ({error.strerror or error}).") from error


def create_stack(
    path: str | Path,
    *,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | type[np.generic] | str,
    provenance: Provenance,
    pixel_size: tuple[float, float] | None = None,
    pixel_unit: str | None = None,
    z_spacing: float | None = None,
    frame_interval: float | None = None,
    frame_interval_unit: str | None = None,
    channel_names: tuple[str, ...] | None = None,
    dialect: str | None = None,
    overwrite: bool = False,
) -> StackWriter:
    """A writer for one stack; the suffix of `path` chooses the format. Use it in a `with` block.

    axes: frame axes, then C if any, then YX. dialect: of TIFF, "imagej", "ome" or "plain".
    provenance: a flat dict for JSON, kept inside the file.
    Raises LowdoseError before anything is written when the output exists without `overwrite`, its folder
    is missing, or the format cannot hold the axes or dtype; on entering the block when the folder is
    not writable or the disk too small.
    """
    path = Path(path)
    known = Calibration(
        pixel_size,
        canonical_unit(pixel_unit),
        z_spacing,
        frame_interval,
        canonical_unit(frame_interval_unit),
        channel_names,
    )
    spec = StackSpec(axes, tuple(shape), np.dtype(dtype).newbyteorder("="), known, dialect, provenance)
    suffix = path.suffix.lower()
    if suffix in tiff.SUFFIXES:
        return TiffWriter(path, spec, overwrite=overwrite)
    if suffix in mrc.SUFFIXES:
        return mrc.MrcWriter(path, spec, overwrite=overwrite)
    if suffix == ".npy":
        return npy.NpyWriter(path, spec, overwrite=overwrite)
    if suffix in hdf5.SUFFIXES and suffix != ".hspy":
        return hdf5.Hdf5Writer(path, spec, overwrite=overwrite)
    raise LowdoseError(
        f"{path}: cannot write {suffix or 'a file without a suffix'}; choose .tif, .ome.tif, .mrc, .npy or .h5."
    )


def output_layout(
    reader: StackReader, frames: range | None = None, channel: int | None = None
) -> tuple[str, tuple[int, ...]]:
    """Axes and shape for writing `frames` of `reader`, with all its channels or only number `channel`.

    Frame axes come first in the file's order, then C (RGB samples too), then YX. A part of the frames
    shortens the frame axis; LowdoseError when several axes together make the frames.
    """
    layout = reader.layout
    axes = layout.frame_axes
    shape = [layout.size(axis) for axis in axes]
    if frames is not None and len(frames) != reader.n_frames:
        long = [number for number, size in enumerate(shape) if size > 1]
        if len(long) != 1:
            raise LowdoseError(
                f"{reader.path}: frames {frames.start}:{frames.stop} of axes {reader.axes} {reader.shape}: "
                "several axes make the frames, so a part of them has no shape. Process all frames."
            )
        shape[long[0]] = len(frames)
    if channel is not None and not 0 <= channel < reader.n_channels:
        raise LowdoseError(f"{reader.path}: no channel {channel}; the file has {reader.n_channels}, from 0.")
    if channel is None and any(axis in CHANNEL_AXES for axis in layout.axes):
        axes += "C"
        shape.append(reader.n_channels)
    return axes + "YX", (*shape, reader.height, reader.width)


def create_like(
    path: str | Path,
    reader: StackReader,
    *,
    dtype: np.dtype[Any] | type[np.generic] | str,
    provenance: Provenance,
    frames: range | None = None,
    channel: int | None = None,
    overwrite: bool = False,
) -> StackWriter:
    """`create_stack` with the axes, calibration and dialect of `reader` (see `output_layout`)."""
    axes, shape = output_layout(reader, frames, channel)
    return create_stack(
        path,
        axes=axes,
        shape=shape,
        dtype=dtype,
        provenance=provenance,
        pixel_size=reader.pixel_size,
        pixel_unit=reader.pixel_unit,
        z_spacing=reader.z_spacing,
        frame_interval=reader.frame_interval,
        frame_interval_unit=reader.frame_interval_unit,
        channel_names=reader.calibration.channel_names if "C" in axes else None,
        dialect=reader.dialect,
        overwrite=overwrite,
    )


def read_provenance(path: str | Path) -> Provenance | None:
    """What lowdose recorded in a file that it wrote, or None, as for a folder; MRC keeps only a short form.

    Raises LowdoseError when the file is missing or damaged.
    """
    path, _ = _split(path, None)
    if path.is_dir():
        return None
    if not path.is_file():
        raise LowdoseError(f"{path}: no such file.")
    kind = _suffix(path)
    if kind in tiff.SUFFIXES:
        return tiff.tiff_provenance(path)
    if kind in mrc.SUFFIXES:
        return mrc.mrc_provenance(path)
    if kind in hdf5.SUFFIXES:
        return hdf5.hdf5_provenance(path)
    return npy.npy_provenance(path) if kind == ".npy" else None


def _split(path: str | Path, dataset: str | None) -> tuple[Path, str | None]:
    text = str(path)
    if dataset is None and "::" in text and not Path(text).exists():
        text, _, dataset = text.rpartition("::")
    return Path(text), dataset


def _suffix(path: Path) -> str:
    """The suffix that names the format, the one before .gz or .bz2 of an MRC file."""
    suffix = path.suffix.lower()
    inner = path.with_suffix("").suffix.lower()
    return inner if suffix in _PACKED and inner in mrc.SUFFIXES else suffix
