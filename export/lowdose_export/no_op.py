"""The model that `lowdose bench --model no-op` runs: it gives back its frame, so that only the engine takes time.

Made by `python -m lowdose_export.no_op runtime/lowdose/bench/no-op.onnx`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from lowdose_export.functions import OPSET
from lowdose_export.model_file import IR_VERSION, SPEC, set_metadata

CONTRACT = {
    "spec": SPEC,
    "method": "no-op",
    "taps": {"axis": "time", "offsets": [0]},
    "ends": "repeat",
    "channels": ["signal"],
    "margin_px": 0,
    "align_px": 1,
    "min_size_px": 1,
    "boundary": "internal",
    "normalisation": "none",
    "offset_rule": "none",
    "low_pass": None,
    "weight_sets": [{"name": "none"}],
    "bytes_per_px": 4.0,
}


def no_op_model() -> onnx.ModelProto:
    """frame_0 -> denoised, both float32 (batch, 1, height, width)."""
    shape: list[str | int | None] = ["batch", 1, "height", "width"]
    frame, denoised = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("frame_0", "denoised"))
    node = helper.make_node("Identity", ["frame_0"], ["denoised"])
    opset = [helper.make_opsetid("", OPSET)]
    graph = helper.make_graph([node], "no-op", [frame], [denoised])
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="lowdose")
    set_metadata(model, CONTRACT)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(no_op_model(), Path(sys.argv[1]))
