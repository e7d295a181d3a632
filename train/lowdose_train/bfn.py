"""The blind-feature network: a linear blind filter, separable features without the own pixel, a small perceptron.

output = L + perceptron(L, features). L is the closed-form filter of `lowdose.wiener`. A feature is a separable
filter of the frames and of L from which the own pixel's share is taken away, so that the network cannot see the noise
of the pixel that it predicts (J-invariance: Batson and Royer 2019). Outside the frame all planes are zero; what is
shown of the own pixel is then the same at every place, and the network is blind at edges and corners too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose.methods.blind_features import NEAR_PX


class LinearFilter(nn.Module):
    """The closed-form filter: weight (n_channels, n_taps * n_channels, side, side), bias (n_channels,). Not trained."""

    weight: Tensor
    bias: Tensor

    def __init__(self, n_channels: int, n_taps: int, side_px: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_channels, n_taps * n_channels, side_px, side_px))
        self.register_buffer("bias", torch.zeros(n_channels))

    def by_channel(self) -> Tensor:
        """The weights summed over the taps: (n_channels, n_channels, side, side), of the output's and the input's."""
        n_channels, _, side, _ = self.weight.shape
        return self.weight.view(n_channels, -1, n_channels, side, side).sum(1)


class Optional(nn.Module):
    """A module whose buffers a model file need not hold, because they are in its other weights: there they are as in a
    new network. Planes of another pattern size take the place of the module's own."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in self.named_buffers():
            loaded = state_dict.setdefault(prefix + name, buffer)
            if loaded.shape != buffer.shape:
                setattr(self, name, torch.empty_like(loaded, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ScanPlanes(Optional):
    """What makes patterns of a scan into planes, (pattern - level) / scale: level, scale (1, height, width), or
    (1, 1, 1) for patterns of any size. taps: (dy, dx) over the scan, (n_taps, 2)."""

    level: Tensor
    scale: Tensor
    taps: Tensor

    def __init__(self, n_taps: int, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(1, height, width))
        self.register_buffer("scale", torch.ones(1, height, width))
        self.register_buffer("taps", torch.zeros(n_taps, 2, dtype=torch.int64))

    @property
    def any_size(self) -> bool:
        return self.level.numel() == 1


class Features(nn.Module):
    """mix (n_channels, n_features, n_planes); vertical and horizontal (n_channels, n_features, side)."""

    def __init__(self, n_channels: int, n_features: int, n_planes: int, side_px: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(n_channels, n_features, n_planes))
        self.vertical = nn.Parameter(torch.zeros(n_channels, n_features, side_px))
        self.horizontal = nn.Parameter(torch.zeros(n_channels, n_features, side_px))


class Perceptron(Optional):
    """Two hidden layers of ReLUs for each channel: weights (n_channels, n_out, n_in), biases (n_channels, n_out).
    The last layer sees the inputs and both hidden layers: w3 (n_channels, n_inputs + 2 n_hidden), b3 (n_channels,).

    unit (n_channels,) multiplies the result: the size of what it corrects, which in units of the noise can be small; an
    optimiser that changes all weights by as much would find it too coarse.
    """

    unit: Tensor

    def __init__(self, n_channels: int, n_inputs: int, n_hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.zeros(n_channels, n_hidden, n_inputs))
        self.b1 = nn.Parameter(torch.zeros(n_channels, n_hidden))
        self.w2 = nn.Parameter(torch.zeros(n_channels, n_hidden, n_hidden))
        self.b2 = nn.Parameter(torch.zeros(n_channels, n_hidden))
        self.w3 = nn.Parameter(torch.zeros(n_channels, n_inputs + 2 * n_hidden))
        self.b3 = nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("unit", torch.ones(n_channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n_channels, n_inputs, n_pixels) -> (n_channels, n_pixels)."""
        total = torch.baddbmm(self.b3[:, None, None], self.w3[:, None], self.seen_by_last_layer(inputs))[:, 0]
        return total * self.unit[:, None]

    def seen_by_last_layer(self, inputs: Tensor) -> Tensor:
        """(n_channels, n_inputs, n_pixels) -> (n_channels, n_inputs + 2 n_hidden, n_pixels)."""
        first = torch.relu(torch.baddbmm(self.b1[..., None], self.w1, inputs))
        second = torch.relu(torch.baddbmm(self.b2[..., None], self.w2, first))
        return torch.cat([inputs, first, second], 1)


class OwnPixel(Optional):
    """The noisy pixel y joins its blind estimate d by the share that is best for both errors: d + a (y - d).

    a = e / (e + v): e is the mean squared error of d, v = constant + gain * d the variance of y's noise. values:
    (n_channels, 3, 1, 1), e, constant and gain, in units of the planes; of a scan (1, 3, height, width), for each
    pixel of the detector; zeros: no share.
    """

    LEAST = 1e-6
    values: Tensor

    def __init__(self, n_channels: int, pattern_px: tuple[int, int] | None) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(n_channels, 3, *(pattern_px or (1, 1))))

    @property
    def used(self) -> bool:
        return bool(self.values.any())

    def forward(self, blind: Tensor, own: Tensor) -> Tensor:
        """(batch, n_channels, height, width) each."""
        if not self.used:
            return blind
        error, constant, gain = (self.values[:, i] for i in range(3))
        variance = (constant + gain * blind).clamp(min=self.LEAST)
        return blind + error / (error + variance) * (own - blind)


class BlindFeatureNetwork(nn.Module):
    """One network per channel, which sees the planes of all channels and taps.

    Planes are (batch, n_taps * n_channels, height, width), normalised, tap by tap, the own frame in the middle.
    blind_px: side of the square around the pixel that is hidden in its own channel and frame, 1 or 3. pattern_px: of
    a scan, height and width of its patterns.
    """

    def __init__(
        self,
        n_channels: int,
        n_taps: int,
        *,
        linear_side_px: int,
        side_px: int,
        n_features: int,
        n_hidden: int,
        blind_px: int = 1,
        pattern_px: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.n_channels, self.n_taps, self.blind_px = n_channels, n_taps, blind_px
        self.filter = LinearFilter(n_channels, n_taps, linear_side_px)
        self.features = Features(n_channels, n_features, n_taps * n_channels + 1, side_px)
        self.perceptron = Perceptron(n_channels, n_features + 1, n_hidden)
        self.own_pixel = OwnPixel(n_channels, pattern_px)
        self.scan = ScanPlanes(n_taps, *pattern_px) if pattern_px else None

    @property
    def reach_px(self) -> int:
        """How far a feature reaches over the planes."""
        return self.features.vertical.shape[-1] // 2

    @property
    def linear_reach_px(self) -> int:
        return self.filter.weight.shape[-1] // 2

    @property
    def margin_px(self) -> int:
        """How far the output sees: a feature of L."""
        return self.reach_px + self.linear_reach_px

    @property
    def own_planes(self) -> list[int]:
        """The plane of each channel's own frame."""
        return [self.n_taps // 2 * self.n_channels + channel for channel in range(self.n_channels)]

    def forward(self, planes: Tensor) -> Tensor:
        """Planes of whole frames -> (batch, n_channels, height, width)."""
        linear = self.linear(planes)
        border = self.border(planes)
        own, r, edge = self.own(), self.reach_px, self.blind_px // 2
        results = []
        for c, plane in enumerate(self.own_planes):
            seen = torch.cat([F.pad(planes, (r, r, r, r)), linear[:, c : c + 1]], 1)
            mixed = F.conv2d(seen, self.features.mix[c, :, :, None, None])
            n_features = mixed.shape[1]
            rows = F.conv2d(mixed, self.features.vertical[c, :, None, :, None], groups=n_features)
            share = F.conv2d(F.pad(planes[:, plane : plane + 1], (edge,) * 4), own[c, :, None])
            features = F.conv2d(rows, self.features.horizontal[c, :, None, None, :], groups=n_features) - share
            inside = linear[:, c, r : linear.shape[2] - r, r : linear.shape[3] - r]
            inputs = torch.cat([inside[:, None], features], 1).transpose(0, 1)  # (n_inputs, batch, h, w)
            correction = self.perceptron_of(c, inputs.flatten(1))
            results.append(inside + border[:, c] + correction.view_as(inside))
        return torch.stack(results, 1)

    def perceptron_of(self, channel: int, inputs: Tensor) -> Tensor:
        """(n_inputs, n_pixels) -> (n_pixels)."""
        p, c = self.perceptron, channel
        first = torch.relu(p.w1[c] @ inputs + p.b1[c, :, None])
        second = torch.relu(p.w2[c] @ first + p.b2[c, :, None])
        total: Tensor = p.w3[c] @ torch.cat([inputs, first, second]) + p.b3[c]
        return total * p.unit[c]

    def linear(self, planes: Tensor) -> Tensor:
        """L, also `reach_px` beyond the frame's edges: (batch, n_channels, height + 2 reach, width + 2 reach).

        Row by row of the kernels: one convolution along x, then a sum of shifted planes, several times as quick on a
        CPU as one convolution with a channel or two of output.
        """
        weight = self.filter.weight
        n_channels, n_planes, side, _ = weight.shape
        margin = self.margin_px
        by_row = weight.permute(2, 0, 1, 3).reshape(side * n_channels, n_planes, 1, side)
        shares = F.conv2d(F.pad(planes, (margin,) * 4), by_row)
        shares = shares.view(-1, side, n_channels, *shares.shape[-2:])
        height = shares.shape[3] - side + 1
        total: Tensor = self.filter.bias[:, None, None] + shares[:, 0, :, :height]
        for dy in range(1, side):
            total = total + shares[:, dy, :, dy : dy + height]
        return total

    def border(self, planes: Tensor) -> Tensor:
        """What L misses beyond the frame's edges, if it is there as it is near the pixel: (batch, n_channels, h, w).

        Without it L, and the output, fall towards the mean of the frame at its edges.
        """
        n_channels, reach = self.n_channels, self.linear_reach_px
        height, width = planes.shape[-2:]
        summed = self.filter.by_channel()  # (out, in, side, side)
        ones = planes.new_ones(1, 1, height, width)
        seen = F.conv2d(F.pad(ones, (reach,) * 4), summed.flatten(0, 1)[:, None])
        missing = summed.sum((2, 3))[:, :, None, None] - seen.view(n_channels, n_channels, height, width)
        near = torch.stack([self.near(planes, channel) for channel in range(n_channels)], 1)
        return torch.einsum("oihw,bihw->bohw", missing, near)

    def near(self, planes: Tensor, channel: int) -> Tensor:
        """Mean of a channel over the taps and NEAR_PX x NEAR_PX pixels of the frame, the hidden ones left out."""
        edge, blind = NEAR_PX // 2, self.blind_px
        kernel = planes.new_ones(1, 1, NEAR_PX, NEAR_PX)
        hidden = planes.new_ones(1, 1, blind, blind)
        of_channel = planes[:, channel :: self.n_channels]
        own = self.own_planes[channel]

        def sums(all_taps: Tensor, of_own: Tensor) -> Tensor:
            everything = F.conv2d(F.pad(all_taps, (edge,) * 4), kernel)
            return (everything - F.conv2d(F.pad(of_own, (blind // 2,) * 4), hidden))[:, 0]

        ones = torch.ones_like(planes[:1, :1])
        total = sums(of_channel.sum(1, keepdim=True), planes[:, own : own + 1])
        return total / sums(self.n_taps * ones, ones).clamp(min=1)

    def own(self, centre: Tensor | None = None) -> Tensor:
        """(..., n_channels, n_features, blind_px, blind_px): what a feature holds of the hidden pixels.

        centre: (..., n_channels, side, side), weights of other filters than the network's in the own frame and channel,
        such as those of a flipped movie. L at d from the pixel has seen the hidden pixel at q with weight
        centre[q - d].
        """
        if centre is None:
            centre = self.centre()
        features, edge, r = self.features, self.blind_px // 2, self.reach_px
        own_planes = torch.tensor(self.own_planes, device=centre.device)
        mix = features.mix.gather(2, own_planes[:, None, None].expand(-1, features.mix.shape[1], 1))[..., 0]
        near = slice(r - edge, r + edge + 1)
        direct = torch.einsum("cf,cfy,cfx->cfyx", mix, features.vertical[..., near], features.horizontal[..., near])
        border = max(0, r + edge - centre.shape[-1] // 2)
        centre = F.pad(centre, (border,) * 4)
        middle = centre.shape[-1] // 2
        at = torch.arange(-edge, edge + 1, device=centre.device)[:, None]
        steps = at - torch.arange(-r, r + 1, device=centre.device)  # (blind, side): q - d
        seen = centre[..., middle + steps[:, :, None, None], middle + steps]  # (..., c, q_y, d_y, q_x, d_x)
        through = torch.einsum("cfa,...cyaxb,cfb->...cfyx", features.vertical, seen, features.horizontal)
        return direct + features.mix[..., -1, None, None] * through

    def centre(self) -> Tensor:
        """The filter's weights in each channel's own frame, (n_channels, side, side)."""
        return torch.stack([self.filter.weight[c, plane] for c, plane in enumerate(self.own_planes)])

    def features_of_crops(self, planes: Tensor, linear: Tensor, centre: Tensor | None = None) -> Tensor:
        """The features of square crops by products with band matrices, on a CPU much quicker than convolutions.

        planes (n_planes, n_crops, side + 2 reach, side + 2 reach), linear (n_channels, ...) the same; centre as in
        `own`, one for all crops or (n_crops, ...). Returns (n_channels, n_features, n_crops * side * side).
        """
        features, (n_planes, n_crops, seen, _) = self.features, planes.shape
        n_channels, n_features, length = features.vertical.shape
        side = seen - length + 1
        mixed = features.mix[..., :-1] @ planes.reshape(n_planes, -1)
        mixed = mixed + features.mix[..., -1:] * linear.reshape(n_channels, 1, -1)
        band = bands(length, side, planes.device)
        across = (features.horizontal.flatten(0, 1) @ band).view(-1, side, seen)
        down = (features.vertical.flatten(0, 1) @ band).view(-1, 1, side, seen)
        rows = torch.bmm(mixed.view(-1, n_crops * seen, seen), across.transpose(1, 2))
        result = torch.matmul(down, rows.view(-1, n_crops, seen, side)).view(
            n_channels, n_features, n_crops, side, side
        )
        return (result - self.share_of_crops(planes, side, centre)).flatten(2)

    def share_of_crops(self, planes: Tensor, side: int, centre: Tensor | None) -> Tensor:
        """(n_channels, n_features, n_crops, side, side): the hidden pixels in the features of crops."""
        r, edge, own = self.reach_px, self.blind_px // 2, self.own(centre)
        by_crop = own.movedim(0, 2) if own.ndim > 4 else own[:, :, None]  # (c, f, crop or 1, blind, blind)
        shown = planes[self.own_planes][:, None]
        share = planes.new_zeros(())
        for i in range(self.blind_px):
            for j in range(self.blind_px):
                y, x = r - edge + i, r - edge + j
                share = share + by_crop[..., i, j, None, None] * shown[..., y : y + side, x : x + side]
        return share

    def on_crops(self, planes: Tensor, linear: Tensor, border: Tensor, centre: Tensor | None = None) -> Tensor:
        """As `features_of_crops`; border: that of the crops, (n_channels, n_crops, side, side) like the result."""
        features = self.features_of_crops(planes, linear, centre)
        r, side = self.reach_px, border.shape[-1]
        inside = linear[..., r : r + side, r : r + side]
        inputs = torch.cat([inside.flatten(1)[:, None], features], 1)
        correction: Tensor = self.perceptron(inputs)
        return inside + border + correction.view_as(border)


def bands(length: int, side: int, device: torch.device) -> Tensor:
    """(length, side * (side + length - 1)): kernel @ bands is the matrix of its correlation, row by row."""
    result = torch.zeros(length, side, side + length - 1, device=device)
    tap, row = (torch.arange(n, device=device) for n in (length, side))
    result[tap[:, None], row, row + tap[:, None]] = 1
    return result.flatten(1)
