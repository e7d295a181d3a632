"""`lowdose calibrate`: the fitted blind filter as a model file, against its own stream and a direct sum."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from lowdose import LowdoseError, load
from lowdose.wiener import BlindFilter, fit_movie, fit_scan
from lowdose_export.wiener import export_wiener, wiener_contract, wiener_model
from lowdose_export.wiener_parity import TOLERANCE, check_wiener_parity


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def waves(n_frames, height, width, n_channels=1, sigma=0.7):
    """A moving wave under noise, (n_frames, n_channels, height, width), of mean 5 in every frame and channel."""
    t, c, y, x = np.ogrid[:n_frames, :n_channels, :height, :width]
    frames = np.sin(2 * np.pi * (x + 0.4 * y - 0.7 * t) / 11 + c) + sigma * noise(n_frames, n_channels, height, width)
    return (frames - frames.mean(axis=(2, 3), keepdims=True) + 5).astype(np.float32)


def scan_of_counts(n_y, n_x, height, width):
    mean = 1 + 20 * np.exp(-(np.arange(height)[:, None] ** 2 + np.arange(width) ** 2) / 20)
    return np.random.default_rng(0).poisson(mean, (n_y, n_x, height, width)).astype(np.float32)


def streamed(stream, frames):
    return np.array([out for frame in frames if (out := stream.push(frame)) is not None] + stream.flush())


def write(path, fitted, channels=("signal",)):
    """A model file whose memory was not measured, which takes seconds."""
    onnx.save(wiener_model(fitted, wiener_contract(fitted, list(channels), {})), path)
    return path


def random_filter(n_taps, n_channels, radius):
    side = 2 * radius + 1
    weights = noise(n_taps, n_channels, n_taps, n_channels, side, side)
    taps = [(0, dt) for dt in range(-(n_taps // 2), n_taps // 2 + 1)]
    level_and_scale = (np.full((n_channels, 1, 1), value, np.float32) for value in (0, 1))
    return BlindFilter(weights, taps, *level_and_scale, {})


@pytest.mark.parametrize(("n_taps", "n_channels", "radius"), [(1, 1, 1), (1, 3, 2), (3, 1, 4), (3, 2, 1), (5, 2, 3)])
def test_engines_agree_with_a_direct_sum(tmp_path, n_taps, n_channels, radius):
    fitted = random_filter(n_taps, n_channels, radius)
    path = write(tmp_path / "m.onnx", fitted, [f"c{i}" for i in range(n_channels)])
    differences = check_wiener_parity(path, fitted)
    assert set(differences) == {"onnxruntime", "core", "core, tiled"}
    assert 0 <= max(differences.values()) < TOLERANCE


def test_a_wrong_file_is_noticed(tmp_path):
    path = write(tmp_path / "m.onnx", random_filter(3, 1, 2))
    other = random_filter(3, 1, 2)
    other.weights[1, 0, 0, 0, 0, 0] += 0.1
    with pytest.raises(LowdoseError, match="differs from a direct sum"):
        check_wiener_parity(path, other)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("size", [(33, 47), (40, 40)])
def test_inside_a_sequence_the_file_is_the_filter(tmp_path, n_channels, size):
    frames = waves(10, *size, n_channels)
    fitted = fit_movie([frames], window_frames=5)
    reach = len(fitted.taps) // 2
    path = write(tmp_path / "m.onnx", fitted, [f"c{i}" for i in range(n_channels)])
    stack = frames[:, 0] if n_channels == 1 else frames
    wanted = streamed(fitted.stream(*size, np.float32), stack)
    result = load(path, device="cpu").denoise(stack)
    inside = slice(reach, len(stack) - reach)
    np.testing.assert_allclose(result[inside], wanted[inside], atol=5e-5 * np.ptp(wanted))
    assert (result[:reach] != wanted[:reach]).any()  # the stream has weights for the ends


@pytest.mark.parametrize("shape", [(4, 5, 11, 14), (6, 3, 9, 7)])
def test_over_a_scan_the_file_is_the_filter_everywhere(tmp_path, shape):
    scan = scan_of_counts(*shape)
    fitted = fit_scan(scan)
    model = load(write(tmp_path / "m.onnx", fitted), device="cpu")
    wanted = streamed(fitted.stream(*shape[2:], np.float32, scan=shape[:2]), scan.reshape(-1, *shape[2:]))
    np.testing.assert_allclose(model.denoise(scan).reshape(wanted.shape), wanted, atol=5e-5 * np.ptp(wanted))
    assert model.metadata["size_px"] == list(shape[2:])
    with pytest.raises(LowdoseError, match=rf"fitted to frames of {shape[2]}x{shape[3]} .* no others"):
        model.stream(shape[2] + 1, shape[3], scan=shape[:2])
    with pytest.raises(LowdoseError, match="nor tiles of them"):
        model.denoise(scan, tile=2)


def test_frames_smaller_than_the_kernels_are_refused(tmp_path):
    model = load(write(tmp_path / "m.onnx", random_filter(1, 1, 4)), device="cpu")
    assert model.denoise(noise(2, 5, 5)).shape == (2, 5, 5)
    with pytest.raises(LowdoseError, match=r"4x9 pixels are too small for wiener.*at least 5x5"):
        model.denoise(noise(2, 4, 9))


def test_a_bad_size_in_the_metadata_is_refused(tmp_path):
    fitted = random_filter(1, 1, 1)
    model = wiener_model(fitted, wiener_contract(fitted, ["signal"], {}) | {"size_px": [0, 4]})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(LowdoseError, match="size_px must be"):
        load(tmp_path / "m.onnx", device="cpu")


def test_a_movie_calibrates_another(tmp_path, lowdose):
    frames = waves(12, 36, 45, 2)
    np.save(tmp_path / "first.npy", frames[:, 0])
    np.save(tmp_path / "second.npy", frames[:, 1, :-3])
    model = tmp_path / "beam.onnx"
    outcome = lowdose("calibrate", tmp_path / "first.npy", "-o", model, "--frames", "1:11")
    assert outcome.code == 0, outcome.err
    assert "core agrees with a direct sum" in outcome.out
    outcome = lowdose("calibrate", tmp_path / "first.npy", "-o", model)
    assert outcome.code == 2
    assert "exists" in outcome.err

    outcome = lowdose("info", model, "--json")
    facts = json.loads(outcome.out)
    assert facts["method"] == "wiener"
    assert facts["fitted_to"]["file"] == "first.npy"
    assert facts["fitted_to"]["n_frames"] == 10
    assert facts["bytes_per_px"] > 1
    assert "first.npy" in lowdose("info", model).out

    outcome = lowdose("denoise", tmp_path / "second.npy", "-o", tmp_path / "out.npy", "--model", model)
    assert outcome.code == 0, outcome.err
    result = np.load(tmp_path / "out.npy")
    assert result.shape == (12, 33, 45)
    _, _, y, x = np.ogrid[:1, :1, :33, :45]
    truth = np.sin(2 * np.pi * (x[0] + 0.4 * y[0] - 0.7 * np.arange(12)[:, None, None]) / 11 + 1)
    assert np.var(result - truth - 5) < 0.25 * 0.7**2


def test_a_scan_calibrates_another(tmp_path, lowdose):
    scan = scan_of_counts(6, 7, 12, 13).astype(np.uint8)
    np.save(tmp_path / "scan.npy", scan)
    model = tmp_path / "beam.onnx"
    outcome = lowdose("calibrate", tmp_path / "scan.npy", "-o", model, "--axes", "VUYX")
    assert outcome.code == 0, outcome.err
    source, out = tmp_path / "scan.npy", tmp_path / "out.npy"
    outcome = lowdose("denoise", source, "-o", out, "--model", model, "--axes", "VUYX", "--dtype", "float32")
    assert outcome.code == 0, outcome.err
    assert np.load(out).shape == scan.shape


def test_names_of_channels_come_from_the_file(tmp_path):
    fitted = random_filter(1, 2, 1)
    export_wiener(fitted, tmp_path / "m.onnx", channels=["ADF", "BF"], fitted_to={"file": "a.tif"})
    assert load(tmp_path / "m.onnx", device="cpu").channels == ["ADF", "BF"]


def test_it_needs_no_torch():
    code = "import sys, lowdose_export.calibrate; sys.exit('torch' in sys.modules or 'lowdose_train' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
