"""`lowdose calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lowdose.cli.denoise import parse_range, parse_scan
from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.methods.method import Options
from lowdose.methods.wiener import Wiener
from lowdose.pipeline import FileSource, Job
from lowdose_export.model_file import check_out
from lowdose_export.wiener import export_wiener


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Model file to write (*.onnx).")
@click.option(
    "--method",
    type=click.Choice(["wiener", "bfn"]),
    default="wiener",
    show_default=True,
    help="The closed-form blind filter, or the blind-feature network that begins with it.",
)
@click.option("--budget", help="Time for bfn, such as 60s or 5min (default 60s).")
@click.option(
    "--from",
    "start_from",
    metavar="FILE|NAME",
    help="A model of bfn to begin with, or random (default: the bundled one for such data).",
)
@click.option("--hide", type=click.Choice(["1", "3"]), default="1", help="bfn: 3 where neighbours share their noise.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first weights and the crops of bfn.")
@click.option("--threads", type=int, help="CPU threads of bfn.")
@click.option("--axes", help="What the file's dimensions are, such as TCYX; overrides the file.")
@click.option("--scan", metavar="NYxNX", help="The frames are a scan of so many rows and columns, row by row.")
@click.option("--channel", type=int, help="Which channel to fit to, counted from 0.")
@click.option("--frames", metavar="A:B", help="Only these frames: A is the first, B the one behind the last.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model file.")
def calibrate(
    file: Path,
    out: Path,
    method: str,
    axes: str | None,
    scan: str | None,
    channel: int | None,
    frames: str | None,
    overwrite: bool,
    **of_bfn: Any,
) -> None:
    """Fit a denoiser to the noisy FILE alone and write it as a model file.

    It needs no truth and no parameters, and denoises FILE and others of the same kind wherever model files run. wiener
    takes a second. bfn learns from there for the time given, and is never worse by the error on pixels that it did not
    learn from; Ctrl-C ends it with the best so far. The model file of a scan takes patterns of the same size only.
    """
    check_out(out, overwrite)
    given = [name for name, value in of_bfn.items() if value not in (None, "1", 0)]
    if method == "wiener" and given:
        raise LowdoseError(f"wiener needs none of {', '.join('--' + name.removeprefix('start_') for name in given)}")
    job = Job(axes=axes, scan=parse_scan(scan), channel=channel, frames=parse_range(frames))
    with open_stack(file, axes=job.axes, scan=job.scan) as reader:
        source = FileSource(reader, job)
        if method == "wiener":
            calibrate_wiener(file, source, out, overwrite)
        else:
            try:
                from lowdose_export.calibrate_bfn import calibrate_bfn  # PyTorch, which wiener does without
            except ModuleNotFoundError as error:
                raise LowdoseError("for --method bfn: pip install 'lowdose[train,export]'") from error
            say_parity(calibrate_bfn(file, source, out, overwrite, **of_bfn), "PyTorch")


def calibrate_wiener(file: Path, source: FileSource, out: Path, overwrite: bool) -> None:
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
    say_parity(differences, "a direct sum")


def say_parity(differences: dict[str, float], reference: str) -> None:
    for engine, difference in differences.items():
        click.echo(f"  {engine} agrees with {reference} within {difference:.1e} of the output's range")
