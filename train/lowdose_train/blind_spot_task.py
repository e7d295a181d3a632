"""Training of WCVD and WCID: whitened kernels, periodic crops, and new weights for dead branches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdose.errors import LowdoseError
from lowdose.sample import neighbour
from lowdose_train.blind_spot import METHOD_TAPS, BlindSpotNetwork
from lowdose_train.data import Array, read_movie
from lowdose_train.losses import blind_mse
from lowdose_train.settings import Settings
from lowdose_train.task import Task
from lowdose_train.whitening import WhitenedKernel, second_moments
from lowdose_train.windows import Crops, TrainingStack, held_out_windows, hold_out, movie_stack, unsupervised_scores

SMALLEST_FRAME_PX = 7
N_WHITENING_BATCHES = 8
MAX_REDRAWS = 10
LAST_REDRAW = 0.5
"""Progress after which a dead branch is left alone: a new one could no longer learn."""


class BlindSpotTask(Task):
    """The blind-spot network on noisy movies (n_frames, height, width), as WCVD or WCID by `settings.method`."""

    network: BlindSpotNetwork

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.device = device
        self.n_taps = METHOD_TAPS[settings.method]
        prepared = [blind_spot_stack(name, frames, settings) for name, frames in stacks.items()]
        self.stacks = hold_out(prepared, settings.held_out)
        self.data = [stack.describe() for stack in self.stacks]
        self.network = BlindSpotNetwork(self.n_taps).to(device)
        self.crops = Crops(self.stacks, settings, self.network.reach_px)
        self.steps_per_epoch = self.crops.steps_per_epoch
        self.held_out = [window.to(device) for window in held_out_windows(self.stacks)]

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_movie(path, axes, channel, settings.max_stack_mb)

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return BlindSpotNetwork(METHOD_TAPS[settings.method])

    def draw(self, generator: torch.Generator) -> None:
        for branch in self.network.each_branch():
            branch.redraw(generator)

    def batch(self, generator: torch.Generator) -> Tensor:
        return self.crops.batch(generator).to(self.device)

    def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return blind_mse(network(batch), batch, self.crops.margin_px)

    def held_out_loss(self, network: nn.Module) -> float:
        losses = [float(blind_mse(network(window), window)) for window in self.held_out]
        return sum(losses) / len(losses)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """WCVD sees the frames t - 1 and t + 1 with which the uMSE compares, so its uMSE is too low.

        The held-out blind loss is not, and chooses the weights.
        """
        return [unsupervised_scores(network, stack) for stack in self.stacks]

    def prepare(self, generator: torch.Generator) -> None:
        sample = torch.cat([self.crops.batch(generator) for _ in range(N_WHITENING_BATCHES)])
        self.whiten(second_moments(sample, 2 * self.network.reach_px + 1))

    def whiten(self, moments: Tensor) -> None:
        self.moments = moments
        self.whitened = [WhitenedKernel(branch, moments.to(self.device)) for branch in self.network.each_branch()]

    def parameters(self) -> list[nn.Parameter]:
        """Whitened kernels, and all other weights as they are."""
        others = [weights for name, weights in self.network.named_parameters() if not name.endswith("kernel")]
        return [*(kernel.coordinates for kernel in self.whitened), *others]

    def before_step(self) -> None:
        for kernel in self.whitened:
            kernel.take_gradient()

    def after_step(self) -> None:
        for kernel in self.whitened:
            kernel.write_kernel()

    @torch.no_grad()
    def mend(
        self, averaged: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, progress: float
    ) -> list[str]:
        """Draw new weights for each branch whose last ReLU is zero everywhere on a batch; it never recovers."""
        if progress >= LAST_REDRAW:
            return []
        assert isinstance(averaged, BlindSpotNetwork)
        done = []
        frames = self.batch(generator)
        for index, whitened in enumerate(self.whitened):
            branch = whitened.branch
            for _ in range(MAX_REDRAWS):
                if self.network.branch_outputs(frames)[index].any():
                    break
                done.append(f"branch {index} was dead, drew new weights for it")
                branch.redraw(generator)
                whitened.read_kernel()
                averaged.branches[index].load_state_dict(branch.state_dict())
                for weights in (whitened.coordinates, branch.mixing, branch.head):
                    optimiser.state.pop(weights, None)
        return done

    def state(self) -> dict[str, Any]:
        return {"moments": self.moments, "coordinates": [kernel.coordinates.detach() for kernel in self.whitened]}

    def restore(self, state: dict[str, Any]) -> None:
        self.whiten(state["moments"])
        for kernel, coordinates in zip(self.whitened, state["coordinates"], strict=True):
            kernel.coordinates.data.copy_(coordinates)


def blind_spot_stack(name: str, frames: Array, settings: Settings) -> TrainingStack:
    """One checked movie. Raises LowdoseError for too few or too small frames, and as `movie_stack` does.

    The first and last frame have no full window of three and are no targets: the mirrored window with which they
    are denoised shows the same noise twice, which would pull the weights away from what full windows need.
    """
    reach, n_frames = METHOD_TAPS[settings.method] // 2, len(frames)
    stack = movie_stack(
        name,
        frames,
        np.array([[neighbour(t, step, n_frames) for step in range(-reach, reach + 1)] for t in range(n_frames)]),
        settings,
        smallest_px=SMALLEST_FRAME_PX,
        targets=range(reach, n_frames - reach),
    )
    if n_frames <= 2 * reach:
        raise LowdoseError(
            f"{name} has {n_frames} frame(s); wcvd needs 3 or more. For single images train wcid instead"
        )
    return stack
