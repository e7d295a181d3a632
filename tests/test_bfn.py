"""The blind-feature network: blind to the last bit, computed in two ways."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import linear_of_rows

SIZES = [(1, 1, 1), (1, 5, 1), (2, 3, 1), (1, 3, 3), (3, 1, 3)]  # channels, taps, side of the hidden square


def random_network(n_channels=1, n_taps=3, blind_px=1, *, linear_side_px=9, side_px=7, seed=0):
    """All weights random, the filter's zero where it must not look."""
    generator = torch.Generator().manual_seed(seed)
    network = BlindFeatureNetwork(
        n_channels,
        n_taps,
        linear_side_px=linear_side_px,
        side_px=side_px,
        n_features=5,
        n_hidden=8,
        blind_px=blind_px,
    )
    with torch.no_grad():
        for weight in (*network.parameters(), network.filter.weight):
            weight.normal_(generator=generator).mul_(weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1)
        hidden = slice(linear_side_px // 2 - blind_px // 2, linear_side_px // 2 + blind_px // 2 + 1)
        for channel, plane in enumerate(network.own_planes):
            network.filter.weight[channel, plane, hidden, hidden] = 0
        network.perceptron.w3.mul_(10)
    return network


def random_planes(network, height=23, width=31, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, network.n_taps * network.n_channels, height, width, generator=generator)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("place", [(11, 15), (0, 0), (22, 30), (0, 16), (2, 29), (9, 1)])
@torch.no_grad()
def test_the_own_pixel_is_not_seen_in_the_middle_at_edges_and_in_corners(sizes, place):
    network = random_network(*sizes)
    planes = random_planes(network)
    plain = network(planes)
    y, x = place
    for channel, plane in enumerate(network.own_planes):
        changed = planes.clone()
        edge = network.blind_px // 2
        changed[:, plane, max(0, y - edge) : y + edge + 1, max(0, x - edge) : x + edge + 1] += 1000.0
        change = (network(changed) - plain).abs()
        # Sums of numbers a thousand times as large as the others: 1e-7 of those is the last bit.
        assert change[:, channel, y, x].max() < 2e-3
        assert change.max() > 1.0


@torch.no_grad()
def test_another_channel_and_the_neighbouring_frames_are_seen():
    network = random_network(2, 3)
    planes = random_planes(network)
    plain = network(planes)[:, 0, 10, 10]
    for plane in (3, 0, 4):  # the own frame's other channel, and both frames beside it
        changed = planes.clone()
        changed[:, plane, 10, 10] += 10.0
        assert (network(changed)[:, 0, 10, 10] - plain).abs().max() > 1e-3


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("sides", [(9, 7), (3, 9), (11, 5)])
@torch.no_grad()
def test_crops_give_what_whole_frames_give(sizes, sides):
    network = random_network(*sizes, linear_side_px=sides[0], side_px=sides[1])
    planes = random_planes(network, 24, 24)
    r = network.reach_px
    seen = F.pad(planes, (r,) * 4).transpose(0, 1).contiguous()
    linear, border = (value.transpose(0, 1) for value in (network.linear(planes), network.border(planes)))
    result = network.on_crops(seen, linear, border).transpose(0, 1)
    torch.testing.assert_close(result, network(planes), atol=2e-5, rtol=0)


@torch.no_grad()
def test_with_a_filled_border_the_filter_keeps_a_constant():
    network = random_network(2, 3, side_px=5)
    network.perceptron.w3.zero_()
    network.perceptron.b3.zero_()
    # Positive weights that sum to one on each channel's own frames, as of a filter that keeps the level.
    weight = network.filter.weight.abs()
    by_plane = torch.arange(6) % 2 == torch.arange(2)[:, None]
    weight *= by_plane[:, :, None, None]
    network.filter.weight.copy_(weight / weight.sum((1, 2, 3), keepdim=True))
    levels = torch.tensor([3.0, -2.0]).repeat(3)
    planes = levels[None, :, None, None].expand(1, 6, 14, 9)
    wanted = torch.tensor([3.0, -2.0])[None, :, None, None].expand(1, 2, 14, 9)
    torch.testing.assert_close(network(planes), wanted)


@pytest.mark.parametrize("flip", ["time", "y", "x", "transpose"])
@torch.no_grad()
def test_turned_crops_are_those_of_a_turned_movie(flip):
    """The features of a turned movie by a turned filter, whose own pixel's share is another."""
    network, turned = random_network(1, 3, 3), random_network(1, 3, 3)
    planes = random_planes(network, 20, 20, 1)

    def turn(values):
        if flip == "time":
            return values.flip(1) if values.shape[1] == 3 else values
        return values.transpose(-1, -2) if flip == "transpose" else values.flip(-2 if flip == "y" else -1)

    turned.filter.weight.copy_(turn(network.filter.weight))
    linear = network.linear(planes)
    torch.testing.assert_close(turned.linear(turn(planes)), turn(linear), atol=1e-5, rtol=0)
    r = network.reach_px
    seen = F.pad(turn(planes), (r,) * 4).transpose(0, 1).contiguous()
    border = network.border(planes).transpose(0, 1)
    result = network.on_crops(seen, turn(linear).transpose(0, 1), turn(border), turn(network.centre()))
    torch.testing.assert_close(result.transpose(0, 1), turned(turn(planes)), atol=2e-5, rtol=0)


@torch.no_grad()
def test_a_bands_share_of_the_filter_is_that_of_the_whole_frame():
    network = random_network(1, 3)
    planes = random_planes(network, 30, 21, 1)
    whole = network.linear(planes)[0]
    r = network.reach_px
    for rows in (slice(0, 30), slice(0, 7), slice(7, 22), slice(22, 30)):
        band = linear_of_rows(network, planes, rows)
        torch.testing.assert_close(band, whole[:, rows.start : rows.stop + 2 * r], atol=1e-5, rtol=0)
