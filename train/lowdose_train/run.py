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
from lowdose_train.blind_spot import METHOD_TAPS, BlindSpotNetwork
from lowdose_train.data import Crops, TrainingStack, held_out_windows
from lowdose_train.losses import blind_mse
from lowdose_train.settings import Settings
from lowdose_train.whitening import WhitenedKernel, second_moments

LAST_RATE = 0.01
"""Learning rate at the end of the run, as a share of the first."""
N_WHITENING_BATCHES = 8
MAX_REDRAWS = 10
LAST_REDRAW = 0.5
"""Progress after which a dead branch is left alone: a new one could no longer learn."""


class Run:
    """A training run in memory; `lowdose_train.loop.train` keeps it on disk.

    Begin with `start` or `restore`, then `train_epoch` until `stopped_by` gives a reason.
    """

    def __init__(
        self, settings: Settings, stacks: list[TrainingStack], device: torch.device, say: Callable[[str], None]
    ) -> None:
        n_taps = METHOD_TAPS[settings.method]
        self.settings, self.device, self.say = settings, device, say
        self.stacks = stacks
        self.data = [stack.describe() for stack in stacks]
        self.network = BlindSpotNetwork(n_taps).to(device)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.crops = Crops(stacks, settings, self.network.reach_px)
        self.held_out = [window.to(device) for window in held_out_windows(stacks, n_taps)]
        self.epoch = 0
        self.step = 0
        self.elapsed_s = 0.0
        self.clock_s = time.monotonic()
        self.best_metrics: dict[str, Any] = {"epoch": 0, "held_out": math.inf}
        self.best_state: dict[str, torch.Tensor] = {}

    def start(self, start_from: Path | None) -> None:
        """Draw the first weights, or take them from a checkpoint, and see that no branch is dead."""
        for branch in self.network.each_branch():
            branch.redraw(self.generator)
        if start_from is not None:
            earlier, meta = checkpoint.load_checkpoint(start_from)
            if meta["method"] != self.settings.method:
                raise LowdoseError(f"{start_from} is a {meta['method']} network; expected {self.settings.method}")
            self.network.load_state_dict(earlier.state_dict())
        self.averaged.load_state_dict(self.network.state_dict())
        sample = torch.cat([self.crops.batch(self.generator) for _ in range(N_WHITENING_BATCHES)])
        self.whiten(second_moments(sample, 2 * self.network.reach_px + 1))
        self.revive_dead_branches()

    def whiten(self, moments: torch.Tensor) -> None:
        """Set up the optimiser: Adam on whitened kernels and on all other weights as they are."""
        self.moments = moments
        self.whitened = [WhitenedKernel(branch, moments.to(self.device)) for branch in self.network.each_branch()]
        others = [weights for name, weights in self.network.named_parameters() if not name.endswith("kernel")]
        coordinates = [kernel.coordinates for kernel in self.whitened]
        self.optimiser = torch.optim.Adam([*coordinates, *others], lr=self.settings.learning_rate)

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.settings.budget_s is not None:
            return min(1.0, self.seconds() / self.settings.budget_s)
        return min(1.0, self.step / (self.settings.epochs * self.crops.steps_per_epoch))

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
        for _ in range(self.crops.steps_per_epoch):
            losses.append(self.train_step())
            after_step()
            if self.progress() >= 1:
                break
        self.epoch += 1
        if self.progress() < LAST_REDRAW:
            self.revive_dead_branches()
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
            self.best_metrics = metrics
            self.best_state = copy.deepcopy(self.averaged.state_dict())  # a copy: averaging goes on in place
        return metrics

    def train_step(self) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress()))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * (LAST_RATE + (1 - LAST_RATE) * cosine)
        frames = self.crops.batch(self.generator).to(self.device)
        loss = blind_mse(self.network(frames), frames, self.crops.margin_px)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for kernel in self.whitened:
            kernel.take_gradient()
        self.optimiser.step()
        for kernel in self.whitened:
            kernel.write_kernel()
        self.step += 1
        keep = min(self.settings.averaging, self.step / (self.step + 10))  # forget the first weights soon
        with torch.no_grad():
            for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return loss.item()

    @torch.no_grad()
    def held_out_loss(self) -> float:
        losses = [float(blind_mse(self.averaged(window), window)) for window in self.held_out]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def revive_dead_branches(self) -> None:
        """Draw new weights for each branch whose last ReLU is zero everywhere on a batch; it never recovers."""
        frames = self.crops.batch(self.generator).to(self.device)
        for index, whitened in enumerate(self.whitened):
            branch = whitened.branch
            for _ in range(MAX_REDRAWS):
                if self.network.branch_outputs(frames)[index].any():
                    break
                self.say(f"epoch {self.epoch}: branch {index} was dead, drew new weights for it")
                branch.redraw(self.generator)
                whitened.read_kernel()
                self.averaged.branches[index].load_state_dict(branch.state_dict())
                for weights in (whitened.coordinates, branch.mixing, branch.head):
                    self.optimiser.state.pop(weights, None)

    def best_contents(self) -> dict[str, Any]:
        return {
            "method": self.settings.method,
            "settings": self.settings.to_mapping(),
            "state_dict": self.best_state,
            "metrics": dict(self.best_metrics),
            "seed": self.settings.seed,
            "commit": checkpoint.source_commit(),
            "data": self.data,
        }

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "moments": self.moments,
            "coordinates": [kernel.coordinates.detach() for kernel in self.whitened],
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds(),
            "best_metrics": self.best_metrics,
            "best_state": self.best_state,
            "data": self.data,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises LowdoseError when the data are not those of the run."""
        if state.get("data") != self.data:
            raise LowdoseError(
                "the data are not those that the interrupted run was trained on; "
                "give the same files to --resume, or start a new run with --from best.pt"
            )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.whiten(state["moments"])
        for kernel, coordinates in zip(self.whitened, state["coordinates"], strict=True):
            kernel.coordinates.data.copy_(coordinates)
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.epoch, self.step, self.elapsed_s = state["epoch"], state["step"], state["seconds"]
        self.best_metrics, self.best_state = state["best_metrics"], state["best_state"]
        self.clock_s = time.monotonic()
