"""DigitalMicrograph DM3 and DM4, read with nionswift-io (extra `dm`), which takes in the whole file."""

from __future__ import annotations

import array
import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError
from lowdose.io.calibration import METRES, canonical_unit, from_axes
from lowdose.io.layout import choose_layout
from lowdose.io.reader import ArrayReader, check_real

SUFFIXES = (".dm3", ".dm4")
_UINT8, _BOOLEAN, _COLOUR = 6, 14, 23  # DM's numbers for types of pixels
_COMPLEX = (3, 5, 13, 27, 28)


def open_dm(path: Path, axes: str | None) -> ArrayReader:
    """Open the image of a DM3 or DM4 file; the small RGB thumbnail before it is passed over."""
    try:
        parse_dm3 = importlib.import_module("nionswift_plugin.DM_IO.parse_dm3")
    except ImportError as error:
        raise LowdoseError(f"{path}: reading DM3 and DM4 needs nionswift-io: pip install 'lowdose[dm]'") from error
    try:
        with path.open("rb", buffering=2**23) as file:
            image = parse_dm3.dm_read_header(file)["ImageList"][-1]
        pixels = _pixels(path, image["ImageData"])
        steps, units = _calibrations(image["ImageData"], pixels.ndim)
    except (struct.error, AssertionError, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise LowdoseError(f"{path}: not a DM3 or DM4 file, or truncated ({error!r}).") from error
    first = "Z" if canonical_unit(units[0]) in METRES else "T"
    file_axes = {2: "YX", 3: f"{first}YX", 4: "IQYX"}.get(pixels.ndim)
    layout = choose_layout(str(path), pixels.shape, file_axes, axes)
    return ArrayReader(path, pixels, layout, from_axes(layout.axes, steps, units))


def _pixels(path: Path, data: dict[str, Any]) -> npt.NDArray[Any]:
    kind = data["DataType"]
    if kind in _COMPLEX:
        check_real(str(path), np.dtype(np.complex64))
    if kind == _COLOUR:
        raise LowdoseError(f"{path}: this is a colour picture (RGB); lowdose needs the counts it was made from.")
    stored = data["Data"]
    if not isinstance(stored, array.array):
        raise LowdoseError(f"{path}: DM pixels of type {kind} are not supported; expected real numbers.")
    pixels = np.frombuffer(stored, stored.typecode)
    if kind in (_UINT8, _BOOLEAN):  # stored as bytes that the parser takes for signed
        pixels = pixels.view(np.uint8)
    shaped: npt.NDArray[Any] = pixels.reshape(data["Dimensions"][::-1])
    return shaped


def _calibrations(data: dict[str, Any], n_dimensions: int) -> tuple[list[object], list[object]]:
    """Steps and units, slowest axis first like the pixels."""
    dimensions = data.get("Calibrations", {}).get("Dimension", [])[::-1]
    missing: list[object] = [None] * (n_dimensions - len(dimensions))  # stacks may leave out the slowest
    units = missing.copy()
    for dimension in dimensions:
        unit = dimension.get("Units", "")
        units.append(unit.tobytes().decode("utf-16-le") if isinstance(unit, array.array) else unit)
    return missing + [dimension.get("Scale") for dimension in dimensions], units
