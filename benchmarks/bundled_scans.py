"""Scores for the card of udvd-4d-lite: `python benchmarks/bundled_scans.py`.

Simulated scans of seeds that were not trained on, beside the best Gaussian filter over scan and detector, whose widths
are tuned against the truth of each scan.
"""

from __future__ import annotations

import itertools

import click
import numpy as np
from scipy.ndimage import gaussian_filter

import lowdose
from lowdose.metrics import psnr
from lowdose.simulate import diffraction_scan

SEEDS = (2000, 2001, 2002)
ELECTRONS = (200, 2000)
SIGMA_SCAN = (0.0, 0.5, 0.7, 1.0, 1.4)
SIGMA_DETECTOR = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0)


@click.command()
def main() -> None:
    """Print a Markdown table: PSNR over all patterns, peak of the whole scan."""
    model = lowdose.load("udvd-4d-lite", device="cpu")
    click.echo("| scan | electrons per pattern | noisy | best Gaussian (scan, detector) | bundled |")
    click.echo("|---|---|---|---|---|")
    for seed, electrons in itertools.product(SEEDS, ELECTRONS):
        clean = diffraction_scan(seed, scan_y=8, scan_x=8).clean * np.float32(electrons)
        noisy = np.random.default_rng(seed).poisson(clean).astype(np.uint16)
        scores = {
            (scan, detector): psnr(clean, gaussian_filter(noisy.astype(np.float32), (scan, scan, detector, detector)))
            for scan, detector in itertools.product(SIGMA_SCAN, SIGMA_DETECTOR)
        }
        widths = max(scores, key=lambda pair: scores[pair])
        gaussian = f"{scores[widths]:.1f} ({widths[0]:g}, {widths[1]:g})"
        bundled = psnr(clean, model.denoise(noisy))
        click.echo(f"| seed {seed} | {electrons} | {psnr(clean, noisy):.1f} | {gaussian} | {bundled:.1f} |")


if __name__ == "__main__":
    main()
