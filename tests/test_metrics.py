"""Metrics against scikit-image and against slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from lowdose.errors import LowdoseError
from lowdose.metrics import evaluate, ief, nrmse, psnr, ssim, umse, upsnr

SHAPES = [(1, 7, 7), (3, 13, 8), (5, 31, 17), (2, 64, 50)]


def movies(shape: tuple[int, ...], seed: int = 0, level: float = 5.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean, denoised and noisy frames."""
    rng = np.random.default_rng(seed)
    clean = level + rng.random(shape)
    return clean, clean + 0.1 * rng.standard_normal(shape), clean + 0.5 * rng.standard_normal(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_psnr_ssim_nrmse_agree_with_scikit_image(shape: tuple[int, ...]) -> None:
    clean, denoised, _ = movies(shape)
    span = clean.max() - clean.min()
    assert psnr(clean, denoised) == pytest.approx(peak_signal_noise_ratio(clean, denoised, data_range=span))
    reference = np.mean([structural_similarity(a, b, data_range=span) for a, b in zip(clean, denoised, strict=True)])
    assert ssim(clean, denoised) == pytest.approx(reference, abs=1e-6)
    assert nrmse(clean, denoised) == pytest.approx(normalized_root_mse(clean, denoised))
    assert nrmse(clean, denoised, "min-max") == pytest.approx(
        normalized_root_mse(clean, denoised, normalization="min-max")
    )


def test_a_given_data_range_is_used() -> None:
    clean, denoised, _ = movies((2, 9, 11))
    assert psnr(clean, denoised, 2.0) - psnr(clean, denoised, 1.0) == pytest.approx(20 * math.log10(2))
    reference = np.mean([structural_similarity(a, b, data_range=3.0) for a, b in zip(clean, denoised, strict=True)])
    assert ssim(clean, denoised, 3.0) == pytest.approx(reference, abs=1e-6)


def test_ssim_on_a_high_background_keeps_its_digits() -> None:
    """A detector offset of 1e6 must change only the luminance term, which is then 1."""
    clean, denoised, _ = movies((1, 20, 21), level=1e6)
    x, y = clean[0] - 1e6, denoised[0] - 1e6
    windows = [np.lib.stride_tricks.sliding_window_view(v, (7, 7)).reshape(-1, 49) for v in (x, y)]
    covariance = np.array([np.cov(a, b) for a, b in zip(*windows, strict=True)])
    c2 = (0.03 * (clean.max() - clean.min())) ** 2
    structure = (2 * covariance[:, 0, 1] + c2) / (covariance[:, 0, 0] + covariance[:, 1, 1] + c2)
    assert ssim(clean, denoised) == pytest.approx(structure.mean(), abs=1e-8)


def test_ief_is_the_ratio_of_summed_squared_errors() -> None:
    clean, denoised, noisy = movies((3, 8, 5))
    expected = ((noisy - clean) ** 2).sum() / ((denoised - clean) ** 2).sum()
    assert ief(clean, denoised, noisy) == pytest.approx(expected)


@pytest.mark.parametrize("n_frames", [4, 5, 9])
def test_umse_agrees_with_its_definition(n_frames: int) -> None:
    _, denoised, noisy = movies((n_frames, 6, 7))
    terms = []
    for i in range(1, n_frames - 1):
        a, b, c = noisy[i - 1], noisy[i + 1], noisy[i + 2 if i + 2 < n_frames else i - 2]
        terms.append(((denoised[i] - a) ** 2).mean() - ((b - c) ** 2).mean() / 2)
    assert umse(noisy, denoised) == pytest.approx(np.mean(terms))


def test_umse_is_close_to_the_true_error_where_frames_are_independent() -> None:
    rng = np.random.default_rng(4)
    clean = np.broadcast_to(rng.random((90, 80)), (12, 90, 80))
    noisy = clean + 0.3 * rng.standard_normal(clean.shape)
    denoised = clean + 0.2
    error = umse(noisy, denoised)
    assert error == pytest.approx(0.04, rel=0.1)
    assert error is not None
    assert upsnr(noisy, denoised) == pytest.approx(10 * math.log10(noisy.max() ** 2 / error))


def test_umse_needs_four_frames_and_upsnr_a_positive_umse() -> None:
    _, denoised, noisy = movies((3, 6, 7))
    assert umse(noisy, denoised) is None
    assert upsnr(noisy, denoised) is None
    same = np.random.default_rng(0).random((5, 9, 9))
    shuffled = np.roll(same, 1, axis=0)  # each "denoised" frame is the noisy one before it
    error = umse(same, shuffled)
    assert error is not None and error < 0
    assert upsnr(same, shuffled) is None


def test_identical_frames_are_perfect() -> None:
    clean, _, noisy = movies((2, 8, 9))
    scores = evaluate(clean, clean, noisy)
    assert scores["psnr"] == math.inf
    assert scores["ief"] == math.inf
    assert scores["mse"] == 0
    assert scores["ssim"] == pytest.approx(1)


def test_evaluate_collects_the_single_metrics() -> None:
    clean, denoised, noisy = movies((6, 9, 11))
    scores = evaluate(clean, denoised, noisy)
    assert scores == {
        "n_frames": 6,
        "data_range": pytest.approx(clean.max() - clean.min()),
        "mse": pytest.approx(((denoised - clean) ** 2).mean()),
        "psnr": psnr(clean, denoised),
        "ssim": ssim(clean, denoised),
        "nrmse": nrmse(clean, denoised),
        "nrmse_minmax": nrmse(clean, denoised, "min-max"),
        "psnr_noisy": psnr(clean, noisy),
        "ief": ief(clean, denoised, noisy),
        "umse": umse(noisy, denoised),
        "upsnr": upsnr(noisy, denoised),
    }
    assert not {"ief", "umse", "upsnr", "psnr_noisy"} & set(evaluate(clean, denoised))


@pytest.mark.parametrize("shape", [(1, 1), (6, 40), (40, 6)])
def test_small_frames_have_no_ssim_but_all_else(shape: tuple[int, int]) -> None:
    clean, denoised, noisy = movies((4, *shape))
    scores = evaluate(clean, denoised, noisy)
    assert scores["ssim"] is None
    assert all(value is not None for name, value in scores.items() if name not in ("ssim", "upsnr"))


def test_constant_clean_frames_leave_relative_metrics_undefined() -> None:
    clean, denoised = np.zeros((2, 8, 8)), np.ones((2, 8, 8))
    scores = evaluate(clean, denoised)
    assert scores["mse"] == 1
    assert [scores[name] for name in ("psnr", "ssim", "nrmse", "nrmse_minmax")] == [None] * 4
    for function in (psnr, ssim, nrmse):
        with pytest.raises(LowdoseError, match="constant"):
            function(clean, denoised)


def test_frames_may_be_one_image_many_axes_a_list_or_a_callable() -> None:
    clean, denoised, noisy = movies((6, 9, 11))
    expected = evaluate(clean, denoised, noisy)
    split = [v.reshape(2, 3, 9, 11) for v in (clean, denoised, noisy)]
    assert evaluate(*split) == expected
    assert evaluate(list(clean), lambda: iter(denoised), noisy) == expected
    assert evaluate(clean[0], denoised[0])["n_frames"] == 1


def test_integers_do_not_wrap() -> None:
    clean = np.full((8, 8), 250, np.uint8)
    clean[0, 0] = 0
    assert psnr(clean, np.full((8, 8), 1, np.uint8)) == pytest.approx(psnr(clean.astype(float), np.ones((8, 8))))


@pytest.mark.parametrize(
    ("clean", "denoised", "message"),
    [
        (np.ones((2, 8, 8)), np.ones((2, 8, 9)), "8 x 8.*8 x 9"),
        (np.ones((2, 8, 8)), np.ones((3, 8, 8)), "2 clean frames"),
        (np.ones((3, 8, 8)), np.ones((2, 8, 8)), "2 denoised frames"),
        (np.ones((2, 8, 8)), np.full((2, 8, 8), np.nan), "Frame 0 of denoised.*NaN"),
        (np.full((8, 8), np.inf), np.ones((8, 8)), "clean.*infinite"),
        (np.ones((8, 8), complex), np.ones((8, 8)), "complex"),
        (np.ones((0, 8, 8)), np.ones((0, 8, 8)), "no clean frames"),
        (np.ones(8), np.ones(8), "height, width"),
        (iter(np.ones((2, 8, 8))), np.ones((2, 8, 8)), "iterator"),
    ],
)
def test_bad_input_is_named(clean: np.ndarray, denoised: np.ndarray, message: str) -> None:
    with pytest.raises(LowdoseError, match=message):
        evaluate(clean, denoised)


def test_an_unknown_normalization_lists_the_known_ones() -> None:
    with pytest.raises(LowdoseError, match="euclidean, min-max"):
        nrmse(np.eye(8), np.eye(8), "mean")
