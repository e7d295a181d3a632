"""Half-precision model files: what stays float32, how far the numbers move, and when there is no file."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from lowdose import LowdoseError, Settings, load
from lowdose.model import bundled_models
from lowdose_export import half_file
from lowdose_export.engine_builder import build_plan
from lowdose_export.engine_graph import contract_of, engine_graph
from lowdose_export.functions import DOMAIN, parse
from lowdose_export.half import LARGEST, ROUND, to_half

DENOISERS = sorted(set(bundled_models()) - {"reucid"})
FRAMES = TensorProto.FLOAT


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(half_file, "SIDE_PX", 48)
    monkeypatch.setattr(half_file, "SEEDS", range(5000, 5002))
    monkeypatch.setattr(half_file, "DOSES_PER_PX", (0.5, 50.0))
    monkeypatch.setattr(half_file, "MEMORY_SIDES_PX", dict.fromkeys(half_file.MEMORY_SIDES_PX, (64, 128)))


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Model files of the bundled denoisers in half precision, and as emulated."""
    folder = tmp_path_factory.mktemp("halves")
    for name in DENOISERS:
        model = onnx.load(bundled_models()[name])
        metadata = contract_of(model, bundled_models()[name])
        onnx.save(to_half(model, metadata), folder / f"{name}.onnx")
        onnx.save(to_half(model, metadata, emulated=True), folder / f"{name}-emulated.onnx")
    return folder


def random_input(model, counts=5.0, seed=0):
    shape = ((3, 3) if model.scan else (4,)) + ((len(model.channels),) if len(model.channels) > 1 else ())
    expected = counts * (2 + np.sin(np.arange(41)[:, None] / 4) + np.linspace(0, 1, 50))
    return np.random.default_rng(seed).poisson(np.broadcast_to(expected, (*shape, 41, 50))).astype(np.float32)


def test_the_emulation_rounds_as_float16_does():
    values = np.random.default_rng(0).normal(0, 1, 10_000) * 10.0 ** np.random.default_rng(1).integers(-3, 5, 10_000)
    x = np.concatenate([values, [0.0, 1000.25, 1000.75, 65504.0, 65519.0, 65521.0, -7e4]]).astype(np.float32)
    node = helper.make_node("RoundToHalf", ["x"], ["y"], domain=DOMAIN)
    ends = [helper.make_tensor_value_info(name, FRAMES, [len(x)]) for name in "xy"]
    graph = helper.make_graph([node], "rounding", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=[parse(ROUND)], opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": x})
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    exact = (np.abs(x) >= 2.0**-14) | (x == 0)
    np.testing.assert_array_equal(result[exact], expected[exact])
    assert exact.sum() > 9_000 and np.isinf(result).any()


@pytest.mark.parametrize(
    ("name", "form"), [*((name, "") for name in DENOISERS), ("wcvd", "-emulated"), ("n2v-lite", "-emulated")]
)
def test_the_same_frames_but_for_rounding(halves, name, form):
    full, half = (load(path, device="cpu") for path in (bundled_models()[name], halves / f"{name}{form}.onnx"))
    settings = Settings(0, 1 / 7, 0.0) if full.has_choice else None
    frames = random_input(full)
    expected, result = (model.denoise(frames, settings=settings) for model in (full, half))
    assert 0 < np.abs(result - expected).max() < 5e-3 * np.ptp(expected)


@pytest.mark.parametrize("name", ["wcvd", "wcid", "udvd-lite"])
@pytest.mark.parametrize("counts", [1e-3, 3e4])
def test_networks_without_normalisation_keep_the_range_of_float32(halves, name, counts):
    """Brighter than float16 can hold, and a single pixel far above the rest."""
    full, half = (load(path, device="cpu") for path in (bundled_models()[name], halves / f"{name}-emulated.onnx"))
    settings = Settings(0, 1.0, 0.0) if full.has_choice else None
    frames = np.maximum(random_input(full, max(counts, 1.0)) * np.float32(min(counts, 1.0)), 0)
    frames[1, 20, 20] = frames.max() * 20
    expected, result = (model.denoise(frames, settings=settings) for model in (full, half))
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, expected, rtol=0, atol=5e-3 * np.ptp(expected))


@pytest.mark.parametrize("name", ["wcvd", "udvd-lite"])
def test_black_frames_stay_black(halves, name):
    model = load(halves / f"{name}.onnx", device="cpu")
    settings = Settings(0, 1.0, 0.0) if model.has_choice else None
    assert not model.denoise(np.zeros((3, 20, 24), np.float32), settings=settings).any()


@pytest.mark.parametrize("name", DENOISERS)
def test_what_meets_the_frames_stays_float32(halves, name):
    model = onnx.load(halves / f"{name}.onnx")
    onnx.checker.check_model(model, full_check=True)
    before = onnx.load(bundled_models()[name])
    for kind in ("input", "output"):
        assert list(getattr(model.graph, kind)) == list(getattr(before.graph, kind))
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions and "BlindSpot" not in {node.op_type for node in model.graph.node}
    maker = {output: node for node in model.graph.node for output in node.output}
    for node in convolutions:
        weight = node.input[1]
        while weight not in types:
            weight = maker[weight].input[0]
        assert types[weight] == TensorProto.FLOAT16
    for node in model.graph.node:
        if {"offset", "scale"} & set(node.input):
            assert not any(types.get(value) == TensorProto.FLOAT16 for value in node.input)
        if node.op_type == "LowPass":
            assert "cutoff" in node.input and maker[node.input[0]].op_type == "Mul"  # by the peak, in float32


def test_the_brightest_pixel_becomes_the_largest_value(halves):
    model = onnx.load(halves / "wcid.onnx")
    first_cast = next(node for node in model.graph.node if node.op_type == "Cast")
    model.graph.output.append(helper.make_tensor_value_info(first_cast.output[0], TensorProto.FLOAT16, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frames = np.random.default_rng(0).random((2, 1, 9, 11), np.float32) * np.array([[[[3.0]]], [[[7e6]]]], np.float32)
    scaled = session.run([first_cast.output[0]], {"frame_0": frames})[0]
    np.testing.assert_allclose(scaled.max(axis=(1, 2, 3)), LARGEST, rtol=1e-3)


@pytest.mark.parametrize("name", DENOISERS)
def test_half_files_become_engines(halves, name):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    assert build_plan(engine_graph(halves / f"{name}.onnx", (50, 64)), ["8.9"])


def test_command_writes_the_file_with_what_it_loses(lowdose, tmp_path):
    out = tmp_path / "half.onnx"
    outcome = lowdose("export", "wcid", "--half", "-o", out)
    assert outcome.code == 0, outcome.err
    assert "float16" in outcome.out and "dB on simulated data" in outcome.out
    metadata = json.loads(onnx.load(out).metadata_props[0].value)
    assert metadata["precision"] == "fp16" and metadata["precision_loss"]["most_lost_db"] < half_file.LARGEST_LOSS_DB
    assert load(out, device="cpu").denoise(np.ones((2, 16, 16), np.float32)).shape == (2, 16, 16)
    outcome = lowdose("export", "wcid", "--half", "-o", out)
    assert outcome.code == 2 and "exists" in outcome.err
    outcome = lowdose("export", "wcid", "--half", "--int8", "-o", tmp_path / "b.onnx")
    assert outcome.code == 2 and "one precision" in outcome.err
    outcome = lowdose("export", out, "--half", "-o", tmp_path / "b.onnx")
    assert outcome.code == 2 and "holds wcid in fp16" in outcome.err


def test_a_loss_above_the_limit_is_refused_unless_forced(tmp_path, monkeypatch):
    monkeypatch.setattr(half_file, "LARGEST_LOSS_DB", -100.0)
    path, out = bundled_models()["wcid"], tmp_path / "half.onnx"
    with pytest.raises(LowdoseError, match=r"loses up to .* dB, more than -100.0; --force"):
        half_file.write_half(path, out)
    assert not list(tmp_path.iterdir())
    half_file.write_half(path, out, force=True)
    assert out.exists()


def test_what_is_no_rounding_is_refused_even_when_forced(tmp_path, monkeypatch):
    monkeypatch.setattr(half_file, "LARGEST_DIFFERENCE", 0.0)
    with pytest.raises(LowdoseError, match="this is no rounding"):
        half_file.write_half(bundled_models()["wcid"], tmp_path / "half.onnx", force=True)
    assert not list(tmp_path.iterdir())
