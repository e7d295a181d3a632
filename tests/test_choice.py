"""Settings that are chosen from the noisy frames: offset, weights, cutoff, output type, sample frames."""

import numpy as np
import pytest

import references
from lowdose import NO_LOW_PASS, Settings, load
from lowdose.sample import neighbour, output_dtype, sample_windows, spread_windows
from lowdose.source import ArraySource

LOOSE_WAVE_PX = 24


def wave_movie(seed, mean=2.0, n_frames=6, side=96):
    """Poisson counts of a slow wave, and the truth: a strong low-pass is right for it."""
    y, x = np.mgrid[:side, :side]
    truth = mean * (1 + 0.6 * np.sin(2 * np.pi * (x + 0.3 * y) / LOOSE_WAVE_PX))
    truth = np.broadcast_to(truth, (n_frames, side, side))
    return np.random.default_rng(seed).poisson(truth).astype(np.uint8), truth


def error(result, truth):
    return float(np.mean((result[1:-1] - truth[1:-1]) ** 2))


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
def test_the_chosen_weights_and_cutoff_are_nearly_the_best(model_files, method):
    model = load(model_files[method], device="cpu")
    noisy, truth = wave_movie(0)
    indices = spread_windows(len(noisy), model.taps)
    windows = np.float32([[noisy[i] for i in window] for window in indices])
    chosen = model.choose(windows, Settings())
    assert chosen.offset == 0  # counts that reach zero have no pedestal
    candidates = {
        (weights, cutoff): error(model.denoise(noisy, settings=Settings(weights, cutoff, 0.0)), truth)
        for weights in range(2)
        for cutoff in (NO_LOW_PASS, 1 / 3, 0.24, 1 / 7, 0.1, 1 / 14, 0.05)
    }
    best = min(candidates.values())
    assert max(candidates.values()) > 2 * best  # there is something to choose
    assert error(model.denoise(noisy, settings=chosen), truth) < 1.1 * best


@pytest.mark.parametrize(("period_px", "lowest", "highest"), [(24, 1 / 24, 0.1), (8, 1 / 8, 0.24)])
def test_the_cutoff_lets_the_specimen_pass_and_little_else(model_files, period_px, lowest, highest):
    model = load(model_files["wcid"], device="cpu")
    x = np.arange(120)
    frame = np.random.default_rng(1).normal(100 + 40 * np.cos(2 * np.pi * x / period_px), 20.0, (120, 120))
    chosen = model.choose(np.float32(frame)[None, None], Settings(offset=0.0))
    assert lowest <= chosen.cutoff <= highest


def test_given_settings_are_kept(model_files):
    model = load(model_files["wcvd"], device="cpu")
    windows = np.float32(wave_movie(0)[0][:3])[None]
    for wanted in (Settings(weight_set=1), Settings(cutoff=0.2), Settings(offset=1.5), Settings(1, 0.2, 1.5)):
        chosen = model.choose(windows, wanted)
        assert chosen.complete
        for name in ("weight_set", "cutoff", "offset"):
            if getattr(wanted, name) is not None:
                assert getattr(chosen, name) == pytest.approx(getattr(wanted, name))


def test_the_offset_follows_a_pedestal(model_files):
    """A signal on a high pedestal comes back on it, as if the pedestal were not there."""
    model = load(model_files["wcid"], device="cpu")
    counted = np.random.default_rng(2).poisson(20 + 10 * np.sin(np.arange(48) / 4), (48, 48))
    plain, raised = (
        model.denoise(counted.astype(np.uint16)),
        model.denoise((counted + 30000).astype(np.uint16)),
    )
    np.testing.assert_allclose(raised - 30000, plain, atol=0.01 * np.ptp(plain))


def test_a_stream_chooses_when_its_first_result_is_due(model_files):
    model = load(model_files["wcvd"], device="cpu")
    noisy, _ = wave_movie(3)
    stream = model.stream(96, 96, np.uint8)
    assert stream.push(noisy[0]) is None
    assert stream.settings == Settings()
    results = [stream.push(frame) for frame in noisy[1:]] + stream.flush()
    assert stream.settings.complete
    assert stream.stats["choose"]["count"] == 1
    expected = model.denoise(noisy, settings=stream.settings)
    np.testing.assert_allclose(np.stack(results), expected, atol=1e-5 * np.ptp(expected))
    stream.reset()
    assert stream.settings == Settings()


def test_a_low_pass_reference_of_the_choice_is_what_is_applied(model_files):
    model = load(model_files["wcid"], device="cpu")
    frame = wave_movie(4)[0][0].astype(np.float32)
    plain = model.denoise(frame, settings=Settings(0, NO_LOW_PASS, 0.0))
    filtered = model.denoise(frame, settings=Settings(0, 0.1, 0.0))
    np.testing.assert_allclose(filtered, references.low_pass(plain, 0.1), atol=1e-5 * np.ptp(plain))


@pytest.mark.parametrize("n_frames", range(1, 12))
@pytest.mark.parametrize("taps", [[0], [-1, 0, 1], [-2, -1, 0, 1, 2]])
def test_sample_windows_lie_in_the_sequence(n_frames, taps):
    if n_frames < taps[-1] + 1:
        return
    windows = spread_windows(n_frames, taps)
    assert 1 <= len(windows) <= 3
    for window in windows:
        assert all(0 <= i < n_frames for i in window)
        if n_frames > 2 * taps[-1]:  # room for whole windows: consecutive frames
            assert np.diff(window).tolist() == [1] * (len(taps) - 1)


def test_samples_of_large_frames_are_their_middle():
    frames = np.zeros((1, 900, 800), np.float32)
    frames[0, 66:834, 16:784] = 1
    assert (sample_windows(frames, [0]) == np.ones((1, 1, 768, 768))).all()


@pytest.mark.parametrize("n_frames", [2, 3, 4, 9])
def test_a_mirrored_sequence_never_shows_a_frame_as_its_own_neighbour(n_frames):
    assert [neighbour(0, step, 4) for step in (-2, -1, 0, 1, 2)] == [2, 1, 0, 1, 2]
    assert [neighbour(3, step, 4) for step in (-2, -1, 0, 1, 2)] == [1, 2, 3, 2, 1]
    for at in range(n_frames):
        for step in (-3, -2, -1, 1, 2, 3):
            found = neighbour(at, step, n_frames)
            assert 0 <= found < n_frames
            assert found != at


@pytest.mark.parametrize(
    ("dtype", "std", "expected"),
    [
        ("uint8", 2.0, "float32"),
        ("uint16", 25.0, "float32"),  # 0.289 is more than 1 % of it
        ("uint16", 35.0, "uint16"),
        ("uint16", 500.0, "uint16"),
        ("int16", 2.0, "float32"),
        ("float32", 0.1, "float32"),
        ("float64", 0.1, "float64"),
    ],
)
def test_output_type_is_kept_unless_rounding_hurts(dtype, std, expected):
    """A wave of a known standard deviation under noise three times as strong."""
    wave = np.sin(np.arange(256) / 40)
    noise = np.random.default_rng(7).normal(0, 3 * std, (4, 256, 256)) if std > 1 else 0
    frames = 1000 + std * wave / wave.std() + noise
    limits = (0, 255) if dtype == "uint8" else (-32768, 32767) if dtype == "int16" else (0, 65535)
    frames = np.clip(frames - 900 if dtype == "uint8" else frames, *limits) * np.ones((4, 256, 1))
    assert output_dtype(ArraySource(frames.astype(dtype))) == np.dtype(expected)
