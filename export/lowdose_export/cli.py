"""`lowdose export`."""

from __future__ import annotations

from pathlib import Path

import click

from lowdose.errors import LowdoseError
from lowdose_export.bfn import export_bfn
from lowdose_export.blind_spot import export_blind_spot
from lowdose_export.half_file import write_half
from lowdose_export.quantise import TIMED_SIDE_PX, quantise
from lowdose_export.udvd import export_udvd
from lowdose_export.windowed import export_windowed
from lowdose_train.checkpoint import load_checkpoint, starting_point

WRITERS = {
    "wcvd": export_blind_spot,
    "wcid": export_blind_spot,
    "udvd": export_udvd,
    "udvd-4d": export_udvd,
    "n2v": export_windowed,
    "synthesis3d": export_windowed,
    "bfn": export_bfn,
    "bfn-4d": export_bfn,
}


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Model file to write (*.onnx).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--int8", is_flag=True, help="CHECKPOINT is a model file of n2v, or a bundled model; write it in int8.")
@click.option("--half", is_flag=True, help="CHECKPOINT is a model file or a bundled model; write it in float16.")
@click.option("--force", is_flag=True, help="With --int8 or --half: write the file whatever it loses.")
def export(checkpoints: tuple[Path, ...], out: Path, overwrite: bool, int8: bool, half: bool, force: bool) -> None:
    """Write best.pt of a training run as a model file, and check it.

    Several checkpoints of one method become a bank: when the model runs, the noisy frames choose.
    PyTorch, ONNX Runtime and the compiled core are compared on random stacks of two sizes.
    In int8, n2v is faster on a CPU; in float16, all are faster on most GPUs. What that costs in dB is measured on
    simulated data.
    """
    if int8 and half:
        raise LowdoseError("--int8 and --half: a file has one precision")
    if int8:
        export_int8(one_model_file(checkpoints, "--int8"), out, overwrite, force)
        return
    if half:
        export_half(one_model_file(checkpoints, "--half"), out, overwrite, force)
        return
    write = WRITERS[load_checkpoint(checkpoints[0])[1]["method"]]
    differences = write(checkpoints, out, overwrite=overwrite)
    click.echo(f"{out}: {out.stat().st_size} bytes, {len(checkpoints)} weight set(s)")
    for engine, difference in differences.items():
        click.echo(f"  {engine} agrees with PyTorch within {difference:.1e} of the output's range")


def one_model_file(given: tuple[Path, ...], option: str) -> Path:
    path = starting_point(str(given[0]))
    if len(given) != 1 or path.suffix != ".onnx":
        raise LowdoseError(f"{option} takes one model file (*.onnx): export the checkpoint first")
    return path


def export_half(path: Path, out: Path, overwrite: bool, force: bool) -> None:
    report = write_half(path, out, overwrite=overwrite, force=force)
    click.echo(f"{out}: {out.stat().st_size} bytes, float16")
    click.echo(f"  loses {report.lost_db:.3f} dB on simulated data, {report.most_lost_db:.3f} dB at worst")
    click.echo(f"  differs from float32 by at most {report.difference:.1e} of the output's range")


def export_int8(path: Path, out: Path, overwrite: bool, force: bool) -> None:
    report = quantise(path, out, overwrite=overwrite, force=force)
    click.echo(f"{out}: {out.stat().st_size} bytes, int8")
    click.echo(f"  loses {report.lost_db:.3f} dB on simulated frames, {report.most_lost_db:.3f} dB at worst")
    click.echo(
        f"  {report.int8_ms:.0f} ms per frame of {TIMED_SIDE_PX}x{TIMED_SIDE_PX} on one thread, "
        f"{report.float_ms:.0f} ms in float"
    )
