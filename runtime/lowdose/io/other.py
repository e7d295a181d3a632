"""Every other format, through RosettaSciIO (extra `formats`).

RosettaSciIO is GPL: it is imported here, and only when a file has a suffix that is none of ours.
"""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io.calibration import from_axes, readable_unit
from lowdose.io.layout import choose_layout, letters_from_names, name_image_axes
from lowdose.io.reader import ArrayReader


def open_other(path: Path, axes: str | None, dataset: str | None) -> ArrayReader:
    """Open image number `dataset`, or the only or largest one; lazily where RosettaSciIO can."""
    signals = _load(path)
    images = [signal for signal in signals if np.ndim(signal["data"]) >= 2]
    listing = ", ".join(f"{number} {signal['data'].shape}" for number, signal in enumerate(images))
    if not images:
        raise LowdoseError(f"{path}: the file holds no image: no data with two dimensions or more.")
    if dataset is not None and (not dataset.isdecimal() or int(dataset) >= len(images)):
        raise LowdoseError(f"{path}: no image {dataset!r}; it holds {listing}.")
    sizes = [math.prod(signal["data"].shape) for signal in images]
    if dataset is None and sizes.count(max(sizes)) > 1:
        raise LowdoseError(f"{path}: several images could be the stack: {listing}. Name one: {path.name}::NUMBER.")
    image = images[sizes.index(max(sizes)) if dataset is None else int(dataset)]
    data, described = image["data"], image["axes"]
    if data.dtype.names is not None and set("RGB") <= set(data.dtype.names):
        raise LowdoseError(f"{path}: this is a colour picture (RGB); lowdose needs the counts it was made from.")
    names = [str(axis.get("name") or "") for axis in described]
    navigated = [bool(axis.get("navigate")) for axis in described]
    file_axes = letters_from_names(name_image_axes(names, navigated))
    layout = choose_layout(str(path), tuple(int(n) for n in data.shape), file_axes, axes)
    calibration = from_axes(
        layout.axes, [axis.get("scale") for axis in described], [axis.get("units") for axis in described]
    )
    return ArrayReader(path, data, layout, readable_unit(calibration))


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        from rsciio import IO_PLUGINS
    except ImportError as error:
        raise LowdoseError(
            f"{path}: lowdose itself reads TIFF, MRC, NumPy, HDF5 and (with its extra dm) DM3/DM4; files "
            f"{path.suffix or 'without a suffix'} need RosettaSciIO: pip install 'lowdose[formats]'"
        ) from error
    suffix = path.suffix.lower().removeprefix(".")
    plugins = [p for p in IO_PLUGINS if suffix in [str(e).lower() for e in p["file_extensions"]]]
    if not plugins:
        raise LowdoseError(
            f"{path}: no reader for files {path.suffix or 'without a suffix'}; neither lowdose nor "
            "RosettaSciIO knows them. Save the stack as TIFF, MRC, HDF5 or NumPy."
        )
    problems: list[str] = []
    for plugin in plugins:
        for lazy in (True, False):
            try:
                read = importlib.import_module(plugin["api"]).file_reader
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about metadata that lowdose does not use
                    return list(read(str(path), lazy=lazy))
            except Exception as error:  # each plugin raises its own kinds
                problems.append(f"{plugin['name']}: {error}")
    raise LowdoseError(f"{path}: cannot be read ({'; '.join(dict.fromkeys(problems))}).")
