"""Training of the blind-feature network on noisy 4D-STEM scans: scan neighbours take the place of frames in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowdose.errors import LowdoseError
from lowdose.sample import neighbour
from lowdose.wiener import BlindFilter, fit_scan
from lowdose.wiener.own_pixel import counted_electrons
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import middle_of_scan
from lowdose_train.bfn_scan_own_pixel import choose_scan_own_pixel
from lowdose_train.bfn_task import BfnTask
from lowdose_train.data import Array, check_frames, read_scan
from lowdose_train.settings import Settings

BRIGHTNESS_WEIGHT = 1.0
"""A pixel's error counts by its noise's standard deviation to this power: 0 is best for weak reflections, 2 for the
error in counts, which the brightest pixels rule."""
MOST_HELD_OUT_TILES = 4096
"""The own-pixel step needs many: the error is a hundredth of the noise."""
AXES = "scan_y, scan_x, height, width"


class BfnScanTask(BfnTask):
    """The network on one noisy scan (scan_y, scan_x, height, width).

    Each detector pixel is taken relative to its mean over the scan and in units of its noise, as the closed-form filter
    takes it; so the network is for patterns of this size and this experiment.
    """

    most_held_out = MOST_HELD_OUT_TILES

    def learned(self, stacks: Mapping[str, Array]) -> list[Array]:
        """Normalised patterns, as a movie of one channel."""
        (name, scan), *others = stacks.items()
        if others:
            raise LowdoseError(f"bfn-4d learns from one scan; given {len(stacks)}")
        check_frames(name, scan, AXES)
        part = np.asarray(middle_of_scan(scan), np.float32)
        self.electrons = counted_electrons(part)
        self.fitted = fit_scan(part, scan.mean(axis=(0, 1), dtype=np.float32), self.settings.blind_px)
        self.scan_shape = part.shape[:2]
        return [((part - self.fitted.level[0]) / self.fitted.scale[0]).reshape(-1, 1, *part.shape[2:])]

    def fit(self) -> BlindFilter:
        return self.fitted

    def bands(self) -> list[tuple[slice, BlindFilter]]:
        """All rows at once: a scan holds ten thousand pixels for each weight of the filter."""
        return [(slice(0, self.stacks[0].shape[2]), self.fitted)]

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        return read_scan(path, axes, settings.max_stack_mb)

    def taps_of(self, n_frames: int) -> NDArray[np.int_]:
        return scan_taps(self.fitted.taps, self.scan_shape)

    def moments(self, frames: Array, taps: NDArray[np.int_]) -> tuple[Tensor, Tensor]:
        """None: the patterns are normalised already."""
        return torch.zeros(len(frames), 1), torch.ones(len(frames), 1)

    def error_weights(self, frames: Array) -> Tensor:
        return error_weights(self.fitted)

    def choose_own_pixel(self, network: BlindFeatureNetwork) -> list[dict[str, Any]]:
        return [choose_scan_own_pixel(network, self.frames[0], self.crop_px, self.electrons)]


def scan_taps(taps: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> NDArray[np.int_]:
    """The numbers of the patterns that the network sees for each of a scan of a shape, (n_patterns, n_taps)."""
    n_y, n_x = shape
    positions = [(y, x) for y in range(n_y) for x in range(n_x)]
    return np.array([[neighbour(y, dy, n_y) * n_x + neighbour(x, dx, n_x) for dy, dx in taps] for y, x in positions])


def error_weights(fitted: BlindFilter) -> Tensor:
    """(height, width): what the error of a pixel counts, one on average."""
    weights = torch.from_numpy(fitted.scale[0]) ** BRIGHTNESS_WEIGHT
    return weights / weights.mean()
