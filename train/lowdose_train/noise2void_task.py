"""Training of multi-channel Noise2Void: crops of frames normalised one by one, other pixels hidden in each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdose.errors import LowdoseError
from lowdose.metrics import umse, upsnr
from lowdose_train.data import Array, check_frames, read_channels, spread
from lowdose_train.noise2void import SCALE_STDS, WIDTHS, hidden_mse, hide, jittered_grid, noise2void_network
from lowdose_train.precision import mixed_precision
from lowdose_train.settings import Settings
from lowdose_train.task import Task
from lowdose_train.unet import UNet, padded
from lowdose_train.windows import MIN_STEPS_PER_EPOCH, N_SCORED_FRAMES, below, check_size

CROPS_PER_FRAME = 20
MAX_HELD_OUT = 16
HELD_OUT_SEED = 0
LARGEST_GRADIENT = 1.0
AXES = "n_frames, n_channels, height, width"


class Noise2VoidTask(Task):
    """Noise2Void on noisy stacks (n_frames, n_channels, height, width) that share their channels.

    Ours beside what `noise2void.WIDTHS` says: crops, flips (the paper has no augmentation) and clipped gradients.
    The paper trains with Adam at 1e-5, 32 epochs and batches of 12 frames of 512x512: settings for "full".
    """

    network: UNet

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.width = WIDTHS[settings.width]
        for name, frames in stacks.items():
            check_frames(name, frames, AXES)
        counts = {frames.shape[1] for frames in stacks.values()}
        if len(counts) != 1:
            raise LowdoseError(f"the stacks have {sorted(counts)} channels; train on stacks with the same channels")
        self.network = noise2void_network(counts.pop(), settings.width)
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, frames in stacks.items():
            check_size(name, frames, self.network.align_px, settings)
        self.names, self.stacks = list(stacks), list(stacks.values())
        self.moments = [moments(frames) for frames in self.stacks]
        every = [(i, t) for i, frames in enumerate(self.stacks) for t in range(len(frames))]
        held_out = spread(range(len(every)), settings.held_out, MAX_HELD_OUT)
        self.held_out = [every[i] for i in held_out]
        self.targets = [frame for frame in every if frame not in self.held_out] or every
        self.crop_px = settings.crop_for(min(min(frames.shape[2:]) for frames in self.stacks))
        self.crop_px -= self.crop_px % self.network.align_px
        n_crops = CROPS_PER_FRAME * len(self.targets)
        self.steps_per_epoch = max(MIN_STEPS_PER_EPOCH, math.ceil(n_crops / settings.batch_size))
        self.data = [
            {"name": name, "shape": list(frames.shape), "dtype": str(frames.dtype)} for name, frames in stacks.items()
        ]

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        frames = read_channels(path, axes, settings.max_stack_mb)
        if channel is None:
            return frames
        if not 0 <= channel < frames.shape[1]:
            raise LowdoseError(f"{path} has {frames.shape[1]} channel(s), counted from 0; {channel} is not there")
        return frames[:, channel : channel + 1]

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return noise2void_network(len(weights["head.bias"]), settings.width)

    def draw(self, generator: torch.Generator) -> None:
        self.network.draw(generator)

    def normalised(self, stack: int, frame: int) -> Tensor:
        """(n_channels, height, width), as the network sees it."""
        mean, scale = (moment[frame] for moment in self.moments[stack])
        return torch.from_numpy((self.stacks[stack][frame].astype(np.float32) - mean) / scale)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops (batch, n_channels, crop, crop), and which of their pixels are hidden."""
        crops = []
        for _ in range(self.settings.batch_size):
            frame = self.normalised(*self.targets[below(len(self.targets), generator)])
            y, x = (below(side - self.crop_px + 1, generator) for side in frame.shape[1:])
            crop = frame[:, y : y + self.crop_px, x : x + self.crop_px]
            crops.append(crop.flip([axis for axis in (1, 2) if below(2, generator)]))
        shape = (len(crops), self.crop_px, self.crop_px)
        hidden = jittered_grid(shape, self.width.pitch_px, self.width.jitter_px, generator)
        return torch.stack(crops).to(self.device), hidden.to(self.device)

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """In units of each frame's variance."""
        frames, hidden = batch
        seen = hide(frames, hidden).contiguous(memory_format=torch.channels_last)
        with mixed_precision(self.settings, self.device):
            denoised = network(seen)
        return SCALE_STDS**2 * hidden_mse(denoised, frames, hidden)

    def before_step(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)

    def held_out_loss(self, network: nn.Module) -> float:
        """At pixels hidden from whole held-out frames; the same pixels each time."""
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        losses = []
        for where in self.held_out:
            frame = padded(self.normalised(*where)[None], self.network.align_px)
            hidden = jittered_grid((1, *frame.shape[2:]), self.width.pitch_px, self.width.jitter_px, generator)
            losses.append(float(self.loss(network, (frame.to(self.device), hidden.to(self.device)))))
        return sum(losses) / len(losses)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """uMSE and uPSNR (Lee et al.) per channel: the frames compared with are not those that were seen."""
        results = []
        for index, (name, frames) in enumerate(zip(self.names, self.stacks, strict=True)):
            scored = frames[:N_SCORED_FRAMES]
            denoised = np.stack([self.denoise(network, index, frame) for frame in range(len(scored))])
            score: dict[str, Any] = {"name": name}
            for channel in range(frames.shape[1]):
                score[f"umse_{channel}"] = umse(scored[:, channel], denoised[:, channel])
                score[f"upsnr_db_{channel}"] = upsnr(scored[:, channel], denoised[:, channel])
            results.append(score)
        return results

    def denoise(self, network: nn.Module, stack: int, frame: int) -> Array:
        """One frame (n_channels, height, width) in its own units, by a network on the CPU."""
        height, width = self.stacks[stack].shape[2:]
        mean, scale = (moment[frame] for moment in self.moments[stack])
        output = network(padded(self.normalised(stack, frame)[None], self.network.align_px))[0, :, :height, :width]
        result: Array = output.numpy() * scale + mean
        return result


def moments(frames: Array) -> tuple[Array, Array]:
    """Mean and SCALE_STDS standard deviations of each frame and channel, float32 (n_frames, n_channels, 1, 1).

    The latter is 1 where a channel is constant.
    """
    mean = np.stack([frame.mean(axis=(1, 2), keepdims=True, dtype=np.float64) for frame in frames])
    std = np.stack([frame.std(axis=(1, 2), keepdims=True, dtype=np.float64) for frame in frames])
    return mean.astype(np.float32), np.where(std > 0, SCALE_STDS * std, 1).astype(np.float32)
