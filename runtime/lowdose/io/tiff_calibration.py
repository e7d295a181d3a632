"""Pixel size, spacing and frame interval out of the dialects of TIFF."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import tifffile

from lowdose.io.calibration import Calibration, as_channel_names, canonical_unit, from_axes
from lowdose.io.layout import Layout

_CM_PER_INCH = 2.54
_RESOLUTION_IN_INCHES, _RESOLUTION_IN_CM = 2, 3
# Coarser than this, a resolution per inch is a setting for printers (72, 96, 300 dpi).
_FINEST_PRINT_PX_PER_INCH = 2540.0


def tiff_calibration(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, number: int, layout: Layout
) -> Calibration:
    """The calibration of series `number` in the dialect that it is written in."""
    if series.kind == "ome":
        return _from_ome(tif.ome_metadata or "", number)
    if series.kind == "imagej":
        return _from_imagej(series.keyframe, tif.imagej_metadata or {}, layout)
    noted = (tif.shaped_metadata or ({},))[0] if series.kind == "shaped" else {}
    if {"pixel_size", "frame_interval", "channel_names"} & noted.keys():
        return _from_note(noted)
    return _from_resolution(series.keyframe)


def _from_ome(xml: str, number: int) -> Calibration:
    try:
        found = [e for e in ElementTree.fromstring(xml).iter() if e.tag.rpartition("}")[2] == "Pixels"]
    except ElementTree.ParseError:
        return Calibration()
    if number >= len(found):
        return Calibration()
    pixels = found[number].attrib
    lengths = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    units = [
        pixels.get(f"PhysicalSize{axis}Unit", "µm") if size else None for axis, size in zip("ZYX", lengths, strict=True)
    ]
    known = from_axes(
        "TZYX",
        [pixels.get("TimeIncrement"), *lengths],
        [pixels.get("TimeIncrementUnit", "s"), *units],
    )
    channels = [e.get("Name") for e in found[number] if e.tag.rpartition("}")[2] == "Channel"]
    return replace(known, channel_names=as_channel_names(channels))


def _from_imagej(page: tifffile.TiffPage, metadata: dict[str, Any], layout: Layout) -> Calibration:
    names = _imagej_channels(metadata, layout.n_channels)
    unit = metadata.get("unit")
    if unit is None and _resolution_unit(page) in (_RESOLUTION_IN_INCHES, _RESOLUTION_IN_CM):
        return replace(_from_resolution(page), channel_names=names)
    unit_y = metadata.get("yunit", unit)
    sizes = [_inverse(page, tag) for tag in ("YResolution", "XResolution")]
    interval, interval_unit = metadata.get("finterval"), metadata.get("tunit", "s")
    if interval is None and metadata.get("fps"):
        interval, interval_unit = 1.0 / float(metadata["fps"]), "s"
    known = from_axes(
        "TZYX",
        [interval, metadata.get("spacing") if "Z" in layout.axes else None, *sizes],
        [interval_unit, metadata.get("zunit", unit), unit_y, unit],
    )
    return replace(known, channel_names=names)


def _imagej_channels(metadata: dict[str, Any], n_channels: int) -> tuple[str, ...] | None:
    """Labels of slices name the channels when they are the same in every frame."""
    labels = list(metadata.get("Labels") or ())
    names = labels[:n_channels]
    repeated = len(labels) % n_channels == 0 and labels == names * (len(labels) // n_channels)
    return as_channel_names(names) if repeated else None


def _from_note(noted: dict[str, Any]) -> Calibration:
    size = noted.get("pixel_size")
    return Calibration(
        (float(size[0]), float(size[1])) if size else None,
        canonical_unit(noted.get("pixel_unit")),
        noted.get("z_spacing"),
        noted.get("frame_interval"),
        canonical_unit(noted.get("frame_interval_unit")),
        as_channel_names(noted.get("channel_names") or ()),
    )


def _from_resolution(page: tifffile.TiffPage) -> Calibration:
    y_cm, x_cm = (_inverse(page, tag) for tag in ("YResolution", "XResolution"))
    if y_cm is None or x_cm is None:
        return Calibration()
    unit = _resolution_unit(page)
    if unit == _RESOLUTION_IN_INCHES:
        if 1.0 / max(y_cm, x_cm) < _FINEST_PRINT_PX_PER_INCH:
            return Calibration()
        y_cm, x_cm = y_cm * _CM_PER_INCH, x_cm * _CM_PER_INCH
    elif unit != _RESOLUTION_IN_CM:
        return Calibration()
    # 12 digits: what a ratio of 32-bit integers can say, without the noise of the division
    y_nm, x_nm = (float(f"{size * 1e7:.12g}") for size in (y_cm, x_cm))
    return from_axes("YX", [y_nm, x_nm], ["nm", "nm"])


def _inverse(page: tifffile.TiffPage, tag: str) -> float | None:
    value = page.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2 or not value[0]:
        return None
    return float(value[1]) / float(value[0]) or None


def _resolution_unit(page: tifffile.TiffPage) -> int:
    return int(page.tags.valueof("ResolutionUnit", default=_RESOLUTION_IN_INCHES))
