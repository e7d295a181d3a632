"""Training of UDVD on noisy movies: clips of consecutive frames, so that stage 1 runs once per triplet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lowdose_train.data import Array, read_movie
from lowdose_train.settings import Settings
from lowdose_train.task import Task
from lowdose_train.udvd import ALIGN_PX, WIDTHS, MovieUdvd
from lowdose_train.windows import TrainingStack, below, held_out_windows, hold_out, movie_stack, unsupervised_scores

REACH = 2
"""Frames seen before and after the one that is denoised."""
CLIP_FRAMES = 4
"""Results per clip: of L of them stage 1 runs L + 2 times, not 3 L times."""
STEPS_PER_EPOCH = (20, 100)
"""Fewest and most; between them an epoch looks at every pixel about once."""
HELD_OUT_PX = 256
N_FILTER_CLIPS = 32
"""Clips that the filter is solved on."""


class UdvdTask(Task):
    """UDVD on noisy movies (n_frames, height, width); shorter than five frames too."""

    network: MovieUdvd

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.settings, self.device = settings, device
        prepared = [udvd_stack(name, frames, settings) for name, frames in stacks.items()]
        self.stacks = hold_out(prepared, settings.held_out)
        self.data = [stack.describe() for stack in self.stacks]
        network = MovieUdvd(WIDTHS[settings.width], settings.blind_px)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        shortest = min(min(stack.frames.shape[1:]) for stack in self.stacks)
        crop = settings.crop_for(shortest)
        self.crop_px = crop - crop % ALIGN_PX or crop  # mirroring to the next multiple would show the hidden pixel
        n_pixels = sum(len(stack.targets) * stack.frames[0].size for stack in self.stacks)
        fewest, most = STEPS_PER_EPOCH
        per_step = settings.batch_size * CLIP_FRAMES * self.crop_px**2
        self.steps_per_epoch = min(max(fewest, math.ceil(n_pixels / per_step)), most)
        self.held_out = [centre_of(window).to(device) for window in held_out_windows(self.stacks)]
        self.choice = [(i, t) for i, stack in enumerate(self.stacks) for t in stack.targets]

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_movie(path, axes, channel, settings.max_stack_mb)

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return MovieUdvd(WIDTHS[settings.width], settings.blind_px)

    def draw(self, generator: torch.Generator) -> None:
        self.network.draw(generator)

    def prepare(self, generator: torch.Generator) -> None:
        n_batches = math.ceil(N_FILTER_CLIPS / self.settings.batch_size)
        frames = torch.cat([self.batch(generator)[0] for _ in range(n_batches)])
        self.network.solve(torch.cat([triplets_of(frames[:, i : i + 5]) for i in range(0, CLIP_FRAMES, 2)]))

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Clips (batch, CLIP_FRAMES + 4, crop, crop) and which of the inner frames are targets, 0 or 1."""
        clips = [self._clip(generator) for _ in range(self.settings.batch_size)]
        frames, weights = zip(*clips, strict=True)
        return torch.stack(frames).to(self.device), torch.stack(weights).to(self.device)

    def _clip(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index, target = self.choice[below(len(self.choice), generator)]
        stack = self.stacks[index]
        n_frames, height, width = stack.frames.shape
        first = min(max(0, target - below(CLIP_FRAMES, generator)), max(0, n_frames - CLIP_FRAMES))
        numbers = repeated(np.arange(first - REACH, first + CLIP_FRAMES + REACH), n_frames)
        weight = torch.tensor([float(t in stack.targets) for t in numbers[REACH:-REACH]])
        y, x = (below(side - self.crop_px + 1, generator) for side in (height, width))
        clip = stack.scaled(stack.frames[numbers, y : y + self.crop_px, x : x + self.crop_px])
        flips = [axis for axis in (0, 1, 2) if below(2, generator)]
        if 0 in flips:
            weight = weight.flip(0)
        clip = clip.flip(flips)
        return (clip.transpose(1, 2) if below(2, generator) else clip), weight

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        assert isinstance(network, MovieUdvd)
        frames, weight = batch
        errors = (network.before_relu(frames) - frames[:, REACH:-REACH]).square().mean((2, 3))
        return (errors * weight).sum() / weight.sum()

    def held_out_loss(self, network: nn.Module) -> float:
        losses = [float(F.mse_loss(network(window), window[:, REACH : REACH + 1])) for window in self.held_out]
        return sum(losses) / len(losses)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """UDVD sees the frames with which the uMSE compares, so its uMSE is too low; the held-out loss is not."""
        return [unsupervised_scores(network, stack) for stack in self.stacks]


def udvd_stack(name: str, frames: Array, settings: Settings) -> TrainingStack:
    """One checked movie, whose first and last frame stand for those before and after.

    All its frames are targets, because the pixel is hidden in every frame that a window holds.
    """
    taps = repeated(np.arange(len(frames))[:, None] + np.arange(-REACH, REACH + 1), len(frames))
    return movie_stack(name, frames, taps, settings, smallest_px=1, targets=range(len(frames)))


def repeated(numbers: NDArray[np.int_], n_frames: int) -> NDArray[np.int_]:
    """Frames that stand for `numbers`: beyond the ends the first and the last."""
    return np.clip(numbers, 0, n_frames - 1)


def triplets_of(frames: Tensor) -> Tensor:
    """Five frames (batch, 5, h, w) -> the three triplets of a movie, (batch, 9, h, w)."""
    return frames[:, [0, 1, 2, 1, 2, 3, 2, 3, 4]]


def centre_of(window: Tensor) -> Tensor:
    """The middle HELD_OUT_PX of frames (..., height, width)."""
    for axis in (-2, -1):
        size = window.shape[axis]
        taken = min(size - size % ALIGN_PX or size, HELD_OUT_PX)
        window = window.narrow(axis, (size - taken) // 2, taken)
    return window
