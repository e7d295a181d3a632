"""The simulated movies that the bundled Noise2Void and synthesis models learn from. Seeds from 1000 up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate import hrtem_movie, poisson_gaussian, stem_movie

FIRST_SEED = 1000
SIDE_PX = 256
N_FRAMES = 8
"""Few frames of many movies: each movie has its own specimen, orientation, aberrations and dose."""
N_STEM_MOVIES = 36
N_HRTEM_MOVIES = 30
INPUT_PSNR_DB = (5.0, 20.0)
GAUSSIAN_SHARE = (0.0, 0.95)
MOST_GAIN = 40.0
FULL_SCALE = 20000.0
"""The truth's largest value in uint16, so that no noise is clipped."""


def stem_movies() -> dict[str, NDArray[Any]]:
    """Noisy ADF and BF movies (n_frames, 2, height, width) of adatoms on graphene, by what makes them again."""
    stacks = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_STEM_MOVIES):
        rng = np.random.default_rng([seed, 3])
        pixel_size = float(rng.uniform(0.1, 0.26))
        element = str(rng.choice(["Au", "Pt", "Ag"]))
        settings: dict[str, Any] = {
            "element": element,
            "pixel_size_angstrom": pixel_size,
            "n_layers": int(rng.integers(1, 7)),
            "adatoms_per_nm2": float(rng.uniform(0.5, 5.0)),
        }
        scene = stem_movie(seed, n_frames=N_FRAMES, height=SIDE_PX, width=SIDE_PX, **settings)
        channels = [recorded(scene.clean[:, channel], rng) for channel in range(2)]
        stacks[f"stem {element}, seed {seed}, {pixel_size:.3f} A/px"] = np.stack(channels, axis=1)
    return stacks


def single_channel_movies() -> dict[str, NDArray[Any]]:
    """Noisy movies (n_frames, 1, height, width): particles in HRTEM, and either channel of the STEM movies."""
    stacks = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_HRTEM_MOVIES):
        rng = np.random.default_rng([seed, 4])
        pixel_size = float(np.exp(rng.uniform(np.log(0.06), np.log(0.22))))
        support = bool(rng.random() < 0.7)
        scene = hrtem_movie(
            seed, n_frames=N_FRAMES, height=SIDE_PX, width=SIDE_PX, pixel_size_angstrom=pixel_size, support=support
        )
        name = f"hrtem Pt {'on oxide' if support else 'on carbon'}, seed {seed}, {pixel_size:.3f} A/px"
        stacks[name] = recorded(scene.clean, rng)[:, None]
    for index, (name, movie) in enumerate(stem_movies().items()):
        channel = index % 2
        stacks[f"{name}, {('ADF', 'BF')[channel]}"] = movie[:, channel : channel + 1]
    return stacks


def recorded(clean: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
    """Frames with Poisson and Gaussian noise of a random share, at a dose that gives a random input PSNR."""
    share, psnr_db = rng.uniform(*GAUSSIAN_SHARE), rng.uniform(*INPUT_PSNR_DB)
    # Noise variance in electrons: dose * mean / (1 - share); the square of the range: (dose * range)^2.
    dose = 10 ** (psnr_db / 10) * float(clean.mean()) / float(np.ptp(clean)) ** 2 / (1 - share)
    gain = min(MOST_GAIN, FULL_SCALE / (dose * float(clean.max())))
    return poisson_gaussian(clean, rng, dose_per_pixel=dose, gaussian_share=share, gain=gain)
