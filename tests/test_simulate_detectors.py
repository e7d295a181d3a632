"""The detector models: mean, variance, whiteness, clipping."""

from __future__ import annotations

import numpy as np
import pytest

from lowdose.simulate import (
    counting,
    linear_integration,
    poisson_gaussian,
)


def chi(estimate: float, expected: float, standard_error: float) -> float:
    return abs(estimate - expected) / standard_error


@pytest.mark.parametrize("dose", [0.3, 2.0, 25.0])
@pytest.mark.parametrize("detector", ["counting", "poisson-gaussian", "linear"])
def test_detector_mean_and_variance(detector: str, dose: float) -> None:
    rng = np.random.default_rng(7)
    signal = np.full((300, 331), 1.2, np.float32)
    expected = 1.2 * dose
    if detector == "counting":
        mean, variance = expected, expected
        recorded = counting(signal, rng, dose_per_pixel=dose)
        assert recorded.dtype == np.uint8
    elif detector == "poisson-gaussian":
        mean, variance = 1000 + 40 * expected, 40**2 * expected / (1 - 0.3) + 1 / 12
        recorded = poisson_gaussian(signal, rng, dose_per_pixel=dose, gaussian_share=0.3, gain=40, offset=1000)
        assert recorded.dtype == np.uint16
    else:
        mean, variance = 90 + 20 * expected, 20**2 * expected * (1 + 0.5) + 8**2 + 1 / 12
        recorded = linear_integration(signal, rng, dose_per_pixel=dose, fano=0.5, gain=20, offset=90, read_noise=8)
        assert recorded.dtype == np.uint16
    values = recorded.astype(np.float64)
    kurtosis = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    assert chi(values.mean(), mean, np.sqrt(variance / values.size)) < 4.5
    assert chi(values.var(), variance, variance * np.sqrt((kurtosis - 1) / values.size)) < 4.5
    # White: neighbours know nothing of each other.
    centred = values - values.mean()
    assert abs((centred[1:] * centred[:-1]).mean()) < 4.5 * variance / np.sqrt(values.size)


def test_gaussian_share_and_energy_spread() -> None:
    signal = np.ones((200, 200))
    for share in (0.0, 0.5, 0.9):
        noisy = poisson_gaussian(signal, np.random.default_rng(1), dose_per_pixel=9, gaussian_share=share, offset=5000)
        assert noisy.var() == pytest.approx(40**2 * 9 / (1 - share), rel=0.05)
    for fano in (0.0, 1.0):
        noisy = linear_integration(
            signal, np.random.default_rng(1), dose_per_pixel=9, fano=fano, read_noise=0, offset=0
        )
        assert noisy.var() == pytest.approx(400 * 9 * (1 + fano), rel=0.05)
    assert (noisy[:] % 20 != 0).any()


def test_recorded_values_clip_and_never_wrap() -> None:
    signal = np.linspace(0, 2, 4001)[None, :]
    for detector in (poisson_gaussian, linear_integration):
        high = detector(signal, np.random.default_rng(0), dose_per_pixel=1e4, gain=40.0, offset=0.0)
        assert high.dtype == np.uint16
        assert (high[signal > 0.25] == 65535).all()
        low = detector(signal, np.random.default_rng(0), dose_per_pixel=0.2, gain=40.0, offset=0.0)
        assert low.min() == 0
        assert low.max() < 1000
    many = counting(signal, np.random.default_rng(0), dose_per_pixel=1e5)
    assert many.dtype == np.uint16
    assert (many[signal > 0.7] == 65535).all()
    some = counting(signal, np.random.default_rng(0), dose_per_pixel=200)
    assert some.dtype == np.uint16
    assert 300 < some.max() < 600
