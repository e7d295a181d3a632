"""The C library in the wheel: the same bits as Python, the symbols of the header and no others, a CMake package."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import c_api
import lowdose
from lowdose.devices import runtime_path
from lowdose.model import bundled_models
from lowdose.wiener import fit_movie, fit_scan
from lowdose_export.wiener import export_wiener

ROOT = Path(__file__).resolve().parents[1]
DENOISERS = [name for name in bundled_models() if name != "reucid"]


@pytest.fixture(scope="module")
def library_path():
    try:
        return lowdose.get_library()
    except lowdose.LowdoseError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def library(library_path):
    opened = c_api.Library(library_path, runtime_path())
    yield opened
    opened.close()


def results_of(stream, stack):
    return np.stack([*(out for frame in stack if (out := stream.push(frame)) is not None), *stream.flush()])


def check_they_agree(library, model, height=44, width=61):
    scan = (3, 4) if model.scan else None
    n_frames = 12 if scan else 9
    channels = (len(model.channels),) if len(model.channels) > 1 else ()
    stack = np.random.default_rng(0).poisson(4, (n_frames, *channels, height, width)).astype(np.uint16)
    expected = results_of(model.stream(height, width, "uint16", scan=scan, threads=1), stack)
    np.testing.assert_array_equal(library.denoise(model.path, stack, scan=scan), expected)
    np.testing.assert_array_equal(library.denoise(model.path, stack, scan=scan, queue_frames=n_frames), expected)


@pytest.mark.parametrize("name", DENOISERS)
def test_python_and_c_agree_bit_for_bit(library, name):
    check_they_agree(library, lowdose.load(name, device="cpu"))


def test_they_agree_on_fitted_filters(library, tmp_path):
    """What `lowdose calibrate` writes: a movie's filter of two channels, and a scan's."""
    random = np.random.default_rng(2)
    movie = fit_movie([random.poisson(4, (8, 2, 32, 32)).astype(np.float32)], window_frames=3)
    export_wiener(movie, tmp_path / "movie.onnx", channels=["ADF", "BF"], fitted_to={})
    check_they_agree(library, lowdose.load(tmp_path / "movie.onnx", device="cpu"))
    scan = fit_scan(random.poisson(4, (4, 5, 16, 14)).astype(np.float32))
    export_wiener(scan, tmp_path / "scan.onnx", channels=["signal"], fitted_to={})
    check_they_agree(library, lowdose.load(tmp_path / "scan.onnx", device="cpu"), 16, 14)


@pytest.mark.parametrize("dtype", list(c_api.DTYPES))
def test_they_agree_for_every_pixel_type(library, dtype):
    model = lowdose.load("wcid", device="cpu")
    stack = np.random.default_rng(1).poisson(4, (2, 30, 41)).astype(dtype)
    expected = results_of(model.stream(30, 41, dtype, out_dtype=dtype, threads=1), stack)
    np.testing.assert_array_equal(library.denoise(model.path, stack, out_dtype=dtype), expected)


def test_versions_are_one(library_path):
    header = (ROOT / "cpp/include/lowdose.h").read_text()
    parts = [re.search(rf"LOWDOSE_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH")]
    assert ".".join(parts) == lowdose.__version__
    assert f"VERSION {lowdose.__version__} " in (ROOT / "cpp/CMakeLists.txt").read_text()
    major, minor, patch = map(int, parts)
    assert ctypes.CDLL(library_path).lowdose_version() == major * 1000000 + minor * 1000 + patch


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("nm"), reason="needs nm")
def test_the_headers_functions_are_exported_and_nothing_else(library_path):
    listing = subprocess.run(["nm", "-D", "--defined-only", library_path], check=True, capture_output=True, text=True)
    exported = {line.split()[-1].split("@")[0] for line in listing.stdout.splitlines()}
    header = Path(lowdose.get_include(), "lowdose.h").read_text()
    assert exported == set(re.findall(r"LOWDOSE_CALL (lowdose_\w+)\(", header))


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("cc")), reason="needs cmake and a C compiler")
def test_the_wheel_is_a_cmake_package(library_path, tmp_path):
    consumer = ROOT / "cpp/tests/consumer"
    subprocess.run(
        ["cmake", "-S", consumer, "-B", tmp_path, f"-Dlowdose_DIR={lowdose.get_cmake_dir()}"],
        check=True,
        capture_output=True,
    )
    subprocess.run(["cmake", "--build", tmp_path], check=True, capture_output=True)
    models = (tmp_path / "models.txt").read_text()
    subprocess.run([tmp_path / "consumer", models, runtime_path()], check=True)
    subprocess.run([tmp_path / "consumer_hpp"], check=True)
