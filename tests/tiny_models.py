"""Model files of a few operators, to see what the core does around any network."""

from __future__ import annotations

import json

import onnx
from onnx import TensorProto, helper

CONTRACT = {
    "spec": 1,
    "method": "tiny",
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
    "bytes_per_px": 100.0,
}


def tiny_model(path, body, *, n_outputs=None, **contract):
    """Write a model whose graph is `body` (onnx.parser lines over frame_0 ..., giving `denoised`)."""
    metadata = CONTRACT | contract
    n_taps, n_channels = len(metadata["taps"]["offsets"]), len(metadata["channels"])
    inputs = [(f"frame_{i}", n_channels) for i in range(n_taps)]
    outputs = [("denoised", n_outputs or n_channels)]
    state = metadata.get("state")
    if state:
        inputs += [(name, state["channels"]) for name in state["inputs"]]
        outputs.append((state["output"], state["channels"]))
    plane = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", c, "height", "width"]) for n, c in inputs]
    if metadata["normalisation"] != "none":
        names = ["offset"] + (["scale"] if metadata["normalisation"]["scale_stds"] else [])
        plane += [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", n_channels, 1, 1]) for n in names]
    text = f'<ir_version: 9, opset_import: ["" : 18]> g (float[1] unused) => (float[1] denoised) {{ {body} }}'
    nodes = onnx.parser.parse_model(text).graph.node
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", c, "height", "width"]) for n, c in outputs]
    graph = helper.make_graph(nodes, "tiny", plane, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"lowdose": json.dumps(metadata)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
