"""The own-pixel step over a scan: noise and error per brightness of the mean pattern, estimated from the noisy scan.

Disks that come and go from position to position leave no frames whose differences are noise alone, as a movie has; so
the noise is told from what the network leaves of the patterns. Of white noise of variance v a good blind filter takes
nothing, but adds its own error e to it: the residual has the variance R = v + e. At the highest frequencies, where
there is no signal, the filter, which may not look at the pixel itself, gives -e / v of the noise (its weights over all
frequencies sum to nothing, and where there is signal they are one); there the residual's variance is
Q = v (1 + e / v)^2. Hence v = R^2 / Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lowdose.wiener.scan import smooth
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import Crops, TrainingFrames
from lowdose_train.bfn_own_pixel import SCORES, Floats, NoiseLine

N_CLASSES = 6
"""Of detector pixels by the mean pattern's brightness; each has as large a part of the noise's standard deviations."""
MOST_PIXELS = 2e6
"""That the noise is estimated from."""
BATCH = 32
DARK = 0.05
"""Electrons per pixel: where there are fewer, nearly all values are 0 and 1."""
MOST_DARK = 1.3
"""Mean square of counts over their mean, in dark pixels; 1 + the brightness if they are electrons."""
LINE_ERROR = 0.03
"""Of a noise variance that is estimated, as a share of it: so far off it was on simulated scans."""


@dataclass(frozen=True)
class Residuals:
    """What the network leaves of square tiles, in the scan's units: values, blind estimate and class of each pixel,
    (n_tiles, side, side)."""

    left: Tensor
    blind: Tensor
    of_class: Tensor

    def by_class(self, values: Tensor, of_class: Tensor | None = None) -> list[Floats]:
        of_class = self.of_class if of_class is None else of_class
        return [values[of_class == number].double().cpu().numpy() for number in range(N_CLASSES)]


def choose_scan_own_pixel(
    network: BlindFeatureNetwork, frames: TrainingFrames, tile_px: int, electrons: bool
) -> dict[str, Any]:
    """Set the network's own-pixel step, class by class, where it lowers the estimated error; says what was found.

    electrons: whether the scan is known to be counts of them (`counted_electrons`), whose noise is Poisson's. A step
    with the share a = e / (e + v) lowers the risk mean (1 - a)^2 (y - d)^2 + 2 a v (Stein 1981) by e a; it is taken
    where e, on tiles that were not learned from, is known to be above nothing.
    """
    assert network.scan is not None
    level, classes = network.scan.level[0], brightness_classes(network)
    network.own_pixel.values = torch.zeros(1, 3, *level.shape, device=level.device)
    found = fitted_noise(residuals(network, frames, some_tiles(frames, tile_px), tile_px, classes))
    line = NoiseLine(0.0, 1.0) if electrons else found
    held_out = residuals(network, frames, frames.held_out, tile_px, classes)
    squares, brightness = (held_out.by_class(values) for values in (held_out.left.square(), held_out.blind))
    means = [max(float(values.mean()), 0.0) if len(values) else 0.0 for values in brightness]
    noises = [line.constant + line.gain * mean for mean in means]
    ratios = errors_to_noise(squares, noises, 0.0 if electrons else LINE_ERROR)
    if ratios.any():
        noise = line.at(level.clamp(min=0)) / network.scan.scale[0].square()
        network.own_pixel.values[0, 0] = torch.from_numpy(ratios).to(noise)[classes] * noise
        network.own_pixel.values[0, 1] = noise
    noise_variance = sum(v * len(values) for v, values in zip(noises, squares, strict=True)) / held_out.left.numel()
    return {
        "used": network.own_pixel.used,
        "error_variance": float(held_out.left.square().mean()) - noise_variance,
        "noise_variance": noise_variance,
        "gain": found.gain,
        "read_noise": found.constant**0.5,
        "electrons": electrons,
        "share_by_brightness": (ratios / (1 + ratios)).tolist(),
    }


def counted_electrons(scan: NDArray[np.float32]) -> bool:
    """Whether a scan (scan_y, scan_x, height, width) holds counts of single electrons, from its dark pixels."""
    if scan.min() < 0 or not (scan == np.rint(scan)).all():
        return False
    dark = scan[:, :, smooth(scan.mean(axis=(0, 1))) < DARK]
    return bool(0 < np.square(dark).sum(dtype=np.float64) < MOST_DARK * dark.sum(dtype=np.float64))


def brightness_classes(network: BlindFeatureNetwork) -> Tensor:
    """The class of each detector pixel, (height, width), the darkest 0.

    By a smoothed mean pattern: the darkest pixels of the pattern itself are those whose noise was below nothing.
    """
    assert network.scan is not None
    level, scale = smooth(network.scan.level[0].cpu().numpy()), network.scan.scale[0].flatten().double()
    order = torch.argsort(torch.from_numpy(level).to(scale.device).flatten(), stable=True)
    below = torch.cumsum(scale[order], 0) - scale[order]
    classes = torch.empty_like(order)
    classes[order] = (N_CLASSES * below / scale.sum()).long().clamp(max=N_CLASSES - 1)
    return classes.view_as(network.scan.level[0])


def some_tiles(frames: TrainingFrames, tile_px: int) -> list[tuple[int, int, int]]:
    """Tiles from all over the scan, always the same."""
    n_frames, _, height, width = frames.frames.shape
    rows, columns = height // tile_px, width // tile_px
    n_tiles = min(n_frames * rows * columns, max(1, int(MOST_PIXELS / tile_px**2)))
    chosen = np.random.default_rng(0).permutation(n_frames * rows * columns)[:n_tiles]
    t, y, x = np.unravel_index(np.sort(chosen), (n_frames, rows, columns))
    return [(int(a), int(b) * tile_px, int(c) * tile_px) for a, b, c in zip(t, y, x, strict=True)]


@torch.no_grad()
def residuals(
    network: BlindFeatureNetwork,
    frames: TrainingFrames,
    tiles: list[tuple[int, int, int]],
    tile_px: int,
    classes: Tensor,
) -> Residuals:
    """Of the network without its own-pixel step on tiles (pattern, y, x)."""
    assert network.scan is not None
    left, blind, of_class = [], [], []
    for first in range(0, len(tiles), BATCH):
        part = tiles[first : first + BATCH]
        crops = Crops.of([frames.crop(*tile, tile_px, network.reach_px, held_out=True) for tile in part])
        here = [(slice(y, y + tile_px), slice(x, x + tile_px)) for _, y, x in part]
        scale, level, number = (
            torch.stack([plane[place] for place in here])
            for plane in (network.scan.scale[0], network.scan.level[0], classes)
        )
        estimate = crops.result(network)[0]
        left.append((crops.wanted[0] - estimate) * scale)
        blind.append(estimate * scale + level)
        of_class.append(number)
    return Residuals(torch.cat(left), torch.cat(blind), torch.cat(of_class))


def fitted_noise(seen: Residuals) -> NoiseLine:
    """The line through the variances R^2 / Q of all classes; neither of its numbers is below nothing."""
    checks = seen.left[:, 1:, 1:] - seen.left[:, :-1, 1:] - seen.left[:, 1:, :-1] + seen.left[:, :-1, :-1]
    of_class = seen.of_class[:, :-1, :-1]
    whole, high, blind = (
        seen.by_class(values, of_class)
        for values in (mean_of_four(seen.left.square()), checks.square() / 4, mean_of_four(seen.blind))
    )
    x, y, weights = [], [], []
    for r, q, brightness in zip(whole, high, blind, strict=True):
        if len(r) > 1 and q.mean() > 0:
            x.append(max(float(brightness.mean()), 0.0))
            y.append(float(r.mean() ** 2 / q.mean()))
            weights.append(len(q) / max(float(q.var()), 1e-30))
    if not x:
        return NoiseLine(0.0, 0.0)
    return weighted_line(*(np.array(values) for values in (x, y, weights)))


def weighted_line(x: Floats, y: Floats, weights: Floats) -> NoiseLine:
    """Least squares of y = constant + gain * x with neither below nothing."""
    root = np.sqrt(weights)
    gain, constant = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1) * root[:, None], y * root, rcond=None)[0]
    if constant < 0:
        return NoiseLine(0.0, float((weights * x * y).sum() / max((weights * x * x).sum(), 1e-30)))
    if gain < 0:
        return NoiseLine(float((weights * y).sum() / weights.sum()), 0.0)
    return NoiseLine(float(constant), float(gain))


def mean_of_four(planes: Tensor) -> Tensor:
    """Of neighbouring pixels, (n, height, width) -> (n, height - 1, width - 1)."""
    return F.avg_pool2d(planes[:, None], 2, stride=1)[:, 0]


def errors_to_noise(squares: list[Floats], noises: list[float], line_error: float) -> Floats:
    """e / v of each class from (y - d)^2 of its pixels and v; 0 where it is not known to be above nothing.

    It is the mean of all classes, which is known best, but for those that are certainly not like the others.
    line_error: that of v, as a share of it.
    """
    found, uncertain = np.zeros(len(squares)), np.full(len(squares), np.inf)
    for number, (values, noise) in enumerate(zip(squares, noises, strict=True)):
        if len(values) > 1 and noise > 0:
            found[number] = values.mean() / noise - 1
            uncertain[number] = max(float(values.std()), 1e-15) / len(values) ** 0.5 / noise
    weights = uncertain**-2.0
    if not weights.any():
        return np.zeros(len(squares))
    mean, of_mean = (weights * found).sum() / weights.sum(), weights.sum() ** -0.5
    alike = np.abs(found - mean) < SCORES * uncertain
    ratios, uncertain = np.where(alike, mean, found), np.where(alike, of_mean, uncertain)
    return np.where(ratios > SCORES * np.hypot(uncertain, line_error), ratios, 0)
