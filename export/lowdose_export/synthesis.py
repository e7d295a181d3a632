"""The model file of the three-direction synthesis: a block of frames in, the same block out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from lowdose_export.model_file import SPEC, Graph
from lowdose_export.unet import denormalised, normalised, unet_nodes, windowed_model
from lowdose_train.synthesis import (
    DIRECTIONS,
    RESIDUAL_OF,
    SCALE_STDS,
    Smoothing,
    ThreeDirections,
    space_kernel,
    time_weights,
)


def synthesis_contract(network: ThreeDirections) -> dict[str, Any]:
    """The part of the metadata that follows from the network."""
    n_frames = network.width.n_frames
    return {
        "spec": SPEC,
        "method": "synthesis3d",
        "taps": {"axis": "time", "offsets": list(range(n_frames))},
        "ends": "repeat",
        "channels": ["signal"],
        "block": {"n_frames": n_frames, "overlap": network.width.overlap},
        "margin_px": network.margin_px,
        "align_px": network.align_px,
        "min_size_px": 1,
        "boundary": "internal",
        "normalisation": {"rule": "window", "scale_stds": SCALE_STDS},
        "offset_rule": "none",
        "low_pass": None,
    }


def synthesis_model(network: ThreeDirections, metadata: dict[str, Any]) -> onnx.ModelProto:
    graph = Graph(network.named_parameters())
    n_frames = network.width.n_frames
    frames = graph.add("Concat", *(f"frame_{i}" for i in range(n_frames)), axis=1)
    block = normalised(graph, frames)  # (batch, t, y, x)
    shape = graph.add("Shape", block)
    smooth = [smoothed_nodes(graph, block, shape, smoothing, n_frames) for smoothing in network.width.smoothings]
    channel_axis = graph.constant([1])
    channels = [graph.add("Unsqueeze", view, channel_axis) for view in (block, *smooth)]
    views = graph.add("Concat", *channels, axis=1)  # (batch, n_channels, t, y, x)
    parts = []
    for direction, (_, third, rows, columns) in DIRECTIONS.items():
        sliced = graph.add("Transpose", views, perm=[0, 1 + third, 1, 1 + rows, 1 + columns])
        size = graph.add("Slice", graph.add("Shape", sliced), graph.constant([2]), graph.constant([5]))
        flat_shape = graph.add("Concat", graph.constant([-1]), size, axis=0)
        slices = graph.add("Reshape", sliced, flat_shape)  # (n_slices, n_channels, rows, columns)
        denoised = unet_nodes(graph, network.network(direction), slices)
        if network.width.smoothings:
            own = graph.constant([1 + RESIDUAL_OF]), graph.constant([2 + RESIDUAL_OF]), graph.constant([1])
            denoised = graph.add("Add", denoised, graph.add("Slice", slices, *own))
        order = graph.constant([0, third, rows, columns])
        in_order = graph.add("Reshape", denoised, graph.add("Gather", shape, order))
        back = [(0, third, rows, columns).index(axis) for axis in range(4)]
        parts.append(graph.add("Transpose", in_order, perm=back))  # (batch, t, y, x)
    # Not Mean: ONNX Runtime has none for CUDA.
    share = graph.constant(np.array(1 / len(parts), np.float32))
    denormalised(graph, graph.add("Mul", graph.add("Sum", *parts), share))
    return windowed_model(graph, metadata)


def smoothed_nodes(graph: Graph, block: str, shape: str, smoothing: Smoothing, n_frames: int) -> str:
    """As `lowdose_train.synthesis.smoothed`: a matrix along time, then two convolutions of each frame by itself."""
    weights = graph.constant(time_weights(n_frames, smoothing.frames).numpy())
    flat = graph.add("Reshape", block, graph.constant([0, 0, -1]))  # (batch, t, y * x)
    frames = graph.add("Reshape", graph.add("MatMul", weights, flat), shape)
    reach = smoothing.reach_px
    kernel = np.broadcast_to(space_kernel(smoothing).numpy(), (n_frames, 1, 2 * reach + 1))
    for axis in (2, 3):
        pads = [0] * 8
        pads[axis] = pads[axis + 4] = reach
        frames = graph.add("Pad", frames, graph.constant(pads), mode="edge")
        along = np.ascontiguousarray(np.expand_dims(kernel, 5 - axis))  # (t, 1, length, 1) or (t, 1, 1, length)
        frames = graph.add("Conv", frames, graph.constant(along), group=n_frames)
    return frames
