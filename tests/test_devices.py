"""Devices that are not there: each is asked for, and the answer says what is missing and what adds it."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from lowdose import LowdoseError, _core, devices, load

NAMES = list(devices.DEVICES)
HAS_PLUGIN = importlib.util.find_spec(devices.PLUGIN_PACKAGE) is not None


@pytest.fixture(autouse=True)
def asked_anew():
    devices.problem_with.cache_clear()
    yield
    devices.problem_with.cache_clear()


def test_the_cpu_is_always_there():
    assert devices.available_devices()[-1] == "cpu"
    assert load("wcid", device="cpu").device == "cpu"


def test_auto_takes_the_fastest_that_is_there():
    assert load("wcid").device == devices.available_devices()[0]


@pytest.mark.parametrize("device", [name for name in NAMES if name != "cpu"])
def test_an_explicit_device_is_never_replaced(device):
    """The hundredth GPU is nowhere, and no other takes its place."""
    with pytest.raises(LowdoseError, match=f"device '{device}:99' is not available here: .* Available: .*cpu"):
        load("wcid", device=f"{device}:99")


def test_command_says_what_is_there_what_is_missing_and_what_adds_it(lowdose):
    facts = json.loads(lowdose("devices", "--json").out)
    assert facts["available"] == devices.available_devices()
    assert set(facts["missing"]) == set(NAMES) - set(facts["available"])
    text = lowdose("devices").out
    assert f"ONNX Runtime {facts['onnxruntime']}" in text
    for name, lacks in facts["missing"].items():
        assert re.fullmatch(r"(pip uninstall -y onnxruntime; )?pip install 'lowdose\[\w+\]'", lacks["command"])
        assert f"missing:   {name} ({lacks['needs']}): {lacks['problem']}" in text


def test_a_runtime_without_the_provider_names_the_extra():
    _, providers = _core.runtime_info(devices.runtime_path())
    absent = [n for n in NAMES if devices.DEVICES[n].provider not in providers and n != "rtx"]
    assert "directml" in absent or "cuda" in absent
    for name in absent:
        problem = devices.problem_with(name, devices.runtime_path())
        assert problem is not None and f"pip install 'lowdose[{devices.DEVICES[name].extra}]'" in problem


def test_without_the_plugin_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(devices, "PLUGIN_PACKAGE", "no_such_package")
    with pytest.raises(LowdoseError, match=r"provider for it is not installed: pip install 'lowdose\[rtx\]'"):
        load("wcid", device="rtx")


def test_a_plugin_that_cannot_be_loaded_is_an_error(tmp_path):
    broken = tmp_path / "plugin.so"
    broken.write_bytes(b"no library")
    with pytest.raises(LowdoseError, match=r"Failed to load library .*plugin\.so"):
        _core.add_plugin(devices.runtime_path(), "SomeExecutionProvider", str(broken))
    assert "SomeExecutionProvider" not in _core.runtime_info(devices.runtime_path())[1]


@pytest.mark.skipif(not HAS_PLUGIN, reason="onnxruntime-ep-nv-tensorrt-rtx is not installed")
def test_the_plugin_without_a_gpu_says_what_is_missing():
    problem = devices.problem_with("rtx", devices.runtime_path())
    if problem is None:
        pytest.skip("there is a GPU")
    assert "driver" in problem


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            "Failed to load library /a/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open "
            "shared object file: No such file or directory",
            "libcublasLt.so.13 is not installed: pip install 'lowdose[gpu]'",
        ),
        (
            "Failed to load library /a/p.so with error: libcuda.so.1: cannot open shared object file: No such file",
            "libcuda.so.1, which comes with the driver of NVIDIA GPUs, is not installed",
        ),
        ("something else", "something else"),
    ],
)
def test_known_errors_get_advice(message, advice):
    assert devices.with_advice(message, devices.DEVICES["cuda"]) == advice
