"""A stream in steady state allocates nothing: every push is counted, in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COUNTER = Path(__file__).with_name("count_allocations.c")
PER_RESULT = 4
"""What the Python binding makes for each result: the array and its shape. ONNX Runtime's own are not counted."""

PROGRAM = """
import ctypes, json, sys
import numpy as np
from lowdose import Settings, load
from lowdose.bench.streams import NO_OP
from lowdose.wiener import fit_movie

counter = ctypes.CDLL(None)
frames = np.random.default_rng(0).poisson(20, (16, 64, 80)).astype(np.uint16)

def per_frame(stream, frames=frames, warm_up=32, n=32):
    for i in range(warm_up):
        stream.push(frames[i % len(frames)])
    counter.count_begin()
    for i in range(n):
        stream.push(frames[i % len(frames)])
    return counter.count_end() / n

def stream(name, **options):
    model = load(name, device="cpu")
    cutoff = options.pop("cutoff", 1.0 if model.metadata["low_pass"] else None)
    settings = Settings(0, cutoff, 0.0)
    return model.stream(64, 80, np.uint16, out_dtype=np.uint16, settings=settings, **options)

pairs = np.stack([frames, frames], 1)
counts = {
    "no-op": per_frame(stream(NO_OP)),
    "wcvd": per_frame(stream("wcvd", threads=1)),
    "wcvd, low-pass": per_frame(stream("wcvd", cutoff=0.2, threads=1)),
    "wcvd, low-pass of tiles": per_frame(stream("wcvd", cutoff=0.2, tile=40, threads=1)),
    "udvd-lite": per_frame(stream("udvd-lite", threads=1)),
    "n2v-lite": per_frame(stream("n2v-lite", threads=1)),
    "n2v-lite-dual": per_frame(stream("n2v-lite-dual", threads=1), pairs),
    # Each input of a block sees each buffer in turn before nothing is new.
    "synthesis3d-lite": per_frame(stream("synthesis3d-lite", threads=1), warm_up=160),
    "wiener": per_frame(fit_movie([frames[:, None].astype(np.float32)]).stream(64, 80, np.uint16)),
}
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("counter") / "count_allocations.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, COUNTER, "-ldl"], check=True)
    return library


def run(program, counter):
    environment = os.environ | {"LD_PRELOAD": str(counter)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def test_no_push_allocates_anything_but_its_result(counter):
    counts = run(PROGRAM, counter)
    assert counts == dict.fromkeys(counts, PER_RESULT)


def test_the_counter_counts(counter):
    """Making a stream allocates its buffers."""
    program = """
import ctypes, json
import numpy as np
from lowdose import Settings, load
counter = ctypes.CDLL(None)
model = load("wcvd", device="cpu")
counter.count_begin()
model.stream(64, 80, np.uint16, settings=Settings(0, 1.0, 0.0))
print(json.dumps(counter.count_end()))
"""
    assert run(program, counter) > 10
