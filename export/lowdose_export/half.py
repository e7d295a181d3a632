"""A model file in half precision: float16 where the network computes, float32 where it meets the frames.

Inputs, outputs, normalisation and low-pass stay float32, so the file follows the contract as before. float16 ends at
65504, which frames reach; a network without normalisation is homogeneous, f(a x) = a f(x), so its frames (and states)
are divided by their largest value before it and the result is multiplied by it.

On a CPU ONNX Runtime leaves out the casts between two nodes in float16, and computes in float32: such a run says
nothing of what half precision costs. `to_half(..., emulated=True)` therefore gives a float32 graph that rounds each
result to the 11 bits of float16 itself, and turns what float16 does not hold into infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_selected_functions

from lowdose_export.functions import DOMAIN, OPSET_IMPORT, parse
from lowdose_export.model_file import Graph

LARGEST = 1024.0
"""What the brightest pixel becomes: 64 times below the end of float16, and 24 bits above its smallest number."""
OF_SCAN = ("scan.level", "scan.scale")
"""Planes by which a network over a scan normalises its patterns itself."""
NORMALISATION = ("offset", "scale", *OF_SCAN)
NETWORKS = ("BlindSpot", "BlindFeatures")
"""Functions that compute in half precision."""
FLOAT_INPUTS = {"Resize": (2,)}
"""Inputs of an operator that are float32 whatever the rest is."""
MOVES = {"Concat", "Gather", "Identity", "Pad", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that round nothing."""

# The upper 11 of 24 bits, to the nearest (Dekker 1971): c = (2^13 + 1) x, then c - (c - x). Numbers below 6e-5, of
# which float16 has fewer bits, are not treated.
ROUND = f"""
<domain: "{DOMAIN}", {OPSET_IMPORT}>
RoundToHalf (x) => (rounded)
{{
    factor = Constant <value = float {{8193.0}}> ()
    end = Constant <value = float {{65504.0}}> ()
    c = Mul (x, factor)
    low = Sub (c, x)
    high = Sub (c, low)
    size = Abs (high)
    held = LessOrEqual (size, end)
    one_or_zero = Cast <to = 1> (held)
    rounded = Div (high, one_or_zero)
}}
"""


def to_half(model: onnx.ModelProto, metadata: dict[str, Any], *, emulated: bool = False) -> onnx.ModelProto:
    """The same graph in half precision; `metadata` are those of the model. No function but the low-pass is left.

    emulated: in float32 with rounding, for measurements on a CPU.
    """
    inlined = inline_selected_functions(model, [(DOMAIN, name) for name in NETWORKS])
    result = onnx.ModelProto()
    result.CopyFrom(inlined)
    typed = onnx.shape_inference.infer_shapes(inlined)
    normalised = metadata["normalisation"] != "none" or any(w.name in OF_SCAN for w in typed.graph.initializer)
    result.graph.CopyFrom(HalfGraph(typed.graph, not normalised, emulated).converted())
    if emulated:
        result.functions.append(parse(ROUND))
        if all(opset.domain != DOMAIN for opset in result.opset_import):
            result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    used = {node.op_type for node in result.graph.node if node.domain == DOMAIN}
    kept = [function for function in result.functions if function.name not in NETWORKS and used]
    del result.functions[:]
    result.functions.extend(kept)
    onnx.checker.check_model(result, full_check=True)
    return result


class HalfGraph:
    """Goes through the nodes in order; a value has its name in float32 and another in float16, made where needed."""

    def __init__(self, graph: onnx.GraphProto, homogeneous: bool, emulated: bool) -> None:
        self.graph, self.emulated = graph, emulated
        self.new = Graph(prefix="half_")
        self.weights = {weight.name: weight for weight in graph.initializer}
        values = (*graph.value_info, *graph.input, *graph.output)
        self.floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.floats |= {name for name, weight in self.weights.items() if weight.data_type == TensorProto.FLOAT}
        self.in_float = {value.name for value in graph.input} | set(self.weights)
        self.in_half: dict[str, str] = {}
        self.full = full_precision_nodes(graph)
        self.frames = [v.name for v in graph.input if v.name.startswith(("frame_", "state_"))]
        self.peak = self.peak_of([name for name in self.frames if name.startswith("frame_")]) if homogeneous else ""

    def peak_of(self, frames: list[str]) -> str:
        """(batch, 1, 1, 1): the largest value of the frames becomes LARGEST when divided by it."""
        stack = self.new.add("Concat", *frames, axis=1) if len(frames) > 1 else frames[0]
        largest = self.new.add("ReduceMax", self.new.add("Abs", stack), self.new.constant([1, 2, 3]), keepdims=1)
        share = self.new.add("Mul", largest, self.new.constant(np.array(1 / LARGEST, np.float32)))
        return self.new.add("Max", share, self.new.constant(np.array(1e-30, np.float32)))  # of black frames

    def converted(self) -> onnx.GraphProto:
        for index, node in enumerate(self.graph.node):
            if index in self.full:
                for name in node.input:
                    self.float_value(name)
                self.new.nodes.append(node)
                self.in_float.update(node.output)
            else:
                self.add_half(node)
        for value in self.graph.output:
            self.float_value(value.name)
        graph = helper.make_graph(
            self.new.nodes, self.graph.name, self.graph.input, self.graph.output, self.new.weights
        )
        used = {name for node in self.new.nodes for name in node.input}
        graph.initializer.extend(w for name, w in self.weights.items() if name in used)
        return graph

    def add_half(self, node: onnx.NodeProto) -> None:
        """The node in float16; what it does with integers stays."""
        float_inputs = FLOAT_INPUTS.get(node.op_type, ())
        inputs = [
            self.half_value(name) if name in self.floats and index not in float_inputs else name
            for index, name in enumerate(node.input)
        ]
        outputs = []
        for name in node.output:
            if name in self.floats:
                self.in_half[name] = f"{name}_half"
            else:
                self.in_float.add(name)
            outputs.append(self.in_half.get(name, name))
        if self.emulated and node.op_type not in MOVES:
            exact = [f"{name}_exact" if name in self.in_half.values() else name for name in outputs]
            rounding = [(a, b) for a, b in zip(exact, outputs, strict=True) if a != b]
            outputs = exact
        else:
            rounding = []
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        copy.output.extend(outputs)
        self.new.nodes.append(copy)
        for exact_name, name in rounding:
            self.new.nodes.append(helper.make_node("RoundToHalf", [exact_name], [name], domain=DOMAIN))

    def half_value(self, name: str) -> str:
        if name in self.in_half:
            return self.in_half[name]
        if name in self.weights:
            weight = numpy_helper.to_array(self.weights[name]).astype(np.float16)
            weight = weight.astype(np.float32) if self.emulated else weight
            self.new.weights.append(numpy_helper.from_array(weight, f"{name}_half"))
            self.in_half[name] = f"{name}_half"
            return self.in_half[name]
        value = self.new.add("Div", name, self.peak) if self.peak and name in self.frames else name
        if self.emulated:
            self.in_half[name] = self.new.add("RoundToHalf", value, domain=DOMAIN)
        else:
            self.in_half[name] = self.new.add("Cast", value, to=TensorProto.FLOAT16)
        return self.in_half[name]

    def float_value(self, name: str) -> None:
        """Have `name` in float32 too."""
        if name in self.in_float or not name:
            return
        cast = self.new.add("Cast", self.in_half[name], to=TensorProto.FLOAT)
        if self.peak:
            self.new.add("Mul", cast, self.peak)
        self.new.rename_last(name)
        self.in_float.add(name)


def full_precision_nodes(graph: onnx.GraphProto) -> set[int]:
    """Indices of the low-pass, of the normalisation and of what leads from the frames to it."""
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output}
    full = {i for i, node in enumerate(graph.node) if node.op_type in ("LowPass", "Constant")}
    normalising = [i for i, node in enumerate(graph.node) if set(NORMALISATION) & set(node.input)]
    full.update(normalising)
    pending = [i for i in normalising if graph.node[i].op_type in ("Sub", "Div")]
    while pending:
        index = pending.pop()
        full.add(index)
        pending += [makers[name] for name in graph.node[index].input if name in makers]
    return full
