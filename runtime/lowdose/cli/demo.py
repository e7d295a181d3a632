"""`lowdose demo`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from lowdose.cli.denoise import print_report
from lowdose.cli.picture import compare
from lowdose.cli.simulate import write_stack
from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.methods import find_method
from lowdose.metrics import psnr
from lowdose.pipeline import Job, denoise_file
from lowdose.simulate import simulate

SEED = 7
SHOWN = 10  # frame of the picture


@click.command()
@click.option(
    "-o",
    "--out",
    default="lowdose-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the files.",
)
@click.option("--seed", default=SEED, show_default=True, help="Another seed gives another specimen.")
@click.option("--dose", default=1.0, show_default=True, help="Electrons per pixel and frame.")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
def demo(out: Path, seed: int, dose: float, overwrite: bool) -> None:
    """Simulate a low-dose movie, denoise it, and compare with the truth.

    The specimen is a platinum particle on an oxide support, 300 kV, counting detector. Writes noisy.tif,
    truth.tif, denoised.tif and comparison.png.
    """
    paths = {name: out / name for name in ("noisy.tif", "truth.tif", "denoised.tif", "comparison.png")}
    for path in paths.values():
        if path.exists() and not overwrite:
            raise LowdoseError(f"{path} exists; give another folder with -o or --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    movie = simulate("hrtem", "counting", seed, dose_per_pixel=dose)
    for name, stack in (("noisy.tif", movie.noisy), ("truth.tif", movie.clean)):
        write_stack(paths[name], stack, movie, movie.parameters, overwrite)

    method = find_method("wcvd")
    click.echo(f"{method.name} on {method.device} ({method.runtime})")
    report = denoise_file(paths["noisy.tif"], paths["denoised.tif"], method, Job(overwrite=overwrite))
    print_report(report)
    with open_stack(paths["denoised.tif"]) as reader:
        denoised = np.stack([reader.read(i)[0] for i in range(reader.n_frames)])
    compare(paths["comparison.png"], movie.noisy[SHOWN], denoised[SHOWN], movie.clean[SHOWN])
    before, after = psnr(movie.clean, movie.noisy), psnr(movie.clean, denoised)
    click.echo(f"PSNR {before:.1f} dB noisy -> {after:.1f} dB denoised, at {dose:g} electrons per pixel and frame")
    click.echo(f"look at {paths['comparison.png']}: raw | denoised | truth | residual, with their spectra")
