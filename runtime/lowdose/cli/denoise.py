"""`lowdose denoise`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from lowdose.cli.batch import plan
from lowdose.errors import LowdoseError
from lowdose.methods import find_method
from lowdose.methods.method import Method
from lowdose.pipeline import DEFAULT_MAX_BYTES, Job, denoise_file, settings_from

UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(text: str) -> float:
    """Bytes from "500MB", "2GiB" or "1e9". Raises LowdoseError for anything else."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmg]i?|)b?\s*", text.lower())
    if not match or not float(match[1]) > 0:
        raise LowdoseError(f"--max-mem {text}: expected a size such as 500MB or 2GiB")
    return float(match[1]) * UNITS[match[2]]


def parse_range(text: str | None) -> slice:
    """A slice from "A:B"; either end may be left out. Raises LowdoseError for anything else."""
    match = re.fullmatch(r"(-?\d*):(-?\d*)", text or ":")
    if not match or "-" in (match[1], match[2]):
        raise LowdoseError(f"--frames {text}: expected A:B, the first frame and the one behind the last, such as 0:100")
    return slice(*(int(end) if end else None for end in match.groups()))


def parse_scan(text: str | None) -> tuple[int, int] | None:
    """Rows and columns from "NYxNX". Raises LowdoseError for anything else."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text or "")
    if text is not None and not match:
        raise LowdoseError(f"--scan {text}: expected rows and columns, such as 64x128")
    return (int(match[1]), int(match[2])) if match else None


def parse_tile(text: str) -> int:
    """Tile side from "auto" (0) or a number of pixels."""
    if text == "auto":
        return 0
    if not text.isdigit() or int(text) < 1:
        raise LowdoseError(f"--tile {text}: expected auto or a number of pixels")
    return int(text)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Output file, or folder for several inputs.",
)
@click.option(
    "--model",
    "model_name",
    default="wiener",
    show_default=True,
    help="auto, wiener, reucid, a classical filter, a bundled model or a file.",
)
@click.option(
    "--device",
    default="auto",
    metavar="auto|cpu|cuda|tensorrt|rtx|directml",
    help="Where to run; cuda:1 is the second GPU.  [default: auto]",
)
@click.option("--drift", is_flag=True, help="Bring all frames onto the first; saves the shifts as OUT.drift.csv.")
@click.option("--lowpass", default="auto", metavar="auto|CUTOFF|none", help="In cycles/pixel.  [default: auto]")
@click.option(
    "--dtype",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "same", "float32"]),
    help="auto: the input's, but float32 where rounding would cost more than 1 % of the signal.",
)
@click.option("--axes", help="What the file's dimensions are, such as TCYX; overrides the file.")
@click.option("--scan", metavar="NYxNX", help="The frames are a scan of so many rows and columns, row by row.")
@click.option("--as-stack", is_flag=True, help="A folder holds the frames of one stack or scan, an image each.")
@click.option("--channel", type=int, help="Which channel to denoise, counted from 0.")
@click.option("--frames", metavar="A:B", help="Only these frames: A is the first, B the one behind the last.")
@click.option("--tile", default="auto", metavar="auto|N", help="Largest tile side in pixels.  [default: auto]")
@click.option(
    "--max-mem",
    default=f"{DEFAULT_MAX_BYTES / 1e9:g}GB",
    show_default=True,
    help="Cap for buffers and network.",
)
@click.option("--batch", type=int, help="Frames of one run of a network, for throughput on a GPU.  [default: 1]")
@click.option("--threads", default=0, help="CPU threads; 0 for one per core.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs (never inputs).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def denoise(
    inputs: tuple[str, ...], out: Path, model_name: str, device: str, drift: bool, lowpass: str, dtype: str,
    axes: str | None, scan: str | None, as_stack: bool, channel: int | None, frames: str | None, tile: str,
    max_mem: str, batch: int | None, threads: int, overwrite: bool, as_json: bool,
) -> int:  # fmt: skip
    """Denoise movies and images: files, folders (with all below them) or globs.

    As many frames come out as go in. Weights, low-pass and offset are chosen from the noisy frames and
    reported. Inputs are never changed, and an output appears under its name only when it is complete.
    With several inputs the rest goes on when one fails; the exit code is then 2.
    """
    pairs = [(Path(folder), out) for folder in inputs] if as_stack else plan(inputs, out)
    if as_stack and len(pairs) > 1:
        raise LowdoseError("--as-stack takes one folder and one output file")
    method = find_method(model_name, device=device)
    job = Job(
        settings=settings_from(lowpass),
        dtype=dtype,
        axes=axes,
        scan=parse_scan(scan),
        channel=channel,
        frames=parse_range(frames),
        drift=drift,
        tile=parse_tile(tile),
        max_bytes=parse_bytes(max_mem),
        batch=batch,
        threads=threads,
        overwrite=overwrite,
    )
    if not as_json:
        click.echo(f"{method.name} on {method.device} ({method.runtime})")
    reports, failures = [], []
    for source, target in pairs:
        try:
            report = denoise_one(source, target, method, job, quiet=as_json)
        except (LowdoseError, OSError) as error:
            if len(pairs) == 1:
                raise
            failures.append({"input": str(source), "error": str(error)})
            click.echo(f"Error: {error}", err=True)
            continue
        reports.append(report)
        if not as_json:
            print_report(report)
    if as_json:
        click.echo(json.dumps({"results": reports, "failures": failures}, indent=2))
    return 2 if failures else 0


def denoise_one(source: Path, target: Path, method: Method, job: Job, quiet: bool) -> dict[str, Any]:
    """One file, with a progress bar on standard error where that is a terminal."""
    with tqdm(desc=source.name, unit="frame", disable=True if quiet else None, leave=False) as bar:

        def show(stage: str, done: int) -> None:
            bar.set_description_str(f"{source.name}: {stage} ", refresh=done == 0)  # a new stage shows at once
            bar.update(done - bar.n)

        return denoise_file(source, target, method, job, show)


def print_report(report: dict[str, Any]) -> None:
    latency = report["latency"]["total"]
    click.echo(f"{report['input']} -> {report['output']}")
    size, types = f"{report['height']}x{report['width']}", f"{report['dtype_in']} -> {report['dtype_out']}"
    click.echo(f"  {report['n_frames']} frames of {size}, {types}")
    if report["dtype_rule"] == "auto" and report["dtype_out"] != report["dtype_in"]:
        click.echo(f"  rounding to {report['dtype_in']} would cost more than 1 % of the signal (--dtype same does it)")
    click.echo(f"  {report['summary']}")
    if "drift_file" in report:
        unsure = report["drift_unsure_frames"]
        click.echo(f"  shifts in {report['drift_file']}" + (f"; unsure frames: {unsure}" if unsure else ""))
    # Of a batch one push takes the time of all, and the others next to none.
    time_ms, of = (latency["mean_ms"], "mean") if report.get("batch", 1) > 1 else (latency["p50_ms"], "median")
    click.echo(f"  {time_ms:.1f} ms per frame ({of}), {report['seconds']:.1f} s in all")
