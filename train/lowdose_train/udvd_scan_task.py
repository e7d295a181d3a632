"""Training of UDVD on noisy 4D-STEM scans: the neighbours of a scan position take the place of frames in time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lowdose_train.data import Array, check_frames, offset_and_noise, read_scan, spread
from lowdose_train.scan_taps import SCAN_TAPS
from lowdose_train.settings import Settings
from lowdose_train.task import Task
from lowdose_train.udvd import ALIGN_PX, WIDTHS, ScanUdvd
from lowdose_train.udvd_task import STEPS_PER_EPOCH
from lowdose_train.windows import TrainingStack, below, check_size, hold_out

OWN = 4
"""Where the pattern to denoise is among the nine of three triplets."""
MAX_HELD_OUT = 24
N_FILTER_CROPS = 96
"""Crops that the filter is solved on."""
SMOOTHING_PX = 9
"""Side of the box that smooths the noise variance over the detector."""
LEAST_VARIANCE = 0.03
"""As a share of the mean, because a pixel that was never hit seems to have no noise."""


class UdvdScanTask(Task):
    """UDVD on noisy scans (scan_y, scan_x, height, width), with the neighbours that `settings.neighbours` names."""

    network: ScanUdvd

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.stacks = hold_out([scan_stack(name, scan, settings) for name, scan in stacks.items()], settings.held_out)
        self.data = [
            stack.describe() | {"shape": list(np.shape(scan))}
            for stack, scan in zip(self.stacks, stacks.values(), strict=True)
        ]
        self.weights = [noise_weights(np.asarray(scan)) for scan in stacks.values()]
        network = ScanUdvd(WIDTHS[settings.width], settings.blind_px)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        crop = settings.crop_for(min(min(stack.frames.shape[1:]) for stack in self.stacks))
        self.crop_px = crop - crop % ALIGN_PX or crop  # mirroring to the next multiple would show the hidden pixel
        n_pixels = sum(len(stack.targets) * stack.frames[0].size for stack in self.stacks)
        fewest, most = STEPS_PER_EPOCH
        self.steps_per_epoch = min(max(fewest, math.ceil(n_pixels / (settings.batch_size * self.crop_px**2))), most)
        self.choice = [(i, t) for i, stack in enumerate(self.stacks) for t in stack.targets]

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_scan(path, axes, settings.max_stack_mb)

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return ScanUdvd(WIDTHS[settings.width], settings.blind_px)

    def draw(self, generator: torch.Generator) -> None:
        self.network.draw(generator)

    def prepare(self, generator: torch.Generator) -> None:
        batches = [self.batch(generator) for _ in range(math.ceil(N_FILTER_CROPS / self.settings.batch_size))]
        patterns, weights = (torch.cat(parts) for parts in zip(*batches, strict=True))
        self.network.solve(patterns, weights)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Triplets (batch, 9, crop, crop) and the weight of each pixel (batch, 1, crop, crop)."""
        crops = [self._crop(generator) for _ in range(self.settings.batch_size)]
        patterns, weights = zip(*crops, strict=True)
        return torch.stack(patterns).to(self.device), torch.stack(weights).to(self.device)

    def _crop(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index, target = self.choice[below(len(self.choice), generator)]
        stack = self.stacks[index]
        _, height, width = stack.frames.shape
        y, x = (below(side - self.crop_px + 1, generator) for side in (height, width))
        inside = (slice(y, y + self.crop_px), slice(x, x + self.crop_px))
        patterns = stack.scaled(stack.frames[stack.taps[target]][:, inside[0], inside[1]])
        crop = torch.cat([patterns, torch.from_numpy(self.weights[index][inside])[None]])
        crop = crop.flip([axis for axis in (1, 2) if below(2, generator)])
        if below(2, generator):
            crop = crop.transpose(1, 2)
        return crop[:-1], crop[-1:]

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error, each pixel weighted by 1 / the standard deviation of its noise.

        In diffraction patterns that spans decades. Unweighted, the brightest pixels alone are learned from; weighted
        by 1 / variance, the faint ones count so much that the error of the disks grows. Half-way both are small.
        """
        assert isinstance(network, ScanUdvd)
        patterns, weights = batch
        return (weights * (network.before_relu(patterns) - patterns[:, OWN : OWN + 1]).square()).mean()

    def held_out_loss(self, network: nn.Module) -> float:
        losses = []
        for stack, weights in zip(self.stacks, self.weights, strict=True):
            for position in stack.held_out or stack.targets[:1]:
                patterns = stack.window(position).to(self.device)
                errors = (network(patterns) - patterns[:, OWN : OWN + 1]).square().cpu()
                losses.append(float((torch.from_numpy(weights) * errors).mean()))
        return sum(losses) / len(losses)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """None beside the held-out loss: the patterns with which an uMSE would compare have been seen."""
        return []


def scan_stack(name: str, scan: Array, settings: Settings) -> TrainingStack:
    """One checked scan as a stack of patterns, whose taps are three triplets of positions.

    Raises LowdoseError for a wrong shape or type, too small patterns, NaN, or constant patterns.
    """
    check_frames(name, scan, "scan_y, scan_x, height, width")
    check_size(name, scan, 1, settings)
    scan_y, scan_x, height, width = scan.shape
    patterns = scan.reshape(-1, height, width)
    offset, noise_std = offset_and_noise(name, patterns)
    positions = range(len(patterns))
    held_out = spread(positions, settings.held_out, MAX_HELD_OUT) if len(patterns) > 1 else []
    targets = tuple(t for t in positions if t not in held_out)
    taps = SCAN_TAPS[settings.neighbours].positions(scan_y, scan_x)
    return TrainingStack(name, patterns, offset, noise_std, taps, targets, tuple(held_out))


def noise_weights(scan: Array) -> NDArray[np.float32]:
    """1 / standard deviation of the noise at each detector pixel, with a mean of one: (height, width).

    That of differences between neighbours in the scan, smoothed over the detector.
    """
    variance = np.zeros(scan.shape[2:])
    for axis in (0, 1):
        rows = scan.swapaxes(0, axis)
        for one, other in itertools.pairwise(rows):  # (positions, height, width)
            variance += np.square(one.astype(np.float64) - other).sum(0)
    if not variance.any():  # a single position
        return np.ones(scan.shape[2:], np.float32)
    side = SMOOTHING_PX
    padded = torch.from_numpy(np.pad(variance, side // 2, mode="edge"))[None, None]
    smooth = F.avg_pool2d(padded, side, stride=1)[0, 0].numpy()
    weights = 1 / np.sqrt(np.maximum(smooth, LEAST_VARIANCE * smooth.mean()))
    result: NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return result
