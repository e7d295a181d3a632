"""Finds ONNX Runtime and says which devices it offers."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from lowdose import _core
from lowdose.errors import LowdoseError

RUNTIME_VARIABLE = "LOWDOSE_ONNXRUNTIME"
LIBRARY_NAMES = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


def runtime_path() -> str:
    """Path of the ONNX Runtime shared library: $LOWDOSE_ONNXRUNTIME, or the one in the installed wheel.

    Raises LowdoseError when neither is there.
    """
    if given := os.environ.get(RUNTIME_VARIABLE):
        return given
    spec = importlib.util.find_spec("onnxruntime")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "capi"
        for pattern in LIBRARY_NAMES:
            for library in sorted(folder.glob(pattern)):
                return str(library)
    raise LowdoseError(
        "ONNX Runtime is not installed: pip install 'lowdose[cpu]' (or [gpu], [directml]), "
        f"or set {RUNTIME_VARIABLE} to the path of its shared library"
    )


def available_devices() -> list[str]:
    """Devices that the installed ONNX Runtime was built for, fastest first; "cpu" is always the last."""
    _, providers = _core.runtime_info(runtime_path())
    return [device for device in ("tensorrt", "cuda", "cpu") if PROVIDERS[device] in providers]


def check_device(device: str) -> None:
    """Raise LowdoseError unless `device` is cpu, cuda[:N] or tensorrt[:N] and ONNX Runtime has it."""
    available = available_devices()
    if not re.fullmatch(r"cpu|(cuda|tensorrt)(:\d+)?", device):
        raise LowdoseError(f"unknown device '{device}': expected auto, cpu, cuda[:N] or tensorrt[:N]")
    if device.split(":")[0] not in available:
        raise LowdoseError(
            f"device '{device}' is not available here; available: {', '.join(available)}. "
            "NVIDIA GPUs need pip install 'lowdose[gpu]' instead of 'lowdose[cpu]'"
        )
