"""The kernels for GPUs, compiled for the CPU with every thread of a block as a thread, against the CPU's own."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from lowdose import _core
from lowdose.model import NO_LOW_PASS, bundled_models

KERNELS = Path(__file__).resolve().parents[1] / "cpp" / "src" / "cuda"
DTYPES = ["uint8", "uint16", "int16", "uint32", "float32", "float64"]
CUTOFF_ALL = 0.7072
SIZES_PX = (3, 5, 7)
ARCHITECTURE = ["-DN_FEATURES=3", "-DN_MIXING=4", "-DLARGEST=7", "-DN_BRANCHES=3"]
BRANCHES = " ".join(f"BRANCH({index}, {size})" for index, size in enumerate(SIZES_PX))

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None or not KERNELS.is_dir(),
    reason="needs Linux, g++ and the sources of the kernels",
)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The library of the kernels for a number of taps."""
    folder = tmp_path_factory.mktemp("kernels")

    def build(n_taps):
        library = folder / f"kernels-{n_taps}.so"
        if not library.exists():
            flags = ["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", f"-I{KERNELS}"]
            flags.append("-fno-gnu-unique")  # each library has statics of its own
            define = [f"-DN_TAPS={n_taps}", *ARCHITECTURE, f"-DBRANCHES={BRANCHES}"]
            source = str(Path(__file__).with_name("cuda_on_threads.cpp"))
            subprocess.run(["g++", *flags, *define, source, "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))

    return build


def at(array):
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("name", ["wcid", "wcvd"])
@pytest.mark.parametrize(
    ("shape", "batch", "weight_set"), [((37, 53), 2, 4), ((7, 7), 1, 8), ((33, 8), 1, -1), ((64, 32), 1, 0)]
)
def test_blind_spot(kernels, name, shape, batch, weight_set):
    path = bundled_models()[name]
    weights = {w.name: np.ascontiguousarray(numpy_helper.to_array(w)) for w in onnx.load(path).graph.initializer}
    n_sets, _, n_taps = weights["kernel_3"].shape[:3]
    random = np.random.default_rng(0)
    frames = [random.poisson(5, (batch, 1, *shape)).astype(np.float32) for _ in range(n_taps)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    settings = {"weight_set": np.array(weight_set), "cutoff": np.array(NO_LOW_PASS, np.float32)}
    (expected,) = session.run(None, {f"frame_{i}": frame for i, frame in enumerate(frames)} | settings)

    index, out = np.array(weight_set), np.full((batch, 1, *shape), np.nan, np.float32)
    given = [*frames, index, weights["branch_weights"]]
    given += [weights[f"{part}_{size}"] for size in SIZES_PX for part in ("kernel", "mixing", "head")]
    pointers = np.array([array.ctypes.data for array in given], np.uint64)
    kernels(n_taps).run_blind_spot(at(pointers), n_sets, batch, *shape, at(out))
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize("cutoff", [1 / 7, 0.33, 1.0])
@pytest.mark.parametrize("shape", [(31, 40), (16, 17), (1, 5)])
def test_low_pass(kernels, shape, cutoff):
    """With NumPy's transforms in the place of cuFFT's."""
    library, plane = kernels(1), shape[0] * shape[1]
    frames = np.random.default_rng(1).normal(1000, 1, (2, *shape)).astype(np.float32)
    levels, contrast = np.zeros(2, np.float32), np.zeros_like(frames)
    library.run_contrast(at(frames), 2, plane, at(levels), at(contrast))
    spectrum = np.ascontiguousarray(np.fft.rfft2(contrast).astype(np.complex64))
    library.run_disc(at(spectrum), ctypes.c_float(cutoff), 2, *shape)
    filtered = np.ascontiguousarray(np.fft.irfft2(spectrum, s=shape) * plane).astype(np.float32)
    all_kept = ctypes.c_float(CUTOFF_ALL)
    library.run_add_levels(at(frames), at(levels), ctypes.c_float(cutoff), all_kept, 2, plane, at(filtered))
    expected = np.stack([_core.low_pass(frame, cutoff) for frame in frames])
    np.testing.assert_allclose(filtered, expected, rtol=0, atol=2e-4)
    assert cutoff < CUTOFF_ALL or np.array_equal(filtered, frames)


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_to_float(kernels, dtype):
    """Rows and channels of a larger array; the first pixel that is no number is found."""
    whole = (np.random.default_rng(2).random((2, 5, 13)) * 200).astype(dtype)
    frame, offset = whole[:, :, :9], np.float32(3.3)
    out, first_bad = np.zeros(frame.shape, np.float32), np.array(frame.size, np.uint32)

    def convert():
        kernels(1).run_to_float(
            at(whole), DTYPES.index(dtype), ctypes.c_longlong(whole.strides[1]), ctypes.c_longlong(whole.strides[0]),
            5, 9, frame.size, ctypes.c_float(offset), at(out), at(first_bad),
        )  # fmt: skip

    convert()
    np.testing.assert_array_equal(out, (frame.astype(np.float64) - np.float64(offset)).astype(np.float32))
    assert first_bad == frame.size
    if np.issubdtype(dtype, np.floating):
        frame[1, 2, 3], frame[1, 4, 0] = np.nan, np.inf
        convert()
        assert first_bad == np.ravel_multi_index((1, 2, 3), frame.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_from_float(kernels, dtype):
    values = np.random.default_rng(3).normal(0, 1e5, 77).astype(np.float32)
    values[:6] = [0.25, 1.25, -3, 254.5, 65535.5, 3e38]
    if np.issubdtype(dtype, np.integer):
        values[6] = np.nan
    out = np.zeros(values.shape, dtype)
    kernels(1).run_from_float(at(values), values.size, ctypes.c_float(0.25), DTYPES.index(dtype), at(out))
    np.testing.assert_array_equal(out, _core.cast(values, 0.25, dtype))


def test_sums(kernels):
    frame, sums = np.random.default_rng(4).random((2, 700), np.float32), np.zeros((2, 2))
    kernels(1).run_sums(at(frame), 2, 700, at(sums))
    exact = frame.astype(np.float64)
    np.testing.assert_allclose(sums, np.stack([exact.sum(1), (exact**2).sum(1)], 1), rtol=1e-12)
