"""The ways to denoise, one file each, behind one interface (`method.py`)."""

from __future__ import annotations

from lowdose.errors import LowdoseError
from lowdose.methods.auto import Auto
from lowdose.methods.bfn import NAMES, Bfn
from lowdose.methods.classical import FILTERS, Classical
from lowdose.methods.method import Method
from lowdose.methods.network import Network
from lowdose.methods.reucid import Reucid
from lowdose.methods.wiener import Wiener
from lowdose.model import load


def find_method(name: str, *, device: str = "auto") -> Method:
    """A method by the name that `lowdose denoise --model` takes.

    "auto", "wiener", "reucid", a classical filter ("gaussian", "gaussian3d", "tv", "nlm", "bilateral") with or without
    its strength ("tv:1.2"), a bundled model or a model file.
    Raises LowdoseError for an unknown name, and for a device that is not there or that the method cannot use.
    """
    if name == "auto":
        return Auto(device)
    if name in ("wiener", "reucid"):
        if device not in ("auto", "cpu"):
            raise LowdoseError(f"{name} runs on the CPU, not on {device}")
        return Wiener() if name == "wiener" else Reucid()
    if name.partition(":")[0] in FILTERS:
        return Classical(name, device=device)
    if name in NAMES:
        return Bfn(name, device)
    return Network(load(name, device=device))
