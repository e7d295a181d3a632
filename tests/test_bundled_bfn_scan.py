"""The bundled blind-feature network for scans: fitted to the scan that it denoises, never worse than the filter."""

from __future__ import annotations

import numpy as np
import pytest

from lowdose import LowdoseError
from lowdose.methods import find_method
from lowdose.methods.bfn import opened, own_share
from lowdose.methods.bfn_scan import SAMPLED_PIXELS, SMALLEST, fit_last_layer_of_scan, sample_of
from lowdose.methods.blind_features import seen_by_last_layer
from lowdose.methods.method import Options
from lowdose.metrics import psnr
from lowdose.model import bundled_models
from lowdose.model_weights import read_weights, with_weights
from lowdose.sample import neighbour
from lowdose.simulate import diffraction_scan
from lowdose.source import ArraySource
from lowdose.wiener import fit_scan


def recorded(electrons, seed=2000, scan_y=8, scan_x=9, height=64, width=75):
    """Counts, and what was expected; no seed that was trained on."""
    clean = diffraction_scan(seed, scan_y=scan_y, scan_x=scan_x, height=height, width=width).clean
    truth = clean * (electrons / clean.mean())
    return np.random.default_rng(seed).poisson(truth).astype(np.uint16), truth


def denoised(name, scan):
    source = ArraySource(scan, n_channels=1, is_scan=True)
    prepared = find_method(name, device="cpu").prepare(source, Options(threads=1))
    stream = prepared.stream(source, np.float32)
    results = [out for frame in source if (out := stream.push(frame)) is not None] + stream.flush()
    return np.reshape(results, scan.shape), prepared


@pytest.mark.parametrize("seed", [2000, 2001, 2002])
@pytest.mark.parametrize("electrons", [0.02, 0.2, 2.0])
def test_untouched_it_passes_the_filter_on_scans(electrons, seed):
    scan, truth = recorded(electrons, seed)
    by_bfn, prepared = denoised("bfn", scan)
    by_filter, _ = denoised("wiener", scan)
    assert psnr(truth, by_bfn) > psnr(truth, by_filter) + 0.1
    (own_pixel,) = prepared.report["own_pixel"]
    assert prepared.report["bundled"] == "bfn-4d" and "bfn-4d" in prepared.summary
    assert own_pixel["electrons"]


@pytest.mark.parametrize("shape", [(3, 3), (3, 7), (9, 4)])
@pytest.mark.parametrize("size", [(16, 16), (31, 23)])
def test_small_scans_and_odd_sizes_pass(shape, size):
    scan, truth = recorded(0.5, 2003, *shape, *size)
    result, _ = denoised("bfn", scan)
    assert np.isfinite(result).all()
    assert np.square(result - truth).mean() < np.square(scan - truth).mean()


def test_noise_alone_gives_the_filter():
    truth = np.full((10, 9, 48, 40), 3.0, np.float32)
    scan = np.random.default_rng(0).poisson(truth).astype(np.uint16)
    (by_bfn, prepared), (by_filter, _) = denoised("bfn", scan), denoised("wiener", scan)
    errors = [np.square(result - truth).mean() for result in (by_bfn, by_filter)]
    assert errors[0] < 1.05 * errors[1] + 1e-3
    assert max(prepared.report["own_pixel"][0]["share_by_brightness"]) < 0.1


def test_the_last_layer_is_fitted_to_what_it_sees_in_the_file():
    scan = recorded(0.5, 2005, 4, 5, 33, 29)[0].astype(np.float32)
    fitted = fit_scan(scan)
    content = bundled_models()["bfn-4d"].read_bytes()
    linear, weights = fitted.weights[0], read_weights(content)
    planes = {"scan.level": fitted.level, "scan.scale": fitted.scale}
    weights |= {"filter.weight": linear[:, :, 0], "own": own_share(weights, linear)}
    content = with_weights(content, planes | {name: weights[name] for name in ("filter.weight", "own")})
    by_file = opened(content, "bfn-4d", "cpu").denoise(scan)
    layer = np.append(weights["perceptron.w3"][0], weights["perceptron.b3"][0]).astype(np.float64)
    for y, x in ((0, 0), (2, 3), (3, 4)):
        window = np.stack([scan[neighbour(y, dy, 4), neighbour(x, dx, 5)] for dy, dx in fitted.taps])
        seen, filtered = seen_by_last_layer(weights, (window - fitted.level) / fitted.scale, slice(0, 33))
        result = (filtered[0] + layer[:-1] @ seen[0] + layer[-1]).reshape(33, 29)
        wanted = (by_file[y, x] - fitted.level[0]) / fitted.scale[0]
        np.testing.assert_allclose(result, wanted, atol=1e-3)
    fit = fit_last_layer_of_scan(weights, layer, fitted, scan)
    assert fit.weights.shape == layer.shape and 0 <= fit.gain < 1


def test_scans_of_a_few_positions_are_refused():
    scan, _ = recorded(1.0, 2004, 2, 6, 24, 30)
    with pytest.raises(LowdoseError, match="a scan of 2x6 positions is too small for bfn-4d: it needs 3x3"):
        denoised("bfn", scan)


@pytest.mark.parametrize("shape", [(40, 30, 64, 64), (3, 50, 200, 200), (5, 5, 1500, 1500)])
def test_a_sample_is_no_larger_than_it_need_be(shape):
    block = np.broadcast_to(np.float32(1), shape)
    assert sample_of(block).size <= max(SAMPLED_PIXELS, SMALLEST**2 * block[0, 0].size)
