"""TIFF writing in the dialect of the source.

ImageJ holds uint8, uint16 and float32 on the axes T, Z, C, Y, X; OME holds more types on the same
axes; plain TIFF (with the axes noted in the description) holds the rest. A stack that its dialect
cannot hold goes to the next of these. Above 4 GB OME and plain become BigTIFF, while ImageJ keeps one
page directory before all the frames, which is ImageJ's own way and the only one that it opens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tifffile

from lowdose import __version__
from lowdose.io.calibration import METRES, convert_length, in_seconds, readable_unit
from lowdose.io.writer import StackSpec, StackWriter

_CLASSIC_LIMIT_BYTES = 2**32 - 2**25  # leaves 32 MiB for the page directories
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_DTYPES = (*_IMAGEJ_DTYPES, "int8", "int16", "int32", "uint32", "float64")
_IMAGEJ_AXES = ("T", "Z", "C", "Y", "X")
_LARGEST_RATIONAL = 4e9  # TIFF writes resolutions as ratios of 32-bit integers


class TiffWriter(StackWriter):
    """Writes uncompressed little-endian TIFF, one strip per page."""

    def _lay_out(self, temporary: Path) -> int:
        spec = self.spec
        dialect = choose_dialect(self.path, spec)
        large = spec.data_bytes > _CLASSIC_LIMIT_BYTES
        self._stored_dtype = spec.dtype.newbyteorder("<")
        resolution, resolution_unit = pixels_per_unit(spec, dialect)
        with (
            temporary.open("r+b") as file,
            tifffile.TiffWriter(
                file,
                bigtiff=large and dialect != "imagej",
                byteorder="<",
                imagej=dialect == "imagej",
                ome=dialect == "ome",
            ) as tif,
        ):
            place = tif.write(
                # ImageJ's axis of one sample keeps tifffile from taking a width of one for it.
                shape=(*spec.shape, 1) if dialect == "imagej" else spec.shape,
                dtype=self._stored_dtype,
                # Said aloud, or three or four frames would be taken for the colours of one.
                photometric="minisblack",
                metadata=_METADATA[dialect](spec),
                resolution=resolution,
                resolutionunit=resolution_unit,
                software=f"lowdose {__version__} {json.dumps(spec.provenance)}",
                truncate=large and dialect == "imagej",
                returnoffset=True,
            )
        assert place is not None  # uncompressed data are contiguous
        return int(place[0])


def choose_dialect(path: Path, spec: StackSpec) -> str:
    """ "imagej", "ome" or "plain": the one asked for by name or source, or the next that can hold `spec`."""
    if path.with_suffix("").suffix.lower() == ".ome":
        wanted = "ome"
    elif spec.dialect in ("ome", "plain"):
        wanted = spec.dialect
    elif spec.dialect is None and spec.data_bytes > _CLASSIC_LIMIT_BYTES:
        wanted = "ome"  # nothing asks for ImageJ's large files, which other programs read as one frame
    else:
        wanted = "imagej"
    known_axes = set(spec.axes) <= set(_IMAGEJ_AXES)
    in_order = [axis for axis in _IMAGEJ_AXES if axis in spec.axes] == list(spec.axes)
    if wanted == "imagej" and known_axes and in_order and spec.dtype.name in _IMAGEJ_DTYPES:
        return "imagej"
    if wanted != "plain" and known_axes and spec.dtype.name in _OME_DTYPES:
        return "ome"
    return "plain"


def _imagej_metadata(spec: StackSpec) -> dict[str, Any]:
    known = readable_unit(spec.calibration)
    interval_s = in_seconds(known.frame_interval, known.frame_interval_unit)
    unit = known.pixel_unit
    noted = {
        "axes": spec.axes + "S",
        "unit": unit and _imagej_unit(unit),
        "spacing": known.z_spacing,
        "finterval": interval_s,
        # ImageJ has labels for single images only.
        "Labels": known.channel_names and list(known.channel_names) * spec.layout.n_frames,
    }
    return {key: value for key, value in noted.items() if value is not None}


def _imagej_unit(unit: str) -> str:
    """ImageJ reads its description as Java properties: ASCII with escapes; "micron" every reader knows."""
    if unit == "µm":
        return "micron"
    return unit.encode("ascii", "backslashreplace").decode().replace("\\x", "\\u00")


def _ome_metadata(spec: StackSpec) -> dict[str, Any]:
    known = spec.calibration
    noted: dict[str, Any] = {"axes": spec.axes}
    if known.pixel_size is not None:
        sizes = dict(zip("YX", known.pixel_size, strict=True)) | (
            {"Z": known.z_spacing} if known.z_spacing is not None else {}
        )
        for axis, size in sizes.items():
            noted[f"PhysicalSize{axis}"] = size
            noted[f"PhysicalSize{axis}Unit"] = _ome_unit(known.pixel_unit)
    if known.channel_names is not None:
        noted["Channel"] = {"Name": list(known.channel_names)}
    if known.frame_interval is not None:
        noted["TimeIncrement"] = known.frame_interval
        noted["TimeIncrementUnit"] = known.frame_interval_unit or "s"
    return noted


def _ome_unit(unit: str | None) -> str:
    """OME allows lengths, "pixel" and "reference frame"; what is none of these is the last."""
    return unit if unit in METRES else "pixel" if unit in (None, "pixel") else "reference frame"


def _plain_metadata(spec: StackSpec) -> dict[str, Any]:
    known = spec.calibration
    noted = {
        "axes": spec.axes,
        "pixel_size": known.pixel_size and list(known.pixel_size),
        "pixel_unit": known.pixel_unit,
        "z_spacing": known.z_spacing,
        "frame_interval": known.frame_interval,
        "frame_interval_unit": known.frame_interval_unit,
        "channel_names": known.channel_names and list(known.channel_names),
    }
    return {key: value for key, value in noted.items() if value is not None}


_METADATA = {"imagej": _imagej_metadata, "ome": _ome_metadata, "plain": _plain_metadata}


def pixels_per_unit(spec: StackSpec, dialect: str) -> tuple[tuple[float, float] | None, str | None]:
    """(x, y) pixels per unit: the stack's own unit for ImageJ, centimetres for everyone else."""
    known = readable_unit(spec.calibration)
    if known.pixel_size is None:
        return None, None
    unit = known.pixel_unit
    sizes = [size if dialect == "imagej" else convert_length(size, unit, "cm") for size in known.pixel_size[::-1]]
    per_unit = [1.0 / size for size in sizes if size]
    if len(per_unit) < 2 or not all(1.0 / _LARGEST_RATIONAL < value < _LARGEST_RATIONAL for value in per_unit):
        return None, None
    return (per_unit[0], per_unit[1]), "NONE" if dialect == "imagej" else "CENTIMETER"
