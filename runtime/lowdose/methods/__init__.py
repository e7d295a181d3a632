"""The ways to denoise, one file each, behind one interface (`method.py`)."""

from __future__ import annotations

from lowdose.methods.method import Method
from lowdose.methods.network import Network
from lowdose.model import load


def find_method(name: str, *, device: str = "auto") -> Method:
    """A method by the name that `lowdose denoise --model` takes: a bundled model or a model file.

    Raises LowdoseError for an unknown name or a device that is not there.
    """
    return Network(load(name, device=device))
