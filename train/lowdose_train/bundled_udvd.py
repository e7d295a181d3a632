"""Simulated scenes, without noise, that the bundled models of UDVD learn from; training adds the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate import diffraction_scan, hrtem_movie, particle_movie, stem_movie

FIRST_SEED = 1000
N_HRTEM, N_STEM, N_PARTICLES, N_SCANS, N_FLAT = 60, 30, 20, 80, 8
N_FRAMES = 10
SIDE_PX = 160
SCAN_POSITIONS = 6
PATTERN_PX = 128
HRTEM_ANGSTROM = (0.05, 0.22)
STEM_ANGSTROM = (0.1, 0.28)

Scenes = dict[str, NDArray[np.float32]]


def movie_scenes() -> Scenes:
    """Clean movies (n_frames, height, width) of lattices and of particles on carbon, at pixel sizes that spread."""
    scenes: Scenes = {}
    size: dict[str, Any] = {"n_frames": N_FRAMES, "height": SIDE_PX, "width": SIDE_PX}
    for number in range(N_HRTEM):
        seed, element, support = FIRST_SEED + number, ("Pt", "Au")[number % 2], bool(number % 3)
        angstrom = drawn(seed, HRTEM_ANGSTROM)
        scene = hrtem_movie(seed, pixel_size_angstrom=angstrom, element=element, support=support, **size)
        where = "on CeO2" if support else "alone"
        scenes[f"hrtem {element} {where}, seed {seed}, {angstrom:.3f} A/px"] = scene.clean
    for seed in range(FIRST_SEED, FIRST_SEED + N_STEM):
        angstrom = drawn(seed, STEM_ANGSTROM)
        scene = stem_movie(seed, pixel_size_angstrom=angstrom, **size)
        for channel, detector in enumerate(("ADF", "BF")):
            scenes[f"stem Au on graphene {detector}, seed {seed}, {angstrom:.3f} A/px"] = scene.clean[:, channel]
    for seed in range(FIRST_SEED, FIRST_SEED + N_PARTICLES):
        scenes[f"particles, seed {seed}"] = particle_movie(seed, **size).clean
    return shuffled(scenes)


def scan_scenes() -> Scenes:
    """Clean scans (scan_y, scan_x, height, width) of polycrystalline films, molecular and inorganic, and flat ones.

    The flat ones keep the network from darkening the border, where films scatter least.
    """
    scenes: Scenes = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_SCANS):
        scene = diffraction_scan(
            seed, scan_y=SCAN_POSITIONS, scan_x=SCAN_POSITIONS, height=PATTERN_PX, width=PATTERN_PX
        )
        scenes[f"diffraction, seed {seed}"] = scene.clean
    flat = np.full((SCAN_POSITIONS, SCAN_POSITIONS, PATTERN_PX, PATTERN_PX), 1 / PATTERN_PX**2, np.float32)
    scenes |= {f"flat {number}": flat for number in range(N_FLAT)}
    return shuffled(scenes)


def drawn(seed: int, limits: tuple[float, float]) -> float:
    """A number from a distribution that is uniform in its logarithm."""
    low, high = np.log(limits)
    return float(np.exp(np.random.default_rng(seed).uniform(low, high)))


def shuffled(scenes: Scenes) -> Scenes:
    """In another order, always the same, so that those which are held out are of every kind."""
    names = list(scenes)
    return {names[i]: scenes[names[i]] for i in np.random.default_rng(FIRST_SEED).permutation(len(names))}
