"""Training of UDVD on simulated scenes: what it makes of them under noise is compared with the clean ones.

For the bundled models. The pixel stays hidden, so that what was learned here can be refined on noisy movies alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose_train.data import PEDESTAL_PERCENTILE, Array, read_movie, read_scan
from lowdose_train.scan_taps import SCAN_TAPS
from lowdose_train.settings import Settings
from lowdose_train.task import Task
from lowdose_train.udvd import WIDTHS, MovieUdvd, ScanUdvd, Udvd
from lowdose_train.udvd_scan_task import LEAST_VARIANCE, OWN
from lowdose_train.udvd_task import CLIP_FRAMES, REACH, repeated, triplets_of
from lowdose_train.windows import below

INPUT_PSNR_DB = (0.0, 20.0)
"""Range of the strength of the noise, against the range of the scene."""
ELECTRONS = (60.0, 6000.0)
"""Range of the electrons per diffraction pattern."""
LEAST_COUNTS = 1e-3
STEPS_PER_EPOCH = 200
N_FILTER_EXAMPLES = 128
N_HELD_OUT = 24
FLOOR = 1e-4
"""Of a mean squared error, in units of the noise variance, before its logarithm is taken."""


class SimulatedTask(Task):
    """What movies and scans share: `stacks` are clean scenes, nowhere below zero, of which every tenth is held out."""

    network: Udvd
    network_type: type[Udvd]

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.data = [{"name": name, "shape": list(frames.shape)} for name, frames in stacks.items()]
        network = self.network_type(WIDTHS[settings.width], settings.blind_px)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.steps_per_epoch = STEPS_PER_EPOCH
        scenes = [np.asarray(frames, np.float32) for frames in stacks.values()]
        self.scenes = [scene for number, scene in enumerate(scenes) if number % 10 != 9]
        self.crop_px = settings.crop_for(min(min(scene.shape[-2:]) for scene in scenes))
        generator = torch.Generator().manual_seed(settings.seed)
        others = scenes[9::10] or scenes
        self.held_out = [self.example(others[i % len(others)], generator) for i in range(N_HELD_OUT)]

    @abstractmethod
    def example(self, scene: Array, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noisy frames (n, crop, crop) as the network takes them and the clean ones, in units of the noise."""

    @abstractmethod
    def errors(self, network: nn.Module, noisy: Tensor, clean: Tensor) -> Tensor:
        """Positive numbers per example, (batch, n_measures)."""

    @abstractmethod
    def triplets(self, noisy: Tensor) -> Tensor:
        """Batches of frames -> batches of three triplets, (batch, 9, crop, crop)."""

    def draw(self, generator: torch.Generator) -> None:
        self.network.draw(generator)

    def prepare(self, generator: torch.Generator) -> None:
        n_batches = math.ceil(N_FILTER_EXAMPLES / self.settings.batch_size)
        self.network.solve(self.triplets(torch.cat([self.batch(generator)[0] for _ in range(n_batches)])))

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = [self.scenes[below(len(self.scenes), generator)] for _ in range(self.settings.batch_size)]
        noisy, clean = zip(*(self.example(scene, generator) for scene in chosen), strict=True)
        return torch.stack(noisy).to(self.device), torch.stack(clean).to(self.device)

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Logarithms of the errors, so that examples of every signal-to-noise ratio count alike."""
        return torch.log(self.errors(network, *batch) + FLOOR).mean()

    def held_out_loss(self, network: nn.Module) -> float:
        examples = [(noisy[None].to(self.device), clean[None].to(self.device)) for noisy, clean in self.held_out]
        return sum(float(self.loss(network, example)) for example in examples) / len(examples)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        return []


class SimulatedUdvdTask(SimulatedTask):
    """UDVD on clean movies (n_frames, height, width)."""

    network_type = MovieUdvd

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_movie(path, axes, channel, settings.max_stack_mb)

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return MovieUdvd(WIDTHS[settings.width], settings.blind_px)

    def example(self, scene: Array, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        n_frames, height, width = scene.shape
        first = below(max(1, n_frames - CLIP_FRAMES + 1), generator)
        numbers = repeated(np.arange(first - REACH, first + CLIP_FRAMES + REACH), n_frames)
        y, x = (below(side - self.crop_px + 1, generator) for side in (height, width))
        clean = torch.from_numpy(scene[numbers, y : y + self.crop_px, x : x + self.crop_px])
        low, high = float(scene.min()), float(scene.max())
        if below(2, generator):
            clean = low + high - clean
        return add_noise(turned(clean, (0, 1, 2), generator), high - low, generator)

    def errors(self, network: nn.Module, noisy: Tensor, clean: Tensor) -> Tensor:
        assert isinstance(network, MovieUdvd)
        wrong = network.before_relu(noisy) - clean[:, REACH:-REACH]
        return wrong.square().mean((1, 2, 3))[:, None]

    def triplets(self, noisy: Tensor) -> Tensor:
        return triplets_of(noisy[:, : 2 * REACH + 1])


class SimulatedScanTask(SimulatedTask):
    """UDVD on clean scans (scan_y, scan_x, height, width), patterns with a sum of about one."""

    network_type = ScanUdvd

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_scan(path, axes, settings.max_stack_mb)

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return ScanUdvd(WIDTHS[settings.width], settings.blind_px)

    def example(self, scene: Array, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Counts of ELECTRONS per pattern, log-uniform."""
        scan_y, scan_x, height, width = scene.shape
        taps = SCAN_TAPS[self.settings.neighbours].positions(scan_y, scan_x)[below(scan_y * scan_x, generator)]
        y, x = (below(side - self.crop_px + 1, generator) for side in (height, width))
        low, high = np.log(ELECTRONS)
        electrons = math.exp(low + (high - low) * float(torch.rand(1, generator=generator)))
        patterns = scene.reshape(-1, height, width)[:, y : y + self.crop_px, x : x + self.crop_px]
        # One pattern per position, so that it has the same noise wherever it stands in the triplets.
        clean = turned(torch.from_numpy(patterns) * electrons, (1, 2), generator)
        unit = math.sqrt(max(float(clean.mean()), LEAST_COUNTS))
        return torch.poisson(clean, generator=generator)[taps] / unit, clean[taps] / unit

    def errors(self, network: nn.Module, noisy: Tensor, clean: Tensor) -> Tensor:
        """Plain, which the bright disks rule, and relative to the noise variance, which the faint ones rule."""
        assert isinstance(network, ScanUdvd)
        wanted = clean[:, OWN : OWN + 1]
        wrong = (network.before_relu(noisy) - wanted).square()
        variance = F.avg_pool2d(clean.mean(1, keepdim=True), 5, stride=1, padding=2, count_include_pad=False)
        variance = variance + LEAST_VARIANCE * variance.mean((2, 3), keepdim=True)
        relative = wrong / variance * variance.mean((2, 3), keepdim=True)
        return torch.cat([wrong.mean((2, 3)), relative.mean((2, 3))], 1)

    def triplets(self, noisy: Tensor) -> Tensor:
        return noisy


def turned(frames: Tensor, axes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Frames (n, side, side), flipped along any of `axes` and transposed, or not."""
    frames = frames.flip([axis for axis in axes if below(2, generator)])
    return frames.transpose(1, 2) if below(2, generator) else frames


def add_noise(clean: Tensor, scene_range: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy and clean frames without pedestal, in units of the noise's standard deviation.

    Poisson noise, Gaussian noise, or half of each; strength uniform in decibels over INPUT_PSNR_DB.
    """
    low_db, high_db = INPUT_PSNR_DB
    psnr_db = low_db + (high_db - low_db) * float(torch.rand(1, generator=generator))
    variance = scene_range**2 / 10 ** (psnr_db / 10)
    share = (0.0, 0.5, 1.0)[below(3, generator)]  # of the variance that is Gaussian
    noisy = clean
    if share < 1:
        electrons = float(clean.mean()) / (variance * (1 - share))  # per unit of intensity
        noisy = torch.poisson(clean * electrons, generator=generator) / electrons
    if share > 0:
        noisy = noisy + torch.randn(clean.shape, generator=generator) * math.sqrt(variance * share)
    offset = float(np.percentile(noisy.numpy(), PEDESTAL_PERCENTILE, method="lower"))
    return (noisy - offset) / math.sqrt(variance), (clean - offset) / math.sqrt(variance)
