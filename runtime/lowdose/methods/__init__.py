"""The ways to denoise, one file each, behind one interface (`method.py`)."""

from __future__ import annotations

from lowdose.errors import LowdoseError
from lowdose.methods.method import Method
from lowdose.methods.network import Network
from lowdose.methods.reucid import Reucid
from lowdose.methods.wiener import Wiener
from lowdose.model import load


def find_method(name: str, *, device: str = "auto") -> Method:
    """A method by the name that `lowdose denoise --model` takes: "wiener", "reucid", a bundled model or a model file.

    Raises LowdoseError for an unknown name, and for a device that is not there or that the method cannot use.
    """
    if name in ("wiener", "reucid"):
        if device not in ("auto", "cpu"):
            raise LowdoseError(f"{name} runs on the CPU, not on {device}")
        return Wiener() if name == "wiener" else Reucid()
    return Network(load(name, device=device))
