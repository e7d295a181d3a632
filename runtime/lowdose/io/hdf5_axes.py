"""What the axes of an HDF5 dataset are: Velox, NeXus, EMD and HyperSpy conventions, and HDF5's own labels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from lowdose.io.calibration import Calibration, as_channel_names, from_axes, readable_unit
from lowdose.io.layout import letters_from_names, name_image_axes

_Axis = tuple[str, object, object, list[str]]  # name, step, unit, labels of its places


def describe_dataset(dataset: h5py.Dataset) -> tuple[str | None, Calibration]:
    """Axis letters, or None where no convention names them, and the calibration."""
    if dataset.name.startswith("/Data/Image/") and dataset.ndim == 3:
        return "YXT", _velox(dataset)
    for convention in (_nexus, _emd, _hyperspy, _labels):
        described = convention(dataset)
        if described is not None:
            axes = letters_from_names([name for name, _, _, _ in described])
            steps, units = ([axis[i] for axis in described] for i in (1, 2))
            known = readable_unit(from_axes(axes, steps, units))
            names = described[axes.index("C")][3] if "C" in axes else ()
            return axes, replace(known, channel_names=as_channel_names(names))
    return None, Calibration()


def _velox(dataset: h5py.Dataset) -> Calibration:
    """Velox stores (y, x, frame) and the metadata of each frame as JSON, one column per frame."""
    stored = dataset.parent.get("Metadata")
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 2:
        return Calibration()
    try:
        notes = json.loads(stored[:, 0].tobytes().split(b"\0", 1)[0])
        result = notes["BinaryResult"]
        size, units = result["PixelSize"], (result["PixelUnitY"], result["PixelUnitX"])
        interval = notes.get("Scan", {}).get("FrameTime") or _exposure(notes)
        return readable_unit(from_axes("TYX", [interval, size["height"], size["width"]], ["s", *units]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Calibration()


def _exposure(notes: dict[str, Any]) -> object:
    """The frame time of a camera: the detector that the image came from."""
    source = notes["BinaryResult"].get("Detector") or notes["BinaryResult"].get("DetectorIndex")
    for detector in notes.get("Detectors", {}).values():
        if source in (detector.get("DetectorName"), detector.get("DetectorIndex")):
            return detector.get("FrameTime") or detector.get("ExposureTime")
    return None


def _nexus(dataset: h5py.Dataset) -> list[_Axis] | None:
    """NXdata: the group names its signal and one dataset per axis."""
    group = dataset.parent
    if _text(group.attrs.get("signal")) != dataset.name.rpartition("/")[2] or "axes" not in group.attrs:
        return None
    names = [_text(name) for name in np.atleast_1d(group.attrs["axes"])]
    if len(names) != dataset.ndim:
        return None
    return [_axis_dataset(group.get(name), name) for name in names]


def _emd(dataset: h5py.Dataset) -> list[_Axis] | None:
    """EMD: dim1 ... dimN beside the dataset (Berkeley, 0.x), or from dim0 on, two values each (1.0, 4D-STEM)."""
    for first in (0, 1):
        stored = [dataset.parent.get(f"dim{first + number}") for number in range(dataset.ndim)]
        if all(isinstance(axis, h5py.Dataset) for axis in stored):
            return [_axis_dataset(axis, "") for axis in stored]
    return None


def _axis_dataset(axis: object, name: str) -> _Axis:
    if not isinstance(axis, h5py.Dataset):
        return name, None, None, []
    stored = axis[()] if axis.dtype.kind in "OS" else axis.attrs.get("labels", ())
    labels = [_text(label) for label in np.atleast_1d(stored)]
    step: object = axis.attrs.get("step")
    if step is None and axis.ndim == 1 and len(axis) > 1 and axis.dtype.kind in "uif":
        step = (float(axis[-1]) - float(axis[0])) / (len(axis) - 1)
    return _text(axis.attrs.get("name")) or name, step, _text(axis.attrs.get("units")), labels


def _hyperspy(dataset: h5py.Dataset) -> list[_Axis] | None:
    """HyperSpy: a group axis-0 ... axis-N beside the dataset, its properties as attributes."""
    stored = [dataset.parent.get(f"axis-{number}") for number in range(dataset.ndim)]
    if not all(isinstance(axis, h5py.Group) for axis in stored):
        return None
    names = [_text(axis.attrs.get("name")) for axis in stored]
    navigated = [bool(axis.attrs.get("navigate")) for axis in stored]
    return [
        (name, axis.attrs.get("scale"), _text(axis.attrs.get("units")), [])
        for name, axis in zip(name_image_axes(names, navigated), stored, strict=True)
    ]


def _labels(dataset: h5py.Dataset) -> list[_Axis] | None:
    """The labels that HDF5 itself keeps for dimensions."""
    labels = [dimension.label for dimension in dataset.dims]
    return [(label, None, None, []) for label in labels] if all(labels) else None


def _text(value: object) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return "" if text == "_None_" else text
