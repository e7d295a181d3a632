"""U-Nets as ONNX nodes, and the nodes around them that models of the normalisation rule "window" share."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from lowdose_export.functions import OPSET
from lowdose_export.model_file import IR_VERSION, Graph, set_metadata
from lowdose_train.unet import Block, UNet


def unet_nodes(graph: Graph, network: UNet, x: str) -> str:
    """`network` on the value `x` (batch, n_in, height, width)."""
    skips = []
    for level, block in enumerate(network.down):
        if level > 0:
            skips.append(x)
            operator = "AveragePool" if network.pooling == "average" else "MaxPool"
            x = graph.add(operator, x, kernel_shape=[2, 2], strides=[2, 2])
        x = block_nodes(graph, block, x)
    for widen, block, skip in zip(reversed(network.widen), reversed(network.up), reversed(skips), strict=True):
        if isinstance(widen, nn.ConvTranspose2d):
            x = graph.add("ConvTranspose", x, *weights_of(graph, widen), strides=[2, 2])
        else:
            scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
            x = graph.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
        x = block_nodes(graph, block, graph.add("Concat", skip, x, axis=1))
    return graph.add("Conv", x, *weights_of(graph, network.head))


def block_nodes(graph: Graph, block: nn.Module, x: str) -> str:
    assert isinstance(block, Block)
    for layer in (block.first, block.second):
        border = layer.kernel_size[0] // 2
        x = graph.add("Conv", x, *weights_of(graph, layer), pads=[border] * 4)
        x = graph.add("LeakyRelu", x, alpha=block.leaky_slope) if block.leaky_slope > 0 else graph.add("Relu", x)
    return x


def weights_of(graph: Graph, layer: nn.Conv2d | nn.ConvTranspose2d | nn.Module) -> tuple[str, str]:
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None
    return graph.parameter(layer.weight), graph.parameter(layer.bias)


def normalised(graph: Graph, frames: str) -> str:
    """(frames - offset) / scale."""
    return graph.add("Div", graph.add("Sub", frames, "offset"), "scale")


def denormalised(graph: Graph, frames: str) -> str:
    """frames * scale + offset, named `denoised`: the end of the graph."""
    graph.add("Add", graph.add("Mul", frames, "scale"), "offset")
    graph.rename_last("denoised")
    return "denoised"


def windowed_model(graph: Graph, metadata: dict[str, Any]) -> onnx.ModelProto:
    """The model file of a graph that ends in `denoised`, by the contract of its metadata (export/README.md).

    Inputs: per tap frame_i, float32 (batch, n_channels, height, width); offset and scale, float32 (batch, n_channels,
    1, 1). Output: denoised, of the shape of a frame or, for blocks, (batch, n_frames, height, width).
    """
    n_channels, block = len(metadata["channels"]), metadata.get("block")
    value = helper.make_tensor_value_info

    def frame(name: str, n: int) -> onnx.ValueInfoProto:
        return value(name, TensorProto.FLOAT, ["batch", n, "height", "width"])

    inputs = [frame(f"frame_{i}", n_channels) for i in range(len(metadata["taps"]["offsets"]))]
    inputs += [value(name, TensorProto.FLOAT, ["batch", n_channels, 1, 1]) for name in ("offset", "scale")]
    output = frame("denoised", block["n_frames"] if block else n_channels)
    model = helper.make_model(
        helper.make_graph(graph.nodes, metadata["method"], inputs, [output], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    set_metadata(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
