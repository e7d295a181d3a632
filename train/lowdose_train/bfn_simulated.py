"""Training of the blind-feature network on simulated scenes: what it makes of them under noise is compared with the
clean ones. For the bundled models, whose filter is fitted anew to whatever they denoise.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose.wiener import BlindFilter
from lowdose.wiener.movie import DIAMETERS_OF_IMAGE_PX, LARGEST_DIAMETER_PX
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import TrainingFrames, prepare_frames, window_moments
from lowdose_train.bfn_task import BfnTask, fit_filter, padded, set_filter
from lowdose_train.data import Array
from lowdose_train.settings import Settings

INPUT_PSNR_DB = (-3.0, 26.0)
N_NOISES = 2
"""Recordings of each scene, at doses and with detectors of their own."""
HELD_OUT = 10
"""Every tenth scene is held out."""
HELD_OUT_TILES = 0.02
MOST_GAUSSIAN = 0.95
"""Share of the noise variance."""
GAUSSIAN_STD = 1.2
"""Of the filter that stands in the file until another is fitted, in frames and pixels."""
LEAST_SHARE = 1e-4
"""Of the largest weight; what is less is none."""
LEAST_ERROR = 1e-3
"""Of a filter, in units of the noise: scenes that hold nothing would count without limit."""


class SimulatedBfnTask(BfnTask):
    """`stacks` are clean scenes (n_frames, n_channels, height, width) of one size, nowhere below zero.

    Each is recorded N_NOISES times; the filter is fitted to each recording. An error counts in units of the filter's
    own, so that recordings of any dose weigh alike.
    """

    def learned(self, stacks: Mapping[str, Array]) -> list[Array]:
        return list(stacks.values())

    def fit(self) -> BlindFilter:
        """The filter of the first recording; all are kept."""
        jobs = [
            (scene, index, noise, self.settings) for index, scene in enumerate(self.stacks) for noise in range(N_NOISES)
        ]
        n_workers = self.settings.threads or os.cpu_count()
        with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
            self.recordings = list(pool.map(record_and_fit, *zip(*jobs, strict=True)))
        return self.recordings[0][2]

    def look(self) -> None:
        generator = torch.Generator().manual_seed(self.settings.seed)
        self.tests: list[TrainingFrames] = []
        taps = self.taps_of(len(self.stacks[0]))
        for index, (noisy, clean, fitted) in enumerate(self.recordings):
            set_filter(self.network, fitted)
            test = index // N_NOISES % HELD_OUT == HELD_OUT - 1
            frames = prepare_frames(
                self.network,
                noisy,
                taps,
                window_moments(noisy, taps),
                tile_px=self.crop_px,
                held_out=HELD_OUT_TILES if test else 0,
                weights=torch.ones(noisy.shape[2:]),
                generator=generator,
                wanted=clean,
            )
            (self.tests if test else self.frames).append(in_units_of_filter(frames))

    def finish(self, network: nn.Module) -> dict[str, Any]:
        """A filter of no recording in particular, until one is fitted, with room for the largest; no own-pixel step:
        that is for one file."""
        assert isinstance(network, BlindFeatureNetwork)
        room = max(DIAMETERS_OF_IMAGE_PX) if network.n_taps == 1 else LARGEST_DIAMETER_PX
        border = room // 2 - network.linear_reach_px
        network.filter.weight = F.pad(blind_gaussian(network), (border,) * 4)
        return {}

    def turns_all_ways(self) -> bool:
        return True

    def held_out_frames(self) -> list[TrainingFrames]:
        return self.tests


def record_and_fit(clean: Array, index: int, noise: int, settings: Settings) -> tuple[Array, Array, BlindFilter]:
    """A noisy recording, what was expected of it, and the filter of the normalised recording."""
    rng = np.random.default_rng([index, noise, 7])
    channels = []
    for channel in range(clean.shape[1]):
        psnr_db, share = rng.uniform(*INPUT_PSNR_DB), rng.uniform(0, MOST_GAUSSIAN)
        channels.append(recorded(clean[:, channel], rng, psnr_db, share))
    noisy, expected = (np.stack(parts, axis=1) for parts in zip(*channels, strict=True))
    assert settings.taps is not None and settings.linear_px is not None
    fitted = fit_filter([noisy], replace(settings, taps=None))  # as many frames as a user's filter would take
    return noisy, expected, padded(fitted, settings.taps, settings.linear_px)


def recorded(clean: Array, rng: np.random.Generator, psnr_db: float, share: float) -> tuple[Array, Array]:
    """Frames in electrons with Poisson noise and Gaussian noise (`share` of the variance) at an input PSNR."""
    dose = 10 ** (psnr_db / 10) * float(clean.mean()) / float(np.ptp(clean)) ** 2 / (1 - share)
    expected = (dose * clean).astype(np.float32)
    read_noise = np.sqrt(float(expected.mean()) * share / (1 - share))
    noisy = rng.poisson(expected) + read_noise * rng.standard_normal(clean.shape)
    return noisy.astype(np.float32), expected


def in_units_of_filter(frames: TrainingFrames) -> TrainingFrames:
    """With weights by which the filter's error is one."""
    r = (frames.linear.shape[-1] - frames.border.shape[-1]) // 2
    height, width = frames.border.shape[-2:]
    linear = frames.linear[..., r : r + height, r : r + width] + frames.border
    wanted = (frames.wanted - frames.offset[..., None, None]) / frames.scale[..., None, None]
    error = float(((linear - wanted).square() * frames.weights).mean())
    return replace(frames, weights=frames.weights / max(error, LEAST_ERROR))


def blind_gaussian(network: BlindFeatureNetwork) -> Tensor:
    """Weights like those of the network's filter: the mean of the neighbours in the own channel, the nearest most."""
    weight = torch.zeros_like(network.filter.weight)
    steps = torch.arange(network.n_taps) - network.n_taps // 2
    pixels = torch.arange(weight.shape[-1]) - network.linear_reach_px
    in_time, in_space = (torch.exp(-(x**2) / (2 * GAUSSIAN_STD**2)) for x in (steps, pixels))
    bell = torch.einsum("t,y,x->tyx", in_time, in_space, in_space)
    bell[network.n_taps // 2, network.linear_reach_px, network.linear_reach_px] = 0
    bell[bell < LEAST_SHARE] = 0
    for channel in range(network.n_channels):
        weight[channel, channel :: network.n_channels] = bell / bell.sum()
    return weight
