"""Scores for the cards of the bundled blind-feature networks: `python -m benchmarks.bundled_bfn bfn`.

Simulated scenes of seeds that were not trained on, beside the linear filter alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
from benchmarks.bundled_unets import INPUT_PSNR_DB, SEED, single, stem
from numpy.typing import NDArray

from lowdose.methods import find_method
from lowdose.methods.bfn import NAMES
from lowdose.methods.method import Options
from lowdose.metrics import psnr
from lowdose.simulate import diffraction_scan, haadf_movie
from lowdose.source import ArraySource
from lowdose_train.bundled_unets import at_input_psnr

SCAN_SEEDS = (2000, 2001, 2002)
ELECTRONS = (0.02, 0.2, 2.0)

Floats = NDArray[np.float32]


def images() -> Iterator[tuple[str, Floats]]:
    for pixel_size in (0.12, 0.16, 0.2):
        scene = haadf_movie(SEED, pixel_size_angstrom=pixel_size)
        yield f"haadf of {scene.parameters['material']}, {pixel_size} A/px", scene.clean[:, None]
    for name, movie in single():
        yield name, movie[:1]


def print_scans() -> None:
    click.echo("| scan | electrons per pixel | noisy | wiener | bundled | own pixel, darkest to brightest |")
    click.echo("|---|---|---|---|---|---|")
    for seed, electrons in itertools.product(SCAN_SEEDS, ELECTRONS):
        clean = diffraction_scan(seed, scan_y=12, scan_x=12, height=96, width=96).clean
        truth = clean * np.float32(electrons / clean.mean())
        noisy = np.random.default_rng(seed).poisson(truth).astype(np.float32)
        frames = ArraySource(noisy, n_channels=1, is_scan=True)
        by_filter, by_network = (run(name, frames) for name in ("wiener", "bfn-4d"))
        cells = " | ".join(f"{psnr(truth, result.reshape(truth.shape)):.1f}" for result, _ in (by_filter, by_network))
        own = " ".join(f"{share:.2f}" for share in by_network[1]["own_pixel"][0]["share_by_brightness"])
        click.echo(f"| seed {seed} | {electrons} | {psnr(truth, noisy):.1f} | {cells} | {own} |")


def denoised(name: str, noisy: Floats) -> tuple[Floats, list[float]]:
    """By a method, and of a network by how much its error, noise included, is less than the filter's, per channel."""
    n_channels = noisy.shape[1]
    frames = ArraySource(noisy if n_channels > 1 else noisy[:, 0], n_channels=n_channels, is_scan=False)
    result, report = run(name, frames)
    return result.reshape(noisy.shape), report.get("gain_over_filter", [])


def run(name: str, frames: ArraySource) -> tuple[Floats, dict[str, Any]]:
    prepared = find_method(name, device="cpu").prepare(frames, Options())
    stream = prepared.stream(frames, np.float32)
    results = [out for frame in frames if (out := stream.push(frame)) is not None] + stream.flush()
    return np.array(results), prepared.report


@click.command()
@click.argument("name", type=click.Choice(NAMES))
def main(name: str) -> None:
    """Print a Markdown table for the card of a network."""
    if name == "bfn-4d":
        print_scans()
        return
    click.echo("| scene | channel | noisy | wiener | bundled | error below the filter's, noise included, % |")
    click.echo("|---|---|---|---|---|---|")
    scenes = {"bfn": single, "bfn-dual": stem, "bfn-image": images}[name]
    for label, clean in scenes():
        for level_db in INPUT_PSNR_DB:
            rng = np.random.default_rng(SEED)
            pairs = [at_input_psnr(clean[:, channel], rng, level_db, 0.5) for channel in range(clean.shape[1])]
            noisy, truth = (np.stack(parts, axis=1).astype(np.float32) for parts in zip(*pairs, strict=True))
            by_filter, _ = denoised("wiener", noisy)
            by_network, gains = denoised(name, noisy)
            for channel, gain in enumerate(gains):
                stacks = (noisy, by_filter, by_network)
                cells = " | ".join(f"{psnr(truth[:, channel], stack[:, channel]):.1f}" for stack in stacks)
                click.echo(f"| {label} | {channel} | {cells} | {100 * gain:.1f} |")


if __name__ == "__main__":
    main()
