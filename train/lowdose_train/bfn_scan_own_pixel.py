"""The own-pixel step of the blind-feature network over a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lowdose.wiener.own_pixel import Residuals, brightness_classes, own_pixel_planes
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import Crops, TrainingFrames

MOST_PIXELS = 2e6
"""That the noise is estimated from."""
BATCH = 32


def choose_scan_own_pixel(
    network: BlindFeatureNetwork, frames: TrainingFrames, tile_px: int, electrons: bool
) -> dict[str, Any]:
    """Set the network's own-pixel step where it lowers the error on the held-out tiles; says what was found.

    electrons: whether the scan is known to be counts of them.
    """
    assert network.scan is not None
    level, scale = (plane[0].cpu().numpy() for plane in (network.scan.level, network.scan.scale))
    classes = brightness_classes(level, scale)
    noise, test = (
        residuals(network, frames, tiles, tile_px, classes) for tiles in (some_tiles(frames, tile_px), frames.held_out)
    )
    planes, report = own_pixel_planes(level, scale, noise, test, electrons)
    values = torch.zeros(1, 3, *level.shape, device=network.scan.level.device)
    if report["used"]:
        values[0, :2] = torch.from_numpy(planes)
    network.own_pixel.values = values
    return report


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
    classes: NDArray[np.int_],
) -> Residuals:
    """Of the network without its own-pixel step on tiles (pattern, y, x)."""
    assert network.scan is not None
    level, scale = network.scan.level[0], network.scan.scale[0]
    left, blind, of_class = [], [], []
    for first in range(0, len(tiles), BATCH):
        part = tiles[first : first + BATCH]
        crops = Crops.of([frames.crop(*tile, tile_px, network.reach_px, held_out=True) for tile in part])
        here = [(slice(y, y + tile_px), slice(x, x + tile_px)) for _, y, x in part]
        scales, levels = (torch.stack([plane[place] for place in here]) for plane in (scale, level))
        estimate = crops.result(network)[0]
        left.append(((crops.wanted[0] - estimate) * scales).cpu().numpy())
        blind.append((estimate * scales + levels).cpu().numpy())
        of_class.append(np.stack([classes[place] for place in here]))
    return Residuals(*(np.concatenate(parts) for parts in (left, blind, of_class)))
