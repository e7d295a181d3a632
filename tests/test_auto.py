"""`--model auto`: an error estimate without a truth, and the choice by it."""

import numpy as np
import pytest

from lowdose import LowdoseError
from lowdose.methods import find_method
from lowdose.methods.auto import Auto
from lowdose.methods.classical import Classical
from lowdose.methods.method import Options
from lowdose.methods.risk import corner_variance, denoise, relative_risk, take_sample
from lowdose.model import Settings
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
    for name in ("gaussian:1", "gaussian:2", "gaussian:4", "gaussian3d:1,1", "gaussian3d:1,2", "wiener", "wcid"):
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


@pytest.mark.parametrize("n_frames", [1, 9])
def test_the_choice_is_close_to_the_best_in_its_table(n_frames):
    stack, truth = blobs(n_frames, 160 if n_frames == 1 else 80, 4.0)
    frames = ArraySource(stack)
    chosen = Auto("auto").prepare(frames, Options(threads=1))

    def error(method):
        stream = method.stream(frames, np.float32)
        results = [out for f in frames if (out := stream.push(f)) is not None] + stream.flush()
        return np.mean((np.array(results) - truth) ** 2)

    errors = [error(row.prepared) for row in chosen.table if not row.reason]
    assert errors[0] < 1.15 * min(errors)  # 0.6 dB: of some ten thousand pixels
    assert chosen.table[0].name in chosen.summary
    assert len(chosen.report["tried"]) == len(chosen.table)
    names = [row.name for row in chosen.table]
    assert ("reucid" in names) == (n_frames == 1)
    assert ("wcvd" in names) == (n_frames > 1)


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
