"""Trains the bundled Noise2Void and synthesis models: `python -m lowdose_train.bundled_unets n2v-lite -o runs`.

They learn from simulated movies with seeds from 1000 up. The length is given in epochs, not in seconds, so that the
same command gives the same weights on the same kind of processor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from lowdose.simulate import hrtem_movie, particle_movie, poisson_gaussian, stem_movie
from lowdose_train.loop import train
from lowdose_train.settings import Settings

FIRST_SEED = 1000
SIDE_PX = 256
N_FRAMES = 8
"""Few frames of many movies: each movie has its own specimen, orientation, aberrations and dose."""
N_STEM_MOVIES = 36
N_HRTEM_MOVIES = 30
N_PARTICLE_MOVIES = 60
N_PARTICLE_FRAMES = 64
PARTICLE_SIDE_PX = 128
ELEMENTS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
"""Bright and weak adatoms: a network must not take every one for gold."""
INPUT_PSNR_DB = (4.0, 26.0)
GAUSSIAN_SHARE = (0.0, 0.95)
MOST_GAIN = 40.0
OFFSET = 1000.0
FULL_SCALE = 20000.0
"""The truth's largest value in uint16, so that no noise is clipped."""


def stem_movies() -> dict[str, NDArray[Any]]:
    """Noisy ADF and BF movies (n_frames, 2, height, width) of adatoms on graphene, by what makes them again."""
    stacks = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_STEM_MOVIES):
        rng = np.random.default_rng([seed, 3])
        pixel_size = float(rng.uniform(0.1, 0.26))
        element = str(rng.choice(ELEMENTS))
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
    """Frames at a random input PSNR, whose noise is Gaussian by a random share."""
    share, psnr_db = rng.uniform(*GAUSSIAN_SHARE), rng.uniform(*INPUT_PSNR_DB)
    return at_input_psnr(clean, rng, psnr_db, share)[0]


def at_input_psnr(
    clean: NDArray[np.float32], rng: np.random.Generator, psnr_db: float, share: float
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Recorded frames with Poisson and Gaussian noise (`share` of the variance), and their expectation.

    The dose gives them this PSNR against the range of the clean frames.
    """
    # Noise variance in electrons: dose * mean / (1 - share); the square of the range: (dose * range)^2.
    dose = 10 ** (psnr_db / 10) * float(clean.mean()) / float(np.ptp(clean)) ** 2 / (1 - share)
    gain = min(MOST_GAIN, FULL_SCALE / (dose * float(clean.max())))
    noisy = poisson_gaussian(clean, rng, dose_per_pixel=dose, gaussian_share=share, gain=gain, offset=OFFSET)
    return noisy, (OFFSET + gain * dose * clean).astype(np.float32)


def clean_particle_movies() -> dict[str, NDArray[Any]]:
    """Clean movies (n_frames, height, width) of particles on carbon in bright and dark field."""
    movies = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_PARTICLE_MOVIES):
        scene = particle_movie(seed, n_frames=N_PARTICLE_FRAMES, height=PARTICLE_SIDE_PX, width=PARTICLE_SIDE_PX)
        field = "bright" if scene.parameters["bright_field"] else "dark"
        movies[f"particles, seed {seed}, {field} field, {scene.pixel_size_angstrom:.2f} A/px"] = scene.clean
    return movies


MODELS = {
    "n2v-lite": (Settings(method="n2v", epochs=2), single_channel_movies),
    "n2v-lite-dual": (Settings(method="n2v", epochs=8), stem_movies),
    "synthesis3d-lite": (Settings(method="synthesis3d", epochs=80, lowest_dose=0.1), clean_particle_movies),
}


@click.command()
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the run's folder.")
@click.option("--epochs", type=int, help="Length of the training, instead of that of the model.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of PyTorch.")
@click.option("--from", "start_from", type=click.Path(path_type=Path), help="Checkpoint of an earlier run.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
def main(name: str, out: Path, epochs: int | None, threads: int, start_from: Path | None, resume: bool) -> None:
    """Train the bundled model NAME; its checkpoint is OUT/NAME/best.pt."""
    settings, stacks = MODELS[name]
    values = {"epochs": epochs or settings.epochs, "threads": threads}
    settings = Settings.from_mapping(settings.to_mapping() | values)
    result = train(
        settings, stacks(), out / name, start_from=start_from, resume=resume, show_progress=True, say=click.echo
    )
    click.echo(f"{name}: {result.metrics}")


if __name__ == "__main__":
    main()
