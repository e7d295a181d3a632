"""Three-direction synthesis: one U-Net for each direction in which a (t, y, x) block can be sliced, and their mean.

"Denoising Low-dose Images Using Deep Learning of Time Series Images" (Hitachi). This file holds only the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose_train.unet import Pooling, UNet, Upsampling

SCALE_STDS = 5.0
"""A block is seen as (block - mean) / (SCALE_STDS standard deviations)."""
DIRECTIONS = {"xy": (0, 1, 2, 3), "xt": (0, 2, 1, 3), "yt": (0, 3, 1, 2)}
"""How (batch, t, y, x) is turned so that the last two axes are a slice: (t, x) for "xt", (t, y) for "yt"."""
REACH_STDS = 2.5
"""Where a Gaussian is cut off."""


@dataclass(frozen=True)
class Smoothing:
    """Widths (standard deviations) of a Gaussian over a block."""

    frames: float
    px: float

    @property
    def reach_px(self) -> int:
        return math.ceil(REACH_STDS * self.px)


@dataclass(frozen=True)
class Width:
    """A size of the networks and of the block; the `smoothings` are further channels of each slice."""

    n_features: int
    depth: int
    leaky_slope: float
    pooling: Pooling
    upsampling: Upsampling
    n_frames: int
    overlap: int
    smoothings: tuple[Smoothing, ...] = ()


WIDTHS = {
    # As published: slices of 128x128 in all three directions, each network sees its slice and nothing else.
    "full": Width(
        n_features=64, depth=4, leaky_slope=0.0, pooling="max", upsampling="transposed", n_frames=128, overlap=32
    ),
    "lite": Width(
        n_features=8,
        depth=3,
        leaky_slope=0.1,
        pooling="average",
        upsampling="bilinear",
        n_frames=32,
        overlap=8,
        smoothings=(Smoothing(1, 1), Smoothing(2, 1.4), Smoothing(4, 2.5)),
    ),
}
RESIDUAL_OF = 1
"""Which smoothing the networks correct, where there are any."""


class ThreeDirections(nn.Module):
    """U-Nets over the x-y, x-t and y-t slices of a normalised block (batch, t, y, x), averaged.

    "lite" sees each slice beside the same slice of smoothed blocks and predicts what to add to one of them: the work
    of averaging over the third axis is done, and few features are left to tell structure from noise. Sides of
    the block must be multiples of `align_px`.
    """

    def __init__(self, width: str) -> None:
        super().__init__()
        self.width = WIDTHS[width]
        shape = self.width
        self.networks = nn.ModuleDict(
            {
                name: UNet(
                    1 + len(shape.smoothings),
                    1,
                    n_features=shape.n_features,
                    depth=shape.depth,
                    leaky_slope=shape.leaky_slope,
                    pooling=shape.pooling,
                    upsampling=shape.upsampling,
                )
                for name in DIRECTIONS
            }
        )

    def network(self, direction: str) -> UNet:
        found = self.networks[direction]
        assert isinstance(found, UNet)
        return found

    @property
    def align_px(self) -> int:
        return self.network("xy").align_px

    @property
    def margin_px(self) -> int:
        """How far an output pixel sees along y and x."""
        return self.network("xy").margin_px + max((s.reach_px for s in self.width.smoothings), default=0)

    def draw(self, generator: torch.Generator) -> None:
        """New random weights; with smoothings each network begins as the one that it corrects."""
        for direction in DIRECTIONS:
            network = self.network(direction)
            network.draw(generator)
            if self.width.smoothings:
                nn.init.zeros_(network.head.weight)

    def views(self, block: Tensor) -> Tensor:
        """Block (batch, t, y, x) -> (batch, n_channels, t, y, x): itself, then smoothed."""
        return torch.stack([block, *(smoothed(block, smoothing) for smoothing in self.width.smoothings)], dim=1)

    def denoise_slices(self, direction: str, slices: Tensor) -> Tensor:
        """Slices (n_slices, n_channels, rows, columns) of the views -> (n_slices, rows, columns)."""
        output: Tensor = self.network(direction)(slices)[:, 0]
        return output + slices[:, 1 + RESIDUAL_OF] if self.width.smoothings else output

    def in_direction(self, direction: str, views: Tensor) -> Tensor:
        """Views (batch, n_channels, t, y, x) -> the block (batch, t, y, x) that one network makes."""
        slices = slices_along(direction, views)  # (batch, n_slices, n_channels, rows, columns)
        denoised = self.denoise_slices(direction, slices.flatten(0, 1))
        return put_back(direction, denoised.reshape(*slices.shape[:2], *denoised.shape[1:]))

    def forward(self, block: Tensor) -> Tensor:
        """Normalised block (batch, t, y, x) -> denoised block of the same shape."""
        views = self.views(block)
        return torch.stack([self.in_direction(direction, views) for direction in DIRECTIONS]).mean(dim=0)


def slices_along(direction: str, views: Tensor) -> Tensor:
    """Views (batch, n_channels, t, y, x) -> all slices (batch, n_slices, n_channels, rows, columns)."""
    batch, third, rows, columns = DIRECTIONS[direction]
    return views.permute(batch, 1 + third, 1, 1 + rows, 1 + columns)


def put_back(direction: str, slices: Tensor) -> Tensor:
    """(batch, n_slices, rows, columns) -> the block (batch, t, y, x) that it came from."""
    order = DIRECTIONS[direction]
    return slices.permute(*(order.index(axis) for axis in range(4)))


def smoothed(block: Tensor, smoothing: Smoothing) -> Tensor:
    """A Gaussian over a block (batch, t, y, x): along t its weights sum to one within the block, edge pixels repeat."""
    batch, n_frames, height, width = block.shape
    along_t = time_weights(n_frames, smoothing.frames).to(block)
    frames = (along_t @ block.flatten(2)).reshape(batch * n_frames, 1, height, width)
    kernel = space_kernel(smoothing).to(block)
    reach = smoothing.reach_px
    frames = F.conv2d(F.pad(frames, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    frames = F.conv2d(F.pad(frames, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return frames.view(batch, n_frames, height, width)


def time_weights(n_frames: int, width_frames: float) -> Tensor:
    """(n_frames, n_frames): row t averages the frames around frame t of a block."""
    t = torch.arange(n_frames, dtype=torch.float64)
    weights = torch.exp(-((t[:, None] - t) ** 2) / (2 * width_frames**2))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def space_kernel(smoothing: Smoothing) -> Tensor:
    """(2 reach + 1,), which sums to one."""
    x = torch.arange(-smoothing.reach_px, smoothing.reach_px + 1, dtype=torch.float64)
    weights = torch.exp(-(x**2) / (2 * smoothing.px**2))
    return (weights / weights.sum()).float()
