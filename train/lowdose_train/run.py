"""State of one training run, and what a step and an epoch do to it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lowdose.errors import LowdoseError
from lowdose_train import checkpoint
from lowdose_train.settings import Settings
from lowdose_train.task import Task

LAST_RATE = 0.01
"""Learning rate at the end of the run, as a share of the first."""


class Run:
    """A training run in memory; `lowdose_train.loop.train` keeps it on disk.

    Begin with `start` or `restore`, then `train_epoch` until `stopped_by` gives a reason.
    """

    def __init__(self, settings: Settings, task: Task, say: Callable[[str], None]) -> None:
        self.settings, self.task, self.say = settings, task, say
        self.network = task.network
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch = 0
        self.step = 0
        self.elapsed_s = 0.0
        self.clock_s = time.monotonic()
        self.best_metrics: dict[str, Any] = {"epoch": 0, "held_out": math.inf}
        self.best_state: dict[str, torch.Tensor] = {}

    def start(self, start_from: Path | None) -> None:
        """Draw the first weights, or take them from a checkpoint, and set up the optimiser."""
        self.task.draw(self.generator)
        if start_from is not None:
            earlier, meta = checkpoint.load_checkpoint(start_from)
            if meta["method"] != self.settings.method:
                raise LowdoseError(f"{start_from} is a {meta['method']} network; expected {self.settings.method}")
            try:
                self.task.begin_with(earlier)
            except RuntimeError as error:
                raise LowdoseError(
                    f"the weights in {start_from} do not fit these settings and data: {error}"
                ) from error
        self.task.prepare(self.generator)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimiser = self.new_optimiser()
        self.mend()
        if self.task.first_weights_count:
            self.keep_best(
                {"epoch": 0, "step": 0, "seconds": round(self.seconds(), 3), "held_out": self.held_out_loss()}
            )

    def new_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.task.parameters(), lr=self.settings.learning_rate)

    def mend(self) -> None:
        for message in self.task.mend(self.averaged, self.optimiser, self.generator, self.progress()):
            self.say(f"epoch {self.epoch}: {message}")

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.settings.budget_s is not None:
            return min(1.0, self.seconds() / self.settings.budget_s)
        return min(1.0, self.step / (self.settings.epochs * self.task.steps_per_epoch))

    def seconds(self) -> float:
        """Training time so far, earlier parts of a resumed run included."""
        return self.elapsed_s + time.monotonic() - self.clock_s

    def stopped_by(self) -> str | None:
        if self.progress() >= 1:
            return "epochs" if self.settings.budget_s is None else "budget"
        if self.epoch - self.best_metrics["epoch"] >= self.settings.patience_epochs:
            return "patience"
        return None

    def train_epoch(self, after_step: Callable[[], None]) -> dict[str, Any]:
        """The steps of an epoch, or as many as the budget leaves; then score the averaged weights."""
        losses = []
        for _ in range(self.task.steps_per_epoch):
            losses.append(self.train_step())
            after_step()
            if self.progress() >= 1:
                break
        self.epoch += 1
        self.mend()
        metrics = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": round(self.seconds(), 3),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "loss": sum(losses) / len(losses),
            "held_out": self.held_out_loss(),
        }
        if not math.isfinite(metrics["held_out"]):
            raise LowdoseError(
                f"training diverged in epoch {self.epoch}; lower --learning-rate (now {self.settings.learning_rate:g})"
            )
        if metrics["held_out"] < self.best_metrics["held_out"]:
            self.keep_best(metrics)
        return metrics

    def keep_best(self, metrics: dict[str, Any]) -> None:
        self.best_metrics = metrics
        self.best_state = copy.deepcopy(self.averaged.state_dict())  # a copy: averaging goes on in place

    def train_step(self) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress()))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * (LAST_RATE + (1 - LAST_RATE) * cosine)
        loss = self.task.loss(self.network, self.task.batch(self.generator))
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.task.before_step()
        self.optimiser.step()
        self.task.after_step()
        self.step += 1
        keep = min(self.settings.averaging, self.step / (self.step + 10))  # forget the first weights soon
        with torch.no_grad():
            for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return loss.item()

    @torch.no_grad()
    def held_out_loss(self) -> float:
        return self.task.held_out_loss(self.averaged)

    def best_contents(self) -> dict[str, Any]:
        return {
            "method": self.settings.method,
            "settings": self.settings.to_mapping(),
            "state_dict": self.best_state,
            "metrics": dict(self.best_metrics),
            "seed": self.settings.seed,
            "commit": checkpoint.source_commit(),
            "data": self.task.data,
        }

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "task": self.task.state(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds(),
            "best_metrics": self.best_metrics,
            "best_state": self.best_state,
            "data": self.task.data,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises LowdoseError when the data are not those of the run."""
        if state.get("data") != self.task.data:
            raise LowdoseError(
                "the data are not those that the interrupted run was trained on; "
                "give the same files to --resume, or start a new run with --from best.pt"
            )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.task.restore(state["task"])
        self.optimiser = self.new_optimiser()
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.epoch, self.step, self.elapsed_s = state["epoch"], state["step"], state["seconds"]
        self.best_metrics, self.best_state = state["best_metrics"], state["best_state"]
        self.clock_s = time.monotonic()
