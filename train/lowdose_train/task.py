"""What a training run needs to know of a method: one `Task` per method, everything else is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lowdose_train.data import Array
from lowdose_train.settings import Settings


class Task(ABC):
    """A method on its data: the network that learns, its batches, its loss and its scores.

    Made with (settings, stacks, device), where `stacks` are named arrays in the shape that the method takes; raises
    LowdoseError for data that do not fit. `network` is on the device. `data` says what each stack is, as plain
    values for the checkpoint; a resumed run must have the same.

    A run calls `draw` (and loads weights over it when it fine-tunes) and `prepare`, or `restore` instead of both; then
    the optimiser is made of `parameters`. A step is `batch`, `loss`, backward, `before_step`, the optimiser's
    step, `after_step`. Losses and scores get the network as an argument: it is the averaged one when they score.
    Methods that are not abstract are for the methods that need them and do nothing by default.
    """

    network: nn.Module
    data: list[dict[str, Any]]
    steps_per_epoch: int
    first_weights_count: bool = False
    """Whether the weights before the first step may turn out as the best."""

    @abstractmethod
    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None: ...

    @staticmethod
    @abstractmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        """One file as the method takes it; `axes` and `channel` are the user's choice, None if there was none."""

    @staticmethod
    @abstractmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network, on the CPU, that the `weights` of a checkpoint belong to."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> None:
        """New random weights for `network`."""

    def begin_with(self, network: nn.Module) -> None:
        """Take the weights of a trained network. Raises RuntimeError where they do not fit."""
        self.network.load_state_dict(network.state_dict())

    @abstractmethod
    def batch(self, generator: torch.Generator) -> Any:
        """What one step learns from, on the device; the same for the same state of the generator."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """The scalar that a step makes smaller."""

    @abstractmethod
    def held_out_loss(self, network: nn.Module) -> float:
        """The number that chooses the weights, on data that are no training targets: less is better."""

    @abstractmethod
    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """Of the finished network, on the CPU: per stack its "name" and named numbers (None: not defined)."""

    def prepare(self, generator: torch.Generator) -> None:  # noqa: B027
        """Whatever depends on the first weights and on data, before the optimiser is made; may change the weights."""

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser changes."""
        return list(self.network.parameters())

    def before_step(self) -> None:  # noqa: B027
        """After the gradients are there, before the optimiser uses them."""

    def after_step(self) -> None:  # noqa: B027
        """After the optimiser has changed its parameters."""

    def mend(
        self, averaged: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, progress: float
    ) -> list[str]:
        """Put right what went wrong in the weights, at the start and after each epoch; says what was done.

        `averaged` is the running average of the network, `progress` the share of the run that is done.
        """
        return []

    def finish(self, network: nn.Module) -> dict[str, Any]:
        """The last change to the best network, on the CPU, before it is scored; what was found, for the metrics."""
        return {}

    def state(self) -> dict[str, Any]:
        """What `restore` needs beside the weights, as plain values and tensors."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from what `state` gave; the network has its weights already."""
