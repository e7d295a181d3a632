"""Checkpoint in, model file out: the graph, its functions, its metadata, and the check at the end."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import references
from lowdose import LowdoseError, load
from lowdose_export import functions, parity
from lowdose_export.blind_spot import export_blind_spot
from lowdose_train.checkpoint import save
from model_files import make_checkpoint, make_model_file, random_network, weights_of

TOLERANCE = 1e-5


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
def test_plain_onnxruntime_runs_the_file(model_files, method):
    """Without our library: batches, any size, and the defaults of the optional inputs."""
    runner = session(model_files[method])
    n_taps = 3 if method == "wcvd" else 1
    branches, shares = weights_of(random_network(method, 1))
    for shape in ((2, 9, 16), (1, 7, 23)):
        frames = np.random.default_rng(shape[1]).random((n_taps, *shape), np.float32)
        feeds = {f"frame_{tap}": frames[tap][:, None] for tap in range(n_taps)}
        whole = {"weight_set": np.array(1), "cutoff": np.array(1, np.float32)}
        (output,) = runner.run(["denoised"], feeds | whole)
        assert output.shape == (shape[0], 1, *shape[1:])
        for item in range(shape[0]):
            expected = references.blind_spot(frames[:, item], branches, shares)
            np.testing.assert_allclose(output[item, 0], expected, rtol=0, atol=TOLERANCE * np.ptp(expected))
        (default,) = runner.run(None, feeds)
        (explicit,) = runner.run(None, feeds | {"weight_set": np.array(0), "cutoff": np.array(1 / 7, np.float32)})
        np.testing.assert_array_equal(default, explicit)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 4), (13, 30), (32, 32)])
@pytest.mark.parametrize("cutoff", [0.05, 1 / 7, 0.25, 0.5, 0.7, 1.0])
def test_the_low_pass_function_keeps_the_disc(shape, cutoff):
    body = [functions.parse(functions.FOURIER_BASIS), functions.parse(functions.LOW_PASS)]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("LowPass", ["frame", "cutoff"], ["filtered"], domain=functions.DOMAIN)],
        "low_pass",
        [value("frame", onnx.TensorProto.FLOAT, ["b", 1, "h", "w"]), value("cutoff", onnx.TensorProto.FLOAT, [])],
        [value("filtered", onnx.TensorProto.FLOAT, ["b", 1, "h", "w"])],
    )
    opsets = [onnx.helper.make_opsetid("", functions.OPSET), onnx.helper.make_opsetid(functions.DOMAIN, 1)]
    model = onnx.helper.make_model(graph, functions=body, opset_imports=opsets, ir_version=9)
    frames = np.random.default_rng(0).normal([[[[5]]], [[[1000]]]], 1, (2, 1, *shape)).astype(np.float32)
    (output,) = session_from(model).run(None, {"frame": frames, "cutoff": np.array(cutoff, np.float32)})
    for frame, result in zip(frames[:, 0], output[:, 0], strict=True):
        level = np.abs(frame).max()
        # In proportion to the contrast, which is 1, and never better than the spacing of float32 at the level.
        tolerance = 5e-6 + 2 * np.spacing(level)
        np.testing.assert_allclose(result, references.low_pass(frame, cutoff), rtol=0, atol=tolerance)


def session_from(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_the_file_follows_the_contract(model_files):
    model = onnx.load(model_files["wcvd"])
    names = [value.name for value in model.graph.input]
    assert names == ["frame_0", "frame_1", "frame_2", "weight_set", "cutoff"]
    dimensions = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", 1, "height", "width"]
    assert [value.name for value in model.graph.output] == ["denoised"]
    assert [(node.domain, node.op_type) for node in model.graph.node] == [
        ("lowdose", "BlindSpot"),
        ("lowdose", "LowPass"),
    ]
    used = {node.op_type for function in model.functions for node in function.node}
    assert not used & {"DFT", "Pad"}  # TensorRT's parser refuses these, or their modes
    metadata = json.loads(model.metadata_props[0].value)
    assert metadata["spec"] == 1
    assert metadata["taps"] == {"axis": "time", "offsets": [-1, 0, 1]}
    assert metadata["margin_px"] == 3
    assert metadata["min_size_px"] == 7
    assert [entry["seed"] for entry in metadata["weight_sets"]] == [0, 1]
    assert 10 < metadata["bytes_per_px"] < 1000


def test_parameters_are_867_and_369():
    for method, count in (("wcvd", 867), ("wcid", 369)):
        assert sum(parameter.numel() for parameter in random_network(method, 0).parameters()) == count


def test_an_export_that_disagrees_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    """The graph is made of other weights than the network that is compared with it."""
    checkpoint = make_checkpoint(tmp_path / "run", "wcid", 0)
    wrong = random_network("wcid", 5)
    honest = parity.run_torch
    monkeypatch.setattr(parity, "run_torch", lambda network, *rest: honest(wrong, *rest))
    with pytest.raises(LowdoseError, match=r"onnxruntime differs from PyTorch by .* tolerance is 1e-05"):
        export_blind_spot([checkpoint], tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_the_largest_differences_are_reported(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "run", "wcvd", 3)
    differences = export_blind_spot([checkpoint], tmp_path / "model.onnx")
    assert set(differences) == {"onnxruntime", "core", "core, tiled"}
    assert all(0 < value <= TOLERANCE for value in differences.values())


def test_command(lowdose, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "run", "wcid", 0)
    out = tmp_path / "model.onnx"
    outcome = lowdose("export", checkpoint, "-o", out)
    assert outcome.code == 0, outcome.err
    assert "core agrees with PyTorch within" in outcome.out
    assert load(out, device="cpu").metadata["method"] == "wcid"
    before = out.read_bytes()
    outcome = lowdose("export", checkpoint, "-o", out)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert out.read_bytes() == before


def test_bad_checkpoints_are_refused(lowdose, tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"weights": [1.0]}, tmp_path / "foreign.pt")
    save({"method": "other", "state_dict": {}}, tmp_path / "method.pt")
    for name, word in (
        ("text.pt", "cannot read"),
        ("foreign.pt", "no lowdose checkpoint"),
        ("method.pt", "known method"),
    ):
        outcome = lowdose("export", tmp_path / name, "-o", tmp_path / "model.onnx")
        assert outcome.code == 2
        assert word in outcome.err
    mixed = [make_checkpoint(tmp_path / method, method, 0) for method in ("wcvd", "wcid")]
    outcome = lowdose("export", *mixed, "-o", tmp_path / "model.onnx")
    assert outcome.code == 2
    assert "one method" in outcome.err
    outcome = lowdose("export", mixed[0], "-o", tmp_path / "model.bin")
    assert outcome.code == 2
    assert "*.onnx" in outcome.err


def test_a_file_of_one_network_has_nothing_to_choose(tmp_path):
    model = load(make_model_file(tmp_path, "wcid", n_weight_sets=1), device="cpu")
    frame = np.random.default_rng(0).poisson(5, (20, 22)).astype(np.uint8)
    stream = model.stream(20, 22, np.uint8)
    stream.push(frame)
    assert stream.settings.weight_set == 0
