"""The U-Net: its size, how far it sees, and what is done at the edges of a frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdose_train.noise2void import noise2void_network
from lowdose_train.synthesis import WIDTHS, ThreeDirections
from lowdose_train.unet import UNet, padded


def small(pooling="average", upsampling="bilinear", depth=2, **settings):
    network = UNet(1, 1, n_features=4, depth=depth, pooling=pooling, upsampling=upsampling, **settings)
    network.draw(torch.Generator().manual_seed(0))
    return network.eval()


def n_parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def test_full_noise2void_is_the_published_size():
    # 31.5 million are published for two channels.
    assert n_parameters(noise2void_network(2, "full")) == 31_446_018
    assert n_parameters(noise2void_network(2, "lite")) == 491_778


def test_full_synthesis_is_three_classic_unets():
    networks = ThreeDirections("full").networks
    assert [n_parameters(networks[name]) for name in ("xy", "xt", "yt")] == [31_030_593] * 3
    assert WIDTHS["full"].n_frames == 128


@pytest.mark.parametrize(("pooling", "upsampling"), [("average", "bilinear"), ("max", "transposed")])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("first_kernel_px", [3, 5])
def test_no_output_pixel_sees_further_than_the_margin(pooling, upsampling, depth, first_kernel_px):
    network = small(pooling, upsampling, depth, first_kernel_px=first_kernel_px, leaky_slope=0.1)
    side = -(-(2 * network.margin_px + 9) // network.align_px) * network.align_px
    farthest = 0
    for at in range(side // 2, side // 2 + network.align_px):
        frame = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(at), requires_grad=True)
        network(frame)[0, 0, at, at].backward()
        seen = torch.nonzero(frame.grad[0, 0].abs().sum(0))[:, 0]
        farthest = max(farthest, at - int(seen.min()), int(seen.max()) - at)
    assert farthest <= network.margin_px
    if pooling == "average":  # the bound is tight within the size of a coarse pixel
        assert farthest >= network.margin_px - network.align_px


@pytest.mark.parametrize(("pooling", "upsampling"), [("average", "bilinear"), ("max", "transposed")])
def test_first_weights_keep_the_variance(pooling, upsampling):
    network = small(pooling, upsampling, depth=3, leaky_slope=0.1)
    frames = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert 0.05 < float(network(frames).std()) < 5


def test_the_same_generator_state_gives_the_same_weights():
    one, other = small(), small()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (9, 16), (7, 23)])
def test_padding_mirrors_at_the_bottom_and_right(shape):
    frame = np.random.default_rng(0).random((2, *shape), np.float32)
    result = padded(torch.from_numpy(frame), 8).numpy()
    assert result.shape == (2, *(-(-side // 8) * 8 for side in shape))
    expected = frame
    for axis in (1, 2):  # reflected step by step: one pass of numpy's reflection reaches one frame far
        missing = result.shape[axis] - frame.shape[axis]
        widths = [(0, 0)] * 3
        widths[axis] = (0, missing)
        expected = np.pad(expected, widths, "reflect" if frame.shape[axis] > 1 else "edge")
    np.testing.assert_array_equal(result, expected)
