"""A fitted blind filter (`lowdose.wiener`) -> one model file. Needs no torch.

The graph holds the weights of frames inside a sequence. At the ends it takes the neighbours from the other side
(`ends`: mirror), where the filter's own stream has weights of their own; and it subtracts the mean of the window that
it sees, where the stream subtracts that of the frames fitted to. Over a scan both give the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from lowdose import __version__
from lowdose.wiener import BlindFilter
from lowdose_export.checked import write_checked
from lowdose_export.functions import OPSET
from lowdose_export.model_file import IR_VERSION, SPEC, Graph, check_out, set_metadata
from lowdose_export.wiener_parity import check_wiener_parity, is_scan

MEMORY_SIDES_PX = (256, 512)


def export_wiener(
    fitted: BlindFilter,
    out: Path,
    *,
    channels: list[str],
    fitted_to: dict[str, Any],
    overwrite: bool = False,
) -> dict[str, float]:
    """Write a filter of `fit_movie` or `fit_scan` as a model file, and compare ONNX Runtime and the core.

    channels: their names. fitted_to: what the metadata say of the data, JSON-able. Returns the largest difference to a
    direct sum per engine, as a share of the output's range. Raises LowdoseError, and leaves nothing under `out`, for an
    existing file without `overwrite`, and when an engine disagrees.
    """
    check_out(out, overwrite)
    metadata = wiener_contract(fitted, channels, fitted_to)
    of_any_size = replace(fitted, level=fitted.level[:, :1, :1], scale=fitted.scale[:, :1, :1])
    return write_checked(
        wiener_model(fitted, metadata),
        out,
        lambda path: check_wiener_parity(path, fitted),
        memory_sides_px=MEMORY_SIDES_PX,
        of_any_size=wiener_model(of_any_size, metadata),
    )


def wiener_contract(fitted: BlindFilter, channels: list[str], fitted_to: dict[str, Any]) -> dict[str, Any]:
    """The metadata; how much memory a run takes is not known yet."""
    over_scan = is_scan(fitted)
    offsets = [list(tap) for tap in fitted.taps] if over_scan else [dt for _, dt in fitted.taps]
    return {
        "spec": SPEC,
        "method": "wiener",
        "taps": {"axis": "scan" if over_scan else "time", "offsets": offsets},
        "ends": "mirror",
        "channels": channels,
        "margin_px": fitted.radius_px,
        "align_px": 1,
        "min_size_px": fitted.radius_px + 1,
        "boundary": "internal",
        "normalisation": "none" if over_scan else {"rule": "window", "scale_stds": None},
        "offset_rule": "none",
        "low_pass": None,
        "weight_sets": [{"name": "wiener"}],
        "fitted_to": fitted_to,
        "bytes_per_px": 1.0,
        "lowdose_version": __version__,
    }


def wiener_model(fitted: BlindFilter, metadata: dict[str, Any]) -> onnx.ModelProto:
    """level + scale * (the weights' sum over the mirrored (frames - level) / scale).

    Inputs: per tap frame_i, float32 (batch, n_channels, height, width), and along time offset, float32 (batch,
    n_channels, 1, 1), which is the level. Over a scan level and scale are the filter's own, so where they are frames
    height and width are fixed. Output: denoised, of the shape of a frame.
    """
    n_channels, n_taps = fitted.n_channels, len(fitted.taps)
    over_scan = is_scan(fitted)
    fixed = fitted.level.shape[-2:] != (1, 1)
    graph = Graph()
    level = graph.constant(fitted.level[None]) if over_scan else "offset"
    frames = graph.add("Concat", *(f"frame_{i}" for i in range(n_taps)), axis=1)  # (batch, taps * channels, h, w)
    frames = graph.add("Sub", frames, repeated(graph, level, n_taps))
    if over_scan:
        scale = graph.constant(fitted.scale[None])
        frames = graph.add("Div", frames, repeated(graph, scale, n_taps))
        result = graph.add("Mul", filter_nodes(graph, fitted, frames), scale)
    else:
        result = filter_nodes(graph, fitted, frames)
    graph.add("Add", result, level)
    graph.rename_last("denoised")

    value = helper.make_tensor_value_info
    size: tuple[int | str, int | str] = fitted.level.shape[-2:] if fixed else ("height", "width")
    inputs = [value(f"frame_{i}", TensorProto.FLOAT, ["batch", n_channels, *size]) for i in range(n_taps)]
    if not over_scan:
        inputs.append(value("offset", TensorProto.FLOAT, ["batch", n_channels, 1, 1]))
    output = value("denoised", TensorProto.FLOAT, ["batch", n_channels, *size])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "wiener", inputs, [output], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    set_metadata(model, metadata | ({"size_px": list(size)} if fixed else {}))
    onnx.checker.check_model(model, full_check=True)
    return model


def repeated(graph: Graph, planes: str, n: int) -> str:
    """Planes (batch, n_channels, ...) for each of n taps."""
    return graph.add("Concat", *[planes] * n, axis=1) if n > 1 else planes


def filter_nodes(graph: Graph, fitted: BlindFilter, frames: str) -> str:
    """The convolution of frames (batch, taps * channels, height, width), with mirrored borders.

    Row by row of the kernels: one convolution along x gives for every row dy of the kernels its share, and the sum
    over dy adds these planes, each shifted by its row. In ONNX Runtime on a CPU this is five to twenty times as quick
    as one convolution with a channel or two of output, or one for each tap: its matrix product has more rows.
    """
    radius, n_channels = fitted.radius_px, fitted.n_channels
    side = 2 * radius + 1
    weights = fitted.weights[len(fitted.weights) // 2]  # (out, taps, in, dy, dx) of frames inside the sequence
    rows = np.ascontiguousarray(weights.transpose(3, 0, 1, 2, 4)).reshape(side * n_channels, -1, 1, side)
    pads, axes = graph.constant([radius] * 4), graph.constant([2, 3])
    padded = graph.add("Pad", frames, pads, "", axes, mode="reflect")
    shares = graph.add("Conv", padded, graph.constant(rows))  # (batch, dy * channels, height + 2 radius, width)
    axes = graph.constant([1, 2])
    total = ""
    for dy in range(side):
        last = dy - 2 * radius if dy < 2 * radius else np.iinfo(np.int64).max
        start, stop = graph.constant([dy * n_channels, dy]), graph.constant([(dy + 1) * n_channels, int(last)])
        share = graph.add("Slice", shares, start, stop, axes)
        total = graph.add("Add", total, share) if total else share
    return total
