"""Denoise low-dose electron microscopy: `load` a model, then `denoise` a stack or `stream` frames."""

from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Model, Settings, Stream, load

__all__ = ["NO_LOW_PASS", "LowdoseError", "Model", "Settings", "Stream", "load"]
__version__ = "0.1.0"
