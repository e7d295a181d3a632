"""Pixel size, spacing and frame interval of a stack, and the spelling of their units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12, "fm": 1e-15}
SECONDS = {"min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
_SPELLINGS = {
    "µm": ("um", "μm", "µm", "\\u00b5m", "micron", "microns", "micrometer", "micrometre", "micrometers"),
    "Å": ("å", "\u212b", "a", "\\u00c5", "ang", "angstrom", "angstroms", "ångström"),
    "nm": ("nm", "n_m", "nanometer", "nanometre", "nanometers"),
    "pm": ("pm", "picometer", "picometre"),
    "mm": ("mm", "millimeter", "millimetre"),
    "cm": ("cm", "centimeter", "centimetre"),
    "m": ("m", "meter", "metre", "meters"),
    "pixel": ("px", "pixel", "pixels"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "millisecond", "milliseconds"),
    "µs": ("us", "μs", "µs", "\\u00b5s", "usec", "microsecond", "microseconds"),
    "1/nm": ("1/nm", "1 / nm", "nm^-1", "n_m^-1"),
}
_CANONICAL = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}

# A pixel edge outside this range is a wrong scale or a print resolution, not a measurement.
_SMALLEST_PIXEL_M, _LARGEST_PIXEL_M = 1e-13, 0.1


@dataclass(frozen=True)
class Calibration:
    """What one step along each axis means. `pixel_size` is (y, x); `z_spacing` shares its unit.

    `channel_names`: what was recorded in each channel, for example ("ADF", "BF").
    """

    pixel_size: tuple[float, float] | None = None
    pixel_unit: str | None = None
    z_spacing: float | None = None
    frame_interval: float | None = None
    frame_interval_unit: str | None = None
    channel_names: tuple[str, ...] | None = None


def canonical_unit(text: object) -> str | None:
    """One spelling per unit ("um", "micron" and "\\u00B5m" are "µm"); unknown units stay as written."""
    unit = str(text or "").strip().strip("[]").strip()
    if unit in ("mM", "Mm", "M"):  # lower-casing would make these another unit
        return unit
    return _CANONICAL.get(unit.lower(), unit) or None


def convert_length(value: float, unit: str | None, target: str) -> float | None:
    """`value` in `target` units, or None when either unit is not a length."""
    if unit == target:
        return value
    if unit not in METRES or target not in METRES:
        return None
    # 12 digits drop the noise of the factor: 0.1 nm is 1 Å, not 1.0000000000000002
    return float(f"{value * (METRES[unit] / METRES[target]):.12g}")


def as_channel_names(found: Iterable[object]) -> tuple[str, ...] | None:
    """Stripped names; None when there are none, when one is empty, and when two are the same."""
    names = tuple(str(name or "").strip() for name in found)
    return names if names and all(names) and len(set(names)) == len(names) else None


def in_seconds(value: float | None, unit: str | None) -> float | None:
    """`value` in seconds, or None when it is unknown or not a time; no unit means seconds."""
    if value is None or (unit is not None and unit not in SECONDS):
        return None
    return value * SECONDS[unit or "s"]


def readable_unit(calibration: Calibration) -> Calibration:
    """Metres become nanometres: files for people, and the rationals of TIFF, cannot hold 1e-10 m."""
    if calibration.pixel_unit != "m" or calibration.pixel_size is None:
        return calibration
    y, x = (float(f"{size * 1e9:.12g}") for size in calibration.pixel_size)
    spacing = calibration.z_spacing and convert_length(calibration.z_spacing, "m", "nm")
    return replace(calibration, pixel_size=(y, x), pixel_unit="nm", z_spacing=spacing)


def from_axes(axes: str, scales: Sequence[object], units: Sequence[object]) -> Calibration:
    """Calibration from one scale and one unit per axis of `axes`; what is missing or absurd is left out."""
    scale = {axis: _number(value) for axis, value in zip(axes, scales, strict=True)}
    unit = {axis: canonical_unit(value) for axis, value in zip(axes, units, strict=True)}
    pixel_size, pixel_unit = _pixel(scale["Y"], unit["Y"], scale["X"], unit["X"])
    spacing = scale.get("Z")
    if spacing is not None and pixel_unit is not None and unit["Z"] != pixel_unit:
        spacing = convert_length(spacing, unit["Z"], pixel_unit)
    interval = scale.get("T") if unit.get("T") in SECONDS else None
    return Calibration(
        pixel_size, pixel_unit, spacing if pixel_size else None, interval, unit["T"] if interval else None
    )


def _pixel(
    y: float | None, unit_y: str | None, x: float | None, unit_x: str | None
) -> tuple[tuple[float, float] | None, str | None]:
    if y is None or x is None or (unit_x is None and unit_y is None and x == y == 1.0):
        return None, None
    unit = unit_x or unit_y
    if unit_y is not None and unit_y != unit:
        converted = convert_length(y, unit_y, str(unit))
        if converted is None:
            return None, None
        y = converted
    if unit in METRES and not all(_SMALLEST_PIXEL_M <= v * METRES[unit] <= _LARGEST_PIXEL_M for v in (y, x)):
        return None, None
    return (y, x), unit


def _number(value: object) -> float | None:
    """A positive finite float, else None."""
    try:
        number = abs(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
