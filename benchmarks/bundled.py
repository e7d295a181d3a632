"""Scores for the cards of the bundled models: `python benchmarks/bundled.py wcvd`.

Simulated movies of every training condition, with a seed that was not trained on, beside the best Gaussian filter:
its widths are tuned against the truth of each movie, which no user could do.
"""

from __future__ import annotations

import itertools
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lowdose
from lowdose.metrics import psnr
from lowdose.simulate import simulate
from lowdose_train.bundled import CONDITIONS

SEED = 2000
SIGMA_TIME = (0.0, 0.5, 1.0, 2.0)
SIGMA_SPACE = (0.0, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)


def best_gaussian(clean: NDArray[Any], noisy: NDArray[Any], times: tuple[float, ...]) -> tuple[float, str]:
    """PSNR and (time, space) widths of the best Gaussian for this truth."""
    scores = {
        (t, s): psnr(clean, gaussian_filter(noisy.astype(np.float32), (t, s, s)))
        for t, s in itertools.product(times, SIGMA_SPACE)
    }
    best = max(scores, key=lambda widths: scores[widths])
    return scores[best], f"({best[0]:g}, {best[1]:g})"


@click.command()
@click.argument("name", type=click.Choice(["wcvd", "wcid", "udvd-lite"]))
def main(name: str) -> None:
    """Print a Markdown table for the card of a model."""
    model = lowdose.load(name, device="cpu")
    times = SIGMA_TIME if len(model.taps) > 1 else (0.0,)
    click.echo("| movie | noisy | best Gaussian (t, xy) | bundled | chosen |")
    click.echo("|---|---|---|---|---|")
    for condition in CONDITIONS:
        movie = simulate(
            "hrtem",
            condition.detector,
            SEED,
            n_frames=12,
            pixel_size_angstrom=condition.pixel_size_angstrom,
            dose_per_pixel=condition.dose_per_pixel,
        )
        gaussian, widths = best_gaussian(movie.clean, movie.noisy, times)
        stream = model.stream(movie.noisy.shape[1], movie.noisy.shape[2], movie.noisy.dtype)
        results = [out for frame in movie.noisy if (out := stream.push(frame)) is not None] + stream.flush()
        chosen = stream.settings
        cutoff = "none" if chosen.cutoff == lowdose.NO_LOW_PASS else f"{chosen.cutoff:.3f}"
        click.echo(
            f"| {condition.name} | {psnr(movie.clean, movie.noisy):.1f} | {gaussian:.1f} {widths} "
            f"| {psnr(movie.clean, np.stack(results)):.1f} | {model.weight_set_name(chosen.weight_set)}, {cutoff} |"
        )


if __name__ == "__main__":
    main()
