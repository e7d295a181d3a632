"""Noisy stacks as training data: read, checked, put on a common scale, split, cut into crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose_train.blind_spot import METHOD_TAPS
from lowdose_train.settings import Settings

PEDESTAL_PERCENTILE = 0.1
N_SAMPLED_FRAMES = 8
N_SAMPLED_PIXELS = 1 << 20
MAX_HELD_OUT = 4
DEFAULT_CROP_PX = 128
CROPS_PER_WINDOW = 5
MIN_STEPS_PER_EPOCH = 20

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainingStack:
    """One stack in the type it came in, and what brings it to the scale of training.

    `frames` is (n_frames, height, width). (frames - offset) / noise_std has noise of about unit variance in
    every stack, so that stacks of very different intensity weigh alike in the loss: each by 1 / its
    noise variance. The network is homogeneous, so the division changes the weighting and nothing else.
    `targets` and `held_out` are the centre frames of training and of held-out windows.
    """

    name: str
    frames: Array
    offset: float
    noise_std: float
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

    def window(self, centre: int, n_taps: int) -> Tensor:
        """The window around frame `centre`, (1, n_taps, height, width), in units of the noise."""
        first = centre - n_taps // 2
        return self.scaled(self.frames[first : first + n_taps])[None]


def read_stack(path: str | Path, axes: str | None, channel: int | None, max_stack_mb: float) -> Array:
    """One channel of a file as (n_frames, height, width) in the file's type.

    `axes` overrules what the file says, one letter per dimension. Raises LowdoseError for a file that
    `lowdose.io` cannot read, or of several channels when none was chosen.
    """
    with open_stack(path, axes=axes) as stack:
        if channel is None and stack.n_channels > 1:
            raise LowdoseError(
                f"{path} has {stack.n_channels} channels; choose one with --channel 0 to {stack.n_channels - 1}"
            )
        chosen = channel or 0
        if not 0 <= chosen < stack.n_channels:
            raise LowdoseError(
                f"{path} has {stack.n_channels} channel(s), counted from 0; channel {chosen} is not there"
            )
        frame_mb = stack.height * stack.width * np.dtype(stack.dtype).itemsize / 1e6
        n_frames = min(stack.n_frames, max(3, math.floor(max_stack_mb / frame_mb)))
        return np.stack([stack.read(frame)[chosen] for frame in range(n_frames)])


def prepare_stack(name: str, frames: Array, settings: Settings) -> TrainingStack:
    """Check one stack (n_frames, height, width), find its offset and noise level, choose held-out frames.

    The first and last frame have no full window of three and are no targets: the mirrored window with which they
    are denoised shows the same noise twice, which would pull the weights away from what full windows need.

    Raises LowdoseError for a wrong shape or type, too few or too small frames, NaN, or a constant stack.
    """
    if frames.ndim != 3 or frames.dtype.kind not in "uif" or frames.size == 0:
        raise LowdoseError(
            f"{name}: got {frames.dtype} data of shape {frames.shape}; expected real numbers (n_frames, height, width)"
        )
    n_taps = METHOD_TAPS[settings.method]
    n_frames, height, width = frames.shape
    if n_frames < n_taps:
        raise LowdoseError(
            f"{name} has {n_frames} frame(s); wcvd needs 3 or more. For single images train wcid instead"
        )
    smallest = min(height, width)
    if smallest < max(7, settings.crop_px or 0):
        raise LowdoseError(
            f"{name}: frames of {height} x {width} pixels are smaller than "
            + ("the 7 x 7 kernel" if smallest < 7 else f"the crop of {settings.crop_px}; give a smaller --crop")
        )
    bad = next((t for t in range(n_frames) if not np.isfinite(frames[t]).all()), None)
    if bad is not None:
        raise LowdoseError(f"{name}: frame {bad} holds NaN or infinite pixels; replace them before training")
    sampled = np.unique(np.linspace(0, n_frames - 1, N_SAMPLED_FRAMES).round().astype(int))
    values = frames[sampled].reshape(-1)
    values = values[:: max(1, values.size // N_SAMPLED_PIXELS)]
    offset = float(np.percentile(values, PEDESTAL_PERCENTILE, method="lower"))  # as the runtime's core does
    noise_std = _noise_std(frames, sampled)
    if noise_std == 0:
        raise LowdoseError(f"{name}: neighbouring pixels or frames are all equal; there is no noise to learn from")
    inside = list(range(n_taps // 2, n_frames - n_taps // 2))
    held_out = _spread(inside, settings.held_out) if len(inside) > 1 else []
    targets = tuple(t for t in inside if t not in held_out)
    return TrainingStack(name, frames, offset, noise_std, targets, tuple(held_out))


def _noise_std(frames: Array, sampled: NDArray[np.int_]) -> float:
    """White-noise level from differences of neighbours: the smallest over time, y and x (which holds least signal)."""
    some = frames[sampled].astype(np.float32)
    variances = [0.5 * float(np.square(np.diff(some, axis=axis)).mean()) for axis in (1, 2)]
    pairs = sampled[sampled + 1 < len(frames)]
    if len(pairs):
        steps = frames[pairs + 1].astype(np.float32) - frames[pairs].astype(np.float32)
        variances.append(0.5 * float(np.square(steps).mean()))
    return math.sqrt(min(variances))


def _spread(frames: Sequence[int], share: float) -> list[int]:
    """About `share` of the frames, 1 to MAX_HELD_OUT of them, evenly spread and away from the ends."""
    n_held_out = min(max(1, round(share * len(frames))), MAX_HELD_OUT)
    return [frames[int((i + 0.5) * len(frames) / n_held_out)] for i in range(n_held_out)]


class Crops:
    """Random crops of training windows, the same sequence for the same generator state.

    A crop reaches over the frame's edge to its far side, as the network's periodic padding does.
    """

    def __init__(self, stacks: Sequence[TrainingStack], settings: Settings, margin_px: int) -> None:
        self.stacks = stacks
        self.n_taps = METHOD_TAPS[settings.method]
        self.margin_px = margin_px
        self.batch_size = settings.batch_size
        shortest = min(min(stack.frames.shape[1:]) for stack in stacks)
        self.crop_px = settings.crop_px or min(DEFAULT_CROP_PX, shortest)
        self.windows = [(i, t) for i, stack in enumerate(stacks) for t in stack.targets]
        crops_per_epoch = CROPS_PER_WINDOW * len(self.windows)
        self.steps_per_epoch = max(MIN_STEPS_PER_EPOCH, math.ceil(crops_per_epoch / self.batch_size))

    def batch(self, generator: torch.Generator) -> Tensor:
        """(batch, n_taps, crop + 2 margin, crop + 2 margin), float32, in units of each stack's noise."""
        return torch.stack([self._crop(generator) for _ in range(self.batch_size)])

    def _crop(self, generator: torch.Generator) -> Tensor:
        def below(limit: int) -> int:
            return int(torch.randint(limit, (1,), generator=generator))

        index, centre = self.windows[below(len(self.windows))]
        stack = self.stacks[index]
        first = centre - self.n_taps // 2
        _, height, width = stack.frames.shape
        reach = np.arange(-self.margin_px, self.crop_px + self.margin_px)
        rows, columns = (below(height) + reach) % height, (below(width) + reach) % width
        crop = stack.frames[first : first + self.n_taps, rows[:, None], columns[None, :]]
        window = stack.scaled(crop)  # (n_taps, crop + 2 margin, crop + 2 margin)
        flips = [axis for axis in (0, 1, 2) if below(2)]
        window = window.flip(flips)
        return window.transpose(1, 2) if below(2) else window


def hold_out(stacks: Sequence[TrainingStack], share: float) -> list[TrainingStack]:
    """Where no stack had a frame to spare (single images), hold out whole stacks; one alone stays as it is."""
    if len(stacks) < 2 or any(stack.held_out for stack in stacks):
        return list(stacks)
    chosen = _spread(range(len(stacks)), share)
    return [
        replace(stack, targets=(), held_out=stack.targets) if index in chosen else stack
        for index, stack in enumerate(stacks)
    ]


def held_out_windows(stacks: Sequence[TrainingStack], n_taps: int) -> list[Tensor]:
    """Every held-out window, (1, n_taps, height, width), in units of its stack's noise.

    A single window in all is scored although it is the target too: a blind network of a few
    hundred weights hardly fits the noise of a whole frame.
    """
    chosen = [stack.window(t, n_taps) for stack in stacks for t in stack.held_out]
    return chosen or [stacks[0].window(stacks[0].targets[0], n_taps)]
