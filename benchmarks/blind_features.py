"""The kernel of the blind-feature network beside ONNX Runtime on the same graph and wcvd, for `benchmarks.speed`.

The weights are random: no time depends on them. Frames are ready in float32; what is timed is one run of a session.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lowdose import _core
from lowdose.bench.compare import interleaved
from lowdose.model import bundled_models
from lowdose_export.blind_features import WEIGHTS, blind_features, blind_features_inputs
from lowdose_export.functions import DOMAIN, OPSET
from lowdose_export.model_file import IR_VERSION

Runs = list[Callable[[], Any]]
Weights = dict[str, NDArray[np.float32]]

N_FEATURES, N_HIDDEN = 24, 32
CASES = (("avx512", 5, 15), ("avx2", 5, 15), ("sse4.2", 5, 15), ("avx2", 1, 15), ("avx2", 7, 21))
"""Instruction set, frames, side of all windows."""
ROUNDS, ROUNDS_ALONE = 11, 200


def weights_of(n_taps: int, side: int) -> Weights:
    random = np.random.default_rng(0)
    f, h = N_FEATURES, N_HIDDEN
    shapes = {
        "linear": (1, n_taps, side, side),
        "linear_bias": (1,),
        "mix": (1, f, n_taps + 1),
        "vertical": (1, f, side),
        "horizontal": (1, f, side),
        "own": (1, f, 1, 1),
        "w1": (1, h, 1 + f),
        "b1": (1, h),
        "w2": (1, h, h),
        "b2": (1, h),
        "w3": (1, 1 + f + 2 * h),
        "b3": (1,),
    }
    return {name: random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def products_per_px(weights: Weights) -> int:
    """Multiply-adds per pixel, margins not counted."""
    summed = ("linear", "mix", "vertical", "horizontal", "own", "w1", "w2", "w3")
    return sum(weights[name].size for name in summed)


def filter_by_rows(function: onnx.FunctionProto, side: int) -> None:
    """Put the linear filter as `lowdose_export.wiener.filter_nodes` does, which ONNX Runtime is quicker with."""
    index = next(i for i, node in enumerate(function.node) if node.output[0] == "filtered")
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def integers(*values: int) -> str:
        name = f"by_rows_{len(nodes)}"
        return add("Constant", output=name, value=helper.make_tensor(name, TensorProto.INT64, [len(values)], values))

    turned = add("Transpose", "linear", output="turned", perm=[2, 1, 0, 3])
    shares = add(
        "Conv", "padded", add("Reshape", turned, integers(side, -1, 1, side), output="by_rows"), output="shares"
    )
    bias = add("Reshape", "linear_bias", integers(1, 1, 1, 1), output="bias_plane")
    total = bias
    for row in range(side):
        last = row - side + 1 or np.iinfo(np.int64).max
        bounds = integers(row, row), integers(row + 1, int(last)), integers(1, 2)
        share = add("Slice", shares, *bounds, output=f"share_{row}")
        total = add("Add", share, total, output="filtered" if row == side - 1 else f"total_{row}")
    kept = list(function.node)
    del function.node[:]
    function.node.extend([*kept[:index], *nodes, *kept[index + 1 :]])


def model_of(n_taps: int, side: int, *, by_rows: bool = False) -> onnx.ModelProto:
    weights = weights_of(n_taps, side)
    function = blind_features(n_taps, {name: value.shape for name, value in weights.items()})
    if by_rows:
        filter_by_rows(function, side)
    shape: list[str | int | None] = [1, 1, "height", "width"]
    value = helper.make_tensor_value_info
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("BlindFeatures", blind_features_inputs(n_taps), ["denoised"], domain=DOMAIN)],
            "bfn",
            [value(f"frame_{i}", TensorProto.FLOAT, shape) for i in range(n_taps)],
            [value("denoised", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(weights[name], name) for name in WEIGHTS],
        ),
        functions=[function],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
    )


def run_of(model: bytes, n_taps: int, side: int, threads: int, *, kernels: bool) -> Callable[[], Any]:
    """One run of a session on frames that are ready."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # wcvd warns of its default inputs
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the sessions take turns
    if kernels:
        options.register_custom_ops_library(_core.__file__)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {f"frame_{i}": random.normal(0, 1, (1, 1, side, side)).astype(np.float32) for i in range(n_taps)}
    feeds |= {"cutoff": np.array(1, np.float32)} if any(i.name == "cutoff" for i in session.get_inputs()) else {}
    return partial(session.run, None, feeds)


def rows() -> Iterator[str]:
    yield (
        f"{N_FEATURES} features, perceptron {N_FEATURES + 1}-{N_HIDDEN}-{N_HIDDEN}-1, random weights, frames in "
        "float32. p50 and p99: alone. ONNX Runtime: the quicker of the function in the file and of the one with the "
        "linear filter row by row, by its own instruction set; ratios to it and to wcvd are of medians in turns.\n"
    )
    columns = "kernels, window, MAC/px, size, threads, p50, p99, frames/s, ONNX Runtime, / ONNX Runtime, wcvd, / wcvd"
    yield "| " + columns.replace(", ", " | ") + " |"
    yield "|" + "---|" * 12
    wcvd = bundled_models()["wcvd"].read_bytes()
    for instructions, n_taps, window in CASES:
        os.environ["LOWDOSE_CPU"] = instructions
        model, by_rows = (model_of(n_taps, window, by_rows=form).SerializeToString() for form in (False, True))
        products = products_per_px(weights_of(n_taps, window))
        for side in (512, 1024):
            for threads in (1, 2):
                runs = [
                    run_of(model, n_taps, side, threads, kernels=True),
                    run_of(model, n_taps, side, threads, kernels=False),
                    run_of(by_rows, n_taps, side, threads, kernels=False),
                    run_of(wcvd, 3, side, threads, kernels=True),
                ]
                ours, theirs, other = (np.asarray(run()[0]) for run in runs[:3])
                for result in (ours, other):
                    assert np.allclose(result, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
                case = f"{instructions} | {n_taps}x{window}x{window} | {products} | {side} | {threads}"
                yield f"| {case} | {' | '.join(cells(runs, ROUNDS_ALONE * 512 // side))} |"
    del os.environ["LOWDOSE_CPU"]


def cells(runs: Runs, rounds_alone: int) -> list[str]:
    """What the table says of the kernel, the two forms of its graph and wcvd."""
    p50, p99 = np.quantile(interleaved(runs[:1], rounds_alone)[0, 5:], [0.5, 0.99])
    ours, *forms, wcvd = np.median(interleaved(runs, ROUNDS), axis=1)
    others = f"{min(forms):.1f}", f"{min(forms) / ours:.1f}x", f"{wcvd:.1f}", f"{ours / wcvd:.1f}"
    return [f"{p50:.1f}", f"{p99:.1f}", f"{1e3 / p50:.1f}", *others]
