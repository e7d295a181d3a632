"""`lowdose calibrate`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from lowdose.cli.denoise import parse_range, parse_scan
from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.methods.method import Options
from lowdose.methods.wiener import Wiener
from lowdose.pipeline import FileSource, Job
from lowdose_export.bfn import export_bfn
from lowdose_export.model_file import check_out
from lowdose_export.wiener import export_wiener
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import frames_to_learn
from lowdose_train.checkpoint import load_checkpoint, read, starting_point
from lowdose_train.loop import train
from lowdose_train.settings import Settings

BUDGET = "60s"
UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


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
@click.option("--budget", help=f"Time for bfn, such as 60s or 5min (default {BUDGET}).")
@click.option("--from", "start_from", metavar="FILE|NAME", help="A model of bfn to begin with.")
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
            calibrate_bfn(file, source, out, overwrite, **of_bfn)


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


def calibrate_bfn(
    file: Path,
    source: FileSource,
    out: Path,
    overwrite: bool,
    *,
    budget: str | None,
    start_from: str | None,
    hide: str,
    seed: int,
    threads: int | None,
) -> None:
    start = starting_point(start_from) if start_from else None
    values: dict[str, Any] = {
        "method": "bfn" if source.scan is None else "bfn-4d",
        "budget_s": parse_seconds(budget or BUDGET),
        "blind_px": int(hide),
        "seed": seed,
        "threads": threads,
    }
    settings = Settings.from_mapping(values | (sizes_of(start) if start else {}))
    stacks = {file.name: frames_to_learn(source)}
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / file.stem
        try:
            train(settings, stacks, run_dir, start_from=start, show_progress=True, say=say)
        except KeyboardInterrupt:
            if not (run_dir / "best.pt").exists():
                raise
            say("Stopped; the best so far is written.")
        differences = export_bfn([run_dir / "best.pt"], out, channels=source.channel_names, overwrite=overwrite)
        metrics = read(run_dir / "best.pt")["metrics"]
    click.echo(f"{out}: {out.stat().st_size} bytes, best after {metrics['step']} steps, {metrics['seconds']:.0f} s")
    click.echo(
        f"  {-100 * metrics['held_out']:.3f} % of the filter's error (the noise included) are gone on pixels that were "
        "not learned from"
    )
    say_parity(differences, "PyTorch")


def sizes_of(start: Path) -> dict[str, int]:
    """The settings that a network to begin with has already decided."""
    network, _ = load_checkpoint(start)
    if not isinstance(network, BlindFeatureNetwork):
        raise LowdoseError(f"{start} is no network of bfn")
    _, n_features, side_px = network.features.vertical.shape
    return {
        "taps": network.n_taps,
        "linear_px": network.filter.weight.shape[-1],
        "n_features": n_features,
        "side_px": side_px,
        "n_hidden": network.perceptron.b1.shape[1],
    }


def say_parity(differences: dict[str, float], reference: str) -> None:
    for engine, difference in differences.items():
        click.echo(f"  {engine} agrees with {reference} within {difference:.1e} of the output's range")


def parse_seconds(text: str) -> float:
    """60, 60s, 5min or 1h. Raises LowdoseError for anything else and for no time at all."""
    number = text.rstrip("smihn")
    unit = text[len(number) :]
    try:
        seconds = float(number) * UNITS_S[unit or "s"]
    except (ValueError, KeyError):
        seconds = 0.0
    if not (seconds > 0 and np.isfinite(seconds)):
        raise LowdoseError(f"a budget is a time such as 60s or 5min, not '{text}'")
    return seconds


def say(message: str) -> None:
    click.echo(message, err=True)
