"""The last layer of bfn in closed form: least squares, cross-validated; and the NumPy form of what it sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdose.methods.bfn import fit_last_layers, own_share
from lowdose.methods.blind_features import seen_by_last_layer
from lowdose.methods.last_layer import PENALTIES, Moments, candidates, fit_last_layer
from lowdose.model import bundled_models
from lowdose.model_weights import read_weights
from lowdose.simulate import hrtem_movie
from lowdose.wiener import fit_movie
from lowdose_train.checkpoint import load_checkpoint


def parts_of(inputs, target, n_parts=16):
    """inputs (n - 1, n_pixels)."""
    with_one = np.concatenate([inputs, np.ones_like(inputs[:1])]).astype(np.float32)
    pieces = np.array_split(np.arange(target.size), n_parts)
    return [Moments.of(with_one[:, piece], target[piece].astype(np.float32)) for piece in pieces]


def data(n_pixels=4000, n=6, noise=1.0, seed=0):
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(n, n_pixels))
    truth = random.normal(size=n + 1)
    clean = truth[:-1] @ inputs + truth[-1]
    return inputs, clean + noise * random.normal(size=n_pixels), truth


def test_much_data_give_least_squares():
    inputs, target, truth = data(40000)
    layer = fit_last_layer(parts_of(inputs, target), np.zeros(7))
    wanted = np.linalg.lstsq(np.vstack([inputs, np.ones(40000)]).T, target, rcond=None)[0]
    np.testing.assert_allclose(layer.weights, wanted, atol=2e-3)
    np.testing.assert_allclose(layer.weights, truth, atol=0.03)
    clean_share = np.square(target - truth[:-1] @ inputs - truth[-1]).mean() / np.square(target).mean()
    assert layer.gain == pytest.approx(1 - clean_share, abs=0.01)


def test_noise_alone_gives_nothing():
    for seed in range(5):
        inputs, target, _ = data(seed=seed)
        layer = fit_last_layer(parts_of(inputs, np.random.default_rng(seed + 50).normal(size=target.size)), np.zeros(7))
        assert np.abs(layer.weights).max() < 0.05 and layer.gain < 5e-3


def test_trained_weights_that_are_right_are_kept_where_data_are_few():
    inputs, target, truth = data(200, 60, noise=20.0)
    kept = fit_last_layer(parts_of(inputs, target), truth)
    free = fit_last_layer(parts_of(inputs, target), np.zeros(61))
    assert np.square(kept.weights - truth).sum() < 0.3 * np.square(free.weights - truth).sum()


def test_trained_weights_that_are_wrong_are_left():
    inputs, target, truth = data(20000)
    layer = fit_last_layer(parts_of(inputs, target), -truth)
    np.testing.assert_allclose(layer.weights, truth, atol=0.05)


def test_candidates_go_from_none_to_the_freest():
    inputs, target, truth = data()
    (moments,) = parts_of(inputs, target, 1)
    found = candidates(moments, 0.5 * truth)
    assert len(found) == len(PENALTIES) + 2 and not found[0].any()
    np.testing.assert_allclose(found[1], 0.5 * truth * 1.25)  # the most that the trained ones are multiplied by
    errors = [moments.error(weights) for weights in found]
    assert errors == sorted(errors, reverse=True)
    direct = np.square(target - found[3][:-1] @ inputs - found[3][-1]).mean()
    assert errors[3] == pytest.approx(direct, rel=1e-4)


def test_inputs_that_say_the_same_or_nothing_are_no_trouble():
    inputs, target, _ = data()
    inputs = np.concatenate([inputs, inputs[:2], np.zeros((1, target.size))])
    layer = fit_last_layer(parts_of(inputs, target), np.zeros(10))
    assert np.isfinite(layer.weights).all() and layer.gain > 0.5


def test_an_input_that_is_nearly_always_zero_gets_no_large_weight():
    inputs, target, truth = data(20000)
    rare = np.zeros((1, target.size))
    rare[0, ::4000] = 1e-2
    target[::4000] += 30.0
    layer = fit_last_layer(parts_of(np.concatenate([rare, inputs]), target), np.zeros(8))
    assert abs(layer.weights[0]) < 100  # least squares would give 3000
    np.testing.assert_allclose(layer.weights[1:-1], truth[:-1], atol=0.05)


@pytest.mark.parametrize("name", ["bfn", "bfn-dual", "bfn-image"])
@pytest.mark.parametrize("size", [(37, 41), (5, 9), (1, 1)])
def test_numpy_sees_what_the_network_sees(name, size):
    path = bundled_models()[name]
    network, _ = load_checkpoint(path)
    weights = read_weights(path.read_bytes())
    filters = np.random.default_rng(1).normal(0, 0.05, weights["filter.weight"].shape).astype(np.float32)
    n_channels, n_planes, side, _ = filters.shape
    for channel, plane in enumerate(network.own_planes):
        filters[channel, plane, side // 2, side // 2] = 0
    with torch.no_grad():
        network.filter.weight.copy_(torch.from_numpy(filters))
        planes = torch.randn(1, n_planes, *size, generator=torch.Generator().manual_seed(0))
        wanted = network(planes)[0].numpy()
    by_tap = filters.reshape(n_channels, -1, n_channels, side, side)
    weights |= {"filter.weight": filters, "own": own_share(weights, by_tap)}
    result = np.zeros_like(wanted)
    for rows in (slice(0, size[0] // 4), slice(size[0] // 4, size[0])):
        seen, filtered = seen_by_last_layer(weights, planes[0].numpy(), rows)
        last = np.einsum("cn,cnp->cp", weights["perceptron.w3"], seen) + weights["perceptron.b3"][:, None]
        result[:, rows] = (filtered + last).reshape(n_channels, -1, size[1])
    np.testing.assert_allclose(result, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("size", [(64, 48), (17, 23), (3, 40)])
def test_any_frames_get_a_last_layer(size):
    clean = hrtem_movie(3, n_frames=6, height=64, width=64, pixel_size_angstrom=0.12).clean[:, None]
    part = clean[..., : size[0], : size[1]]
    noisy = np.random.default_rng(0).poisson(4 * part / clean.mean()).astype(np.float32)
    fitted = fit_movie([noisy])
    (layer,) = fit_last_layers(read_weights(bundled_models()["bfn"].read_bytes()), [noisy], fitted)
    assert layer.weights.shape == (90,) and np.isfinite(layer.weights).all() and 0 <= layer.gain < 1
