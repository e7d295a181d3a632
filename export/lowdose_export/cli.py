"""`lowdose export`."""

from __future__ import annotations

from pathlib import Path

import click

from lowdose_export.blind_spot import export_blind_spot
from lowdose_export.udvd import export_udvd
from lowdose_export.windowed import export_windowed
from lowdose_train.checkpoint import load_checkpoint

WRITERS = {
    "wcvd": export_blind_spot,
    "wcid": export_blind_spot,
    "udvd": export_udvd,
    "udvd-4d": export_udvd,
    "n2v": export_windowed,
    "synthesis3d": export_windowed,
}


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Model file to write (*.onnx).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export(checkpoints: tuple[Path, ...], out: Path, overwrite: bool) -> None:
    """Write best.pt of a training run as a model file, and check it.

    Several checkpoints of one method become a bank: when the model runs, the noisy frames choose.
    PyTorch, ONNX Runtime and the compiled core are compared on random stacks of two sizes.
    """
    write = WRITERS[load_checkpoint(checkpoints[0])[1]["method"]]
    differences = write(checkpoints, out, overwrite=overwrite)
    click.echo(f"{out}: {out.stat().st_size} bytes, {len(checkpoints)} weight set(s)")
    for engine, difference in differences.items():
        click.echo(f"  {engine} agrees with PyTorch within {difference:.1e} of the output's range")
