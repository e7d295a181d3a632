"""What no method may add: checks on every bundled model, the blind filter and REUCID."""

import numpy as np
import pytest

from lowdose.methods import find_method
from lowdose.methods.method import Options
from lowdose.model import bundled_models, load
from lowdose.source import ArraySource

NAMES = sorted({"wiener", *bundled_models()})
SIDE_PX, N_FRAMES = 64, 32
LEVEL, NOISE_STD = 100.0, 10.0

# Trained on adatoms on graphene, it takes what is very unlike them for noise; its card says so.
UNLIKE_TRAINING = pytest.mark.xfail(strict=True, reason="n2v-lite-dual knows lattices with adatoms alone")
BUT_FOR_ADATOMS = [pytest.param(n, marks=UNLIKE_TRAINING if n == "n2v-lite-dual" else ()) for n in NAMES]


def shape_for(name):
    """Channels of the frames, and the scan that they make up."""
    if name in ("wiener", "reucid"):
        return 1, None
    model = load(name, device="cpu")
    return len(model.channels), (4, 8) if model.scan else None


def run(name, frames):
    """Denoise frames (N_FRAMES, side, side); a second channel gets them in reverse, with noise of its own."""
    n_channels, scan = shape_for(name)
    stack = frames.astype(np.float32)
    if n_channels > 1:
        stack = np.stack([stack, stack[::-1]][:n_channels], axis=1)
    if scan:
        stack = stack.reshape(*scan, *stack.shape[1:])
    source = ArraySource(stack, n_channels=n_channels, is_scan=scan is not None)
    stream = find_method(name, device="cpu").prepare(source, Options(threads=1)).stream(source, np.float32)
    results = [out for frame in source if (out := stream.push(frame)) is not None] + stream.flush()
    assert len(results) == N_FRAMES
    return np.reshape(results, (N_FRAMES, n_channels, SIDE_PX, SIDE_PX))


def noise(seed=0):
    return LEVEL + NOISE_STD * np.random.default_rng(seed).normal(size=(N_FRAMES, SIDE_PX, SIDE_PX))


@pytest.mark.parametrize("name", NAMES)
def test_noise_alone_stays_flat_and_no_frequency_is_amplified(name):
    left = run(name, noise()) - LEVEL
    assert left.std() < 0.35 * NOISE_STD
    # No frame is brighter than another, no channel than another.
    assert np.abs(left.mean(axis=(2, 3))).max() < 0.02 * LEVEL
    power = np.mean(np.abs(np.fft.fft2(left - left.mean(axis=(2, 3), keepdims=True))) ** 2, axis=0)
    # The noise itself has this power at every frequency; its mean over 32 frames scatters by a fifth.
    assert power.max() < 1.6 * NOISE_STD**2 * SIDE_PX**2


@pytest.mark.parametrize("name", NAMES)
def test_one_bright_pixel_does_not_spread(name):
    plain = noise()
    spot = plain.copy()
    middle = SIDE_PX // 2
    spot[N_FRAMES // 2, middle, middle] += 200
    change = np.abs(run(name, spot) - run(name, plain))
    assert change.max() > 0
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - middle
    far = np.hypot(y, x) > 12
    assert change[..., far].max() < 0.05 * 200


@pytest.mark.parametrize("name", BUT_FOR_ADATOMS)
def test_an_empty_region_stays_empty(name):
    """Counts of five electrons on the left, nothing on the right; wcvd and wcid see it repeat beyond the border."""
    frames = np.random.default_rng(1).poisson(np.where(np.arange(SIDE_PX) < 32, 5.0, 0.0), (N_FRAMES, SIDE_PX, SIDE_PX))
    result = run(name, frames)
    assert np.abs(result[..., 44:56].mean()) < 0.04 * 5
    assert np.abs(result[..., 44:56]).max() < 0.25 * 5
    assert result[..., 8:20].mean() == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_seven_times_the_input_gives_seven_times_the_output(name):
    frames = noise(2) + 30 * np.sin(np.arange(SIDE_PX) / 5)
    once, scaled = run(name, frames), run(name, 7 * frames)
    np.testing.assert_allclose(scaled / 7, once, atol=2e-3 * np.ptp(once))


@pytest.mark.parametrize("name", BUT_FOR_ADATOMS)
def test_the_residual_of_a_wave_is_white(name):
    """Correlations of what was removed, between neighbouring pixels: none of the wave is among it."""
    wave = 20 * np.sin(2 * np.pi * (np.arange(SIDE_PX) + 0.5 * np.arange(SIDE_PX)[:, None]) / 14)
    frames = noise(3) + wave
    residual = (frames[:, None] - run(name, frames))[:, :1]
    residual = residual - residual.mean(axis=(2, 3), keepdims=True)
    variance = np.mean(residual**2)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 7), (3, 2)):
        shifted = np.roll(residual, (dy, dx), axis=(2, 3))[..., dy:, dx:]
        assert abs(np.mean(residual[..., dy:, dx:] * shifted)) < 0.12 * variance
