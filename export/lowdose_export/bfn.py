"""A trained blind-feature network -> one model file.

Around the node BlindFeatures: the frames are normalised, what the linear filter misses beyond the edges is added, and,
where training found it worth while, the own pixel comes in by its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose.methods.blind_features import NEAR_PX
from lowdose_export.bfn_parity import check_bfn_parity
from lowdose_export.blind_features import WEIGHTS, blind_features
from lowdose_export.blind_spot import weight_set
from lowdose_export.checked import write_checked
from lowdose_export.functions import DOMAIN, OPSET
from lowdose_export.model_file import IR_VERSION, SPEC, Graph, check_out, set_metadata
from lowdose_train.bfn import BlindFeatureNetwork, OwnPixel
from lowdose_train.bfn_task import pattern_px
from lowdose_train.checkpoint import load_checkpoint

MEMORY_SIDES_PX = (256, 512)

PARTS = ("filter", "features", "perceptron")
OF_NODE = {"linear": "filter.weight", "linear_bias": "filter.bias", "own": "own"}
INITIALIZERS = tuple(
    OF_NODE.get(name) or f"{'features' if name in ('mix', 'vertical', 'horizontal') else 'perceptron'}.{name}"
    for name in WEIGHTS
)

OWN_PIXEL = ("own_error", "own_constant", "own_gain")

Weights = dict[str, NDArray[np.float32]]


def export_bfn(
    checkpoints: Sequence[Path], out: Path, *, channels: list[str] | None = None, overwrite: bool = False
) -> dict[str, float]:
    """Write the model file of one checkpoint, and compare PyTorch, ONNX Runtime and the core.

    channels: their names. Returns the largest difference to PyTorch per engine, as a share of the output's range.
    Raises LowdoseError, and leaves nothing under `out`, for more than one checkpoint, for an existing file without
    `overwrite`, and when an engine disagrees with PyTorch.
    """
    check_out(out, overwrite)
    if len(checkpoints) != 1:
        raise LowdoseError(f"{len(checkpoints)} checkpoints; a model file of this method holds one")
    network, record = load_checkpoint(checkpoints[0])
    assert isinstance(network, BlindFeatureNetwork)
    metadata = bfn_contract(network, channels or channel_names(network.n_channels)) | {
        "weight_sets": [weight_set(checkpoints[0], record)]
    }
    metadata |= {"lowdose_version": __version__, "bytes_per_px": 1.0}
    return write_checked(
        bfn_model(network, metadata),
        out,
        lambda path: check_bfn_parity(path, network),
        memory_sides_px=MEMORY_SIDES_PX,
        of_any_size=bfn_model(network, metadata, any_size=True),
    )


def channel_names(n_channels: int) -> list[str]:
    return ["signal"] if n_channels == 1 else [f"channel {i}" for i in range(n_channels)]


def bfn_contract(network: BlindFeatureNetwork, channels: list[str]) -> dict[str, Any]:
    """The metadata that follow from the network."""
    reach = network.n_taps // 2
    scan = network.scan
    return {
        "spec": SPEC,
        "method": "bfn" if scan is None else "bfn-4d",
        "taps": {
            "axis": "time" if scan is None else "scan",
            "offsets": list(range(-reach, reach + 1)) if scan is None else scan.taps.tolist(),
        },
        "ends": "mirror",
        "channels": channels,
        "margin_px": network.margin_px,
        "align_px": 1,
        "min_size_px": 1,
        "boundary": "internal",
        "normalisation": {"rule": "window", "scale_stds": 1.0} if scan is None else "none",
        "offset_rule": "none",
        "low_pass": None,
    }


def node_weights(network: BlindFeatureNetwork) -> Weights:
    """The weights of the node BlindFeatures, in the order of WEIGHTS; names with a dot are the network's own."""
    perceptron = network.perceptron
    tensors = {name: value for name, value in network.state_dict().items() if name.split(".")[0] in PARTS}
    tensors.pop("perceptron.unit")
    tensors["perceptron.w3"] = perceptron.w3 * perceptron.unit[:, None]
    tensors["perceptron.b3"] = perceptron.b3 * perceptron.unit
    tensors["own"] = network.own()
    return {name: np.ascontiguousarray(tensors[name].detach().numpy()) for name in INITIALIZERS}


def bfn_model(network: BlindFeatureNetwork, metadata: dict[str, Any], *, any_size: bool = False) -> onnx.ModelProto:
    """The graph of a network.

    Inputs: per tap frame_i, float32 (batch, n_channels, height, width), and of movies offset and scale, float32 (batch,
    n_channels, 1, 1). Over a scan level and scale are weights, for patterns of one size, or of any if they are of one
    pixel (any_size: cut to that, to measure memory). Output: denoised, of the shape of a frame.
    """
    n_channels, n_taps, scan = network.n_channels, network.n_taps, network.scan
    graph = Graph()
    level, spread = "offset", "scale"
    size: tuple[int | str, int | str] = ("height", "width")
    part = slice(1) if any_size else slice(None)
    if scan is not None:
        level, spread = "scan.level", "scan.scale"
        for name, plane in ((level, scan.level), (spread, scan.scale)):
            graph.weights.append(numpy_helper.from_array(plane[:, part, part].numpy(), name))
        size = size if any_size or scan.any_size else pattern_px(scan.level)
    planes = [graph.add("Div", graph.add("Sub", f"frame_{i}", level), spread) for i in range(n_taps)]
    weights = node_weights(network)
    graph.weights += [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph.nodes.append(helper.make_node("BlindFeatures", [*planes, *weights], ["network"], domain=DOMAIN))
    result = graph.add("Add", "network", border_nodes(graph, network, planes))
    if network.own_pixel.used or (scan is not None and scan.any_size):  # then the runtime may set it
        result = own_pixel_nodes(graph, network.own_pixel.values[..., part, part], result, planes[n_taps // 2])
    graph.add("Add", graph.add("Mul", result, spread), level)
    graph.rename_last("denoised")

    value = helper.make_tensor_value_info
    inputs = [value(f"frame_{i}", TensorProto.FLOAT, ["batch", n_channels, *size]) for i in range(n_taps)]
    if scan is None:
        inputs += [value(name, TensorProto.FLOAT, ["batch", n_channels, 1, 1]) for name in ("offset", "scale")]
    output = value("denoised", TensorProto.FLOAT, ["batch", n_channels, *size])
    model = helper.make_model(
        helper.make_graph(graph.nodes, metadata["method"], inputs, [output], graph.weights),
        functions=[blind_features(n_taps, dict(zip(WEIGHTS, (w.shape for w in weights.values()), strict=True)))],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    set_metadata(model, metadata | ({"size_px": list(size)} if isinstance(size[0], int) else {}))
    onnx.checker.check_model(model, full_check=True)
    return model


def border_nodes(graph: Graph, network: BlindFeatureNetwork, planes: list[str]) -> str:
    """`BlindFeatureNetwork.border`: sums of the pixels near, times what depends on the place in the frame alone."""
    n_channels, n_taps, blind = network.n_channels, network.n_taps, network.blind_px
    edge, reach = NEAR_PX // 2, network.linear_reach_px
    everything = np.ones((n_channels, 1, NEAR_PX, NEAR_PX), np.float32)
    hidden = np.ones((n_channels, 1, blind, blind), np.float32)
    own = planes[n_taps // 2]
    summed = graph.add("Sum", *planes) if n_taps > 1 else own

    def near(values: str, of_own: str) -> str:
        around = graph.add("Conv", values, graph.constant(everything), pads=[edge] * 4, group=n_channels)
        seen = graph.add("Conv", of_own, graph.constant(hidden), pads=[blind // 2] * 4, group=n_channels)
        return graph.add("Sub", around, seen)

    # Of ones in place of pixels: how many are near, and how much of the filter is inside the frame.
    nothing = graph.add("Mul", own, graph.constant(np.zeros(1, np.float32)))
    ones = graph.add("Add", nothing, graph.constant(np.ones(1, np.float32)))
    all_taps = graph.add("Mul", ones, graph.constant(np.array([n_taps], np.float32)))
    count = graph.add("Max", near(all_taps, ones), graph.constant(np.ones(1, np.float32)))
    mean = graph.add("Div", near(summed, own), count)
    side = 2 * reach + 1
    shape = graph.constant([n_channels, n_taps, n_channels, 1, side, side])
    by_channel = graph.add("ReduceSum", graph.add("Reshape", "filter.weight", shape), graph.constant([1]), keepdims=0)
    parts = []
    for channel in range(n_channels):
        weights = graph.add("Gather", by_channel, graph.constant(np.array(channel, np.int64)), axis=0)
        seen = graph.add("Conv", ones, weights, pads=[reach] * 4, group=n_channels)
        whole = graph.add("ReduceSum", weights, graph.constant([1, 2, 3]), keepdims=0)
        whole = graph.add("Reshape", whole, graph.constant([n_channels, 1, 1]))
        share = graph.add("Mul", graph.add("Sub", whole, seen), mean)
        parts.append(graph.add("ReduceSum", share, graph.constant([1]), keepdims=1) if n_channels > 1 else share)
    return graph.add("Concat", *parts, axis=1) if n_channels > 1 else parts[0]


def own_pixel_nodes(graph: Graph, values: Tensor, blind: str, own: str) -> str:
    """`OwnPixel.forward`, with its values, (n_channels, 3, height or 1, width or 1)."""
    error, constant, gain = OWN_PIXEL
    for i, name in enumerate(OWN_PIXEL):
        graph.weights.append(numpy_helper.from_array(np.ascontiguousarray(values[:, i].numpy()), name))
    least = graph.constant(np.array(OwnPixel.LEAST, np.float32))
    variance = graph.add("Max", graph.add("Add", graph.add("Mul", blind, gain), constant), least)
    share = graph.add("Div", error, graph.add("Add", variance, error))
    return graph.add("Add", blind, graph.add("Mul", graph.add("Sub", own, blind), share))
