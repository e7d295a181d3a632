"""Engines on an emulated GPU: all but the GPU and TensorRT-RTX's runtime is what users have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "emulated_gpu"
KERNELS = HERE.parents[1] / "cpp" / "src" / "cuda"
ARCHITECTURE = [
    "-DN_TAPS=1",
    "-DN_FEATURES=1",
    "-DN_MIXING=1",
    "-DLARGEST=3",
    "-DN_BRANCHES=1",
    "-DBRANCHES=BRANCH(0,3)",
]


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None or not KERNELS.is_dir(),
    reason="needs Linux, g++ and the sources of the kernels",
)
def test_engines(tmp_path):
    flags = ["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", f"-I{KERNELS}"]
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["g++", *flags, *ARCHITECTURE, str(HERE / "driver.cpp"), "-o", str(library)], check=True)
    (tmp_path / "libnvrtc.so.13").symlink_to(library)
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    arguments = ["-q", "-p", "no:cacheprovider", str(HERE / "checks.py")]
    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
