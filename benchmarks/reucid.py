"""REUCID against oracles and against its own literal steps.

    python benchmarks/reucid.py quality DATA    PSNR on the simulated HAADF images
    python benchmarks/reucid.py speed           times of the steps, and ratios between ways to do them

DATA is the folder that `make_noise.py` of the shared test data writes (it holds B_haadf). An oracle knows the truth: it
keeps as many of the strongest eigenpatches as give the best PSNR.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from lowdose.bench.machine import cpu_name
from lowdose.metrics import ief, psnr, ssim
from lowdose.reucid import denoise, interim_images
from lowdose.reucid.covariance import second_moments
from lowdose.reucid.eigenpatches import CANDIDATES, from_moments
from lowdose.reucid.psf import patch_size
from lowdose.reucid.reconstruction import add_truncated, gather, truncate_all
from lowdose.reucid.terrain import patch_terrain

Floats = NDArray[np.float64]

SPECIMENS = ("Si110", "SrTiO3")
CONDITIONS = tuple(f"{noise}{dose}" for noise in ("dose", "matched") for dose in (100, 500, 1000, 10000))
# The column "patch PCA" of the data's README: the better of 9x9 and 17x17, rank tuned against the truth.
PUBLISHED_PCA = {
    "Si110": (12.42, 16.33, 18.69, 25.86, 33.90, 33.75, 35.28, 35.76),
    "SrTiO3": (18.83, 23.63, 25.71, 32.07, 34.46, 34.26, 35.97, 36.44),
}
BEST_CLASSICAL = {
    "Si110": (12.78, 16.33, 18.69, 25.86, 34.02, 33.85, 35.28, 35.84),
    "SrTiO3": (18.83, 23.63, 25.71, 32.07, 34.46, 34.26, 35.97, 36.44),
}
STACKS = 5
ROUNDS = 5


def all_places(image: Floats, patch_px: int) -> NDArray[np.bool_]:
    return np.ones((image.shape[0] - patch_px + 1, image.shape[1] - patch_px + 1), np.bool_)


def oracle_rank(noisy: Floats, clean: Floats, patch_px: int) -> tuple[float, int]:
    """Best PSNR of patch PCA over all ranks that REUCID could choose, and the rank."""
    mean = noisy.mean()
    candidates = from_moments(second_moments(noisy - mean, patch_px), patch_px)
    terrain = patch_terrain(all_places(noisy, patch_px), patch_px)
    image, scores = np.full_like(noisy, mean), []
    for column in candidates.patches.reshape(len(candidates.patches), -1):
        image += truncate_all(noisy - mean, column[:, None]) / terrain
        scores.append(psnr(clean, image))
    rank = int(np.argmax(scores))
    return scores[rank], rank + 1


@click.group()
def main() -> None:
    """Benchmarks of REUCID."""


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
def quality(data: Path) -> None:
    """Print the table of PSNR as Markdown."""
    click.echo(
        "| image | noisy | best classical | patch PCA, oracle | p | same p, oracle (rank) | reucid | SSIM | IEF | "
        f"against PCA | {STACKS} stacks |"
    )
    click.echo("|" + "---|" * 11)
    for specimen in SPECIMENS:
        clean = np.load(data / "B_haadf" / f"{specimen}_clean.npy").astype(np.float64)
        for index, condition in enumerate(CONDITIONS):
            noisy = np.load(data / "B_haadf" / f"{specimen}_{condition}.npy").astype(np.float64)
            patch_px = patch_size(noisy)
            best, rank = oracle_rank(noisy, clean, patch_px)
            result = denoise(noisy)
            score = psnr(clean, result)
            pca = PUBLISHED_PCA[specimen][index]
            in_stacks = psnr(clean, denoise(noisy, n_stacks=STACKS))
            click.echo(
                f"| {specimen} {condition} | {psnr(clean, noisy):.2f} | {BEST_CLASSICAL[specimen][index]:.2f} | "
                f"{pca:.2f} | {patch_px} | {best:.2f} ({rank}) | {score:.2f} | {ssim(clean, result):.3f} | "
                f"{ief(clean, result, noisy):.1f} | {score - pca:+.2f} | {in_stacks:.2f} |"
            )


def naive_terrain(processed: NDArray[np.bool_], patch_px: int) -> NDArray[np.int32]:
    height, width = (side + patch_px - 1 for side in processed.shape)
    terrain = np.zeros((height, width), np.int32)
    for y in range(patch_px):
        for x in range(patch_px):
            terrain[y : y + processed.shape[0], x : x + processed.shape[1]] += processed
    return terrain


def filter_terrain(processed: NDArray[np.bool_], patch_px: int) -> Floats:
    padded = np.pad(processed.astype(np.float64), patch_px - 1)
    reach = patch_px // 2
    return np.asarray(uniform_filter(padded, patch_px)[reach:-reach, reach:-reach] * patch_px**2)


def randomised_svd(patches: Floats) -> Floats:
    """The strongest right singular vectors (p^2, CANDIDATES): two power iterations, ten more columns than wanted."""
    random = np.random.default_rng(0)
    basis = random.standard_normal((patches.shape[1], min(CANDIDATES + 10, patches.shape[1])))
    for _ in range(3):
        basis = np.linalg.qr(patches.T @ (patches @ basis))[0]
    _, _, mixing = np.linalg.svd(np.linalg.qr(patches @ basis)[1])
    return np.asarray(basis @ mixing[:CANDIDATES].T)


def median_ms(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """A single round is for what takes seconds: it is not warmed up."""
    if rounds > 1:
        work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


@main.command()
@click.option("--threads", default=2, show_default=True)
def speed(threads: int) -> None:
    """Print times in ms, medians, as Markdown; each way of doing a step is checked against the literal one."""
    click.echo(f"{cpu_name()}, {ROUNDS} rounds\n")
    click.echo("| step | 256x256, p = 23 | 890x890, p = 11 |")
    click.echo("|---|---|---|")
    columns = [steps(side, patch_px, threads) for side, patch_px in ((256, 23), (890, 11))]
    for name in columns[0]:
        click.echo(f"| {name} | " + " | ".join(f"{column[name]:.1f}" for column in columns) + " |")


def steps(side: int, patch_px: int, threads: int) -> dict[str, float]:
    """Median times of the steps on an image of waves in noise, ten eigenpatches kept."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    image = np.cos(0.4 * x) + np.cos(0.3 * x + 0.35 * y) + random.standard_normal((side, side))
    image -= image.mean()
    every = all_places(image, patch_px)
    patches, origins = gather(image, every, patch_px)
    candidates = from_moments(second_moments(image, patch_px), patch_px)
    kept = candidates.kept(np.arange(len(candidates.values)) < 10)
    terrain = patch_terrain(every, patch_px)
    canvas = np.zeros_like(image)
    add_truncated(canvas, patches, origins, kept)
    moments = patches.T @ patches / len(patches)
    assert np.array_equal(naive_terrain(every, patch_px), terrain)
    assert np.allclose(filter_terrain(every, patch_px), terrain)
    assert np.allclose(second_moments(image, patch_px), moments, rtol=0, atol=1e-12 * moments.max())
    assert np.allclose(truncate_all(image, kept), canvas, rtol=0, atol=1e-12 * np.abs(canvas).max())
    return {
        "terrain: naive": median_ms(lambda: naive_terrain(every, patch_px)),
        "terrain: SciPy uniform_filter": median_ms(lambda: filter_terrain(every, patch_px)),
        "terrain: rolling": median_ms(lambda: patch_terrain(every, patch_px)),
        "patch matrix": median_ms(lambda: gather(image, every, patch_px), 1),
        "second moments: matrix product": median_ms(lambda: patches.T @ patches, 1),
        "second moments: by lags": median_ms(lambda: second_moments(image, patch_px)),
        "eigenpatches: randomised SVD of the patch matrix": median_ms(lambda: randomised_svd(patches), 1),
        "eigenpatches: from the moments": median_ms(lambda: from_moments(moments, patch_px)),
        "reconstruction: matrix products and overlap-add": median_ms(
            lambda: add_truncated(canvas, patches, origins, kept), 1
        ),
        "reconstruction: collapsed filter": median_ms(lambda: truncate_all(image, kept)),
        f"reucid, {STACKS} stacks": median_ms(
            lambda: list(interim_images(image, patch_px=patch_px, n_stacks=STACKS)), 1
        ),
        "reucid, 1 thread": median_ms(lambda: denoise(image, patch_px=patch_px)),
        f"reucid, {threads} threads": median_ms(lambda: denoise(image, patch_px=patch_px, threads=threads)),
    }


if __name__ == "__main__":
    main()
