"""Training of the blind-feature network on simulated 4D-STEM scans, for the bundled model: the filter and the planes of
level and scale are fitted to each recording, as they are to the scan that it denoises later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdose.wiener import BlindFilter, fit_scan
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import TrainingFrames, prepare_frames
from lowdose_train.bfn_scan_task import AXES, error_weights, scan_taps
from lowdose_train.bfn_simulated import HELD_OUT, HELD_OUT_TILES, SimulatedBfnTask, in_units_of_filter
from lowdose_train.data import Array, check_frames
from lowdose_train.settings import Settings

ELECTRONS_PER_PIXEL = (0.003, 10.0)
"""Mean over the scan; evenly on a logarithmic scale."""
COUNTING = 0.7
"""Share of the recordings that are counted electrons without read noise."""
MOST_GAUSSIAN = 0.9
"""Share of the noise variance in the others."""
STEPS_PER_EPOCH = 250
GAUSSIAN_STD = 1.0
"""Of the filter that stands in the file until another is fitted, in positions and pixels."""


class SimulatedScanTask(SimulatedBfnTask):
    """`stacks` are clean scans (scan_y, scan_x, height, width), nowhere below zero, of any sizes.

    Each is recorded once, at a dose and with a detector of its own. An error counts in units of the filter's own, so
    that recordings of any dose weigh alike.
    """

    steps_per_epoch = STEPS_PER_EPOCH

    def learned(self, stacks: Mapping[str, Array]) -> list[Array]:
        for name, scan in stacks.items():
            check_frames(name, scan, AXES)
        return list(stacks.values())

    def fit(self) -> BlindFilter:
        """The filter of the first recording; all are kept."""
        settings = self.settings
        self.scans = [recorded_scan(scan, index, settings) for index, scan in enumerate(self.stacks)]
        return self.scans[0][2]

    def look(self) -> None:
        generator = torch.Generator().manual_seed(self.settings.seed)
        self.tests: list[TrainingFrames] = []
        for index, (noisy, clean, fitted) in enumerate(self.scans):
            self.network.filter.weight.copy_(torch.from_numpy(fitted.weights[0]).flatten(1, 2))
            test = index % HELD_OUT == HELD_OUT - 1
            planes, wanted = (
                ((scan - fitted.level) / fitted.scale).reshape(-1, 1, *scan.shape[2:]) for scan in (noisy, clean)
            )
            frames = prepare_frames(
                self.network,
                planes,
                scan_taps(fitted.taps, noisy.shape[:2]),
                (torch.zeros(len(planes), 1), torch.ones(len(planes), 1)),
                tile_px=self.crop_px,
                held_out=HELD_OUT_TILES if test else 0,
                weights=error_weights(fitted),
                generator=generator,
                wanted=wanted,
            )
            (self.tests if test else self.frames).append(in_units_of_filter(frames))

    def finish(self, network: nn.Module) -> dict[str, Any]:
        """Filter, level and scale of no scan in particular, until those of one take their place."""
        assert isinstance(network, BlindFeatureNetwork) and network.scan is not None
        network.filter.weight.copy_(blind_gaussian(network.scan.taps, network.filter.weight.shape[-1]))
        network.scan.level = torch.zeros(1, 1, 1)
        network.scan.scale = torch.ones(1, 1, 1)
        network.own_pixel.values = torch.zeros(1, 3, 1, 1)
        return {}


def recorded_scan(clean: Array, index: int, settings: Settings) -> tuple[Array, Array, BlindFilter]:
    """A noisy recording in electrons, what was expected of it, and the filter fitted to the recording."""
    rng = np.random.default_rng([index, 9])
    electrons = np.exp(rng.uniform(*np.log(ELECTRONS_PER_PIXEL)))
    share = 0.0 if rng.random() < COUNTING else rng.uniform(0, MOST_GAUSSIAN)
    expected = (electrons / clean.mean() * clean).astype(np.float32)
    read_noise = np.sqrt(electrons * share / (1 - share))
    noisy = rng.poisson(expected) + read_noise * rng.standard_normal(clean.shape)
    return noisy.astype(np.float32), expected, fit_scan(noisy.astype(np.float32), hidden_px=settings.blind_px)


def blind_gaussian(taps: Tensor, side_px: int) -> Tensor:
    """Weights (1, n_taps, side, side): the mean of the neighbours over scan and detector, the nearest most."""
    pixels = torch.arange(side_px) - side_px // 2
    over_scan = torch.exp(-taps.square().sum(1) / (2 * GAUSSIAN_STD**2))
    on_detector = torch.exp(-(pixels**2) / (2 * GAUSSIAN_STD**2))
    bell = torch.einsum("t,y,x->tyx", over_scan, on_detector, on_detector)
    bell[len(taps) // 2, side_px // 2, side_px // 2] = 0
    return (bell / bell.sum())[None]
