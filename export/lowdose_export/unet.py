"""U-Nets as ONNX nodes, and the nodes around them that models of the normalisation rule "window" share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lowdose_export.functions import OPSET
from lowdose_export.graph import IR_VERSION, set_metadata
from lowdose_train.unet import Block, UNet


class Graph:
    """Nodes and weights of an ONNX graph, in the order in which they are added. Values are called by their names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: NDArray[Any] | Sequence[int]) -> str:
        """A weight (integers become int64), whose name is returned."""
        name = f"weight_{len(self.weights)}"
        array = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def rename_last(self, name: str) -> None:
        """Give the output of the last node its final name."""
        self.nodes[-1].output[0] = name


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
    return graph.constant(layer.weight.detach().contiguous().numpy()), graph.constant(layer.bias.detach().numpy())


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
