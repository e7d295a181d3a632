"""The model file of multi-channel Noise2Void: one frame in, one frame out, all channels together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from lowdose_export.model_file import SPEC, Graph
from lowdose_export.unet import denormalised, normalised, unet_nodes, windowed_model
from lowdose_train.noise2void import SCALE_STDS
from lowdose_train.unet import UNet

CHANNEL_NAMES = {1: ["signal"], 2: ["ADF", "BF"]}


def noise2void_contract(network: UNet, channels: Sequence[str] | None = None) -> dict[str, Any]:
    """The part of the metadata that follows from the network. `channels` are names; None takes the usual ones."""
    n_channels = network.head.out_channels
    names = channels or CHANNEL_NAMES.get(n_channels) or [f"channel {i}" for i in range(n_channels)]
    return {
        "spec": SPEC,
        "method": "n2v",
        "taps": {"axis": "time", "offsets": [0]},
        "ends": "repeat",
        "channels": list(names),
        "margin_px": network.margin_px,
        "align_px": network.align_px,
        "min_size_px": 1,
        "boundary": "internal",
        "normalisation": {"rule": "window", "scale_stds": SCALE_STDS},
        "offset_rule": "none",
        "low_pass": None,
    }


def noise2void_model(network: UNet, metadata: dict[str, Any]) -> onnx.ModelProto:
    graph = Graph(network.named_parameters())
    denormalised(graph, unet_nodes(graph, network, normalised(graph, "frame_0")))
    return windowed_model(graph, metadata)
