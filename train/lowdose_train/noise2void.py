"""Noise2Void for several channels at once: the networks, and what training hides from them.

The multi-channel Noise2Void of the gold-adatoms-on-graphene paper (ADF and BF together), with the replacement of
N2V2 (Höck et al. 2022): a hidden pixel becomes the mean of its window without itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lowdose_train.unet import UNet

SCALE_STDS = 5.0
"""A frame is seen as (frame - mean) / (SCALE_STDS standard deviations), per channel."""
WINDOW_PX = 5
LEAKY_SLOPE = 0.1


@dataclass(frozen=True)
class Width:
    """A size of the network, and the grid of pixels that its training hides."""

    n_features: int
    depth: int
    pitch_px: int
    jitter_px: int


WIDTHS = {
    "full": Width(n_features=64, depth=4, pitch_px=24, jitter_px=2),
    # Chosen on simulated movies. Sixteen hidden pixels instead of one in 24 x 24: so many more to learn from in a step.
    "lite": Width(n_features=16, depth=3, pitch_px=4, jitter_px=1),
}


def noise2void_network(n_channels: int, width: str) -> UNet:
    """Normalised frames (batch, n_channels, height, width) -> denoised ones.

    Both convolutions of the first block are 5x5, all others 3x3; average pooling, bilinear upsampling and no residual:
    the output does not rest on the pixel itself. "full" has 31 446 018 parameters for two channels; the paper says
    31.5 million (a normalisation layer after each convolution would add 11 776, but none is described).
    """
    shape = WIDTHS[width]
    return UNet(
        n_channels,
        n_channels,
        n_features=shape.n_features,
        depth=shape.depth,
        first_kernel_px=5,
        leaky_slope=LEAKY_SLOPE,
        pooling="average",
        upsampling="bilinear",
    )


def jittered_grid(shape: tuple[int, int, int], pitch_px: int, jitter_px: int, generator: torch.Generator) -> Tensor:
    """Which pixels are hidden: bool (batch, 1, height, width) for `shape` (batch, height, width).

    A grid of `pitch_px`, placed at random; each point is moved by up to `jitter_px` on both axes, so that no grid shows
    in the result. All channels hide the same pixels: what one sees of a pixel's noise another could use.
    """
    batch, height, width = shape
    n_y, n_x = height // pitch_px + 2, width // pitch_px + 2  # one more on each side: points move in and out

    def positions(n: int, axis_shape: tuple[int, int, int]) -> Tensor:
        start = torch.randint(pitch_px, (batch, 1, 1), generator=generator) - pitch_px
        moved = torch.randint(-jitter_px, jitter_px + 1, (batch, n_y, n_x), generator=generator)
        return start + pitch_px * torch.arange(n).view(axis_shape) + moved

    y, x = positions(n_y, (1, n_y, 1)), positions(n_x, (1, 1, n_x))  # (batch, n_y, n_x)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    hidden = torch.zeros(batch, 1, height, width, dtype=torch.bool)
    items = torch.arange(batch).view(-1, 1, 1).expand_as(y)
    hidden[items[inside], 0, y[inside], x[inside]] = True
    return hidden


def hide(frames: Tensor, hidden: Tensor) -> Tensor:
    """Frames (batch, n_channels, height, width) in which `hidden` (batch, 1, height, width) pixels are replaced.

    Each by the mean of the pixels of its window that are not hidden, so that the result says nothing of the noise
    of any hidden pixel.
    """
    shown = (~hidden).to(frames.dtype)

    def window_mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW_PX, stride=1, padding=WINDOW_PX // 2)

    replacement = window_mean(frames * shown) / window_mean(shown).clamp(min=1e-6)
    return torch.where(hidden, replacement, frames)


def hidden_mse(denoised: Tensor, frames: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared difference at the hidden pixels of all channels (Krull et al., Noise2Void, 2019)."""
    squares = (denoised.float() - frames).square() * hidden
    return squares.sum() / (hidden.sum() * frames.shape[1])
