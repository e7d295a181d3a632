"""A simulated scene, before any detector has seen it, and the settings that all scenes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError

SMALLEST_FRAME_PX = 16
PIXEL_SIZES_ANGSTROM = (0.02, 0.3)


@dataclass(frozen=True)
class Scene:
    """What an ideal detector would see.

    ``clean`` is float32, (n_frames, height, width) or (n_frames, n_channels, height, width), in
    units of the incident beam. ``drift_px`` (n_frames, 2) is the shift (dy, dx) that brings each frame
    onto frame 0. ``parameters`` (JSON-able) are the arguments that make the same scene again.

    Of a diffraction scan ``clean`` is (scan_y, scan_x, height, width), ``drift_px`` (scan_y, scan_x, 2) brings
    each direct beam to the centre of its pattern, pixel (height // 2, width // 2), and ``pixel_size_angstrom``
    is the step of the scan.

    ``particles`` (n, 4), where a scene tells them, are the true particles in view: frame, y, x and radius in
    pixels, the centre of the first pixel being (0, 0).
    """

    clean: NDArray[np.float32]
    drift_px: NDArray[np.float64]
    pixel_size_angstrom: float
    parameters: dict[str, Any]
    particles: NDArray[np.float64] | None = None


def plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with NumPy scalars as Python numbers, so that they fit into JSON."""
    return {name: v.item() if isinstance(v, np.generic) else v for name, v in arguments.items()}


def checked(
    arguments: Mapping[str, Any], pixel_sizes_angstrom: tuple[float, float] = PIXEL_SIZES_ANGSTROM
) -> dict[str, Any]:
    """The plain arguments of a movie. Raises LowdoseError for values that no movie can have."""
    settings = checked_frame(arguments)
    if settings["n_frames"] < 1:
        raise LowdoseError(f"the number of frames is {settings['n_frames']}; a movie needs at least 1")
    low, high = pixel_sizes_angstrom
    given = settings["pixel_size_angstrom"]
    if given is not None and not low <= given <= high:
        raise LowdoseError(f"the pixel size is {given} A; this specimen needs {low} to {high} A")
    given = settings["drift_px_per_frame"]
    if given is not None and not 0 <= given < np.inf:
        raise LowdoseError(f"the drift is {given} px per frame; expected a number >= 0")
    for name in ("change_rate", "hop_rate"):
        if not 0 <= settings.get(name, 0) <= 1:
            raise LowdoseError(f"{name} is {settings[name]}; expected a probability from 0 to 1")
    return settings


def checked_frame(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The plain arguments of a scene. Raises LowdoseError for a seed or frame size that no scene can have."""
    settings = plain(arguments)
    height, width = settings["height"], settings["width"]
    if settings["seed"] < 0:
        raise LowdoseError(f"the seed is {settings['seed']}; it must be an integer >= 0")
    if min(height, width) < SMALLEST_FRAME_PX:
        least = f"{SMALLEST_FRAME_PX}x{SMALLEST_FRAME_PX}"
        raise LowdoseError(f"the frame is {height}x{width} px; the smallest is {least}")
    return settings


def check_ranges(settings: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise LowdoseError for a setting outside its (lowest, highest) value; None is allowed."""
    for name, (low, high) in ranges.items():
        if settings[name] is not None and not low <= settings[name] <= high:
            raise LowdoseError(f"{name} is {settings[name]}; expected {low:g} to {high:g}")
