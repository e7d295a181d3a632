"""REUCID step by step against slow references, and what it promises about its output."""

import numpy as np
import pytest

from lowdose.errors import LowdoseError
from lowdose.metrics import psnr
from lowdose.model import bundled_models
from lowdose.reucid import denoise, interim_images
from lowdose.reucid.classifier import Classifier, classifier_inputs, load_classifier, resampling
from lowdose.reucid.covariance import second_moments
from lowdose.reucid.eigenpatches import Eigenpatches, from_moments
from lowdose.reucid.psf import patch_size
from lowdose.reucid.reconstruction import add_truncated, autocorrelation, gather, truncate_all
from lowdose.reucid.stacks import deal, patch_matrix_bytes, stacks_needed
from lowdose.reucid.terrain import patch_terrain
from lowdose.simulate.haadf import haadf_movie, scanned

# (height, width, patch side): odd, prime, not square, and as small as the fast path takes
SHAPES = [(9, 9, 5), (13, 41, 7), (40, 53, 7), (67, 31, 11), (64, 90, 15)]
# Both paths work in float64; what remains is the order of some thousand sums.
ROUNDING = 1e-12


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((height, width)).cumsum(axis=0)


def lattice_image(seed, side=128, dose_per_area=1000.0):
    """Truth and noisy image of a crystal without defects."""
    scene = haadf_movie(seed, height=side, width=side, defects=False, material="GaAs", thickness_angstrom=100.0)
    clean = scene.clean[0].astype(np.float64)
    rng = np.random.default_rng(seed)
    noisy = scanned(clean, rng, dose_per_area=dose_per_area, pixel_size_angstrom=scene.pixel_size_angstrom)
    return clean, noisy.astype(np.float64)


def every_patch(image, patch_px):
    return np.ones((image.shape[0] - patch_px + 1, image.shape[1] - patch_px + 1), bool)


def candidates_of(image, patch_px):
    return from_moments(second_moments(image, patch_px), patch_px)


# --- terrain, stacks


@pytest.mark.parametrize(("height", "width", "patch_px"), [*SHAPES, (5, 5, 5), (1, 7, 1)])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_terrain_counts_the_patches_over_each_pixel(height, width, patch_px, share):
    processed = np.random.default_rng(1).random((height - patch_px + 1, width - patch_px + 1)) < share
    counted = np.zeros((height, width), int)
    for y, x in np.argwhere(processed):
        counted[y : y + patch_px, x : x + patch_px] += 1
    assert np.array_equal(patch_terrain(processed, patch_px), counted)


def test_every_patch_is_dealt_into_one_stack_and_the_seed_decides_which():
    numbers = deal(40, 53, 7, 3, seed=5)
    assert numbers.shape == (34, 47)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert np.array_equal(numbers, deal(40, 53, 7, 3, seed=5))
    assert not np.array_equal(numbers, deal(40, 53, 7, 3, seed=6))


def test_the_memory_decides_the_number_of_stacks():
    whole = patch_matrix_bytes(40, 53, 7)
    assert whole == 34 * 47 * 49 * 8
    assert [stacks_needed(40, 53, 7, memory) for memory in (2 * whole, whole, whole - 1, whole / 5)] == [1, 1, 2, 5]


# --- moments, eigenpatches, reconstruction


@pytest.mark.parametrize(("height", "width", "patch_px"), SHAPES)
def test_moments_by_lags_are_those_of_the_patch_matrix(height, width, patch_px):
    image = random_image(height, width)
    patches, _ = gather(image, every_patch(image, patch_px), patch_px)
    wanted = patches.T @ patches / len(patches)
    assert np.allclose(second_moments(image, patch_px), wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_moments_and_canvas_have_the_same_bits_for_any_number_of_threads(threads):
    image = random_image(300, 41)
    assert np.array_equal(second_moments(image, 9), second_moments(image, 9, threads))
    kept = candidates_of(image, 9).kept(np.arange(40) < 3)
    assert np.array_equal(truncate_all(image, kept), truncate_all(image, kept, threads))


@pytest.mark.parametrize(("height", "width", "patch_px"), SHAPES)
def test_eigenpatches_are_the_singular_vectors_of_the_patch_matrix(height, width, patch_px):
    image = random_image(height, width)
    patches, _ = gather(image, every_patch(image, patch_px), patch_px)
    _, singular, vectors = np.linalg.svd(patches)
    found = candidates_of(image, patch_px)
    n = len(found.values)
    assert n == min(64, patch_px**2 // 2)
    powers = np.zeros(patch_px**2)
    powers[: len(singular)] = singular**2 / len(patches)
    assert found.values == pytest.approx(powers[:n], abs=ROUNDING * powers[0])
    assert found.rest == pytest.approx(powers[n:].mean(), abs=ROUNDING * powers[0])
    same = np.abs(np.sum(found.patches.reshape(n, -1) * vectors[:n], axis=1))
    assert same[:4] == pytest.approx(np.ones(4), abs=1e-6)  # up to the sign


@pytest.mark.parametrize(("height", "width", "patch_px"), SHAPES)
@pytest.mark.parametrize("n_kept", [0, 1, 6])
def test_the_fast_canvas_is_the_literal_one(height, width, patch_px, n_kept):
    image = random_image(height, width)
    candidates = candidates_of(image, patch_px)
    kept = candidates.kept(np.arange(len(candidates.values)) < n_kept)
    literal = np.zeros_like(image)
    add_truncated(literal, *gather(image, every_patch(image, patch_px), patch_px), kept)
    scale = max(np.abs(literal).max(), 1.0)
    assert np.allclose(truncate_all(image, kept), literal, rtol=0, atol=ROUNDING * scale)


# --- patch size


@pytest.mark.parametrize("dose_per_area", [100.0, 500.0, 1000.0, 10000.0])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_patch_size_does_not_depend_on_the_dose(seed, dose_per_area):
    clean, noisy = lattice_image(seed, 256, dose_per_area)
    assert abs(patch_size(noisy) - patch_size(clean)) <= 2  # a radius is known to one pixel


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_scale(seed):
    assert patch_size(np.random.default_rng(seed).poisson(0.1, (256, 256)).astype(float)) == 17


@pytest.mark.parametrize(("spacing", "wanted"), [(12.0, 13), (20.0, 21)])
def test_the_patch_is_as_wide_as_the_spacing_of_columns(spacing, wanted):
    y, x = np.mgrid[:200, :180]
    image = sum(np.cos(2 * np.pi / spacing * (y * np.cos(a) + x * np.sin(a))) for a in np.deg2rad([10, 70, 130]))
    assert abs(patch_size(image) - wanted) <= 4


@pytest.mark.parametrize(("shape", "largest"), [((16, 16), 5), ((16, 500), 5), ((100, 90), 11), ((1000, 1000), 35)])
def test_the_patch_fits_into_the_image(shape, largest):
    for image in (np.zeros(shape), np.arange(np.prod(shape), dtype=float).reshape(shape), random_image(*shape)):
        side = patch_size(image)
        assert side % 2 == 1
        assert 5 <= side <= largest


# --- classifier


def test_the_classifier_sees_the_shape_of_eigenpatches_and_their_strength_over_the_rest():
    candidates = candidates_of(random_image(60, 60), 11)
    inputs = classifier_inputs(candidates)
    assert inputs["eigenpatch"].shape == (60, 1, 25, 25)
    assert (inputs["eigenpatch"].sum(axis=(1, 2, 3)) >= -1e-3).all()
    wanted = np.minimum(np.log(candidates.values / candidates.rest), 10)
    assert inputs["eigenvalue"][:, 0] == pytest.approx(wanted, rel=1e-5)
    turned_round = Eigenpatches(-candidates.patches, candidates.values, candidates.rest)
    assert np.array_equal(classifier_inputs(turned_round)["eigenpatch"], inputs["eigenpatch"])


@pytest.mark.parametrize("patch_px", [5, 11, 25, 35, 63])
def test_resampling_keeps_constants_and_slopes(patch_px):
    weights = resampling(patch_px)
    assert weights.sum(axis=1) == pytest.approx(np.ones(25))
    slope = weights @ np.arange(patch_px)
    assert np.diff(slope[3:-3]) == pytest.approx(np.full(18, patch_px / 25))


def test_a_denoiser_is_no_classifier(tmp_path):
    with pytest.raises(LowdoseError, match="wcid"):
        denoise(np.eye(32), model="wcid")
    with pytest.raises(LowdoseError, match="expected a file"):
        denoise(np.eye(32), model=tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(LowdoseError, match="cannot open"):
        denoise(np.eye(32), model=tmp_path / "text.onnx")


def test_the_bundled_classifier_stays_open():
    assert load_classifier("reucid") is load_classifier(bundled_models()["reucid"])


# --- what the method promises


@pytest.fixture(scope="module")
def crystal():
    return lattice_image(7, 160)


def test_the_output_is_made_of_the_kept_eigenpatches_and_nothing_else(crystal):
    """Every patch before the overlap is its projection onto the kept eigenpatches; pixels are means over them."""
    _, noisy = crystal
    patch_px, mean = 9, noisy.mean()
    candidates = candidates_of(noisy - mean, patch_px)
    basis = candidates.kept(Classifier(bundled_models()["reucid"]).useful(candidates))
    assert 0 < basis.shape[1] < 81
    total, count = np.zeros_like(noisy), np.zeros_like(noisy)
    for y in range(noisy.shape[0] - patch_px + 1):
        for x in range(noisy.shape[1] - patch_px + 1):
            here = np.s_[y : y + patch_px, x : x + patch_px]
            total[here] += (basis @ (basis.T @ (noisy[here] - mean).ravel())).reshape(patch_px, patch_px)
            count[here] += 1
    result = denoise(noisy, patch_px=patch_px)
    assert np.allclose(result, mean + total / count, rtol=0, atol=1e-6 * np.ptp(noisy))  # float32 output


def test_patches_that_do_not_overlap_lie_in_the_span_of_the_kept_eigenpatches(crystal):
    _, noisy = crystal
    patch_px = 9
    kept = candidates_of(noisy - noisy.mean(), patch_px).kept(np.arange(40) < 4)
    chosen = np.zeros_like(every_patch(noisy, patch_px))
    chosen[::patch_px, ::patch_px] = True
    canvas = np.zeros_like(noisy)
    add_truncated(canvas, *gather(noisy, chosen, patch_px), kept)
    rebuilt, _ = gather(canvas, chosen, patch_px)
    assert np.allclose(rebuilt @ kept @ kept.T, rebuilt, rtol=0, atol=ROUNDING * np.abs(rebuilt).max())
    assert np.linalg.matrix_rank(rebuilt, tol=1e-9 * np.linalg.norm(rebuilt)) == 4


def test_no_frequency_is_amplified_or_moved(crystal):
    """Away from the edges the output is a convolution whose transfer function lies between 0 and 1."""
    _, noisy = crystal
    patch_px = 9
    candidates = candidates_of(noisy - noisy.mean(), patch_px)
    for useful in (np.arange(40) < 4, np.arange(40) % 3 == 0, np.ones(40, bool)):
        kernel = autocorrelation(candidates.patches[useful]) / patch_px**2
        transfer = np.fft.fft2(np.fft.ifftshift(np.pad(kernel, 20)))
        assert np.abs(transfer.imag).max() < ROUNDING
        assert transfer.real.min() > -ROUNDING
        assert transfer.real.max() < 1 + ROUNDING


def test_offset_and_gain_of_the_input_are_those_of_the_output(crystal):
    _, noisy = crystal
    once, other = denoise(noisy), denoise(1000 + 50 * noisy / np.ptp(noisy))
    assert other == pytest.approx(1000 + 50 * once / np.ptp(noisy), abs=5e-4)


def test_a_constant_image_comes_back():
    assert np.array_equal(denoise(np.full((20, 30), 7, np.uint16)), np.full((20, 30), 7, np.float32))
    assert len(list(interim_images(np.zeros((20, 30)), n_stacks=4))) == 1


@pytest.mark.parametrize("gain", [1.0, 1e-30, 1e30])
def test_an_image_without_noise_is_kept(gain):
    y, x = np.mgrid[:100, :90]
    for image in (np.sin(0.5 * x), np.sin(0.5 * x) * np.cos(0.3 * y), (x > 40) * 1.0, lattice_image(3)[0]):
        assert psnr(image, denoise(gain * image).astype(np.float64) / gain) > 40


def test_noise_alone_gives_a_flat_image():
    noise = np.random.default_rng(3).normal(5, 1, (256, 256))
    assert denoise(noise).std() < 0.03


@pytest.mark.parametrize(("seed", "dose_per_area", "gain_db"), [(21, 100, 15), (22, 1000, 12), (23, 10000, 10)])
def test_crystals_not_used_in_training_become_clear(seed, dose_per_area, gain_db):
    clean, noisy = lattice_image(seed, 192, dose_per_area)
    assert psnr(clean, denoise(noisy)) > psnr(clean, noisy) + gain_db


# --- stacks and interim images


def test_interim_images_get_better_and_end_with_the_denoised_image(crystal):
    clean, noisy = crystal
    images = list(interim_images(noisy, n_stacks=4, seed=2))
    scores = [psnr(clean, image) for image in images]
    assert len(images) == 4
    assert all(image.dtype == np.float32 and image.shape == noisy.shape for image in images)
    assert scores[0] < scores[-1]
    assert scores[-1] > psnr(clean, denoise(noisy)) - 1.5  # each stack has its own, noisier eigenpatches
    assert np.array_equal(images[-1], denoise(noisy, n_stacks=4, seed=2))
    assert not np.array_equal(images[-1], denoise(noisy, n_stacks=4, seed=3))


def test_little_memory_makes_more_stacks(crystal):
    _, noisy = crystal
    memory = patch_matrix_bytes(*noisy.shape, 9) / 3
    assert len(list(interim_images(noisy, patch_px=9, memory_bytes=memory))) == 3
    assert len(list(interim_images(noisy, patch_px=9))) == 1
    with pytest.raises(LowdoseError, match="at least 3 stacks"):
        interim_images(noisy, patch_px=9, n_stacks=2, memory_bytes=memory)


def test_threads_do_not_change_the_result(crystal):
    _, noisy = crystal
    assert np.array_equal(denoise(noisy, threads=1), denoise(noisy, threads=3))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, ">f4", bool])
def test_any_real_dtype_is_taken(dtype):
    image = (np.random.default_rng(0).random((40, 33)) > 0.5).astype(dtype)
    assert np.array_equal(denoise(image), denoise(image.astype(np.float64)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 20, 20)), "one image"),
        (np.zeros((15, 200)), "at least 16 x 16"),
        (np.zeros((0, 0)), "one image"),
        (np.zeros((20, 20), complex), "complex"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.full((20, 20), np.inf), "infinite"),
        (np.full((20, 20), 1e39), "float32"),
        (np.full((20, 20), "a"), "numbers"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(LowdoseError, match=message):
        denoise(image)


@pytest.mark.parametrize(
    "settings",
    [
        {"patch_px": 8},
        {"patch_px": 3},
        {"patch_px": 23},
        {"n_stacks": 0},
        {"n_stacks": 29, "patch_px": 7},
        {"memory_bytes": 19000, "patch_px": 7},
        {"memory_bytes": np.nan},
        {"threads": 0},
        {"memory_bytes": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(LowdoseError):
        denoise(random_image(40, 40), **settings)
