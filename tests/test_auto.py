"""`--model auto`: an error estimate without a truth, and the choice by it."""

import itertools

import numpy as np
import pytest

from lowdose import LowdoseError
from lowdose.methods import find_method
from lowdose.methods.auto import Auto
from lowdose.methods.classical import Classical
from lowdose.methods.method import Options
from lowdose.methods.risk import corner_variance, denoise, relative_risk, take_sample
from lowdose.model import Settings
from lowdose.simulate import haadf_movie, hrtem_movie, particle_movie
from lowdose.source import ArraySource


def blobs(n_frames, side, noise, seed=0):
    """Round blobs that drift, 10 counts high, under white noise or (noise None) counted; and the truth."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(float)
    centres = random.uniform(0, side, (12, 2))
    truth = np.full((n_frames, side, side), 2.0)
    for t in range(n_frames):
        for row, column in centres:
            truth[t] += 10 * np.exp(-((y - row - 0.3 * t) ** 2 + (x - column) ** 2) / 18)
    noisy = random.poisson(truth) if noise is None else truth + random.normal(0, noise, truth.shape)
    return noisy.astype(np.float32), truth


def prepared(name, frames):
    return find_method(name).prepare(frames, Options(threads=1))


@pytest.mark.parametrize("noise", [4.0, None])
def test_the_estimate_follows_the_true_error(noise):
    """Methods that see the pixel they denoise, methods that do not, and methods that see the frames beside it."""
    stack, truth = blobs(9, 96, noise)
    frames = ArraySource(stack)
    sample = take_sample(frames, prepared("wiener", frames))
    estimated, true = [], []
    names = ["gaussian:1", "gaussian:2", "gaussian:4", "gaussian3d:1,1", "gaussian3d:1,2", "wiener", "wcid"]
    if noise:  # of counts as few as these its estimate is high by 4 % of the noise
        names += ["tv:1.1", "tv:2"]
    for name in names:
        method = prepared(name, frames)
        result = denoise(method, sample, sample.frames)[:, 0]
        true.append(np.mean((result - truth[sample.scored]) ** 2))
        fitted = method.report.get("optimism", [0])[0]
        estimated.append((relative_risk(method, sample) + fitted) * sample.predicted[0])
    noise_variance = np.mean((stack - truth)[sample.scored] ** 2)
    # Of 3 x 96^2 pixels the scatter of the estimate is about 1 % of the noise.
    np.testing.assert_allclose(np.array(estimated) - noise_variance, true, atol=0.025 * noise_variance)


def test_the_noise_is_read_in_the_corners_of_the_spectrum():
    stack, _ = blobs(4, 128, 3.0)
    assert corner_variance(stack[:, None])[0] == pytest.approx(9, rel=0.05)
    assert corner_variance(np.ones((1, 1, 1, 1), np.float32))[0] == np.inf


def losses_in_db(chosen, frames, truth):
    """Of all in its table, the chosen one first, how much more error they make than the best."""

    def error(method):
        stream = method.stream(frames, np.float32)
        results = [out for f in frames if (out := stream.push(f)) is not None] + stream.flush()
        return np.mean((np.array(results) - truth) ** 2)

    errors = np.array([error(row.prepared) for row in chosen.table if not row.reason])
    return 10 * np.log10(errors / errors.min())


def test_the_choice_is_close_to_the_best_in_its_table():
    stack, truth = blobs(9, 80, 4.0)
    frames = ArraySource(stack)
    chosen = Auto("auto").prepare(frames, Options(threads=1))
    assert losses_in_db(chosen, frames, truth)[0] < 0.6
    assert chosen.table[0].name in chosen.summary
    assert len(chosen.report["tried"]) == len(chosen.table)
    names = [row.name for row in chosen.table]
    assert "reucid" not in names and "wcvd" in names


def test_the_choice_for_single_images_is_close_to_the_best_on_average():
    """One image tells little: what is estimated of the best two differs by some thousandths of the noise."""
    losses = []
    for scene, seed in itertools.product((haadf_movie, hrtem_movie, particle_movie), (3000, 3001)):
        truth = scene(seed, n_frames=1, height=160, width=160).clean
        noise = np.random.default_rng(seed).normal(0, np.ptp(truth) / 3, truth.shape)
        frames = ArraySource((truth + noise).astype(np.float32))
        chosen = Auto("auto").prepare(frames, Options(threads=1))
        assert "reucid" in [row.name for row in chosen.table]
        losses.append(losses_in_db(chosen, frames, truth)[0])
    assert np.mean(losses) < 0.6, losses


def test_settings_are_its_own_affair():
    frames = ArraySource(blobs(3, 32, 1.0)[0])
    with pytest.raises(LowdoseError, match="auto chooses"):
        Auto("auto").prepare(frames, Options(settings=Settings(cutoff=0.1)))


def test_the_command_prints_its_table(lowdose, tmp_path):
    np.save(tmp_path / "in.npy", blobs(5, 48, 4.0)[0])
    outcome = lowdose("denoise", tmp_path / "in.npy", "-o", tmp_path / "out.npy", "--model", "auto")
    assert outcome.code == 0, outcome.err
    for name in ("chose", "wiener", "wcvd", "gaussian3d", "tv"):
        assert name in outcome.out
    assert np.load(tmp_path / "out.npy").shape == (5, 48, 48)


def test_classical_strengths_are_candidates():
    assert isinstance(find_method("gaussian:1.5"), Classical)
