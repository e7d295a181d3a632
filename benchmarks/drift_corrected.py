"""The drift-corrected Gaussian that knows the true drift: `python -m benchmarks.drift_corrected DATA`.

The data's README quotes it on one or two frames in the middle of a movie; here it is scored on the same frames as
everything else, all of them, with its two parameters still tuned against the truth.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.cases import CASES, TRACKED, Case
from numpy.typing import NDArray
from scipy.ndimage import fourier_shift, gaussian_filter

from lowdose.metrics import psnr

FRAMES_STD = (1.0, 2.0, 3.0, 5.0, 8.0, 99.0)
PIXELS_STD = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)

Frames = NDArray[np.float32]


def best(data: Path, case: Case) -> tuple[float, float, float]:
    """PSNR in dB over all frames, standard deviations in frames and pixels."""
    noisy, truth = case.read_noisy(data).astype(np.float32), case.read_truth(data)
    meta = json.loads((data / case.noisy).with_name("meta.json").read_text(encoding="utf-8"))
    drift = np.array(meta[Path(case.noisy).name.split("_")[0]]["drift_px"])[:, ::-1]  # it is x, y there
    spectra = np.fft.fft2(noisy)
    found = []
    for of_frames in FRAMES_STD:
        movie = np.stack([mean_at(spectra, drift, t, of_frames) for t in range(len(noisy))])
        for of_pixels in PIXELS_STD:
            result = gaussian_filter(movie, (0, of_pixels, of_pixels))
            found.append((psnr(truth, result), of_frames, of_pixels))
    return max(found)


def mean_at(spectra: NDArray[Any], drift: NDArray[np.float64], t: int, std: float) -> Frames:
    """Gaussian mean along time, every frame moved to where frame t is."""
    weights = np.exp(-((np.arange(len(spectra)) - t) ** 2) / (2 * std**2))
    total = sum(
        weight * fourier_shift(spectrum, drift[t] - moved)
        for weight, spectrum, moved in zip(weights, spectra, drift, strict=True)
    )
    return np.asarray(np.fft.ifft2(total / weights.sum()).real, np.float32)


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
def main(data: Path) -> None:
    """Print PSNR and parameters of each movie for which the README quotes it."""
    for case in CASES:
        if case.best_classical[0][1] == TRACKED or "co_linear" in case.noisy:
            level, of_frames, of_pixels = best(data, case)
            click.echo(f"{case.name}: {level:.2f} dB, {of_frames:g} frames, {of_pixels:g} px")


if __name__ == "__main__":
    main()
