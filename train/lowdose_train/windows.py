"""Windows of noisy frames: what a blind network sees for each frame, held-out ones apart, cut into crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowdose.errors import LowdoseError
from lowdose.metrics import umse, upsnr
from lowdose_train.data import Array, check_frames, offset_and_noise, spread
from lowdose_train.settings import Settings

CROPS_PER_WINDOW = 5
MIN_STEPS_PER_EPOCH = 20
N_SCORED_FRAMES = 32


@dataclass(frozen=True)
class TrainingStack:
    """One stack in the type it came in, and what brings it to the scale of training.

    `frames` is (n_frames, height, width). (frames - offset) / noise_std has noise of about unit variance in
    every stack, so that stacks of very different intensity weigh alike in the loss: each by 1 / its
    noise variance. The network is homogeneous, so the division changes the weighting and nothing else.
    `taps` (n_frames, n_taps) holds the numbers of the frames that the network sees for each frame.
    `targets` and `held_out` are the centre frames of training and of held-out windows.
    """

    name: str
    frames: Array
    offset: float
    noise_std: float
    taps: NDArray[np.int_]
    targets: tuple[int, ...]
    held_out: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shape": list(self.frames.shape),
            "dtype": str(self.frames.dtype),
            "offset": self.offset,
            "noise_std": self.noise_std,
            "held_out": list(self.held_out),
        }

    def scaled(self, frames: Array) -> Tensor:
        """Frames of the stack, or parts of them, as float32 in units of the noise."""
        return torch.from_numpy((frames.astype(np.float32) - self.offset) / np.float32(self.noise_std))

    def window(self, centre: int) -> Tensor:
        """The window around frame `centre`, (1, n_taps, height, width), in units of the noise."""
        return self.scaled(self.frames[self.taps[centre]])[None]


def movie_stack(
    name: str,
    frames: Array,
    taps: NDArray[np.int_],
    settings: Settings,
    *,
    smallest_px: int,
    targets: Sequence[int],
) -> TrainingStack:
    """Check a movie (n_frames, height, width), find its offset and noise level, choose held-out frames.

    `taps` are those of the stack, `targets` the frames that may be learned from. Raises LowdoseError for a wrong
    shape or type, too small frames, NaN, or a constant stack.
    """
    check_frames(name, frames, "n_frames, height, width")
    check_size(name, frames, smallest_px, settings)
    offset, noise_std = offset_and_noise(name, frames)
    held_out = spread(targets, settings.held_out) if len(targets) > 1 else []
    kept = tuple(t for t in targets if t not in held_out)
    return TrainingStack(name, frames, offset, noise_std, taps, kept, tuple(held_out))


def check_size(name: str, frames: Array, smallest_px: int, settings: Settings) -> None:
    """Raise LowdoseError where frames (..., height, width) are smaller than the network or the crop takes."""
    height, width = frames.shape[-2:]
    if min(height, width) < max(smallest_px, settings.crop_px or 0):
        raise LowdoseError(
            f"{name}: frames of {height} x {width} pixels are smaller than "
            + (
                f"the {smallest_px} x {smallest_px} kernel"
                if min(height, width) < smallest_px
                else f"the crop of {settings.crop_px}; give a smaller --crop"
            )
        )


class Crops:
    """Random crops of training windows, the same sequence for the same generator state.

    A crop reaches over the frame's edge to its far side, as periodic padding does.
    """

    def __init__(self, stacks: Sequence[TrainingStack], settings: Settings, margin_px: int) -> None:
        self.stacks = stacks
        self.margin_px = margin_px
        self.batch_size = settings.batch_size
        self.crop_px = settings.crop_for(min(min(stack.frames.shape[1:]) for stack in stacks))
        self.windows = [(i, t) for i, stack in enumerate(stacks) for t in stack.targets]
        crops_per_epoch = CROPS_PER_WINDOW * len(self.windows)
        self.steps_per_epoch = max(MIN_STEPS_PER_EPOCH, math.ceil(crops_per_epoch / self.batch_size))

    def batch(self, generator: torch.Generator) -> Tensor:
        """(batch, n_taps, crop + 2 margin, crop + 2 margin), float32, in units of each stack's noise."""
        return torch.stack([self._crop(generator) for _ in range(self.batch_size)])

    def _crop(self, generator: torch.Generator) -> Tensor:
        index, centre = self.windows[below(len(self.windows), generator)]
        stack = self.stacks[index]
        _, height, width = stack.frames.shape
        reach = np.arange(-self.margin_px, self.crop_px + self.margin_px)
        rows = (below(height, generator) + reach) % height
        columns = (below(width, generator) + reach) % width
        crop = stack.frames[stack.taps[centre][:, None, None], rows[:, None], columns]
        window = stack.scaled(crop)  # (n_taps, crop + 2 margin, crop + 2 margin)
        flips = [axis for axis in (0, 1, 2) if below(2, generator)]
        window = window.flip(flips)
        return window.transpose(1, 2) if below(2, generator) else window


def below(limit: int, generator: torch.Generator) -> int:
    """A random number 0 to limit - 1."""
    return int(torch.randint(limit, (1,), generator=generator))


def hold_out(stacks: Sequence[TrainingStack], share: float) -> list[TrainingStack]:
    """Where no stack had a frame to spare (single images), hold out whole stacks; one alone stays as it is."""
    if len(stacks) < 2 or any(stack.held_out for stack in stacks):
        return list(stacks)
    chosen = spread(range(len(stacks)), share)
    return [
        replace(stack, targets=(), held_out=stack.targets) if index in chosen else stack
        for index, stack in enumerate(stacks)
    ]


def held_out_windows(stacks: Sequence[TrainingStack]) -> list[Tensor]:
    """Every held-out window, (1, n_taps, height, width), in units of its stack's noise.

    A single window in all is scored although it is the target too: a blind network hardly fits the noise
    of a whole frame.
    """
    chosen = [stack.window(t) for stack in stacks for t in stack.held_out]
    return chosen or [stacks[0].window(stacks[0].targets[0])]


@torch.no_grad()
def unsupervised_scores(network: nn.Module, stack: TrainingStack) -> dict[str, Any]:
    """uMSE and uPSNR (Lee et al., eq. 1 and 2) of a movie without its mirrored ends, in its own units.

    At most N_SCORED_FRAMES frames are scored; None where there are too few, or the uMSE is not positive.
    """
    reach = stack.taps.shape[1] // 2
    centres = range(reach, len(stack.frames) - reach)[:N_SCORED_FRAMES]
    denoised = [network(stack.window(t))[0, 0].numpy() * stack.noise_std + stack.offset for t in centres]
    noisy = stack.frames[centres.start : centres.stop]
    return {
        "name": stack.name,
        "umse": umse(noisy, np.stack(denoised)),
        "upsnr_db": upsnr(noisy, np.stack(denoised)),
    }
