"""Noisy frames as the blind-feature network learns from them: normalised planes, L beside them, tiles held out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lowdose.sample import middle
from lowdose.source import FrameSource
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.data import Array
from lowdose_train.windows import below

MOST_SCORED_TILES = 192
"""Held-out tiles of a file that weights are chosen by."""
LEARNED_PIXELS = 8e6
"""Pixels of all frames and channels of a file that are learned from, as many as the closed-form filter is fitted to."""
MOST_FRAMES = 256
SMALLEST_PX = 16
MOST_SCAN_SIDE = 32


@dataclass(frozen=True)
class TrainingFrames:
    """Frames of one file on the device, of which the rows of a band are learned from.

    rows: the band. frames (n_frames, n_channels, height, width), float32; wanted: what the network shall make of them,
    the same frames or clean ones. taps (n_frames, n_taps): the numbers of the frames that the network sees for each.
    offset, scale (n_frames, n_channels): of each frame's window; (frame - offset) / scale are its planes. weights
    (height, width): what a pixel's error counts. held_out: (frame, y, x) of the square tiles of the band that are no
    training targets; targets (n_frames, height, width) is 0 there and around them, and 1 elsewhere. linear, border: see
    `BlindFeatureNetwork`, of the band alone, linear with as many rows more on both sides as a feature reaches; centre:
    of the filter that made them.
    """

    rows: slice
    frames: Tensor
    wanted: Tensor
    taps: NDArray[np.int_]
    offset: Tensor
    scale: Tensor
    weights: Tensor
    held_out: list[tuple[int, int, int]]
    targets: Tensor
    linear: Tensor
    border: Tensor
    centre: Tensor

    def crop(self, frame: int, y: int, x: int, side: int, reach: int, *, held_out: bool = False) -> tuple[Tensor, ...]:
        """Planes (n_planes, side + 2 reach, ...), linear (n_channels, the same); border and what is wanted (n_channels,
        side, side); the errors' weights (side, side), 0 where a tile is held out unless that is asked for; centre.
        """
        height, width = self.frames.shape[-2:]
        seen = (slice(max(0, y - reach), y + side + reach), slice(max(0, x - reach), x + side + reach))
        outside = [max(0, part) for part in (reach - x, x + side + reach - width, reach - y, y + side + reach - height)]
        taps = self.frames[self.taps[frame].tolist(), :, seen[0], seen[1]]
        moments = self.offset[frame], self.scale[frame]
        planes = F.pad(normalised(taps, *moments)[0], outside)
        first = y - self.rows.start
        wide = (slice(first, first + side + 2 * reach), slice(x, x + side + 2 * reach))
        here = (slice(y, y + side), slice(x, x + side))
        wanted = normalised(self.wanted[frame, :, here[0], here[1]][None], *moments)[0]
        weights = self.weights[here] * (1 if held_out else self.targets[frame, here[0], here[1]])
        return (
            planes,
            self.linear[frame, :, wide[0], wide[1]],
            self.border[frame, :, first : first + side, here[1]],
            wanted,
            weights,
            self.centre,
        )


def normalised(taps: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """(n_taps, n_channels, ...) -> (1, n_taps * n_channels, ...)."""
    return ((taps - offset[:, None, None]) / scale[:, None, None]).flatten(0, 1)[None]


@torch.no_grad()
def prepare_frames(
    network: BlindFeatureNetwork,
    frames: Array,
    taps: NDArray[np.int_],
    moments: tuple[Tensor, Tensor],
    *,
    tile_px: int,
    held_out: float,
    most_held_out: int = MOST_SCORED_TILES,
    weights: Tensor,
    generator: torch.Generator,
    wanted: Array | None = None,
    rows: slice | None = None,
) -> TrainingFrames:
    """Frames (n_frames, n_channels, height, width) with the L of a network whose filter is set.

    moments: offset and scale of each frame's window, as in `TrainingFrames`. held_out: share of the tiles, of which
    there is one at least unless it is 0, and most_held_out at most. wanted: None for the frames themselves. rows: the
    band, None for all.
    """
    device = network.filter.weight.device
    n_frames, _, height, width = frames.shape
    rows = rows or slice(0, height)
    on_device = torch.from_numpy(np.asarray(frames, np.float32)).to(device)
    offset, scale = (moment.to(device) for moment in moments)
    tiles = [
        (t, y, x)
        for t in range(n_frames)
        for y in range(rows.start, rows.stop - tile_px + 1, tile_px)
        for x in range(0, width - tile_px + 1, tile_px)
    ]
    n_held_out = min(max(1, round(held_out * len(tiles))), most_held_out) if held_out else 0
    chosen = [tiles[int(i)] for i in torch.randperm(len(tiles), generator=generator)[:n_held_out]]
    targets = torch.ones(n_frames, height, width, device=device)
    if len(tiles) > 1:
        around = without_tiles(targets, chosen, tile_px, network.reach_px)
        targets = around if around[:, rows].any() else without_tiles(targets, chosen, tile_px, 0)
    linear, border = [], []
    for t in range(n_frames):
        planes = normalised(on_device[taps[t]], offset[t], scale[t])
        linear.append(linear_of_rows(network, planes, rows))
        border.append(network.border(planes)[0, :, rows])
    return TrainingFrames(
        rows=rows,
        frames=on_device,
        wanted=on_device if wanted is None else torch.from_numpy(wanted).to(device),
        taps=taps,
        offset=offset,
        scale=scale,
        weights=weights.to(device),
        held_out=chosen,
        targets=targets,
        linear=torch.stack(linear),
        border=torch.stack(border),
        centre=network.centre().clone(),
    )


def without_tiles(targets: Tensor, tiles: list[tuple[int, int, int]], tile_px: int, margin_px: int) -> Tensor:
    """Zero in the tiles, and as far around them as a feature reaches: pixels there see those of the tile, as those see
    them, and a network that has fitted the products of their noise would look good in the tile too."""
    result = targets.clone()
    for t, y, x in tiles:
        rows, columns = (slice(max(0, at - margin_px), at + tile_px + margin_px) for at in (y, x))
        result[t, rows, columns] = 0
    return result


def linear_of_rows(network: BlindFeatureNetwork, planes: Tensor, rows: slice) -> Tensor:
    """`BlindFeatureNetwork.linear` of one frame's planes, for a band and its margin."""
    first = max(0, rows.start - network.margin_px)
    result = network.linear(planes[:, :, first : rows.stop + network.margin_px])[0]
    start = rows.start - first
    return result[:, start : start + rows.stop - rows.start + 2 * network.reach_px]


@dataclass(frozen=True)
class Crops:
    """Crops of `TrainingFrames` side by side: planes (n_planes, n_crops, ...), linear, border and wanted (n_channels,
    n_crops, ...), weights (n_crops, side, side), centre (n_crops, n_channels, side, side)."""

    planes: Tensor
    linear: Tensor
    border: Tensor
    wanted: Tensor
    weights: Tensor
    centre: Tensor

    @staticmethod
    def of(parts: list[tuple[Tensor, ...]]) -> Crops:
        *by_plane, weights, centre = (torch.stack(part) for part in zip(*parts, strict=True))
        planes, linear, border, wanted = (value.transpose(0, 1) for value in by_plane)
        return Crops(planes, linear, border, wanted, weights, centre)

    def turned(self, network: BlindFeatureNetwork, generator: torch.Generator, *, all_ways: bool) -> Crops:
        """All crops turned, or not, by chance: mirrored along time, y and x together, under which the filter of one
        channel does not change; with all_ways along each axis by itself and transposed, sixteen times as much data.

        L is that of the filter that is turned too, so the own pixel's share in it is another.
        """
        values = [self.planes, self.linear, self.border, self.wanted, self.weights, self.centre]
        together = below(2, generator)
        axes = [axis for axis in (-2, -1) if (below(2, generator) if all_ways else together)]
        if axes:
            values = [value.flip(axes) for value in values]
        if all_ways and below(2, generator):
            values = [value.transpose(-2, -1) for value in values]
        planes, *others = values
        if together:
            by_tap = planes.reshape(network.n_taps, network.n_channels, *planes.shape[1:])
            planes = by_tap.flip(0).flatten(0, 1)
        return Crops(planes.contiguous(), *others)

    def result(self, network: BlindFeatureNetwork | None) -> Tensor:
        """Of the network or (None) of the filter alone, (n_channels, n_crops, side, side)."""
        if network is not None:
            return network.on_crops(self.planes, self.linear, self.border, self.centre)
        side = self.border.shape[-1]
        r = (self.linear.shape[-1] - side) // 2
        return self.linear[..., r : r + side, r : r + side] + self.border

    def squares(self, network: BlindFeatureNetwork | None) -> tuple[Tensor, Tensor]:
        """Per row of each crop the weighted sum of the squared errors of `result`, and that of the weights:
        (n_crops * side,) each."""
        errors = (self.result(network) - self.wanted).square()
        weights = self.weights.expand_as(errors)
        return (errors * weights).sum((0, 3)).flatten(), weights.sum((0, 3)).flatten()

    def weighted_by(self, variances: Tensor) -> Crops:
        """Each pixel's error counts by one over the variance of its noise, (n_channels, n_crops, side, side)."""
        return replace(self, weights=self.weights / variances)


def window_moments(frames: Array, taps: NDArray[np.int_]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, per channel, of the frames that the network sees: (n_frames, n_channels) each.

    As the core has them when the model runs.
    """
    means = frames.mean(axis=(2, 3), dtype=np.float64)
    squares = np.stack([np.square(frame, dtype=np.float64).mean(axis=(1, 2)) for frame in frames])
    offset = means[taps].mean(axis=1)
    std = np.sqrt(np.maximum(squares[taps].mean(axis=1) - offset**2, 0))
    scale = np.where(std > 0, std, 1)
    return torch.from_numpy(offset).float(), torch.from_numpy(scale).float()


def learned_part(frames: Array) -> Array:
    """Of frames (n_frames, n_channels, height, width) at most MOST_FRAMES, and of large frames the middle."""
    first = max(0, len(frames) - MOST_FRAMES) // 2
    part = frames[first : first + MOST_FRAMES]
    return middle(part, side_for(len(part) * part.shape[1]))


def side_for(n_planes: int) -> int:
    """Side of as many planes that hold LEARNED_PIXELS."""
    return max(SMALLEST_PX, int((LEARNED_PIXELS / n_planes) ** 0.5))


def middle_of_scan(scan: Array) -> Array:
    """At most MOST_SCAN_SIDE positions a side of a scan (scan_y, scan_x, height, width)."""
    first = [max(0, n - MOST_SCAN_SIDE) // 2 for n in scan.shape[:2]]
    rows, columns = (slice(start, start + MOST_SCAN_SIDE) for start in first)
    return scan[rows, columns]


def frames_to_learn(source: FrameSource) -> Array:
    """What `learned_part` or `middle_of_scan` keep of a file, without reading more of it."""
    if source.scan is not None:
        sides = [min(n, MOST_SCAN_SIDE) for n in source.scan]
        first = [(n - side) // 2 for n, side in zip(source.scan, sides, strict=True)]
        rows, columns = (range(start, start + side) for start, side in zip(first, sides, strict=True))
        return np.array([[source[y * source.scan[1] + x] for x in columns] for y in rows])
    n_frames = min(len(source), MOST_FRAMES)
    first_frame = (len(source) - n_frames) // 2
    side = side_for(n_frames * source.n_channels)
    frames = np.stack([middle(source[first_frame + i], side) for i in range(n_frames)])
    return frames.reshape(n_frames, source.n_channels, *frames.shape[-2:])
