"""What can be told of the device "cuda" without a GPU: graphs with constant settings, kernels that compile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lowdose import LowdoseError, _core
from lowdose.devices import load_nvidia_libraries
from lowdose.model import bundled_models
from lowdose_export.engine_graph import contract_of
from lowdose_export.half import to_half

DENOISERS = sorted(set(bundled_models()) - {"reucid"})
SIZE = (128, 160)
COMPUTED_ON_THE_CPU = {"If", "Loop", "Range", "Shape", "Size", "NonZero"}
"""ONNX Runtime leaves these to the CPU, whatever the device is."""
CUTOFF, WEIGHT_SET = 0.125, 2


def session(model: bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in zip(("batch", "height", "width"), (1, *SIZE), strict=True):
        options.add_free_dimension_override_by_name(name, value)
    if optimised:
        options.optimized_model_filepath = str(optimised)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def file_of(name: str, half: bool) -> bytes:
    path = bundled_models()[name]
    if not half:
        return path.read_bytes()
    model = onnx.load(path)
    return to_half(model, contract_of(model, path)).SerializeToString()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", DENOISERS)
def test_with_constant_settings_nothing_is_left_to_the_cpu(tmp_path, name, half):
    session(_core.with_settings(file_of(name, half), 0, CUTOFF), tmp_path / "optimised.onnx")
    left = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "Conv" in left
    assert not left & COMPUTED_ON_THE_CPU


@pytest.mark.parametrize("name", ["wcid", "wcvd"])
def test_constant_settings_change_no_number(name):
    given = file_of(name, half=False)
    constant = session(_core.with_settings(given, WEIGHT_SET, CUTOFF))
    feeds = {
        value.name: np.random.default_rng(0).poisson(5, (1, 1, *SIZE)).astype(np.float32)
        for value in constant.get_inputs()
    }
    assert {"weight_set", "cutoff"}.isdisjoint(feeds)
    settings = {"weight_set": np.array(WEIGHT_SET), "cutoff": np.array(CUTOFF, np.float32)}
    (expected,) = session(given).run(None, feeds | settings)
    (result,) = constant.run(None, feeds)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5 * np.ptp(expected))


def test_a_file_without_settings_keeps_all_of_its_fields():
    given = bundled_models()["n2v-lite"].read_bytes()
    assert onnx.load_from_string(_core.with_settings(given, 0, CUTOFF)) == onnx.load_from_string(given)


def test_a_damaged_file_is_an_error():
    with pytest.raises(LowdoseError, match="damaged or cut short"):
        _core.with_settings(bundled_models()["wcid"].read_bytes()[:-5], 0, CUTOFF)


def has_compiler() -> bool:
    """NVRTC, as the package nvidia-cuda-nvrtc has it or the system."""
    load_nvidia_libraries()
    try:
        _core.gpu_kernels(90)
    except LowdoseError as error:
        assert "libnvrtc" in str(error)
        return False
    return True


@pytest.mark.skipif(not has_compiler(), reason="nvidia-cuda-nvrtc is not installed")
@pytest.mark.parametrize("capability", [75, 80, 86, 89, 90, 100, 120])
def test_kernels_compile(capability):
    """For every GPU that CUDA 13 knows; none is needed."""
    sizes = _core.gpu_kernels(capability)
    assert set(sizes) == {"common", "blind_spot", "low_pass"}
    assert all(size > 1000 for size in sizes.values())
