"""Int8 model files: what stays float, what the file says, and when there is none."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from lowdose import LowdoseError, load
from lowdose.model import bundled_models
from lowdose_export import quantise
from lowdose_export.windowed import windowed_model_of
from lowdose_train.unet import UNet


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(quantise, "CALIBRATION_SEEDS", range(3000, 3004))
    monkeypatch.setattr(quantise, "SCORED_SEEDS", range(4000, 4004))
    monkeypatch.setattr(quantise, "SIDE_PX", 96)
    monkeypatch.setattr(quantise, "TIMED_SIDE_PX", 64)
    monkeypatch.setattr(quantise, "MEMORY_SIDES_PX", (128, 256))


@pytest.fixture
def random_model(tmp_path):
    """Path of a model file of n2v with random weights."""

    def make(n_channels):
        network = UNet(
            n_channels, n_channels, n_features=8, depth=2, leaky_slope=0.1, pooling="average", upsampling="bilinear"
        )
        network.draw(torch.Generator().manual_seed(0))
        path = tmp_path / "float.onnx"
        onnx.save(windowed_model_of(network, {"name": "random"}), path)
        return path

    return make


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_the_int8_file_gives_nearly_the_same_frames(random_model, tmp_path, n_channels):
    path = random_model(n_channels)
    report = quantise.quantise(path, tmp_path / "int8.onnx", force=True)
    assert report.int8_ms > 0 and report.float_ms > 0 and report.most_lost_db >= report.lost_db
    noisy = quantise.simulated(3001, n_channels)[0]  # one of those calibrated with: nothing in it is clipped
    frames = np.stack([noisy[:, :85, :91], noisy[:, 11:, 5:]])
    frames = frames if n_channels > 1 else frames[:, 0]
    expected, result = (load(str(p), device="cpu").denoise(frames) for p in (path, tmp_path / "int8.onnx"))
    # 256 levels over the range of the brightest frame calibrated with: some per cent of what random weights make.
    assert 0 < np.std(result - expected) < 0.15 * np.std(expected)


def test_full_resolution_stays_float(random_model, tmp_path):
    quantise.quantise(random_model(1), tmp_path / "int8.onnx", force=True)
    model = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [opset.domain for opset in model.opset_import] == [""]  # any engine knows the operators
    maker = {value: node.op_type for node in model.graph.node for value in node.output}
    types = {weights.name: weights.data_type for weights in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    quantised = [maker.get(node.input[1]) == "DequantizeLinear" for node in convolutions]
    # Blocks of two: full size, half, quarter, half, full; then the head.
    assert quantised == [False] * 2 + [True] * 6 + [False] * 3
    weights = [node.input[0] for node in model.graph.node if node.output[0] in {c.input[1] for c in convolutions}]
    assert len(weights) == 6 and all(types[name] == onnx.TensorProto.INT8 for name in weights)


def test_metadata_say_int8_and_what_it_was_calibrated_with(random_model, tmp_path):
    path = random_model(1)
    report = quantise.quantise(path, tmp_path / "int8.onnx", force=True)
    before, after = (json.loads(onnx.load(p).metadata_props[0].value) for p in (path, tmp_path / "int8.onnx"))
    assert after["precision"] == "int8"
    assert after["calibration"]["data"] == "simulated, seeds 3000 to 3003"
    assert after["calibration"]["lost_db"] == pytest.approx(report.lost_db, abs=1e-3)
    changed = {"precision", "calibration", "bytes_per_px"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    with pytest.raises(LowdoseError, match="holds n2v in int8"):
        quantise.quantise(tmp_path / "int8.onnx", tmp_path / "again.onnx")


def test_a_loss_above_the_limit_is_refused_and_leaves_nothing(random_model, tmp_path, monkeypatch):
    path = random_model(1)
    monkeypatch.setattr(quantise, "LARGEST_LOSS_DB", -100.0)
    with pytest.raises(LowdoseError, match=r"int8 loses .* dB, more than -100.0; --force"):
        quantise.quantise(path, tmp_path / "int8.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["float.onnx"]


@pytest.mark.parametrize("name", ["udvd-lite", "synthesis3d-lite", "wcvd"])
def test_other_methods_are_refused(name, tmp_path):
    with pytest.raises(LowdoseError, match="int8 is for float models of n2v"):
        quantise.quantise(bundled_models()[name], tmp_path / "int8.onnx")


def test_command_quantises_the_bundled_model(lowdose, tmp_path):
    outcome = lowdose("export", "n2v-lite", "--int8", "-o", tmp_path / "int8.onnx")
    assert outcome.code == 0, outcome.err
    assert "dB on simulated frames" in outcome.out and "ms per frame" in outcome.out
    assert (tmp_path / "int8.onnx").stat().st_size < bundled_models()["n2v-lite"].stat().st_size / 2
    outcome = lowdose("export", "n2v-lite", "--int8", "-o", tmp_path / "int8.onnx")
    assert outcome.code == 2 and "exists" in outcome.err
    outcome = lowdose("export", "n2v-lite", "n2v-lite", "--int8", "-o", tmp_path / "other.onnx")
    assert outcome.code == 2 and "takes one model file" in outcome.err
