"""ONNX Runtime does not report to its maker: it is told so before it is loaded, and starts no thread for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = """
import os
from pathlib import Path
import lowdose
threads = lambda: len(list(Path("/proc/self/task").iterdir()))
before = threads()
model = lowdose.load("wcid", device="cpu")
print(os.environ["ORT_DISABLE_TELEMETRY"], threads() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_opening_a_model_starts_no_thread():
    suppressing = ("ORT_DISABLE_TELEMETRY", "CI")  # on CI machines ONNX Runtime is silent anyway
    environment = {name: value for name, value in os.environ.items() if name not in suppressing}
    run = subprocess.run([sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["1", "0"]


def test_who_wants_it_keeps_it():
    code = "import os, lowdose; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "0"
