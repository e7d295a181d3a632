"""`lowdose calibrate --method bfn`: trains the blind-feature network on one file and exports it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from lowdose.errors import LowdoseError
from lowdose.methods.bfn import bundled_name
from lowdose.model import bundled_models
from lowdose.pipeline import FileSource
from lowdose_export.bfn import export_bfn
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import frames_to_learn
from lowdose_train.checkpoint import load_checkpoint, read, starting_point
from lowdose_train.loop import train
from lowdose_train.settings import Settings

BUDGET = "60s"
FINE_TUNING_RATE = 1e-3
"""Of Adam, where the weights are trained already: a third of that for random ones."""
RANDOM = "random"
"""Stands for weights that nobody has trained."""
UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


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
) -> dict[str, float]:
    """Write the model file `out`. Returns the largest difference to PyTorch per engine."""
    start = starting_weights(start_from, source)
    values: dict[str, Any] = {
        "method": "bfn" if source.scan is None else "bfn-4d",
        "budget_s": parse_seconds(budget or BUDGET),
        "blind_px": int(hide),
        "seed": seed,
        "threads": threads,
    }
    if start:
        values |= sizes_of(start) | {"learning_rate": FINE_TUNING_RATE}
    settings = Settings.from_mapping(values)
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
    return differences


def starting_weights(start_from: str | None, source: FileSource) -> Path | None:
    """The file to begin with: None for random weights, which are also taken where no bundled network fits."""
    if start_from == RANDOM:
        return None
    if start_from:
        return starting_point(start_from)
    name = bundled_name(source)
    return bundled_models()[name] if name else None


def sizes_of(start: Path) -> dict[str, int]:
    """The settings that a network to begin with has already decided."""
    network, _ = load_checkpoint(start)
    if not isinstance(network, BlindFeatureNetwork):
        raise LowdoseError(f"{start} is no network of bfn")
    _, n_features, side_px = network.features.vertical.shape
    return {
        "n_features": n_features,
        "side_px": side_px,
        "n_hidden": network.perceptron.b1.shape[1],
    }


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
