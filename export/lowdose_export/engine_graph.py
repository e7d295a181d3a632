"""The graph that an engine is built from: one frame size, final settings, nothing but standard operators.

Where size, weight set and cutoff are final, what a model file computes from them is constant: the low-pass is three
matrix products with constant bases around a constant mask, without an If and without the Range, Cos and Sin that make
the bases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions

from lowdose.errors import LowdoseError
from lowdose_export.functions import CUTOFF_ALL, DOMAIN
from lowdose_export.half import to_half
from lowdose_export.model_file import Graph

SETTINGS = ("weight_set", "cutoff")
"""Inputs with a default, which become constants."""

Plane = NDArray[np.float32]


def engine_graph(
    path: Path,
    size: tuple[int, int],
    *,
    batch: int = 1,
    weight_set: int = 0,
    cutoff: float | None = None,
    half: bool = False,
) -> onnx.ModelProto:
    """The model file `path` for `batch` frames of `size` (height, width).

    Frames are filled up to a multiple of the model's align_px, so its inputs may be larger than `size`. weight_set: of
    the bank. cutoff: of the low-pass in cycles/pixel, None for the default in the file; both are for models that have
    them. Raises LowdoseError for what is no denoiser, and for sizes and settings that the model does not take.
    """
    model = onnx.load(path)
    metadata = contract_of(model, path)
    if half:
        model = to_half(model, metadata)
    set_sizes(model.graph, {"batch": batch, **dict(zip(("height", "width"), input_size(metadata, size), strict=True))})
    values = settings_of(metadata, weight_set, cutoff)
    for name in SETTINGS:
        for tensor in [tensor for tensor in model.graph.initializer if tensor.name == name]:
            tensor.CopyFrom(numpy_helper.from_array(values[name], name))
        for given in [given for given in model.graph.input if given.name == name]:
            model.graph.input.remove(given)
    if metadata["low_pass"]:
        constant_low_pass(model.graph, input_size(metadata, size), float(values["cutoff"]))
    inlined = inline_local_functions(model)
    for opset in [opset for opset in inlined.opset_import if opset.domain == DOMAIN]:
        inlined.opset_import.remove(opset)
    onnx.checker.check_model(inlined, full_check=True)
    return inlined


def contract_of(model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    """The metadata of a denoiser's model file."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "lowdose"), None)
    if text is None:
        raise LowdoseError(f"{path} is an ONNX file without lowdose metadata: make model files with 'lowdose export'")
    metadata: dict[str, Any] = json.loads(text)
    if "kind" in metadata:
        raise LowdoseError(f"{path} is a {metadata['kind']}, not a denoiser: it has no frames")
    return metadata


def input_size(metadata: dict[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the network's inputs for frames of `size`. Raises LowdoseError as `engine_graph` does."""
    least, only, align = metadata["min_size_px"], metadata.get("size_px"), metadata["align_px"]
    given = f"{size[0]}x{size[1]}"
    if min(size) < least:
        raise LowdoseError(f"frames of {given} pixels are too small: {metadata['method']} needs {least}x{least}")
    if only and list(size) != only:
        raise LowdoseError(f"this model takes frames of {only[0]}x{only[1]} pixels only; given {given}")
    height, width = (-(-side // align) * align for side in size)
    return height, width


def settings_of(metadata: dict[str, Any], weight_set: int, cutoff: float | None) -> dict[str, NDArray[Any]]:
    """Values of the settings as the graph takes them."""
    n_sets, low_pass = len(metadata["weight_sets"]), metadata["low_pass"]
    if not 0 <= weight_set < n_sets:
        raise LowdoseError(f"there is no weight set {weight_set}: the model holds {n_sets}, counted from 0")
    if cutoff is not None and not low_pass:
        raise LowdoseError(f"{metadata['method']} has no low-pass, so it takes no cutoff")
    if cutoff is not None and not cutoff > 0:
        raise LowdoseError(f"the low-pass cutoff must be above 0 (cycles/pixel), not {cutoff:g}")
    if cutoff is None:
        cutoff = low_pass["default_cutoff"] if low_pass else 1.0
    return {"weight_set": np.array(weight_set, np.int64), "cutoff": np.array(cutoff, np.float32)}


def set_sizes(graph: onnx.GraphProto, sizes: dict[str, int]) -> None:
    """Give the named dimensions of inputs and outputs their values."""
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                dimension.dim_value = sizes[dimension.dim_param]


def constant_low_pass(graph: onnx.GraphProto, size: tuple[int, int], cutoff: float) -> None:
    """Put constants in place of the node LowPass, the last of the graph."""
    node = next(node for node in graph.node if node.op_type == "LowPass")
    graph.node.remove(node)
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == "cutoff"))
    if cutoff >= CUTOFF_ALL:
        graph.node.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
        return
    part = Graph(prefix="low_pass_")
    (basis_y, frequency_y), (basis_x, frequency_x) = (fourier_basis(length, cutoff) for length in size)
    inside = frequency_y[:, None] ** 2 + frequency_x**2 <= np.float32(cutoff) ** 2
    level = part.add("ReduceMean", node.input[0], part.constant([2, 3]), keepdims=1)
    contrast = part.add("Sub", node.input[0], level)
    spectrum = part.add("MatMul", part.constant(np.ascontiguousarray(basis_y.T)), contrast)
    spectrum = part.add("MatMul", spectrum, part.constant(basis_x))
    kept = part.add("Mul", spectrum, part.constant(inside.astype(np.float32)))
    rows = part.add("MatMul", part.constant(basis_y), kept)
    columns = part.add("MatMul", rows, part.constant(np.ascontiguousarray(basis_x.T)))
    part.add("Add", columns, level)
    part.rename_last(node.output[0])
    graph.node.extend(part.nodes)
    graph.initializer.extend(part.weights)


def fourier_basis(length: int, cutoff: float) -> tuple[Plane, Plane]:
    """What the function FourierBasis gives: the kept columns of the real basis, (length, n), and their frequencies.

    Frequencies are compared in float32, as everywhere: one on the rim must be in or out for every engine.
    """
    last = min(int(np.ceil(np.float32(cutoff) * np.float32(length))), length // 2)
    k = np.arange(last + 1)
    angle = 2 * np.pi * (np.arange(length)[:, None] * k % length) / length
    amplitude = np.sqrt(np.where(2 * k % length == 0, 1, 2) / length)
    basis = np.concatenate([amplitude * np.cos(angle), amplitude * np.sin(angle)], axis=1).astype(np.float32)
    frequency = k.astype(np.float32) / np.float32(length)
    return basis, np.concatenate([frequency, frequency])
