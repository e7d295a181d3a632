"""The graphs that engines are built from: the same numbers as the model file, and TensorRT-RTX builds all of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from blind_features_models import Sizes, model_of, random_weights
from lowdose import LowdoseError, tensorrt_rtx
from lowdose.model import bundled_models
from lowdose.tensorrt_rtx import Messages
from lowdose.wiener import fit_movie, fit_scan
from lowdose_export import engine_builder
from lowdose_export.engine_graph import engine_graph, set_sizes
from lowdose_export.wiener import wiener_contract, wiener_model

DENOISERS = sorted(set(bundled_models()) - {"reucid"})
SIZES = [(64, 96), (101, 50)]
SCAN_SIZE = (12, 9)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def random_feeds(inputs, seed=0):
    random = np.random.default_rng(seed)
    return {value.name: 1 + random.random(value.shape, np.float32) for value in inputs}


@pytest.fixture(scope="module")
def wiener_files(tmp_path_factory):
    """Model files of filters fitted to noise: of a movie with two channels and of a scan."""
    folder = tmp_path_factory.mktemp("wiener")
    random = np.random.default_rng(0)
    movie = fit_movie([random.random((6, 2, 40, 40), np.float32)])
    onnx.save(wiener_model(movie, wiener_contract(movie, ["ADF", "BF"], {})), folder / "movie.onnx")
    scan = fit_scan(random.random((4, 5, *SCAN_SIZE), np.float32))
    onnx.save(wiener_model(scan, wiener_contract(scan, ["signal"], {})), folder / "scan.onnx")
    return folder


def check_same_numbers(path, size, **settings):
    fixed = session(engine_graph(path, size, **settings))
    feeds = random_feeds(fixed.get_inputs())
    names = [value.name for value in onnx.load(path).graph.input]
    given = {"weight_set": np.int64, "cutoff": np.float32}
    asked = {name: np.array(value, given[name]) for name, value in settings.items() if name in given and name in names}
    expected = session(onnx.load(path)).run(None, feeds | asked)
    for before, after in zip(expected, fixed.run(None, feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=2e-5 * np.ptp(before))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DENOISERS)
def test_fixing_the_size_changes_no_number(name, size):
    check_same_numbers(bundled_models()[name], size)


@pytest.mark.parametrize("cutoff", [0.05, 1 / 7, 0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("size", [(7, 8), (31, 16)])
def test_a_final_cutoff_changes_no_number(cutoff, size):
    check_same_numbers(bundled_models()["wcid"], size, cutoff=cutoff, weight_set=1, batch=2)


def test_filters_keep_their_numbers(wiener_files):
    check_same_numbers(wiener_files / "movie.onnx", (33, 20), batch=2)
    check_same_numbers(wiener_files / "scan.onnx", SCAN_SIZE)


def test_the_graph_holds_no_choice_and_no_function():
    model = engine_graph(bundled_models()["wcvd"], (64, 96), cutoff=0.1, weight_set=1)
    assert [opset.domain for opset in model.opset_import] == [""] and not model.functions
    assert not {"If", "Range", "Cos", "DFT", "LowPass", "BlindSpot"} & {node.op_type for node in model.graph.node}
    assert [value.name for value in model.graph.input] == ["frame_0", "frame_1", "frame_2"]
    assert all(d.dim_value > 0 for v in model.graph.input for d in v.type.tensor_type.shape.dim)


def test_frames_are_filled_up_to_the_alignment():
    (frame, *_) = engine_graph(bundled_models()["n2v-lite"], (101, 50)).graph.input
    sides = [d.dim_value for d in frame.type.tensor_type.shape.dim][2:]
    assert all(side >= 1 and given <= side < given + 16 for side, given in zip(sides, (101, 50), strict=True))
    assert sides != [101, 50]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("wcvd", {"size": (6, 64)}, "6x64 pixels are too small: wcvd needs 7x7"),
        ("wcvd", {"size": (64, 64), "weight_set": 99}, "no weight set 99"),
        ("wcvd", {"size": (64, 64), "cutoff": 0.0}, "must be above 0"),
        ("udvd-lite", {"size": (64, 64), "cutoff": 0.1}, "has no low-pass"),
        ("reucid", {"size": (64, 64)}, "is a classifier, not a denoiser"),
    ],
)
def test_what_the_model_does_not_take_is_refused(name, arguments, words):
    with pytest.raises(LowdoseError, match=words):
        engine_graph(bundled_models()[name], **arguments)


def test_a_scan_of_another_size_is_refused(wiener_files):
    with pytest.raises(LowdoseError, match="takes frames of 12x9 pixels only; given 9x12"):
        engine_graph(wiener_files / "scan.onnx", SCAN_SIZE[::-1])


def test_without_the_builder_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(tensorrt_rtx, "find_spec", lambda name: None)
    with pytest.raises(LowdoseError, match=r"not installed: pip install 'lowdose\[rtx\]'"):
        engine_builder.build_plan(engine_graph(bundled_models()["wcid"], (16, 16)), ["8.6"])


class TestBuilder:
    """With TensorRT-RTX, which needs no GPU for this."""

    @pytest.fixture(autouse=True)
    def package(self):
        return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("name", DENOISERS)
    def test_every_bundled_model_becomes_an_engine(self, name, size):
        assert len(engine_builder.build_plan(engine_graph(bundled_models()[name], size), ["8.9"])) > 100_000

    @pytest.mark.parametrize("sizes", [Sizes(), Sizes(3, 2, own_side=3)], ids=str)
    def test_the_blind_feature_network_becomes_an_engine(self, sizes):
        model = model_of(random_weights(sizes), sizes.n_taps)
        set_sizes(model.graph, {"batch": 1, "height": 48, "width": 31})
        assert engine_builder.build_plan(model, ["8.9"])

    @pytest.mark.parametrize("batch", [1, 7])
    def test_the_classifier_becomes_an_engine(self, batch):
        model = onnx.load(bundled_models()["reucid"])
        set_sizes(model.graph, {"batch": batch})
        assert engine_builder.build_plan(model, ["8.9"])

    @pytest.mark.parametrize("name", DENOISERS)
    def test_the_files_themselves_parse(self, name, package):
        """As an engine that builds for any size takes them: dynamic shapes, functions, If."""
        messages = Messages(package)
        builder = package.Builder(messages.logger)
        network = builder.create_network(0)
        assert package.OnnxParser(network, messages.logger).parse(bundled_models()[name].read_bytes()), messages.texts

    @pytest.mark.parametrize("size", SIZES)
    def test_filters_become_engines(self, wiener_files, size):
        assert engine_builder.build_plan(engine_graph(wiener_files / "movie.onnx", size, batch=3), ["7.5", "12.0"])

    def test_a_filter_over_a_scan_becomes_an_engine(self, wiener_files):
        assert engine_builder.build_plan(engine_graph(wiener_files / "scan.onnx", SCAN_SIZE), ["8.6"])

    def test_a_target_that_is_unknown_is_refused(self):
        with pytest.raises(LowdoseError, match=r"compute capability 9.0: TensorRT-RTX .* knows 7.5, .*12.0"):
            engine_builder.build_plan(engine_graph(bundled_models()["wcid"], (16, 16)), ["8.6", "9.0"])

    def test_the_parsers_words_reach_the_user(self):
        value = onnx.helper.make_tensor_value_info
        pixels = [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in (("x", [1, 8, 1]), ("y", [1, 8, 2]))]
        node = onnx.helper.make_node("DFT", ["x"], ["y"], axis=1)
        graph = onnx.helper.make_graph([node], "transform", pixels[:1], pixels[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        with pytest.raises(LowdoseError, match="cannot parse the graph: DFT"):
            engine_builder.build_plan(model, ["8.6"])
