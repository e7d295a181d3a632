"""Training from noisy stacks to best.pt: what is checked, written and resumed around a `Run`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

from lowdose.errors import LowdoseError
from lowdose_train import checkpoint
from lowdose_train.data import Array
from lowdose_train.methods import TASKS
from lowdose_train.run import Run
from lowdose_train.settings import MAY_CHANGE_ON_RESUME, Settings, read_settings
from lowdose_train.task import Task


@dataclass(frozen=True)
class TrainResult:
    """The best network (on the CPU), its metrics, and what ended training: "epochs", "budget" or "patience"."""

    network: nn.Module
    metrics: dict[str, Any]
    stopped_by: str


def train(
    settings: Settings,
    stacks: Mapping[str, Array],
    run_dir: Path,
    *,
    start_from: Path | None = None,
    resume: bool = False,
    show_progress: bool = False,
    say: Callable[[str], None] = lambda message: None,
    task_type: type[Task] | None = None,
) -> TrainResult:
    """Train on named stacks in the shape that the method takes and write the run to the folder `run_dir`.

    Written there: settings.json; metrics.jsonl, a line per epoch; best.pt, the averaged weights with the
    lowest held-out blind loss; last.pt, the state after the last whole epoch. An interrupted run (Ctrl-C
    raises KeyboardInterrupt here) goes on from last.pt with `resume`, on the CPU bit for bit as if it had
    never stopped, unless a budget in seconds rules the learning rate. `start_from` takes the first weights from
    another run's best.pt; `task_type` is another way to train the method than that for its users' data.
    Raises LowdoseError for data, settings, files or a device that do not fit.
    """
    device = find_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
        threadpool_limits(settings.threads)  # NumPy's
    if not stacks:
        raise LowdoseError("no stacks to train on; give one or more")
    task_type = task_type or TASKS[settings.method]
    task = task_type(settings, stacks, device)
    run = Run(settings, task, say)
    last, best, log = run_dir / "last.pt", run_dir / "best.pt", run_dir / "metrics.jsonl"
    if resume:
        _check_same_settings(settings, run_dir / "settings.json")
        run.restore(checkpoint.read(last))
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        log.write_text("".join(lines[: run.epoch]), encoding="utf-8")
    else:
        if last.exists():
            raise LowdoseError(f"{run_dir} holds a run already; give --resume to go on, or another folder")
        run.start(start_from)
        run_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(settings.to_mapping(), indent=2) + "\n"
        (run_dir / "settings.json").write_text(text, encoding="utf-8")
        log.write_text("", encoding="utf-8")
        checkpoint.save(run.state(), last)
        if run.best_state:
            checkpoint.save(run.best_contents(), best)

    with tqdm(total=100, disable=not show_progress, unit="%") as bar:
        while run.epoch == 0 or run.stopped_by() is None:
            metrics = run.train_epoch(after_step=lambda: bar.update(int(100 * run.progress()) - bar.n))
            bar.set_postfix(loss=metrics["loss"], held_out=metrics["held_out"])
            if metrics["epoch"] == run.best_metrics["epoch"]:
                checkpoint.save(run.best_contents(), best)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
            checkpoint.save(run.state(), last)
    contents = run.best_contents()
    network = task_type.network_for(settings, contents["state_dict"])
    network.load_state_dict(contents["state_dict"])
    with torch.no_grad():
        contents["metrics"] |= task.finish(network.eval()) | {"stacks": task.scores(network)}
    contents["state_dict"] = network.state_dict()
    checkpoint.save(contents, best)
    return TrainResult(network, contents["metrics"], run.stopped_by() or "")


def find_device(name: str) -> torch.device:
    """The device asked for, never another. Raises LowdoseError that names those there are."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(["cuda"] if n_gpus else []), *(f"cuda:{index}" for index in range(n_gpus))]
    if name not in there:
        raise LowdoseError(f"device {name} is not there; available: {', '.join(there)}")
    return torch.device(name)


def _check_same_settings(settings: Settings, path: Path) -> None:
    saved = Settings.from_mapping(read_settings(path)).to_mapping()
    now = settings.to_mapping()
    changed = [name for name in now if now[name] != saved[name] and name not in MAY_CHANGE_ON_RESUME]
    if changed:
        raise LowdoseError(
            f"a resumed run keeps its settings ({path.name}); these differ: "
            + ", ".join(f"{name} {saved[name]} -> {now[name]}" for name in changed)
        )
