"""The end of every export: the file is measured and checked under another name before it gets its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from lowdose_export.memory import SIDES_PX, bytes_per_px
from lowdose_export.model_file import set_metadata


def write_checked(
    model: onnx.ModelProto,
    out: Path,
    check: Callable[[Path], dict[str, float]],
    *,
    memory_sides_px: tuple[int, int] = SIDES_PX,
    of_any_size: onnx.ModelProto | None = None,
) -> dict[str, float]:
    """Write `model`, with its memory per pixel in its metadata, if `check` finds nothing wrong with the file.

    Returns what `check` returns; when it raises, nothing is left under `out`. memory_sides_px: frame sides at which
    memory is measured; of_any_size: what is measured in place of a model for frames of one size.
    """
    metadata = json.loads(model.metadata_props[0].value)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / out.name
        onnx.save(of_any_size or model, unfinished)
        metadata["bytes_per_px"] = bytes_per_px(unfinished, metadata, memory_sides_px)
        set_metadata(model, metadata)
        onnx.save(model, unfinished)
        differences = check(unfinished)
        unfinished.replace(out)
    return differences
