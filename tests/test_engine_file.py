"""Engine files: built once per key, never taken for another, never half written."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from lowdose import LowdoseError, devices, load, tensorrt_rtx
from lowdose.engine_file import (
    Engine,
    EngineKey,
    check_runs_here,
    differences,
    is_engine,
    read_engine,
    write_engine,
)
from lowdose.model import bundled_models
from lowdose_export import engine, engine_graph

KEY = EngineKey(
    model_sha256="0" * 64,
    height=64,
    width=96,
    batch=1,
    precision="fp32",
    weight_set=0,
    cutoff=0.25,
    builder="TensorRT-RTX 1.7.1",
    lowdose="0.1.0",
    targets=("8.6", "8.9"),
)
OTHER = {
    "model_sha256": "1" * 64,
    "height": 96,
    "width": 64,
    "batch": 2,
    "precision": "fp16",
    "weight_set": 1,
    "cutoff": None,
    "builder": "TensorRT-RTX 1.8.0",
    "lowdose": "0.2.0",
    "targets": ("8.6",),
}
ENGINE = Engine(KEY, {"method": "wcvd"}, b"a plan" * 100)


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """The builder replaced by one that notes its calls: what is tested is when it is called."""
    calls = []

    def build_plan(graph, targets):
        calls.append(targets)
        return b"plan %d" % len(calls)

    monkeypatch.setenv("LOWDOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engine, "build_plan", build_plan)
    monkeypatch.setattr(engine, "builder_name", lambda: "TensorRT-RTX 1.7.1")
    monkeypatch.setattr(engine, "check_targets", lambda targets: None)
    return calls


def test_a_file_gives_back_what_was_written(tmp_path):
    write_engine(tmp_path / "sub" / "a.engine", ENGINE)
    assert read_engine(tmp_path / "sub" / "a.engine") == ENGINE
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.engine"]


@pytest.mark.parametrize("length", [0, 4, 12, 200, -1])
def test_a_file_cut_short_is_refused(tmp_path, length):
    path = tmp_path / "a.engine"
    write_engine(path, ENGINE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(LowdoseError, match=r"is damaged|is no engine"):
        read_engine(path)


def test_a_changed_plan_and_another_format_are_refused(tmp_path):
    path = tmp_path / "a.engine"
    write_engine(path, ENGINE)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(LowdoseError, match="damaged or cut short: build it again"):
        read_engine(path)
    path.write_bytes(b"ftrt" * 50)
    with pytest.raises(LowdoseError, match="is no engine of lowdose"):
        read_engine(path)


def test_nothing_is_left_when_writing_fails(tmp_path):
    (tmp_path / "a.engine").mkdir()
    with pytest.raises(OSError):
        write_engine(tmp_path / "a.engine", ENGINE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.engine"]


@pytest.mark.parametrize("part", [field.name for field in fields(EngineKey)])
def test_each_part_of_the_key_makes_another_engine(part):
    changed = replace(KEY, **{part: OTHER[part]})
    assert changed.digest != KEY.digest
    (words,) = differences(changed, KEY)
    assert words.startswith(f"{part} ")
    assert not differences(KEY, KEY)


def test_stale_and_foreign_engines_are_refused(tmp_path):
    check_runs_here(tmp_path, KEY, KEY.builder, "8.9")
    with pytest.raises(LowdoseError, match=r"built by TensorRT-RTX 1.7.1 and TensorRT-RTX 1.8.0 is installed"):
        check_runs_here(tmp_path, KEY, "TensorRT-RTX 1.8.0", "8.9")
    with pytest.raises(LowdoseError, match=r"compute capability 8.6, 8.9 and this one has 9.0: .* --target 9.0"):
        check_runs_here(tmp_path, KEY, KEY.builder, "9.0")


def test_an_engine_is_built_once(builds):
    path = bundled_models()["wcid"]
    key = engine.engine_key(path, (20, 24))
    first = engine.build_engine(path, key)
    assert engine.build_engine(path, key) == first and len(builds) == 1
    assert read_engine(first).key == key and read_engine(first).metadata["method"] == "wcid"


@pytest.mark.parametrize(
    "changed",
    [
        {"size": (24, 20)},
        {"batch": 2},
        {"precision": "fp16"},
        {"targets": ("8.9",)},
        {"weight_set": 1},
        {"cutoff": 0.3},
    ],
)
def test_another_key_is_built_beside_it_and_refused_in_its_place(builds, tmp_path, changed):
    path, usual = bundled_models()["wcid"], {"size": (20, 24)}
    key, other = engine.engine_key(path, **usual), engine.engine_key(path, **(usual | changed))
    assert engine.build_engine(path, key) != engine.build_engine(path, other)
    out = engine.build_engine(path, key, out=tmp_path / "my.engine")
    name = "height" if "size" in changed else next(iter(changed))
    with pytest.raises(LowdoseError, match=f"my.engine is another engine: {name} .* --overwrite"):
        engine.build_engine(path, other, out=out)
    assert read_engine(out).key == key
    engine.build_engine(path, other, out=out, overwrite=True)
    assert read_engine(out).key == other


def test_other_versions_and_another_model_are_other_engines(builds, monkeypatch, tmp_path):
    path = bundled_models()["wcid"]
    key = engine.engine_key(path, (20, 24))
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(bundled_models()["wcvd"].read_bytes())
    assert [words.split()[0] for words in differences(engine.engine_key(copy, (20, 24)), key)] == ["model_sha256"]
    monkeypatch.setattr(engine, "builder_name", lambda: "TensorRT-RTX 1.8.0")
    monkeypatch.setattr(engine, "__version__", "9.9")
    assert [words.split()[0] for words in differences(engine.engine_key(path, (20, 24)), key)] == ["builder", "lowdose"]


def test_a_damaged_engine_in_the_cache_is_built_again(builds):
    path, lines = bundled_models()["wcid"], []
    key = engine.engine_key(path, (20, 24))
    file = engine.build_engine(path, key)
    file.write_bytes(file.read_bytes()[:-2])
    assert engine.build_engine(path, key, report=lines.append) == file
    assert len(builds) == 2 and read_engine(file).key == key
    assert "cut short" in lines[0] and "built again" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"precision": "int4"}, "no precision 'int4'"),
        ({"batch": 0}, "1 or more frames at a time"),
        ({"weight_set": 99}, "no weight set 99"),
    ],
)
def test_keys_of_nothing_are_refused(builds, arguments, words):
    with pytest.raises(LowdoseError, match=words):
        engine.engine_key(bundled_models()["wcid"], (20, 24), **arguments)


def test_the_low_pass_of_a_half_engine_is_in_full_precision():
    model = engine_graph.engine_graph(bundled_models()["wcid"], (30, 40), half=True)
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert len(products) == 4
    assert all(types.get(name, 1) == 1 for node in products for name in node.input)


def test_an_engine_is_known_by_its_content(tmp_path):
    write_engine(tmp_path / "plan.bin", ENGINE)
    assert is_engine(tmp_path / "plan.bin") and not is_engine(bundled_models()["wcid"])
    for device in ("cpu", "cuda", "rtx:x"):
        with pytest.raises(LowdoseError, match=f"is an engine, which runs on the device rtx .* not on '{device}'"):
            load(tmp_path / "plan.bin", device=device)


def test_without_the_runtime_the_extra_is_named(tmp_path, monkeypatch):
    write_engine(tmp_path / "a.engine", ENGINE)
    monkeypatch.setattr(tensorrt_rtx, "find_spec", lambda name: None)
    with pytest.raises(
        LowdoseError, match=r"running the engine .* needs TensorRT-RTX, .* pip install 'lowdose\[rtx\]'"
    ):
        load(tmp_path / "a.engine")


@pytest.mark.parametrize("device", ["auto", "rtx", "rtx:1"])
def test_without_a_gpu_an_engine_says_what_is_missing(tmp_path, device):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    if devices.problem_with("rtx", devices.runtime_path()) is None:
        pytest.skip("there is a GPU")
    write_engine(tmp_path / "a.engine", ENGINE)
    with pytest.raises(LowdoseError, match=r"a\.engine needs an NVIDIA RTX GPU: .* is not installed"):
        load(tmp_path / "a.engine", device=device)


def test_the_runtime_has_what_the_emulated_one_has():
    """tests/emulated_gpu/tensorrt_rtx.py stands in for it, under the names that lowdose calls."""
    package = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    names = {
        package.Runtime: ["deserialize_cuda_engine"],
        package.ICudaEngine: [
            "num_io_tensors",
            "get_tensor_name",
            "create_runtime_config",
            "create_execution_context",
        ],
        package.IRuntimeConfig: ["cuda_graph_strategy", "create_runtime_cache", "set_runtime_cache"],
        package.IRuntimeCache: ["serialize", "deserialize"],
        package.CudaGraphStrategy: ["WHOLE_GRAPH_CAPTURE"],
        package.IExecutionContext: ["set_tensor_address", "execute_async_v3"],
    }
    assert not [name for kind, of_kind in names.items() for name in of_kind if not hasattr(kind, name)]
    assert "runtime_config: " in package.ICudaEngine.create_execution_context.__doc__


def test_command_builds_and_describes(lowdose, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    monkeypatch.setenv("LOWDOSE_CACHE", str(tmp_path / "cache"))
    arguments = ("engine", "build", "wcvd", "--size", "48x64", "--precision", "fp16", "--target", "8.9")
    outcome = lowdose(*arguments)
    assert outcome.code == 0, outcome.err
    assert "building wcvd-48x64-fp16-" in outcome.out
    (file,) = (tmp_path / "cache" / "engines").iterdir()
    assert "up to date" in lowdose(*arguments).out
    facts = json.loads(lowdose("engine", "info", file).out)
    assert json.loads(lowdose("info", file, "--json").out).items() >= facts.items()
    assert "TensorRT-RTX" in lowdose("info", file).out
    assert facts["targets"] == ["8.9"] and facts["precision"] == "fp16" and facts["cutoff"] == pytest.approx(1 / 7)
    refused = {
        ("--size", "48"): "--size 48: expected height and width",
        ("--size", "4x4"): "too small",
        ("--target", "9.0"): "no engine can be built for compute capability 9.0",
        ("--lowpass", "much"): "--lowpass much",
    }
    for extra, words in refused.items():
        outcome = lowdose(*arguments, *extra)
        assert outcome.code == 2 and words in outcome.err
    outcome = lowdose("engine", "build", "nothing", "--size", "48x48")
    assert outcome.code == 2 and "no model 'nothing'" in outcome.err
