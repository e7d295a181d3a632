"""The blind-spot network: published size, blindness, homogeneity, and agreement with a direct reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdose_train.blind_spot import METHOD_TAPS, BlindSpotNetwork
from lowdose_train.losses import blind_mse
from lowdose_train.whitening import WhitenedKernel, second_moments

SHAPES = [(7, 7), (11, 13), (8, 16)]


def network(method: str, seed: int = 0) -> BlindSpotNetwork:
    torch.manual_seed(seed)
    made = BlindSpotNetwork(METHOD_TAPS[method])
    with torch.no_grad():
        made.branch_logits.normal_()
    return made


def reference(made: BlindSpotNetwork, frames: np.ndarray, y: int, x: int) -> float:
    """One output pixel by loops over kernel pixels, float64. `frames` is (n_taps, height, width)."""
    logits = made.branch_logits.detach().double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum()
    total = 0.0
    for share, branch in zip(shares, made.branches, strict=True):
        kernel = branch.kernel.detach().double().numpy()
        size = kernel.shape[-1]
        features = np.zeros(kernel.shape[0])
        for tap in range(kernel.shape[1]):
            for i in range(size):
                for j in range(size):
                    if (tap, i, j) == (kernel.shape[1] // 2, size // 2, size // 2):
                        continue
                    pixel = frames[tap, (y + i - size // 2) % frames.shape[1], (x + j - size // 2) % frames.shape[2]]
                    features += kernel[:, tap, i, j] * pixel
        for layer in branch.mixing.detach().double().numpy():
            features = layer @ features
            features = np.where(features > 0, features, 0.1 * features)
        total += share * max(0.0, float(branch.head.detach().double().numpy() @ features))
    return total


@pytest.mark.parametrize(("method", "count"), [("wcvd", 867), ("wcid", 369)])
def test_has_the_published_number_of_parameters(method, count):
    assert sum(weights.numel() for weights in network(method).parameters()) == count


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_loops_over_pixels(method, shape):
    made = network(method)
    frames = torch.randn(2, METHOD_TAPS[method], *shape) + 0.3
    out = made(frames)
    assert out.shape == (2, 1, *shape)
    for index, y, x in [(0, 0, 0), (1, shape[0] - 1, shape[1] // 2), (1, 3, shape[1] - 1)]:
        expected = reference(made, frames[index].double().numpy(), y, x)
        assert float(out[index, 0, y, x].detach()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
def test_output_does_not_see_its_own_pixel_whatever_is_stored(method):
    made = network(method)
    for branch in made.branches:
        middle = branch.kernel.shape[-1] // 2
        branch.kernel.data[:, METHOD_TAPS[method] // 2, middle, middle] = 5.0
    frames = torch.rand(1, METHOD_TAPS[method], 9, 12)
    before = made(frames)
    for y, x in [(0, 0), (4, 7), (8, 11)]:
        changed = frames.clone()
        changed[0, METHOD_TAPS[method] // 2, y, x] += 100.0
        after = made(changed)
        assert after[0, 0, y, x] == before[0, 0, y, x]
        assert (after != before).sum() > 8  # its neighbours do see it


def test_wcvd_sees_its_pixel_in_the_frames_before_and_after():
    frames = torch.rand(1, 3, 9, 9)
    made = network("wcvd")
    before = made(frames)[0, 0, 4, 4]
    for tap in (0, 2):
        changed = frames.clone()
        changed[0, tap, 4, 4] += 10.0
        assert made(changed)[0, 0, 4, 4] != before


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
def test_is_homogeneous(method):
    frames = torch.randn(1, METHOD_TAPS[method], 9, 8)
    made = network(method)
    torch.testing.assert_close(made(7 * frames), 7 * made(frames), rtol=1e-5, atol=1e-5)


def test_first_weights_pass_positive_data_on():
    for seed in range(20):
        outputs = network("wcvd", seed).branch_outputs(torch.rand(1, 3, 16, 16))
        assert all(branch.any() for branch in outputs)


def test_blind_mse_leaves_out_the_margin_and_compares_with_the_centre_frame():
    frames = torch.rand(2, 3, 10, 12)
    denoised = torch.rand(2, 1, 10, 12)
    expected = np.mean((denoised[:, 0, 2:-2, 2:-2].numpy() - frames[:, 1, 2:-2, 2:-2].numpy()) ** 2)
    assert float(blind_mse(denoised, frames, 2)) == pytest.approx(float(expected), rel=1e-5)
    whole = np.mean((denoised[:, 0].numpy() - frames[:, 1].numpy()) ** 2)
    assert float(blind_mse(denoised, frames)) == pytest.approx(float(whole), rel=1e-5)


def test_second_moments_are_mean_products_of_window_pixels():
    frames = torch.randn(2, 2, 5, 6)
    moments = second_moments(frames, 3)
    direct = torch.zeros(2, 3, 3, 2, 3, 3, dtype=torch.float64)
    for window in frames.double():
        for y in range(3):
            for x in range(4):
                patch = window[:, y : y + 3, x : x + 3]
                direct += torch.einsum("aij,bkl->aijbkl", patch, patch) / 24
    torch.testing.assert_close(moments, direct)


def test_features_of_whitened_coordinates_are_uncorrelated_and_the_kernel_comes_back():
    made = network("wcvd")
    frames = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 81, 81), 2) + 1
    branch = made.each_branch()[1]
    before = branch.kernel.detach().clone()
    whitened = WhitenedKernel(branch, second_moments(frames, 7))
    whitened.write_kernel()
    torch.testing.assert_close(branch.kernel.detach(), before, rtol=1e-3, atol=1e-4)
    # Windows of 5 x 5 inside the 7 x 7 ones whose moments were whitened.
    pixels = torch.nn.functional.unfold(frames[:, :, 1:-1, 1:-1], 5)[0]
    white = whitened.basis @ (pixels * branch.blind_mask.flatten()[:, None])
    products = white @ white.T / white.shape[1]
    values = torch.linalg.eigvalsh(products)
    assert values[0].abs() < 1e-3  # the hidden centre
    torch.testing.assert_close(values[1:], torch.ones(74), rtol=0.02, atol=0.0)
