"""What a timing needs beside it: the processor, the versions, the commit, and how much memory was used."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import lowdose

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "numba", "torch", "openvino")
FLAGS = ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
CPU_INFO, STATUS, CLEAR = (Path("/proc") / name for name in ("cpuinfo", "self/status", "self/clear_refs"))


def machine() -> dict[str, Any]:
    """Processor and its vector instructions, number of cores, versions and commit, JSON-able."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu_name(),
        "cpu_flags": [flag for flag in FLAGS if flag in cpu_fact("flags").split()],
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "lowdose": lowdose.__version__,
        "commit": commit(),
        "versions": versions,
    }


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    return cpu_fact("model name") or platform.processor() or platform.machine()


def cpu_fact(name: str) -> str:
    """A line of Linux's description of the first core; empty where there is none."""
    if not CPU_INFO.exists():
        return ""
    facts = (line.partition(":") for line in CPU_INFO.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for key, _, value in facts if key.strip() == name), "")


def commit() -> str | None:
    """The commit that lowdose runs from, None where it is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def forget_peak_memory() -> None:
    """Let `peak_memory_mb` count from here, where the system can do that (Linux)."""
    if CLEAR.exists():
        CLEAR.write_text("5", encoding="ascii")


def peak_memory_mb() -> float | None:
    """The most memory that the whole process had in use, in MB; None where the system does not say (Windows)."""
    if not STATUS.exists():
        return None
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
