"""The own-pixel step of the blind-feature network: noise and error estimated from the noisy frames, or no step at all.

What is left of a frame after differences along y and x is noise almost alone; its variance over the brightness is a
line, read noise and gain (photon transfer: Janesick 2007). What the residual of the blind network has more than that is
its error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lowdose_train.bfn import BlindFeatureNetwork, OwnPixel
from lowdose_train.bfn_data import Crops, TrainingFrames, normalised
from lowdose_train.certainty import certain

N_BINS = 24
"""Of brightness, with as many pixels each."""
LARGEST_SHARE = 0.5
"""Of the error in the noise: beyond it something else is wrong, such as noise that neighbours share."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseLine:
    """The variance of the noise is constant + gain * brightness; in units of the planes."""

    constant: float
    gain: float

    def at(self, brightness: Tensor) -> Tensor:
        return (self.constant + self.gain * brightness).clamp(min=OwnPixel.LEAST)


@torch.no_grad()
def noise_line(bands: list[TrainingFrames], channel: int) -> NoiseLine:
    """From all frames and channels of a file, brightness being the linear filter's estimate."""
    squares, brightness = [], []
    for frames in bands:
        height, width = frames.border.shape[-2:]
        r = (frames.linear.shape[-1] - width) // 2
        for t in range(len(frames.frames)):
            here = frames.frames[t : t + 1, :, frames.rows]
            plane = normalised(here, frames.offset[t], frames.scale[t])[0, channel]
            squares.append(differences(plane[None]).square().flatten())
            estimate = frames.linear[t, channel, r : r + height, r : r + width] + frames.border[t, channel]
            brightness.append(estimate[1:-1, 1:-1].flatten())
    return fitted_line(torch.cat(brightness).double().cpu().numpy(), torch.cat(squares).double().cpu().numpy())


def differences(planes: Tensor) -> Tensor:
    """(n, height, width) -> (n, height - 2, width - 2): second differences along y and x; white noise keeps its
    variance, and little else is left."""
    step = torch.tensor([1.0, -2.0, 1.0], device=planes.device)
    return F.conv2d(planes[:, None], (step[:, None] * step)[None, None] / 6)[:, 0]


def fitted_line(brightness: Floats, squares: Floats) -> NoiseLine:
    """Least squares through the means of bins; a gain below zero is none."""
    order = np.argsort(brightness)
    bins = np.array_split(order, min(N_BINS, len(order)))
    x, y = (np.array([values[chosen].mean() for chosen in bins]) for values in (brightness, squares))
    weights = 1 / np.maximum(y, 1e-12)  # the scatter of a variance follows the variance
    if np.ptp(x) > 0:
        gain, constant = np.polyfit(x, y, 1, w=weights)
        if gain > 0:
            return NoiseLine(float(constant), float(gain))
    return NoiseLine(float(squares.mean()), 0.0)


@torch.no_grad()
def choose_own_pixel(
    network: BlindFeatureNetwork, frames: list[TrainingFrames], tile_px: int
) -> list[dict[str, float | None]]:
    """Set the network's own-pixel step, channel by channel, where it lowers the estimated error; says what was found.

    The error e is what the residual on the held-out tiles has more than the differences in the same tiles: how much
    noise fell there, which with few electrons is chance, is in both. In units of the planes. A step with
    a = e / (e + v) then lowers the risk mean (1 - a)^2 (y - d)^2 + 2 a v (Stein 1981) by e a. It is taken with as much
    of e as is certain, if that is above nothing: eight tiles of an image with few electrons can tell five times the
    error that there is, and a step too long costs more than one too short.
    """
    network.own_pixel.values.zero_()
    tiles = [movie.crop(*tile, tile_px, network.reach_px, held_out=True) for movie in frames for tile in movie.held_out]
    crops = Crops.of(tiles)
    blind = crops.result(network)
    found = []
    for channel in range(network.n_channels):
        line = noise_line(frames, channel)
        residual = (blind[channel] - crops.wanted[channel])[:, 1:-1, 1:-1].square().mean((1, 2))
        noise = differences(crops.wanted[channel]).square().mean((1, 2))  # of the same tiles
        errors = (residual - noise).double()
        error = certain(errors)
        known = 0 < error < LARGEST_SHARE * float(noise.mean())
        if known:
            network.own_pixel.values[channel] = torch.tensor([error, line.constant, line.gain])[:, None, None]
        scale = float(frames[0].scale[:, channel].mean())
        offset = float(frames[0].offset[:, channel].mean())
        found.append(
            {
                "used": known,
                "error_variance": float(errors.mean()) * scale**2,
                "noise_variance": float(line.at(blind[channel]).mean()) * scale**2,
                "gain": line.gain * scale,
                "dark_level": offset - line.constant / line.gain * scale if line.gain > 0 else None,
            }
        )
    return found
