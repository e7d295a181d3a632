"""A blind-spot network as other engines may like it better: the same numbers from other standard operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lowdose_export import functions
from lowdose_export.model_file import IR_VERSION, Graph

FORMS = ("a 2-D convolution per branch", "one 2-D convolution", "a 3-D convolution per branch")

Weights = Mapping[str, NDArray[np.float32]]


def blind_spot_form(form: str, bank: Weights, weight_set: int, size: tuple[int, int], cutoff: float) -> onnx.ModelProto:
    """A model for frames of one size, without a choice of weights: inputs frame_0 ..., (1, 1, height, width).

    bank: the weights in a model file, by their names there. cutoff: of the low-pass, functions.CUTOFF_NONE for none.
    """
    weights = {name: values[weight_set] for name, values in bank.items() if values.ndim}
    kernel_sizes = sorted(int(name.rpartition("_")[2]) for name in weights if name.startswith("kernel_"))
    n_taps = weights[f"kernel_{kernel_sizes[0]}"].shape[1]
    graph = Graph()
    frames = [f"frame_{tap}" for tap in range(n_taps)]
    padded = padded_periodically(graph, graph.add("Concat", *frames, axis=1), max(kernel_sizes) // 2)
    branches = [{name: weights[f"{name}_{k}"] for name in ("kernel", "mixing", "head")} for k in kernel_sizes]
    shares = weights["branch_weights"]
    if form == "one 2-D convolution":
        result = merged(graph, padded, branches, shares)
    else:
        result = by_branch(graph, padded, branches, shares, in_3d=form == "a 3-D convolution per branch")
    if cutoff < functions.CUTOFF_NONE:
        graph.nodes.append(
            helper.make_node(
                "LowPass", [result, graph.constant(np.array(cutoff, np.float32))], ["denoised"], domain=functions.DOMAIN
            )
        )
    else:
        graph.rename_last("denoised")
    shape = [1, 1, *size]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "blind_spot",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in frames],
            [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, shape)],
            graph.weights,
        ),
        functions=[functions.parse(functions.FOURIER_BASIS), functions.parse(functions.LOW_PASS)],
        opset_imports=[helper.make_opsetid("", functions.OPSET), helper.make_opsetid(functions.DOMAIN, 1)],
        ir_version=IR_VERSION,
    )


def padded_periodically(graph: Graph, stack: str, margin: int) -> str:
    """(1, n_taps, height, width) continued by `margin` pixels on all sides."""
    for axis in (2, 3):
        along = graph.constant([axis])
        before = graph.add("Slice", stack, graph.constant([-margin]), graph.constant([np.iinfo(np.int64).max]), along)
        behind = graph.add("Slice", stack, graph.constant([0]), graph.constant([margin]), along)
        stack = graph.add("Concat", before, stack, behind, axis=axis)
    return stack


def pointwise(graph: Graph, features: str, matrix: NDArray[np.float32], n_axes: int) -> str:
    """A 1x1 convolution; matrix: (n_out, n_in)."""
    weights = np.ascontiguousarray(matrix.reshape(*matrix.shape, *[1] * n_axes))
    return graph.add("Conv", features, graph.constant(weights))


def by_branch(
    graph: Graph, padded: str, branches: list[dict[str, Any]], shares: NDArray[np.float32], *, in_3d: bool
) -> str:
    """The branches one by one, each on as much of the border as its kernel needs."""
    margin = max(branch["kernel"].shape[-1] for branch in branches) // 2
    parts = []
    for branch, share in zip(branches, shares, strict=True):
        window, inset = padded, margin - branch["kernel"].shape[-1] // 2
        if inset:
            ends = [graph.constant([end, end]) for end in (inset, -inset)]
            window = graph.add("Slice", padded, *ends, graph.constant([2, 3]))
        kernel = branch["kernel"]
        if in_3d:  # (1, 1, n_taps, height, width): time is a third direction
            window, kernel = graph.add("Unsqueeze", window, graph.constant([1])), kernel[:, None]
        features = graph.add("Conv", window, graph.constant(np.ascontiguousarray(kernel)))
        for matrix in branch["mixing"]:
            features = graph.add("LeakyRelu", pointwise(graph, features, matrix, 2 + in_3d), alpha=0.1)
        total = graph.add("Relu", pointwise(graph, features, branch["head"][None] * share, 2 + in_3d))
        parts.append(graph.add("Squeeze", total, graph.constant([2])) if in_3d else total)
    return graph.add("Sum", *parts)


def merged(graph: Graph, padded: str, branches: list[dict[str, Any]], shares: NDArray[np.float32]) -> str:
    """All branches in one convolution with the largest kernel, zeros around the small ones, then grouped ones."""
    largest, n = max(branch["kernel"].shape[-1] for branch in branches), len(branches)
    kernels = []
    for branch in branches:
        border = (largest - branch["kernel"].shape[-1]) // 2
        kernels.append(np.pad(branch["kernel"], ((0, 0), (0, 0), (border, border), (border, border))))
    features = graph.add("Conv", padded, graph.constant(np.concatenate(kernels)))
    for layer in range(branches[0]["mixing"].shape[0]):
        stacked = np.concatenate([branch["mixing"][layer] for branch in branches])[..., None, None]
        features = graph.add("LeakyRelu", graph.add("Conv", features, graph.constant(stacked), group=n), alpha=0.1)
    heads = np.stack([branch["head"] * share for branch, share in zip(branches, shares, strict=True)])
    totals = graph.add("Relu", graph.add("Conv", features, graph.constant(heads[..., None, None]), group=n))
    return graph.add("ReduceSum", totals, graph.constant([1]))
