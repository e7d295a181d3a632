"""`lowdose evaluate`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from lowdose.cli.denoise import parse_range
from lowdose.errors import LowdoseError
from lowdose.io import StackReader, open_stack
from lowdose.metrics import evaluate as evaluate_frames

LABELS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "nrmse": "NRMSE",
    "nrmse_minmax": "NRMSE (min-max)",
    "mse": "MSE",
    "data_range": "range of clean",
    "psnr_noisy": "PSNR, noisy (dB)",
    "ief": "IEF",
    "umse": "uMSE",
    "upsnr": "uPSNR (dB)",
}
Scores = dict[str, int | float | None]


@click.command()
@click.argument("clean")
@click.argument("denoised")
@click.option("--noisy", help="The noisy file: adds its PSNR, IEF, uMSE and uPSNR.")
@click.option(
    "--clean-scale",
    default=1.0,
    show_default=True,
    help="Multiply CLEAN, to bring it to the units of DENOISED.",
)
@click.option("--clean-offset", default=0.0, show_default=True, help="Then add this to CLEAN.")
@click.option("--frames", help="A:B, only these frames; DENOISED may hold all frames or just these.")
@click.option("--border", default=0, show_default=True, help="Pixels left out along every edge of the image.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; null: not defined or infinite.")
def evaluate(
    clean: str,
    denoised: str,
    noisy: str | None,
    clean_scale: float,
    clean_offset: float,
    frames: str | None,
    border: int,
    as_json: bool,
) -> None:
    """Compare DENOISED with the truth, CLEAN: PSNR, SSIM, NRMSE and, with --noisy, IEF, uMSE and uPSNR.

    Nothing is rescaled unless you say so. Channels are scored one by one. R in the PSNR and SSIM is
    max - min of CLEAN over the frames and pixels that are compared.
    """
    with ExitStack() as files:
        readers = [files.enter_context(open_stack(path)) for path in (clean, denoised, noisy) if path is not None]
        scores = score_channels(readers, clean_scale, clean_offset, parse_range(frames), border)
    if as_json:
        tables = [{name: finite_or_none(value) for name, value in table.items()} for table in scores]
        click.echo(json.dumps(tables[0] if len(tables) == 1 else {"channels": tables}, indent=2))
        return
    for channel, table in enumerate(scores):
        heading = f"channel {channel}, " if len(scores) > 1 else ""
        click.echo(f"{heading}{table['n_frames']} frames")
        for name, label in LABELS.items():
            if name in table:
                value = table[name]
                click.echo(f"  {label:18} {'not defined' if value is None else f'{value:.6g}'}")


def score_channels(
    readers: Sequence[StackReader], clean_scale: float, clean_offset: float, frames: slice, border: int
) -> list[Scores]:
    """Scores of each channel; `readers` are those of clean, denoised and, if given, noisy."""
    clean = readers[0]
    if not (math.isfinite(clean_scale) and math.isfinite(clean_offset)):
        raise LowdoseError(f"--clean-scale {clean_scale:g} --clean-offset {clean_offset:g}: expected finite numbers.")
    if not 0 <= 2 * border < min(clean.height, clean.width):
        raise LowdoseError(
            f"--border {border}: expected 0 or more, and some of {clean.height} x {clean.width} pixels left."
        )
    chosen = range(clean.n_frames)[frames]
    if not chosen:
        raise LowdoseError(f"--frames chooses none of the {clean.n_frames} frames of {clean.path}.")
    for reader in readers[1:]:
        if reader.n_channels != clean.n_channels:
            raise LowdoseError(
                f"{reader.path} has {reader.n_channels} channels; expected {clean.n_channels}, as {clean.path} has."
            )
    results = []
    for channel in range(clean.n_channels):
        truth = Frames(clean, chosen, channel, border, clean_scale, clean_offset)
        others = [Frames(reader, chosen_of(reader, clean.n_frames, chosen), channel, border) for reader in readers[1:]]
        results.append(evaluate_frames(truth, *others))
    return results


def chosen_of(reader: StackReader, n_frames: int, chosen: range) -> range:
    """The chosen frames of a file that holds either all `n_frames` frames or the chosen ones only."""
    if reader.n_frames == n_frames:
        return chosen
    if reader.n_frames == len(chosen):
        return range(len(chosen))
    raise LowdoseError(
        f"{reader.path} has {reader.n_frames} frames; expected {n_frames}, as the clean file has"
        + (f", or the {len(chosen)} that --frames chooses." if len(chosen) != n_frames else ".")
    )


@dataclass(frozen=True)
class Frames:
    """One channel of a file, frame by frame (height, width) and afresh for each call; scaled, border cut."""

    reader: StackReader
    chosen: range
    channel: int
    border: int
    scale: float = 1.0
    offset: float = 0.0

    def __call__(self) -> Iterator[npt.NDArray[Any]]:
        height, width = self.reader.height, self.reader.width
        for index in self.chosen:
            frame = self.reader.read(index)[self.channel]
            inner = frame[self.border : height - self.border, self.border : width - self.border]
            yield inner.astype(np.float64) * self.scale + self.offset


def finite_or_none(value: int | float | None) -> int | float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None
