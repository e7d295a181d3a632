"""`lowdose engine`."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from pathlib import Path

import click

from lowdose.engine_file import read_engine
from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, bundled_models
from lowdose_export.engine import PORTABLE_TARGETS, PRECISIONS, build_engine, engine_key


@click.group()
def engine() -> None:
    """Engines for NVIDIA RTX GPUs, built ahead of time; no GPU is needed to build one."""


@engine.command()
@click.argument("model")
@click.option("--size", required=True, metavar="HxW", help="Height and width of the frames.")
@click.option("--batch", default=1, show_default=True, help="Frames at a time.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(PRECISIONS))
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="X.Y",
    help=f"Compute capability of the GPUs; may be repeated.  [default: {', '.join(PORTABLE_TARGETS)}]",
)
@click.option("--weight-set", default=0, show_default=True, help="Of the model's bank, counted from 0.")
@click.option("--lowpass", metavar="CUTOFF|none", help="In cycles/pixel.  [default: the model's]")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File to write.  [default: in the cache]")
@click.option("--overwrite", is_flag=True, help="Replace another engine in that file.")
def build(
    model: str, size: str, batch: int, precision: str, targets: tuple[str, ...], weight_set: int, lowpass: str | None,
    out: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Build MODEL, a bundled model or a file, for one frame size.

    Settings are built in: nothing is chosen from the data when the engine runs. An engine that is there already is not
    built again.
    """
    path = bundled_models().get(model, Path(model))
    if not path.is_file():
        raise LowdoseError(f"no model '{model}': expected a file or one of {', '.join(bundled_models())}")
    key = engine_key(
        path,
        parse_size(size),
        batch=batch,
        precision=precision,
        targets=targets or PORTABLE_TARGETS,
        weight_set=weight_set,
        cutoff=parse_cutoff(lowpass),
    )
    start = time.perf_counter()
    file = build_engine(path, key, out=out, overwrite=overwrite, report=click.echo)
    click.echo(f"{file}: {file.stat().st_size} bytes, {key.builder}, {time.perf_counter() - start:.1f} s")


@engine.command()
@click.argument("file", type=click.Path(path_type=Path))
def info(file: Path) -> None:
    """What the engine in FILE was built from, by what, and for which GPUs."""
    if not file.is_file():
        raise LowdoseError(f"there is no file {file}")
    click.echo(json.dumps(asdict(read_engine(file).key), indent=2))


def parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise LowdoseError(f"--size {text}: expected height and width, such as 512x1024")
    return int(match[1]), int(match[2])


def parse_cutoff(text: str | None) -> float | None:
    if text is None:
        return None
    if text == "none":
        return NO_LOW_PASS
    try:
        return float(text)
    except ValueError as error:
        raise LowdoseError(f"--lowpass {text}: expected a number in cycles/pixel, or none") from error
