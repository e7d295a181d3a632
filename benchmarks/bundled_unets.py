"""Scores for the cards of the bundled U-Nets: `python -m benchmarks.bundled_unets n2v-lite-dual`.

Simulated movies of a seed that was not trained on, beside the best Gaussian filter, whose widths are tuned against the
truth of each movie.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np
from benchmarks.bundled import best_gaussian
from benchmarks.particles import count_particles
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lowdose
from lowdose.metrics import psnr
from lowdose.simulate import hrtem_movie, particle_movie, poisson_gaussian, stem_movie
from lowdose_train.bundled_unets import at_input_psnr

SEED = 2000
N_FRAMES = 12
INPUT_PSNR_DB = (7.0, 12.0, 17.0)
DOSES = (0.4, 1.5, 6.0)
Floats = NDArray[np.float32]


def stem() -> Iterator[tuple[str, Floats]]:
    for pixel_size in (0.12, 0.18, 0.24):
        scene = stem_movie(SEED, n_frames=N_FRAMES, pixel_size_angstrom=pixel_size)
        yield f"stem, {pixel_size} A/px", scene.clean


def single() -> Iterator[tuple[str, Floats]]:
    for pixel_size, support in ((0.07, True), (0.12, True), (0.2, False)):
        scene = hrtem_movie(SEED, n_frames=N_FRAMES, pixel_size_angstrom=pixel_size, support=support)
        yield f"hrtem on {'oxide' if support else 'carbon'}, {pixel_size} A/px", scene.clean[:, None]
    for name, clean in stem():
        yield f"{name}, ADF", clean[:, :1]


def noise2void_rows(model: lowdose.Model) -> Iterator[str]:
    """Per movie and noise level: PSNR per channel of the noisy, the Gaussian's and the model's frames."""
    yield "| movie | channel | noisy | best Gaussian (t, xy) | bundled |\n|---|---|---|---|---|"
    for name, clean in stem() if len(model.channels) > 1 else single():
        for level_db in INPUT_PSNR_DB:
            rng = np.random.default_rng(SEED)
            pairs = [at_input_psnr(clean[:, channel], rng, level_db, 0.5) for channel in range(clean.shape[1])]
            noisy = np.stack([frames for frames, _ in pairs], axis=1)
            result = model.denoise(noisy if noisy.shape[1] > 1 else noisy[:, 0]).reshape(noisy.shape)
            for channel, label in enumerate(model.channels):
                truth = pairs[channel][1]
                gaussian, widths = best_gaussian(truth, noisy[:, channel], (0.0, 0.5, 1.0, 2.0))
                scores = (psnr(truth, noisy[:, channel]), psnr(truth, result[:, channel]))
                yield f"| {name} | {label} | {scores[0]:.1f} | {gaussian:.1f} {widths} | {scores[1]:.1f} |"


def synthesis_rows(model: lowdose.Model) -> Iterator[str]:
    """Per movie and dose: PSNR, then phantom and missing particles."""
    yield "| movie | electrons | noisy | best Gaussian (t, xy) | bundled | phantom, missing of | Gaussian | bundled |"
    yield "|---|---|---|---|---|---|---|---|"
    for seed in range(SEED, SEED + 4):
        scene = particle_movie(seed, n_frames=64)
        signal = scene.clean / scene.clean.mean()
        dark = bool(scene.parameters["bright_field"])
        assert scene.particles is not None
        for dose in DOSES:
            noisy = poisson_gaussian(signal, np.random.default_rng(seed), dose_per_pixel=dose)
            truth = 1000 + 40 * dose * signal
            gaussian, widths = best_gaussian(truth, noisy, (1.0, 2.0, 4.0))
            width_t, width_xy = (float(part) for part in widths.strip("()").split(","))
            smooth = gaussian_filter(noisy.astype(np.float32), (width_t, width_xy, width_xy))
            result = model.denoise(noisy)
            counts = [count_particles(truth, frames, scene.particles, dark=dark) for frames in (smooth, result)]
            cells = [f"{count.phantom}, {count.missing}" for count in counts]
            yield (
                f"| seed {seed}, {'bright' if dark else 'dark'} field | {dose} | {psnr(truth, noisy):.1f} | "
                f"{gaussian:.1f} {widths} | {psnr(truth, result):.1f} | {counts[0].n_true} | {' | '.join(cells)} |"
            )


@click.command()
@click.argument("name", type=click.Choice(["n2v-lite", "n2v-lite-dual", "synthesis3d-lite"]))
def main(name: str) -> None:
    """Print a Markdown table for the card of a model."""
    model = lowdose.load(name, device="cpu")
    for row in synthesis_rows(model) if name.startswith("synthesis") else noise2void_rows(model):
        click.echo(row)


if __name__ == "__main__":
    main()
