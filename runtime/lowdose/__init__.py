"""Denoise low-dose electron microscopy: `load` a model, then `denoise` a stack or `stream` frames."""

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
