"""Denoise low-dose electron microscopy: `load` a model, then `denoise` a stack or `stream` frames."""

import os

# ONNX Runtime 1.29 and later sends what it runs to its maker, unless this is set before it is loaded; 0 lets it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from lowdose.c_library import get_cmake_dir, get_include, get_library
from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Model, Settings, Stream, load

__all__ = [
    "NO_LOW_PASS",
    "LowdoseError",
    "Model",
    "Settings",
    "Stream",
    "get_cmake_dir",
    "get_include",
    "get_library",
    "load",
]
__version__ = "0.1.0"
