"""HDF5: find the dataset that is the stack, read it frame by frame, write one that others understand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.hdf5_axes import describe_dataset
from lowdose.io.layout import choose_layout
from lowdose.io.reader import ArrayReader, check_real
from lowdose.io.sparse import SparseFile
from lowdose.io.writer import Provenance, StackSpec, StackWriter

SUFFIXES = (".h5", ".hdf5", ".emd", ".nxs", ".hspy")
_GROUP = "entry/data"
_PROVENANCE = "lowdose"
_AXIS_NAMES = {"T": "time", "C": "channel", "Z": "z", "V": "scan_y", "U": "scan_x", "Y": "y", "X": "x"}


def open_hdf5(path: Path, axes: str | None, dataset: str | None) -> ArrayReader:
    """Open `dataset`, or the only or largest numeric dataset with two dimensions or more."""
    file = _open(path)
    try:
        name = _find(path, file) if dataset is None else dataset
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise LowdoseError(f"{path}: no dataset {name!r}; it holds {_listing(_candidates(file))}.")
        check_real(f"{path}::{name}", found.dtype)
        file_axes, calibration = describe_dataset(found)
        layout = choose_layout(str(path), found.shape, file_axes, axes)
        if axes is not None and axes.upper() != file_axes:
            calibration = Calibration()  # it belongs to the axes that the caller has overruled
        return ArrayReader(path, found, layout, calibration, owner=file)
    except BaseException:
        file.close()
        raise


def hdf5_provenance(path: Path) -> Provenance | None:
    """What the attribute `lowdose` of the file says, or None."""
    with _open(path) as file:
        text = file.attrs.get(_PROVENANCE)
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class Hdf5Writer(StackWriter):
    """Writes /entry/data/data with one dataset per axis: NeXus NXdata and a Berkeley EMD group in one.

    HDF5 only lays the file out, and that in memory: a disk that fills up under the HDF5 library leaves it
    unable to close the file, and it crashes. The pixels go through the shared writer.
    """

    def _lay_out(self, temporary: Path) -> int:
        sparse, offset_bytes = lay_out(str(self.path), self.spec)
        with temporary.open("r+b", buffering=0) as target:
            sparse.copy_to(target)
        return offset_bytes


def lay_out(where: str, spec: StackSpec, *, growing: bool = False) -> tuple[SparseFile, int]:
    """The file without its pixels, and where these begin: in C order, up to the end of the file.

    growing: the first axis gets a name but no dataset, because its length will change.
    """
    sparse = SparseFile()
    with h5py.File(sparse, "w") as file:
        file.attrs["default"] = "entry"
        file.attrs[_PROVENANCE] = json.dumps(spec.provenance)
        entry = file.create_group("entry")
        entry.attrs["NX_class"], entry.attrs["default"] = "NXentry", "data"
        group = file.create_group(_GROUP)
        group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "data"
        names = [f"dim{number + 1}" for number in range(len(spec.shape))]
        if growing:
            names[0] = _AXIS_NAMES.get(spec.axes[0], spec.axes[0])
        else:  # EMD asks for a dataset for every axis
            file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
            group.attrs["emd_group_type"] = 1
        group.attrs["axes"] = names
        _write_axes(group, spec, 1 if growing else 0)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)  # the same file for the same spec
        space = h5py.h5s.create_simple(spec.shape)
        kind = h5py.h5t.py_create(spec.dtype, logical=True)
        stored = h5py.h5d.create(group.id, b"data", kind, space, layout)
        offset_bytes = stored.get_offset()
    if offset_bytes is None:
        raise LowdoseError(f"{where}: this build of HDF5 does not reserve room for the data.")
    return sparse, int(offset_bytes)


def _write_axes(group: h5py.Group, spec: StackSpec, first: int) -> None:
    known = spec.calibration
    y, x = known.pixel_size or (1.0, 1.0)
    unit = known.pixel_unit or ""
    steps = {"Y": (y, unit), "X": (x, unit)}
    if known.z_spacing is not None:
        steps["Z"] = known.z_spacing, unit
    if known.frame_interval is not None:
        steps["T"] = known.frame_interval, known.frame_interval_unit or "s"
    for number, (axis, size) in list(enumerate(zip(spec.axes, spec.shape, strict=True)))[first:]:
        step, step_unit = steps.get(axis, (1.0, ""))
        values = group.create_dataset(f"dim{number + 1}", data=np.arange(size) * step)
        name = _AXIS_NAMES.get(axis, axis)
        values.attrs["name"], values.attrs["long_name"], values.attrs["units"] = name, name, step_unit
        # Every value is there, but one step is enough to read, and one position has none.
        values.attrs["step"] = step
        if axis == "C" and known.channel_names is not None:
            values.attrs["labels"] = list(known.channel_names)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise LowdoseError(f"{path}: not an HDF5 file, or truncated ({error}).") from error


def _candidates(file: h5py.File) -> list[h5py.Dataset]:
    """Numeric datasets with two dimensions or more; in a Velox file only its images."""
    velox = "Application/Velox" in file or "Data/SpectrumStream" in file
    found: list[h5py.Dataset] = []

    def visit(name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset) or item.ndim < 2 or item.dtype.kind not in "uifbc":
            return
        if not velox or (name.startswith("Data/Image/") and name.endswith("/Data")):
            found.append(item)

    file.visititems(visit)
    return found


def _find(path: Path, file: h5py.File) -> str:
    found = _candidates(file)
    if not found:
        raise LowdoseError(
            f"{path}: the HDF5 file holds no image: no numeric dataset with two dimensions or more"
            + (" (spectra only)." if "Data/Spectrum" in file else ".")
        )
    sizes = [math.prod(item.shape) for item in found]
    if sizes.count(max(sizes)) > 1:
        raise LowdoseError(
            f"{path}: several datasets could be the stack: {_listing(found)}. Name one: {path.name}::DATASET."
        )
    return str(found[sizes.index(max(sizes))].name)


def _listing(found: list[h5py.Dataset]) -> str:
    return ", ".join(f"{item.name} {item.shape} {item.dtype}" for item in found) or "no image"
