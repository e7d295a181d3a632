"""Training of the three-direction synthesis: noise is added to clean movies, and each network learns its own slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdose.errors import LowdoseError
from lowdose.metrics import psnr
from lowdose_train.data import Array, check_frames, read_movie, spread
from lowdose_train.precision import mixed_precision
from lowdose_train.settings import Settings
from lowdose_train.synthesis import DIRECTIONS, SCALE_STDS, ThreeDirections, slices_along
from lowdose_train.task import Task
from lowdose_train.windows import below, check_size

STEPS_PER_EPOCH = 100
CROPS_PER_NETWORK = 2
"""From each block a network learns as many random slices as hold the pixels of this many crops, and one at least."""
MAX_HELD_OUT = 4
HELD_OUT_SEED = 0
LARGEST_GRADIENT = 0.05
"""Nine in ten are below; without this limit a run diverged after 1400 steps."""
AXES = "n_frames, height, width"


class SynthesisTask(Task):
    """The three networks on clean movies (n_frames, height, width), simulated or recorded at a high dose.

    A block gets a dose between `lowest_dose` and `highest_dose` and becomes Poisson counts plus read noise (up to
    `gaussian_share` of the variance). Pixels at `zero_level` have no electrons; there is no gain to set, because doses
    are means and blocks are normalised. A movie shorter than a block goes on with its last frame, so that single
    images serve too. Published: MSE, Adam 1e-3, batches of 4, 50 epochs.
    """

    network: ThreeDirections

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.network = ThreeDirections(settings.width)
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, frames in stacks.items():
            check_frames(name, frames, AXES)
            check_size(name, frames, self.network.align_px, settings)
        self.names = list(stacks)
        self.movies = [as_signal(name, frames, settings.zero_level) for name, frames in stacks.items()]
        self.held_out = spread(range(len(self.movies)), settings.held_out, MAX_HELD_OUT)
        self.targets = [i for i in range(len(self.movies)) if i not in self.held_out] or self.held_out
        self.crop_px = settings.crop_for(min(min(movie.shape[1:]) for movie in self.movies))
        self.crop_px -= self.crop_px % self.network.align_px
        self.steps_per_epoch = STEPS_PER_EPOCH
        self.data = [{"name": name, "shape": list(frames.shape)} for name, frames in stacks.items()]

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_movie(path, axes, channel, settings.max_stack_mb)

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        return ThreeDirections(settings.width)

    def draw(self, generator: torch.Generator) -> None:
        self.network.draw(generator)

    def batch(self, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """Per direction noisy slices (n_slices, n_channels, rows, columns) and clean ones (n_slices, rows, columns)."""
        noisy: dict[str, list[Tensor]] = {direction: [] for direction in DIRECTIONS}
        clean: dict[str, list[Tensor]] = {direction: [] for direction in DIRECTIONS}
        for _ in range(self.settings.batch_size):
            block = self.crop(self.targets[below(len(self.targets), generator)], generator)
            dose = self.dose(float(torch.rand(1, generator=generator)))
            share = self.settings.gaussian_share * float(torch.rand(1, generator=generator))
            pair = torch.stack(noisy_and_clean(block, dose, share, generator))[:, None]  # (2, 1, t, y, x)
            views = self.network.views(pair[0].to(self.device))
            for direction in DIRECTIONS:
                slices = slices_along(direction, views)[0]  # (n_slices, n_channels, rows, columns)
                truth = slices_along(direction, pair[1:].to(self.device))[0, :, 0]
                n_slices = max(1, CROPS_PER_NETWORK * self.crop_px**2 // truth[0].numel())
                chosen = torch.randperm(len(slices), generator=generator)[:n_slices].to(self.device)
                noisy[direction].append(slices[chosen])
                clean[direction].append(truth[chosen])
        return {direction: (torch.cat(noisy[direction]), torch.cat(clean[direction])) for direction in DIRECTIONS}

    def crop(self, movie: int, generator: torch.Generator) -> Tensor:
        """A random block (n_frames, crop, crop) of a movie, turned and flipped, in its own units."""
        signal = self.movies[movie]
        n_frames, height, width = signal.shape
        wanted = self.network.width.n_frames
        t = below(max(1, n_frames - wanted + 1), generator)
        y, x = below(height - self.crop_px + 1, generator), below(width - self.crop_px + 1, generator)
        frames = np.minimum(np.arange(t, t + wanted), n_frames - 1)
        block = torch.from_numpy(signal[frames, y : y + self.crop_px, x : x + self.crop_px])
        block = block.flip([axis for axis in (0, 1, 2) if below(2, generator)])
        return block.transpose(1, 2) if below(2, generator) else block

    def dose(self, share: float) -> float:
        """The dose at `share`, 0 to 1, of the way from the lowest to the highest, on a logarithmic scale."""
        lowest, highest = self.settings.lowest_dose, self.settings.highest_dose
        return lowest * math.exp(share * math.log(highest / lowest))

    def loss(self, network: nn.Module, batch: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Mean over the three networks, in units of each block's variance: each is to be good by itself."""
        assert isinstance(network, ThreeDirections)
        losses = []
        for direction, (noisy, clean) in batch.items():
            with mixed_precision(self.settings, self.device):
                denoised = network.denoise_slices(direction, noisy.contiguous(memory_format=torch.channels_last))
            losses.append((denoised.float() - clean).square().mean())
        return SCALE_STDS**2 * torch.stack(losses).mean()

    def before_step(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)

    def held_out_blocks(self) -> list[tuple[int, Tensor, Tensor]]:
        """Movie, noisy and clean block at the middle dose; of a single movie with noise that training never has."""
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        return [
            (movie, *noisy_and_clean(self.crop(movie, generator), self.dose(0.5), 0.2, generator))
            for movie in self.held_out
        ]

    def held_out_loss(self, network: nn.Module) -> float:
        """Of the mean of the three networks."""
        losses = []
        for _, noisy, clean in self.held_out_blocks():
            with mixed_precision(self.settings, self.device):
                denoised = network(noisy[None].to(self.device))[0]
            losses.append(float((denoised.float().cpu() - clean).square().mean()))
        return SCALE_STDS**2 * sum(losses) / len(losses)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """PSNR at the middle dose: noisy, of the x-y network alone, and of the synthesis."""
        assert isinstance(network, ThreeDirections)
        results = []
        for movie, noisy, clean in self.held_out_blocks():
            views = network.views(noisy[None])
            of_xy = network.in_direction("xy", views)[0]
            blocks = {"psnr_db_noisy": noisy, "psnr_db_xy": of_xy, "psnr_db": network(noisy[None])[0]}
            truth = clean.numpy()
            scores = {name: psnr(truth, block.numpy()) if np.ptp(truth) else None for name, block in blocks.items()}
            results.append({"name": self.names[movie], **scores})
        return results


def as_signal(name: str, frames: Array, zero_level: float) -> Array:
    """Clean frames with zero at no electrons and mean one, float32. Raises LowdoseError for empty ones."""
    signal = np.maximum(frames.astype(np.float32) - np.float32(zero_level), 0)
    mean = signal.mean(dtype=np.float64)
    if not mean > 0:
        raise LowdoseError(f"{name} has no pixel above the zero level {zero_level:g}; give another with zero_level")
    return np.asarray(signal / np.float32(mean))


def noisy_and_clean(
    signal: Tensor, dose: float, gaussian_share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A block (t, y, x) of a movie with mean one, recorded with `dose` electrons per pixel, beside its truth.

    Both normalised by the noisy one: (block - mean) / (SCALE_STDS standard deviations).
    """
    expected = dose * signal
    read_noise = math.sqrt(float(expected.mean()) * gaussian_share / (1 - gaussian_share))
    noisy = torch.poisson(expected, generator=generator) + read_noise * torch.randn(signal.shape, generator=generator)
    offset, scale = noisy.mean(), SCALE_STDS * noisy.std(correction=0)
    if not scale > 0:
        scale = torch.ones(())
    return (noisy - offset) / scale, (expected - offset) / scale
