"""Makes the pictures of docs/self-calibration.md: `python -m benchmarks.self_calibration docs/pictures`.

From simulated movies, with the commands that users have; about five minutes of two cores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from lowdose.cli.picture import grey, save_panels
from lowdose.metrics import psnr
from lowdose.model import load
from lowdose.simulate import poisson_gaussian, stem_movie
from lowdose_export.calibrate import calibrate

SEED = 4000
SIDE_PX, SHOWN_PX, SHOWN_FRAME = 192, 144, 8
DOSE_PER_PX = 1.5
BLUR = np.array([0.25, 0.5, 0.25])
"""Of a detector whose pixels share their electrons with their neighbours."""
READ_NOISE = 5.0
"""That it adds then, in its own units; an electron gives ten."""

Frames = NDArray[Any]


def movie() -> tuple[Frames, Frames]:
    """Noisy counts (n_frames, height, width) and what was expected of them."""
    clean = stem_movie(SEED, n_frames=16, height=SIDE_PX, width=SIDE_PX, pixel_size_angstrom=0.18).clean[:, 0]
    signal = clean / clean.mean()
    noisy = poisson_gaussian(signal, np.random.default_rng(SEED), dose_per_pixel=DOSE_PER_PX, gain=10.0, offset=100.0)
    return noisy, 100 + 10 * DOSE_PER_PX * signal


def blurred(frames: Frames) -> Frames:
    for axis in (1, 2):
        frames = np.apply_along_axis(np.convolve, axis, frames.astype(np.float32), BLUR, "same")
    return frames


def denoised(noisy: Frames, *options: str) -> Frames:
    """By a model file that `lowdose calibrate` makes of the noisy frames."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "movie.npy", noisy)
        arguments = [str(folder / "movie.npy"), "-o", str(folder / "m.onnx"), *options]
        calibrate.main(arguments, standalone_mode=False)
        return load(folder / "m.onnx", device="cpu").denoise(noisy)


def shown(frames: Frames) -> Frames:
    first = (SIDE_PX - SHOWN_PX) // 2
    return np.asarray(frames[SHOWN_FRAME, first : first + SHOWN_PX, first : first + SHOWN_PX], np.float32)


def save(path: Path, noisy: Frames, truth: Frames, results: dict[str, Frames]) -> None:
    """noisy | results | truth, above what each result took away."""
    low, high = np.percentile(shown(truth), (0.5, 99.5))
    images = {"noisy": grey(shown(noisy), *np.percentile(shown(noisy), (1, 99)))}
    residuals = [np.full_like(images["noisy"], 255)]
    spread = 2.5 * float(shown(noisy - truth).std())
    for name, result in results.items():
        images[f"{name}, {psnr(truth, result):.1f} dB"] = grey(shown(result), low, high)
        residuals.append(grey(shown(noisy - result), -spread, spread))
    images["truth"] = grey(shown(truth), low, high)
    residuals.append(np.full_like(residuals[0], 255))
    save_panels(path, list(images), [list(images.values()), residuals])
    click.echo(f"{path}: {', '.join(images)}")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--budget", default="60s", show_default=True, help="Of each network.")
def main(folder: Path, budget: str) -> None:
    """Write the pictures to FOLDER."""
    noisy, truth = movie()
    of_bfn = ("--method", "bfn", "--budget", budget)
    results = {"wiener": denoised(noisy), "bfn": denoised(noisy, *of_bfn)}
    save(folder / "self-calibration.png", noisy, truth, results)
    shared = blurred(noisy) + np.random.default_rng(0).normal(0, READ_NOISE, noisy.shape).astype(np.float32)
    results = {"bfn": denoised(shared, *of_bfn), "bfn --hide 3": denoised(shared, *of_bfn, "--hide", "3")}
    save(folder / "self-calibration-shared-noise.png", shared, blurred(truth), results)


if __name__ == "__main__":
    main()
