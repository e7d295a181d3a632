"""The last layer of the blind-feature network in closed form, before the first step and after the last one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from lowdose.methods.last_layer import Moments, fit_last_layer
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import Crops, TrainingFrames

MOST_PIXELS = 1.5e6
TILES_PER_PART = 8


@torch.no_grad()
def refit_last_layer(
    network: BlindFeatureNetwork, frames: list[TrainingFrames], tile_px: int, generator: torch.Generator
) -> None:
    """Set the last layer to what predicts the noisy pixels best, as far as cross-validation wants it changed.

    Pixels that are no training targets are not looked at.
    """
    perceptron = network.perceptron
    parts: list[list[Moments]] = [[] for _ in range(network.n_channels)]
    for crops in tiles(frames, tile_px, network.reach_px, generator):
        features = network.features_of_crops(crops.planes, crops.linear, crops.centre)
        r, side = network.reach_px, crops.border.shape[-1]
        inside = crops.linear[..., r : r + side, r : r + side]
        seen = perceptron.seen_by_last_layer(torch.cat([inside.flatten(1)[:, None], features], 1))
        left = (crops.wanted - inside - crops.border).flatten(1)[:, None]
        rows = torch.cat([seen, torch.ones_like(left), left], 1) * crops.weights.sqrt().flatten()
        products = (rows @ rows.transpose(1, 2)).cpu().numpy()
        for channel, moments in enumerate(parts):
            moments.append(Moments.from_products(products[channel], rows.shape[-1]))
    if len(parts[0]) < 2:
        return
    for channel, moments in enumerate(parts):
        unit = float(perceptron.unit[channel])
        trained = np.append(perceptron.w3[channel].cpu().numpy(), float(perceptron.b3[channel])) * unit
        weights = torch.from_numpy(fit_last_layer(moments, trained).weights / unit).float()
        perceptron.w3[channel] = weights[:-1]
        perceptron.b3[channel] = weights[-1]


def tiles(frames: list[TrainingFrames], tile_px: int, reach_px: int, generator: torch.Generator) -> Iterator[Crops]:
    """Tiles side by side with training targets, TILES_PER_PART at a time, in any order."""
    places = [
        (movie, t, y, x)
        for movie in frames
        for t in range(len(movie.frames))
        for y in range(movie.rows.start, movie.rows.stop - tile_px + 1, tile_px)
        for x in range(0, movie.frames.shape[-1] - tile_px + 1, tile_px)
        if movie.targets[t, y : y + tile_px, x : x + tile_px].any()
    ]
    order = torch.randperm(len(places), generator=generator)[: int(MOST_PIXELS / tile_px**2)].tolist()
    for first in range(0, len(order) - TILES_PER_PART + 1, TILES_PER_PART):
        chosen = [places[i] for i in order[first : first + TILES_PER_PART]]
        yield Crops.of([movie.crop(t, y, x, tile_px, reach_px) for movie, t, y, x in chosen])
