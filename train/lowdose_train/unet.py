"""The U-Net of the image-to-image methods (Noise2Void, three-direction synthesis). This file holds only the network."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose_train.mirror import mirrored
from lowdose_train.random_weights import draw_normal

Pooling = Literal["average", "max"]
Upsampling = Literal["bilinear", "transposed"]


class Block(nn.Module):
    """Two convolutions of the same size, each followed by an activation; zeros stand outside the frame."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, leaky_slope: float) -> None:
        super().__init__()
        self.leaky_slope = leaky_slope
        self.first = nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2)
        self.second = nn.Conv2d(n_out, n_out, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, height, width) -> (batch, n_out, height, width)."""
        x = F.leaky_relu(self.first(x), self.leaky_slope)
        return F.leaky_relu(self.second(x), self.leaky_slope)


class UNet(nn.Module):
    """A U-Net whose features double per level, with a 1x1 head and no activation after it.

    `depth` is how often the frame is halved; sides must be multiples of `align_px` = 2^depth.
    "average" and "bilinear" make neither edges nor checkerboards; "max" and "transposed" (2x2 up-convolution that
    halves the features) are the classic choice. A `leaky_slope` of 0 is the plain ReLU.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_features: int,
        depth: int,
        first_kernel_px: int = 3,
        leaky_slope: float = 0.0,
        pooling: Pooling = "max",
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.align_px = 1 << depth
        self.first_kernel_px = first_kernel_px
        self.leaky_slope = leaky_slope
        self.pooling = pooling
        widths = [n_features * 2**level for level in range(depth + 1)]
        kernels = [first_kernel_px] + [3] * depth
        self.down = nn.ModuleList(
            Block(before, width, kernel, leaky_slope)
            for before, width, kernel in zip([n_in, *widths], widths, kernels, strict=False)
        )
        is_bilinear = upsampling == "bilinear"
        self.widen = nn.ModuleList(
            nn.Upsample(scale_factor=2, mode="bilinear")
            if is_bilinear
            else nn.ConvTranspose2d(2 * width, width, 2, stride=2)
            for width in widths[:-1]
        )
        self.up = nn.ModuleList(
            Block((3 if is_bilinear else 2) * width, width, 3, leaky_slope) for width in widths[:-1]
        )
        self.head = nn.Conv2d(n_features, n_out, 1)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """New random weights that keep the variance of what passes through (He et al. 2015), and no biases.

        There are no normalisation layers, and PyTorch's own weights shrink the signal in every layer.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.bias is not None
                upsamples = isinstance(layer, nn.ConvTranspose2d)
                n_seen = layer.in_channels if upsamples else layer.weight[0].numel()
                gain = 1.0 if upsamples or layer is self.head else 2 / (1 + self.leaky_slope**2)
                draw_normal(layer.weight, 0.0, math.sqrt(gain / n_seen), generator)
                layer.bias.zero_()

    @property
    def margin_px(self) -> int:
        """How far an output pixel sees, an upper bound: each layer's reach times the size of its pixels."""
        reach = 2 * (self.first_kernel_px // 2)
        for level in range(1, len(self.down)):
            side = 2**level
            # Pooling, two convolutions down; back at the finer level: two convolutions up, and interpolation between.
            reach += side // 2 + 2 * side + 2 * (side // 2) + side
        return reach

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, height, width) -> (batch, n_out, height, width)."""
        pool = F.avg_pool2d if self.pooling == "average" else F.max_pool2d
        skips = []
        for level, block in enumerate(self.down):
            if level > 0:
                skips.append(x)
                x = pool(x, 2)  # (batch, features, height / 2, width / 2)
            x = block(x)  # twice the features
        for level in reversed(range(len(self.up))):
            x = self.widen[level](x)  # height and width doubled
            x = self.up[level](torch.cat([skips[level], x], dim=1))  # half the features
        return self.head(x)  # type: ignore[no-any-return]


def padded(frames: Tensor, align_px: int) -> Tensor:
    """Frames (..., height, width) mirrored at the bottom and right up to multiples of `align_px`, as the core does."""
    rows, columns = (torch.from_numpy(mirrored(np.arange(side + -side % align_px), side)) for side in frames.shape[-2:])
    return frames[..., rows[:, None], columns]
