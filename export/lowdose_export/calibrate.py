"""`lowdose calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from lowdose.cli.denoise import parse_range, parse_scan
from lowdose.io import open_stack
from lowdose.methods.method import Options
from lowdose.methods.wiener import Wiener
from lowdose.pipeline import FileSource, Job
from lowdose_export.model_file import check_out
from lowdose_export.wiener import export_wiener


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Model file to write (*.onnx).")
@click.option("--axes", help="What the file's dimensions are, such as TCYX; overrides the file.")
@click.option("--scan", metavar="NYxNX", help="The frames are a scan of so many rows and columns, row by row.")
@click.option("--channel", type=int, help="Which channel to fit to, counted from 0.")
@click.option("--frames", metavar="A:B", help="Only these frames: A is the first, B the one behind the last.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model file.")
def calibrate(
    file: Path,
    out: Path,
    axes: str | None,
    scan: str | None,
    channel: int | None,
    frames: str | None,
    overwrite: bool,
) -> None:
    """Fit the blind filter to the noisy FILE and write it as a model file.

    It needs no truth, no parameters and no training, and denoises FILE and others of the same kind wherever model files
    run. The model file of a scan takes patterns of the same size only.
    """
    check_out(out, overwrite)
    job = Job(axes=axes, scan=parse_scan(scan), channel=channel, frames=parse_range(frames))
    with open_stack(file, axes=job.axes, scan=job.scan) as reader:
        source = FileSource(reader, job)
        prepared = Wiener().prepare(source, Options())
    fitted_to = {
        "file": file.name,
        "n_frames": len(source),
        "scan": source.scan,
        "height": source.height,
        "width": source.width,
        **prepared.report,
    }
    differences = export_wiener(
        prepared.fitted, out, channels=source.channel_names, fitted_to=fitted_to, overwrite=overwrite
    )
    click.echo(f"{out}: {out.stat().st_size} bytes, {prepared.summary}")
    for engine, difference in differences.items():
        click.echo(f"  {engine} agrees with a direct sum within {difference:.1e} of the output's range")
