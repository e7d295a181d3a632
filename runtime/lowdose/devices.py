"""Finds ONNX Runtime and says which devices there are, and what each that is missing lacks."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import io
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lowdose import _core
from lowdose.errors import LowdoseError

RUNTIME_VARIABLE = "LOWDOSE_ONNXRUNTIME"
LIBRARY_NAMES = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")
PLUGIN_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
COMPILERS = ("libnvrtc.so.13", "libnvrtc.so.12", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll")
"""NVRTC, which compiles the kernels for GPUs."""
TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")
"""What ONNX Runtime's provider links, in the order in which they need each other."""


@dataclass(frozen=True)
class Device:
    """What a device needs. extra: of lowdose; another_runtime: the extra replaces the plain onnxruntime."""

    provider: str
    needs: str
    extra: str
    another_runtime: bool = True

    @property
    def command(self) -> str:
        """What adds the device."""
        install = f"pip install 'lowdose[{self.extra}]'"
        return f"pip uninstall -y onnxruntime; {install}" if self.another_runtime else install


# Fastest first.
DEVICES = {
    "tensorrt": Device("TensorrtExecutionProvider", "NVIDIA GPU", "tensorrt"),
    "rtx": Device("NvTensorRTRTXExecutionProvider", "NVIDIA RTX GPU", "rtx", another_runtime=False),
    "cuda": Device("CUDAExecutionProvider", "NVIDIA GPU", "gpu"),
    "directml": Device("DmlExecutionProvider", "any GPU on Windows", "directml"),
    "cpu": Device("CPUExecutionProvider", "nothing", "cpu", another_runtime=False),
}
NAMES = "cpu, cuda[:N], tensorrt[:N], rtx[:N] or directml[:N]"


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
    """Devices that models can run on here, fastest first; "cpu" is always the last."""
    return [name for name in DEVICES if problem_with(name, runtime_path()) is None]


@functools.cache
def problem_with(device: str, runtime: str) -> str | None:
    """Why a device of DEVICES, such as "cuda" or "cuda:1", cannot be used with the ONNX Runtime at a path.

    None where it can: a model that gives back its frame was opened on it.
    """
    kind = DEVICES[device.split(":")[0]]
    _, providers = _core.runtime_info(runtime)
    if kind.provider == DEVICES["rtx"].provider:
        if importlib.util.find_spec(PLUGIN_PACKAGE) is None:
            return f"ONNX Runtime's provider for it is not installed: {kind.command}"
        plugin = importlib.import_module(PLUGIN_PACKAGE)
        try:
            _core.add_plugin(runtime, kind.provider, plugin.get_library_path())
        except LowdoseError as error:
            return with_advice(str(error), kind)
    elif kind.provider not in providers:
        return f"this ONNX Runtime was built without it: {kind.command}"
    if "NVIDIA" in kind.needs:
        load_nvidia_libraries()
    try:
        _core.OnnxModel(str(files("lowdose") / "bench" / "no-op.onnx"), runtime, device, False)
    except LowdoseError as error:
        return with_advice(str(error), kind)
    return None


def load_nvidia_libraries() -> None:
    """Load what the packages of NVIDIA hold, where the system's loader does not look; what is missing is told later."""
    with contextlib.suppress(ImportError), contextlib.redirect_stdout(io.StringIO()):
        onnxruntime = importlib.import_module("onnxruntime")
        if preload := getattr(onnxruntime, "preload_dlls", None):
            preload(directory="")
    load_compiler()
    spec = importlib.util.find_spec("tensorrt_libs")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for name in TENSORRT_LIBRARIES:
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(Path(folder) / name), mode=ctypes.RTLD_GLOBAL)


def load_compiler() -> None:
    """Load NVRTC from its package, unless the system has it."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    packaged = [str(file) for folder in folders for name in COMPILERS for file in folder.glob(f"**/{name}")]
    for library in (*COMPILERS, *packaged):
        with contextlib.suppress(OSError):
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
            return


def with_advice(message: str, device: Device) -> str:
    """What ONNX Runtime says, and what to do about it where that is known."""
    library = re.search(r"(\S+\.so[.\d]*|\S+\.dll): cannot open|depends on \"(\S+)\"", message)
    if not library:
        return message
    name = Path(library[1] or library[2]).name
    if name.startswith(("libcuda.", "nvcuda")):
        return f"{name}, which comes with the driver of NVIDIA GPUs, is not installed"
    return f"{name} is not installed: pip install 'lowdose[{device.extra}]'"


def check_device(device: str) -> None:
    """Raise LowdoseError unless `device` is cpu, or one of cuda, tensorrt, rtx and directml with or without :N, and is
    there.
    """
    if not re.fullmatch(r"cpu|(cuda|tensorrt|rtx|directml)(:\d+)?", device):
        raise LowdoseError(f"unknown device '{device}': expected auto, {NAMES}")
    if problem := problem_with(device, runtime_path()):
        raise LowdoseError(
            f"device '{device}' is not available here: {problem}. Available: {', '.join(available_devices())}"
        )
