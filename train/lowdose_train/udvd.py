"""The unsupervised deep video denoiser UDVD: two blind U-Nets in a row, for movies and for 4D-STEM scans.

Sheth et al., "Unsupervised Deep Video Denoising", ICCV 2021; Crozier et al., Science 2025; for 4D-STEM Cancellara et
al., "Unsupervised Deep Denoising for High-Dimensional Microscopy Data". This file holds only the network.

A U-Net that sees no row below its own works on the frame in four orientations; its results, shifted down by one row,
together see everything but the pixel itself. It does so twice: stage 1 on triplets of frames, stage 2 on the results of
three triplets. Both see the same rows, so the pixel stays hidden in all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose_train.mirror import mirrored
from lowdose_train.random_weights import draw_normal

LEAKY_SLOPE = 0.1
ALIGN_PX = 4
"""The U-Nets halve the frame twice."""
TRIPLET = 3
LEAST_INSIDE = 0.25
"""Of the filter's sum, that must lie inside the frame; what is missing of it is made up for."""
RIDGE = 1e-3
"""Of the filter's equations, as a share of the mean power of a pixel."""
HEAD_RIDGE = 1e-6
"""Of the head's equations, as a share of the power of each feature."""


@dataclass(frozen=True)
class Width:
    """Feature channels after each convolution of a U-Net, from the input down and up again, and of the merge."""

    outer: tuple[int, ...]
    middle: tuple[int, ...]
    inner: tuple[int, ...]
    up_middle: tuple[int, ...]
    up_outer: tuple[int, ...]
    merge: int
    linear_px: int | None = None
    """Side of the windows of a linear blind filter that the network adds to, if any."""

    @property
    def rows_above(self) -> int:
        """How far up a pixel of the U-Net sees, at most: two rows per convolution, more in the smaller frames."""
        quarter = 2 * len(self.inner) + 1
        half = 2 * (len(self.middle) + len(self.up_middle)) + 2 * quarter + 2
        return 2 * (len(self.outer) + len(self.up_outer)) + 2 * half + 2


WIDTHS = {
    "full": Width((48, 48, 48), (48, 48, 48), (96, 96, 48), (96, 96, 96, 96), (96, 96, 96), 96),
    "lite": Width((8,), (24,), (48, 48, 32), (24,), (8,), 16, linear_px=9),
}
"""full is as published, 2.11 million parameters; lite is what a CPU can train and run."""


class BlindLinear(nn.Module):
    """The best linear prediction of a pixel from size x size neighbours in all frames, own pixels left out.

    It is solved for (`Udvd.solve`), not trained: what the network adds to it begins at zero, so that training begins
    at the quality of a Wiener filter. `kernel` is (3, 3, size, size), indexed [triplet, frame of the triplet, y, x].
    """

    kernel: Tensor
    seen: Tensor

    def __init__(self, size: int, blind_px: int) -> None:
        super().__init__()
        seen = torch.ones(size, size)
        hidden = slice(size // 2 - blind_px // 2, size // 2 + blind_px // 2 + 1)
        seen[hidden, hidden] = 0.0
        self.register_buffer("seen", seen, persistent=False)
        local_mean = seen.expand(TRIPLET, TRIPLET, size, size) / (TRIPLET**2 * seen.sum())
        self.register_buffer("kernel", local_mean.clone())

    def forward(self, triplet: Tensor) -> Tensor:
        """(batch, 3, h, w) -> (batch, 3, h, w): what the triplet adds where it is first, second or third."""
        return F.conv2d(triplet, self.kernel, padding="same")

    def edge_gain(self, height: int, width: int) -> Tensor:
        """(height, width): by how much the filter is too low where it reaches over the frame's edge."""
        whole = self.kernel.sum((0, 1), keepdim=True)
        inside = F.conv2d(torch.ones(1, 1, height, width, device=whole.device), whole, padding="same")
        gain: Tensor = whole.sum() / inside[0, 0].clamp(min=LEAST_INSIDE * whole.sum())
        return gain


class CausalConvolutions(nn.Module):
    """3x3 convolutions, each with LeakyReLU, whose pixels see their own row and rows above; no bias."""

    def __init__(self, n_in: int, channels: Sequence[int]) -> None:
        super().__init__()
        pairs = zip((n_in, *channels), channels, strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=(2, 1), bias=False) for a, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.leaky_relu(layer(x)[..., :-2, :], LEAKY_SLOPE)  # two rows of padding above, none below
        return x


class CausalUNet(nn.Module):
    """A U-Net of two levels that sees no row below its own: (batch, n_in, h, w) -> (batch, n_out, h, w).

    h and w are multiples of ALIGN_PX. The outermost skip is the input itself.
    """

    def __init__(self, n_in: int, width: Width) -> None:
        super().__init__()
        self.outer = CausalConvolutions(n_in, width.outer)
        self.middle = CausalConvolutions(width.outer[-1], width.middle)
        self.inner = CausalConvolutions(width.middle[-1], width.inner)
        self.up_middle = CausalConvolutions(width.inner[-1] + width.outer[-1], width.up_middle)
        self.up_outer = CausalConvolutions(width.up_middle[-1] + n_in, width.up_outer)

    def forward(self, x: Tensor) -> Tensor:
        half = pool_above(self.outer(x))
        quarter = pool_above(self.middle(half))
        up = F.interpolate(self.inner(quarter), scale_factor=2, mode="nearest")
        up = F.interpolate(self.up_middle(torch.cat([up, half], 1)), scale_factor=2, mode="nearest")
        out: Tensor = self.up_outer(torch.cat([up, x], 1))
        return out


def shift_down(x: Tensor, n_rows: int) -> Tensor:
    """Rows move down by `n_rows`, zeros follow from above."""
    return F.pad(x, (0, 0, n_rows, 0))[..., : x.shape[-2], :]


def pool_above(x: Tensor) -> Tensor:
    """2x2 maxima of the frame shifted down by a row: pixel (i, j) sees no row below 2 i, where its result returns."""
    return F.max_pool2d(shift_down(x, 1), 2)


class Udvd(nn.Module):
    """Three triplets of frames -> one frame, each pixel estimated without that pixel in any of the frames.

    Of a movie, the triplets around frames t - 1, t and t + 1: five frames. Bias-free, LeakyReLU, no normalisation, so
    f(a x) = a f(x) for a > 0. `blind_px` 3 hides the 3x3 pixels around it as well, for noise that neighbours
    share. Frames of any size are mirrored at the bottom and right up to multiples of ALIGN_PX (where the last pixels
    see themselves in the mirror: training crops need no mirroring, so that nothing is learned from it); a model file
    leaves that, and the order in which the stages run, to whoever runs it.
    """

    def __init__(self, width: Width, blind_px: int = 1) -> None:
        super().__init__()
        self.hidden_rows = (blind_px + 1) // 2
        self.n_features = 4 * width.up_outer[-1]
        self.n_state = self.n_features + (TRIPLET if width.linear_px else 0)
        self.margin_px = max(2 * width.rows_above + self.hidden_rows, (width.linear_px or 0) // 2)
        self.first = CausalUNet(TRIPLET, width)
        self.second = CausalUNet(TRIPLET * width.up_outer[-1], width)
        self.merge = nn.Conv2d(self.n_features, width.merge, 1, bias=False)
        self.head = nn.Conv2d(width.merge, 1, 1, bias=False)
        self.filter = BlindLinear(width.linear_px, blind_px) if width.linear_px else None
        self.draw(None)

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None) -> None:
        """New random weights that keep the power of their input; beside a filter the network begins at zero."""
        gain = nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE)
        for weights in self.parameters():
            draw_normal(weights, 0.0, gain / weights[0].numel() ** 0.5, generator)
        if self.filter is not None:
            self.head.weight.zero_()

    def stage_1(self, triplet: Tensor) -> Tensor:
        """(batch, 3, h, w) -> (batch, n_state, h, w), h and w multiples of ALIGN_PX.

        Along the channels: the features of four orientations, each turned back, then the filter's three parts.
        """
        features = in_four_orientations(self.first, [triplet] * 4)
        return features if self.filter is None else torch.cat([features, self.filter(triplet)], 1)

    def before_head(self, states: Sequence[Tensor]) -> Tensor:
        """What `head` sums: `stage_1` of three triplets, in order -> (batch, n_merged, h, w)."""
        split = [torch.chunk(state[:, : self.n_features], 4, dim=1) for state in states]
        joined = [torch.cat([part[turn] for part in split], 1) for turn in range(4)]
        seen = in_four_orientations(self.second, joined, self.hidden_rows)
        return F.leaky_relu(self.merge(seen), LEAKY_SLOPE)

    def stage_2(self, states: Sequence[Tensor]) -> Tensor:
        """`stage_1` of three triplets, in order -> (batch, 1, h, w), before the last ReLU."""
        out: Tensor = self.head(self.before_head(states))
        if self.filter is None:
            return out
        linear = torch.stack([state[:, self.n_features + place] for place, state in enumerate(states)]).sum(0)
        return out + (linear * self.filter.edge_gain(*linear.shape[-2:]))[:, None]

    @torch.no_grad()
    def solve(self, triplets: Tensor, weights: Tensor | None = None) -> None:
        """Set the filter, and with it the head unless that is zero as at first, to what predicts noisy pixels best.

        `triplets` (n, 9, h, w), three after three, hold the pixels to predict in number 4; `weights` (n, 1, h, w) are
        those of the squared errors. Both parts are linear and blind, so this is one system of equations. On data of
        another kind than a network was trained on it gives in seconds what many steps of training would. Triplets
        smaller than the filter's window leave everything as it is.
        """
        if self.filter is None or min(triplets.shape[-2:]) < self.filter.seen.shape[-1]:
            return
        size = self.filter.seen.shape[-1]
        inside = slice(size // 2, -(size // 2) or None)
        n_neighbours = triplets.shape[1] * int(self.filter.seen.sum())
        squares: Tensor | float = 0.0
        products: Tensor | float = 0.0
        for number, example in enumerate(triplets):
            windows = F.unfold(example[None], size)[0].view(len(example), size**2, -1)
            known = windows[:, self.filter.seen.flatten() > 0].flatten(0, 1)  # (n_neighbours, pixels)
            if self.head.weight.any():
                states = [self.stage_1(example[None, i : i + TRIPLET]) for i in range(0, len(example), TRIPLET)]
                known = torch.cat([known, self.before_head(states)[0, :, inside, inside].flatten(1)])
            wanted = example[4, inside, inside].flatten()
            if weights is not None:
                root = weights[number, 0, inside, inside].flatten().sqrt()
                known, wanted = known * root, wanted * root
            squares = squares + known.double() @ known.T.double()
            products = products + known.double() @ wanted.double()
        assert isinstance(squares, Tensor)
        ridge = squares.diagonal().clone()
        ridge[:n_neighbours] = RIDGE * ridge[:n_neighbours].mean()
        ridge[n_neighbours:] *= HEAD_RIDGE
        solution = torch.linalg.solve(squares + ridge.diag(), products).float()
        self.filter.kernel.zero_()
        self.filter.kernel[..., self.filter.seen > 0] = solution[:n_neighbours].view(TRIPLET, TRIPLET, -1)
        if self.head.weight.any():
            self.head.weight.copy_(solution[n_neighbours:].view_as(self.head.weight))


class MovieUdvd(Udvd):
    """UDVD on consecutive frames of a movie, whose triplets overlap."""

    def before_relu(self, frames: Tensor) -> Tensor:
        """`forward` without the last ReLU, through which a network that starts below zero could not learn."""
        _, n_frames, height, width = frames.shape
        frames = mirrored_to(frames, ALIGN_PX)
        triplets = [frames[:, i : i + TRIPLET] for i in range(n_frames - 2)]
        states = self.stage_1(torch.cat(triplets)).chunk(len(triplets))
        n_results = len(states) - 2
        out = self.stage_2([torch.cat(states[i : i + n_results]) for i in range(TRIPLET)])
        return torch.cat(out.chunk(n_results), 1)[..., :height, :width]

    def forward(self, frames: Tensor) -> Tensor:
        """Consecutive frames (batch, n, height, width), n >= 5 -> denoised (batch, n - 4, height, width).

        The first result belongs to frame 2. Stage 1 runs once per triplet, however many results use it.
        """
        return F.relu(self.before_relu(frames))


class ScanUdvd(Udvd):
    """UDVD on a diffraction pattern and its neighbours in the scan, in triplets as `ScanTaps` has them."""

    def before_relu(self, patterns: Tensor) -> Tensor:
        *_, height, width = patterns.shape
        triplets = mirrored_to(patterns, ALIGN_PX).chunk(TRIPLET, dim=1)
        states = self.stage_1(torch.cat(triplets)).chunk(TRIPLET)
        return self.stage_2(states)[..., :height, :width]

    def forward(self, patterns: Tensor) -> Tensor:
        """Three triplets of patterns (batch, 9, height, width) -> denoised (batch, 1, height, width)."""
        return F.relu(self.before_relu(patterns))


def in_four_orientations(network: nn.Module, turned_back: Sequence[Tensor], hidden_rows: int = 0) -> Tensor:
    """Run `network` on frames turned by 0, 90, 180 and 270 degrees, turn its results back, and join them.

    `turned_back[i]` is the input for i quarter turns, before the turn; so frames (..., h, w) need not be square.
    The results, shifted down by `hidden_rows` before they are turned back, are joined along the channels.
    """
    results = list(turned_back)
    for pair in ((0, 2), (1, 3)):  # the two have the same shape and share a batch
        x = network(torch.cat([torch.rot90(turned_back[turns], turns, (-2, -1)) for turns in pair]))
        if hidden_rows:
            x = shift_down(x, hidden_rows)
        for turns, part in zip(pair, x.chunk(2), strict=True):
            results[turns] = torch.rot90(part, -turns, (-2, -1))
    return torch.cat(results, 1)


def mirrored_to(frames: Tensor, align_px: int) -> Tensor:
    """Frames (..., h, w) continued by their mirror image at the bottom and right up to multiples of `align_px`."""
    for axis in (-2, -1):
        size = frames.shape[axis]
        if size % align_px:
            index = torch.from_numpy(mirrored(np.arange(size + -size % align_px), size))
            frames = frames.index_select(axis, index.to(frames.device))
    return frames
