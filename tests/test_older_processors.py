"""The package on emulated processors of 2008 and 2013: no illegal instruction, the same numbers.

All of test_kernels.py passes in this way too, in some minutes:
qemu-x86_64 -cpu Nehalem python -m pytest tests/test_kernels.py
"""

import os
import platform
import shutil
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest

from blind_features_models import Sizes, model_of, random_weights

PROCESSORS = {"Nehalem": "sse4.2", "Haswell": "avx2"}

# Both sides run the same instructions; only the C library's sines and cosines may be others.
TOLERANCE = 1e-6

PROGRAM = """
import sys
import numpy as np
from lowdose import NO_LOW_PASS, Settings, _core, load

random = np.random.default_rng(0)
results = {}
for path in sys.argv[2:]:
    model = load(path, device="cpu")
    last_set = len(model.metadata["weight_sets"]) - 1
    for shape in ((3, 7, 7), (2, 33, 70)):
        frames = random.poisson(3, shape).astype(np.uint16)
        for cutoff in (NO_LOW_PASS, 0.2) if model.metadata["low_pass"] else (NO_LOW_PASS,):
            denoised = model.denoise(frames, settings=Settings(last_set, cutoff, 0.5), threads=2)
            results[f"{model.metadata['method']} {shape} {cutoff}"] = denoised
for shape in ((1, 1), (31, 64), (47, 58)):  # 47 and 58 have large prime factors
    results[f"low-pass {shape}"] = _core.low_pass(random.normal(1, 2, shape).astype(np.float32), 0.15)
stream = _core.FilterStream(
    21, 34, n_channels=1, taps=[(0, -1), (0, 0), (0, 1)], radius_px=2, dtype_in="uint8", dtype_out="float32", scan=None
)
weights = random.normal(0, 0.2, (3, 1, 3, 1, 5, 5)).astype(np.float32)
stream.use(stream.prepare(weights, np.full((1, 21, 34), 3, np.float32), np.full((1, 21, 34), 2, np.float32)))
filtered = [stream.push(frame) for frame in random.poisson(3, (4, 21, 34)).astype(np.uint8)]
results["filter"] = np.stack([*filtered[1:], stream.flush()])
np.savez(sys.argv[1], kernels=model.kernels, **results)
"""

# Runs the machine code that it is given, then a return.
RUN_CODE = """
import ctypes, mmap, sys
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex(sys.argv[1]) + b"\\xc3")
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
NO_OPERATION, AVX, FMA, AVX512 = "90", "c5fc57c0", "c4e271b8c0", "62f17c48efc0"


@pytest.fixture(scope="module")
def qemu():
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("older processors are emulated on Linux x86-64 only")
    path = shutil.which("qemu-x86_64")
    if not path:
        pytest.skip("no qemu-x86_64 to emulate older processors with (Debian: apt-get install qemu-user)")
    return path


def run(command, folder, **environment):
    chosen = ("LOWDOSE_CPU", "OPENBLAS_CORETYPE")  # instructions that the emulated processor may not have
    kept = {name: value for name, value in os.environ.items() if name not in chosen}
    return subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_an_older_processor_gives_the_same_numbers(qemu, processor, model_files, tmp_path):
    instructions = PROCESSORS[processor]
    program = [sys.executable, "-c", PROGRAM]
    onnx.save(model_of(random_weights(Sizes(n_taps=3)), 3), tmp_path / "bfn.onnx")
    paths = [str(path) for path in (*model_files.values(), tmp_path / "bfn.onnx")]
    native = run([*program, "native.npz", *paths], tmp_path, LOWDOSE_CPU=instructions)
    if f"LOWDOSE_CPU is '{instructions}'" in native.stderr:
        pytest.skip(f"this processor has no {instructions} to compare with")
    assert native.returncode == 0, native.stderr
    # NumPy's OpenBLAS goes by the maker of the processor, which is not emulated, and would take AVX on a new AMD.
    command = [qemu, "-cpu", processor, *program, "emulated.npz", *paths]
    emulated = run(command, tmp_path, OPENBLAS_CORETYPE=processor)
    assert emulated.returncode == 0, emulated.stderr
    with np.load(tmp_path / "native.npz") as expected, np.load(tmp_path / "emulated.npz") as results:
        assert results.files == expected.files
        assert results["kernels"] == instructions
        for name in set(results.files) - {"kernels"}:
            assert np.ptp(expected[name]) > 0 or expected[name].size == 1
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(results[name], expected[name], rtol=0, atol=TOLERANCE * scale, err_msg=name)


@pytest.mark.parametrize(("processor", "newer"), [("Nehalem", AVX), ("Nehalem", FMA), ("Haswell", AVX512)])
def test_the_emulated_processor_refuses_newer_instructions(qemu, processor, newer, tmp_path):
    emulated = [qemu, "-cpu", processor, sys.executable, "-c", RUN_CODE]
    assert run([*emulated, NO_OPERATION], tmp_path).returncode == 0
    assert run([*emulated, newer], tmp_path).returncode == -signal.SIGILL
