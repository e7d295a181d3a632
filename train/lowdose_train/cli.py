"""`lowdose train`: parse, read the stacks, train, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lowdose.cli.batch import found_files
from lowdose.errors import LowdoseError
from lowdose_train.checkpoint import starting_point
from lowdose_train.loop import train as train_network
from lowdose_train.methods import TASKS
from lowdose_train.settings import METHODS, Settings, read_settings


@click.command()
@click.argument("method", type=click.Choice(METHODS))
@click.argument("data", nargs=-1, required=True)
@click.option("-o", "run_dir", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Run folder.")
@click.option("--axes", help="What the dimensions of the files are, one letter each, such as TCYX.")
@click.option("--channel", type=int, help="Channel to train on, counted from 0, where there are several.")
@click.option("--settings", "settings_file", type=click.Path(path_type=Path), help="JSON file of settings.")
@click.option("--epochs", type=int, help="Length of the run (default: the method's).")
@click.option("--budget", "budget_s", type=float, metavar="SECONDS", help="Length in seconds instead of epochs.")
@click.option("--learning-rate", type=float, help="Adam's rate at the start.")
@click.option("--batch-size", type=int, help="Crops per step.")
@click.option("--crop", "crop_px", type=int, help="Side of a crop in pixels.")
@click.option("--seed", type=int, help="Seed of weights and crops (default 0).")
@click.option("--device", metavar="cpu|cuda[:N]", help="Where to train (default cpu).")
@click.option("--threads", type=int, help="CPU threads; 1 is quickest on a busy machine.")
@click.option(
    "--from",
    "start_from",
    metavar="FILE|NAME",
    help="Checkpoint or model file to fine-tune, or a bundled model by its name.",
)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in DIR.")
def train(
    method: str,
    data: tuple[str, ...],
    run_dir: Path,
    axes: str | None,
    channel: int | None,
    settings_file: Path | None,
    start_from: str | None,
    resume: bool,
    **flags: Any,
) -> None:
    """Train METHOD on files of your own; wcvd and wcid learn from noisy frames alone.

    DATA are files, folders (with all below them) or globs. The weights with the lowest loss on held-out
    frames are written to DIR/best.pt, for `lowdose export`.
    """
    if resume and (settings_file or start_from):
        raise LowdoseError("--resume takes settings and weights from the run folder; leave out --settings and --from")
    source = run_dir / "settings.json" if resume else settings_file
    values = read_settings(source) if source else {}
    values |= {"method": method} | {name: value for name, value in flags.items() if value is not None}
    settings = Settings.from_mapping(values)
    files = [file for given in data for file, _ in found_files(given)]
    read = TASKS[settings.method].read
    stacks = {str(file): read(file, axes, channel, settings) for file in files}
    try:
        result = train_network(
            settings,
            stacks,
            run_dir,
            start_from=starting_point(start_from) if start_from else None,
            resume=resume,
            show_progress=True,
            say=_say,
        )
    except KeyboardInterrupt:
        _say(f"Stopped. To go on: lowdose train {method} ... -o {run_dir} --resume")
        click.get_current_context().exit(130)
    for stack in result.metrics["stacks"]:
        numbers = [
            f"{name} {'not defined here' if value is None else f'{value:.5g}'}"
            for name, value in stack.items()
            if name != "name"
        ]
        click.echo(f"{stack['name']}: {', '.join(numbers)}")
    click.echo(
        f"best epoch {result.metrics['epoch']} ({result.metrics['seconds']:.0f} s), "
        f"held-out loss {result.metrics['held_out']:.5f}, stopped by {result.stopped_by}: {run_dir / 'best.pt'}"
    )


def _say(message: str) -> None:
    click.echo(message, err=True)
