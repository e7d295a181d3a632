"""`lowdose simulate`: write a movie with ground truth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose.io import create_stack
from lowdose.simulate import Movie
from lowdose.simulate import simulate as make_movie
from lowdose.simulate.movie import DETECTORS, SPECIMENS
from lowdose.simulate.stem import CHANNELS


def two_sizes(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Rows and columns from "ROWSxCOLUMNS"."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", value)
    if match is None:
        raise click.BadParameter(f"{value!r}; expected rows x columns, for example 256x256")
    return int(match[1]), int(match[2])


@click.command()
@click.argument("specimen", type=click.Choice(list(SPECIMENS)))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The noisy movie, a .tif.")
@click.option("--detector", type=click.Choice(list(DETECTORS)), default="counting", show_default=True)
@click.option(
    "--dose", "dose_per_pixel", type=float, help="Incident electrons per pixel and frame; diffraction: per pattern."
)
@click.option("--frames", "n_frames", type=int, help="Number of frames.")
@click.option("--size", callback=two_sizes, metavar="HxW", help="Height and width of a frame in pixels.")
@click.option("--scan", callback=two_sizes, metavar="YxX", help="diffraction: rows and columns of the scan.")
@click.option("--pixel-size", "pixel_size_angstrom", type=float, help="Pixel size in angstrom.")
@click.option("--element", help="Metal of the particle or of the adatoms, for example Pt.")
@click.option("--no-support", is_flag=True, help="hrtem: amorphous carbon instead of a crystal below.")
@click.option("--drift", "drift_px_per_frame", type=float, help="Mean drift in pixels per frame.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same bits.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def simulate(
    specimen: str,
    out: Path,
    detector: str,
    seed: int,
    size: tuple[int, int] | None,
    scan: tuple[int, int] | None,
    no_support: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Write a simulated movie or scan of SPECIMEN and its ground truth.

    hrtem is a nanoparticle on a support, stem are adatoms on graphene (ADF and BF channel), particles are
    metal particles that diffuse, ripen and merge on carbon, diffraction is a 4D-STEM scan of a polycrystalline
    film. With -o OUT.tif it writes OUT.tif (noisy), OUT_clean.tif (the truth in the same units, float32), OUT.json (all
    parameters and the drift or descan) and, of particles, OUT_particles.csv (where they are in each frame).
    """
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise LowdoseError(f"{out}: the movie is written as TIFF; give a name that ends in .tif")
    if no_support and specimen != "hrtem":
        raise LowdoseError("--no-support is for hrtem: the adatoms of stem always lie on graphene")
    truth, record = out.with_name(f"{out.stem}_clean{out.suffix}"), out.with_suffix(".json")
    table = out.with_name(f"{out.stem}_particles.csv")
    for path in (out, truth, record) + ((table,) if specimen == "particles" else ()):
        if path.exists() and not overwrite:
            raise LowdoseError(f"{path} exists already: choose another name, or pass --overwrite")
    settings = {name: value for name, value in options.items() if value is not None}
    if size is not None:
        settings["height"], settings["width"] = size
    if scan is not None:
        settings["scan_y"], settings["scan_x"] = scan
    if no_support:
        settings["support"] = False
    movie = make_movie(specimen, detector, seed, **settings)
    provenance = {"software": f"lowdose {__version__}", **movie.parameters}
    for path, stack in ((truth, movie.clean), (out, movie.noisy)):
        write_stack(path, stack, movie, provenance, overwrite)
    report = {**provenance, "drift_px": np.round(movie.drift_px, 6).tolist()}
    record.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if movie.particles is not None:
        columns = "frame,y_px,x_px,radius_px"
        np.savetxt(table, movie.particles, ["%d", "%.4f", "%.4f", "%.4f"], ",", header=columns, comments="")
    shape = "x".join(map(str, movie.noisy.shape))
    click.echo(f"{out}: {shape} {movie.noisy.dtype}, truth in {truth.name}, parameters in {record.name}")


def write_stack(path: Path, stack: NDArray[Any], movie: Movie, provenance: dict[str, Any], overwrite: bool) -> None:
    """Write a stack (n_frames, [n_channels,] height, width) or a scan with the pixel size of the movie."""
    is_scan = movie.drift_px.ndim == 3
    pixel_size = movie.parameters["pixel_size_mrad"] if is_scan else movie.pixel_size_angstrom
    height, width = stack.shape[-2:]
    frames = stack.reshape(-1, 1, height, width) if is_scan else stack.reshape(len(stack), -1, height, width)
    has_channels = stack.ndim == 4 and not is_scan
    with create_stack(
        path,
        axes="VUYX" if is_scan else "TCYX" if has_channels else "TYX",
        shape=stack.shape,
        dtype=stack.dtype,
        pixel_size=(pixel_size, pixel_size),
        pixel_unit="mrad" if is_scan else "Å",
        channel_names=CHANNELS if has_channels else None,
        provenance=provenance,
        overwrite=overwrite,
    ) as writer:
        for frame in frames:
            writer.write(frame)
