"""Engines of TensorRT-RTX for the GPU that is here."""

from __future__ import annotations

from pathlib import Path

import torch

from lowdose.errors import LowdoseError
from lowdose_export.engine import build_engine, engine_key
from lowdose_export.engine_builder import check_targets


def capability() -> str:
    return "{}.{}".format(*torch.cuda.get_device_capability())


def no_engines() -> str | None:
    """Why TensorRT-RTX builds no engine for this GPU; None where it does."""
    try:
        check_targets([capability()])
    except LowdoseError as error:
        return str(error)
    return None


def engine_file(path: Path, size: tuple[int, int], precision: str, cutoff: float | None, batch: int = 1) -> Path:
    """The engine of the model file `path`, built unless it is in the cache. Raises LowdoseError as building does."""
    key = engine_key(path, size, batch=batch, precision=precision, targets=(capability(),), cutoff=cutoff)
    return build_engine(path, key)
