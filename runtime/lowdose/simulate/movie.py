"""A scene recorded by a detector: the noisy movie and its truth in the same units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.simulate.detectors import Recorded, counting, linear_integration, poisson_gaussian
from lowdose.simulate.diffraction import diffraction_scan
from lowdose.simulate.haadf import haadf_movie
from lowdose.simulate.hrtem import hrtem_movie
from lowdose.simulate.particles import particle_movie
from lowdose.simulate.scene import Scene, plain
from lowdose.simulate.stem import stem_movie

SPECIMENS: dict[str, Callable[..., Scene]] = {
    "hrtem": hrtem_movie,
    "stem": stem_movie,
    "haadf": haadf_movie,
    "particles": particle_movie,
    "diffraction": diffraction_scan,
}
DETECTORS: dict[str, Callable[..., Recorded]] = {
    "counting": counting,
    "poisson-gaussian": poisson_gaussian,
    "linear": linear_integration,
}
# What fits a specimen better than the detector's own default. Few of the electrons of a focused probe reach a
# detector: mean 0.25 (ADF) and 17 (BF) per pixel. A diffraction scan has its electrons per pattern.
DOSE_PER_PIXEL = {"stem": 50.0, "haadf": 50.0, "particles": 100.0, "diffraction": 2000.0}


@dataclass(frozen=True)
class Movie:
    """A recorded scene.

    ``noisy`` is what the detector wrote, uint8 or uint16, (n_frames, height, width) or (n_frames,
    n_channels, height, width) or (scan_y, scan_x, height, width); ``clean`` is its expectation in the same units,
    float32. ``drift_px``, ``pixel_size_angstrom`` and ``particles`` are those of the Scene.
    ``parameters`` (JSON-able) are the arguments of ``simulate`` that make the same movie again.
    """

    clean: NDArray[np.float32]
    noisy: Recorded
    drift_px: NDArray[np.float64]
    pixel_size_angstrom: float
    parameters: dict[str, Any]
    particles: NDArray[np.float64] | None = None


def simulate(specimen: str, detector: str, seed: int, **settings: Any) -> Movie:
    """Record ``specimen`` (a key of SPECIMENS) with ``detector`` ("counting", "poisson-gaussian", "linear").

    ``settings`` are keyword arguments of the function that SPECIMENS names and of the detector model.
    The same arguments give the same bits; with another number of BLAS threads the truth may differ by
    1e-6 of its range.

    Raises LowdoseError for an unknown specimen, detector or setting, or one out of range.
    """
    if specimen not in SPECIMENS:
        raise LowdoseError(f"there is no specimen '{specimen}'; known: {', '.join(SPECIMENS)}")
    if detector not in DETECTORS:
        raise LowdoseError(f"there is no detector '{detector}'; known: {', '.join(DETECTORS)}")
    make, record = SPECIMENS[specimen], DETECTORS[detector]
    of_scene, of_detector = defaults(make), defaults(record)
    of_detector["dose_per_pixel"] = DOSE_PER_PIXEL.get(specimen, of_detector["dose_per_pixel"])
    unknown = sorted(settings.keys() - of_scene.keys() - of_detector.keys())
    if unknown:
        known = ", ".join([*of_scene, *of_detector])
        raise LowdoseError(f"unknown settings for {specimen} and {detector}: {', '.join(unknown)}; known: {known}")
    scene = make(seed, **{name: value for name, value in settings.items() if name in of_scene})
    of_detector |= plain({name: value for name, value in settings.items() if name in of_detector})
    noisy = record(scene.clean, np.random.default_rng([seed, 2]), **of_detector)
    clean = scene.clean * of_detector["dose_per_pixel"]
    if "gain" in of_detector:
        clean = of_detector["offset"] + of_detector["gain"] * clean
    return Movie(
        clean=clean.astype(np.float32),
        noisy=noisy,
        drift_px=scene.drift_px,
        pixel_size_angstrom=scene.pixel_size_angstrom,
        parameters={"specimen": specimen, "detector": detector, **scene.parameters, **of_detector},
        particles=scene.particles,
    )


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments of a function and their default values."""
    arguments = signature(function).parameters.values()
    return {a.name: a.default for a in arguments if a.kind is a.KEYWORD_ONLY}
