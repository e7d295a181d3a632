"""Trains the weight sets of the bundled models: `python -m lowdose_train.bundled wcvd -o runs/wcvd`.

Each set learns from movies of one condition: platinum particles on a crystalline support at one scale, dose and
detector mode. At run time the noisy frames choose among the sets (cpp/src/choice.hpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from lowdose.simulate import counting, hrtem_movie, linear_integration
from lowdose_train.bundled_udvd import Scenes, movie_scenes, scan_scenes
from lowdose_train.loop import train
from lowdose_train.settings import METHODS, Method, Settings
from lowdose_train.task import Task
from lowdose_train.udvd_simulated import SimulatedScanTask, SimulatedUdvdTask

N_MOVIES = 8
N_FRAMES = 16
SIDE_PX = 256
FIRST_SEED = 1000
EPOCHS = 30
UDVD_BATCH, UDVD_CROP_PX = 8, 64
UDVD_RATES = {"lite": 2e-3, "full": 5e-4}
SIMULATED: dict[Method, tuple[Callable[[], Scenes], type[Task]]] = {
    "udvd": (movie_scenes, SimulatedUdvdTask),
    "udvd-4d": (scan_scenes, SimulatedScanTask),
}


@dataclass(frozen=True)
class Condition:
    """What one weight set is trained on; `detector` is "counting" or "linear"."""

    name: str
    pixel_size_angstrom: float
    dose_per_pixel: float
    detector: str = "counting"


CONDITIONS = (
    Condition("fine-0.3", 0.07, 0.3),
    Condition("fine-2", 0.07, 2.0),
    Condition("fine-20-linear", 0.07, 20.0, "linear"),
    Condition("middle-0.5", 0.12, 0.5),
    Condition("middle-4", 0.12, 4.0),
    Condition("coarse-0.3", 0.2, 0.3),
    Condition("coarse-1", 0.2, 1.0),
    Condition("coarse-4", 0.2, 4.0),
    Condition("coarse-20-linear", 0.2, 20.0, "linear"),
)


def movies(condition: Condition) -> dict[str, NDArray[Any]]:
    """Noisy movies (n_frames, height, width) of a condition, named after what makes them again."""
    stacks = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_MOVIES):
        scene = hrtem_movie(
            seed,
            n_frames=N_FRAMES,
            height=SIDE_PX,
            width=SIDE_PX,
            pixel_size_angstrom=condition.pixel_size_angstrom,
        )
        detector = {"counting": counting, "linear": linear_integration}[condition.detector]
        recorded = detector(scene.clean, np.random.default_rng(seed), dose_per_pixel=condition.dose_per_pixel)
        name = (
            f"hrtem Pt, seed {seed}, {condition.pixel_size_angstrom} A/px, "
            f"{condition.dose_per_pixel} e/px, {condition.detector}"
        )
        stacks[name] = recorded
    return stacks


@click.command()
@click.argument("method", type=click.Choice(METHODS))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for one run per set.")
@click.option("--epochs", default=EPOCHS, show_default=True, help="Length of the training of each set.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of PyTorch.")
@click.option("--width", default="lite", show_default=True, help="Of udvd and udvd-4d.")
@click.option("--device", default="cpu", show_default=True, help="Of udvd and udvd-4d.")
@click.option("--budget", "budget_s", type=float, help="Of udvd and udvd-4d: length in seconds instead of epochs.")
@click.option(
    "--from", "start_from", type=click.Path(path_type=Path), help="Of udvd and udvd-4d: a best.pt to train on."
)
@click.option("--learning-rate", type=float, help="Of udvd and udvd-4d.")
def main(
    method: Method,
    out: Path,
    epochs: int,
    threads: int,
    width: str,
    device: str,
    budget_s: float | None,
    start_from: Path | None,
    learning_rate: float | None,
) -> None:
    """Train every weight set of METHOD; sets that are there already are kept.

    On the CPU the same number of epochs gives the same weights.
    """
    if method in SIMULATED:
        train_udvd(
            Settings(
                method=method,
                width=width,
                epochs=epochs,
                budget_s=budget_s,
                learning_rate=learning_rate or UDVD_RATES[width],
                batch_size=UDVD_BATCH,
                crop_px=UDVD_CROP_PX,
                averaging=0.995,
                patience_epochs=epochs,
                device=device,
                threads=threads,
            ),
            out,
            start_from,
        )
        return
    for condition in CONDITIONS:
        run_dir = out / condition.name
        if (run_dir / "best.pt").exists():
            continue
        settings = Settings(method=method, epochs=epochs or EPOCHS, threads=threads)
        result = train(settings, movies(condition), run_dir, show_progress=True, say=click.echo)
        click.echo(f"{condition.name}: {result.metrics}")


def train_udvd(settings: Settings, out: Path, start_from: Path | None) -> None:
    """One set of weights for all conditions, from simulated scenes with noise of every strength."""
    scenes, task_type = SIMULATED[settings.method]
    result = train(
        settings,
        scenes(),
        out / "simulated",
        start_from=start_from,
        show_progress=True,
        say=click.echo,
        task_type=task_type,
    )
    click.echo(f"{settings.method}: {result.metrics}")


if __name__ == "__main__":
    main()
