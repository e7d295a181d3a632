"""The model file of the blind-spot networks: graph, functions and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from lowdose_export import functions
from lowdose_export.model_file import IR_VERSION, SPEC, set_metadata
from lowdose_train.blind_spot import BlindSpotNetwork, Branch

# For engines that give none; the core always does. Between the disc of the paper (diameter N / 7, that is 1 / 14) and
# the authors' code (N / 3, that is 1 / 6).
DEFAULT_CUTOFF = 1 / 7


def branches_of(network: BlindSpotNetwork) -> list[Branch]:
    """The network's branches, typed: a ModuleList forgets what it holds."""
    return [branch for branch in network.branches if isinstance(branch, Branch)]


def weight_bank(networks: Sequence[BlindSpotNetwork]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Weights of all networks, stacked along a first axis: the names are those of the function BlindSpot."""
    bank: dict[str, list[torch.Tensor]] = {}
    for network in networks:
        for branch in branches_of(network):
            size = branch.kernel.shape[-1]
            masked = branch.kernel * branch.blind_mask
            for name, weights in (("kernel", masked), ("mixing", branch.mixing), ("head", branch.head)):
                bank.setdefault(f"{name}_{size}", []).append(weights)
        bank.setdefault("branch_weights", []).append(torch.softmax(network.branch_logits, dim=0))
    return {name: torch.stack(weights).detach().numpy() for name, weights in bank.items()}


def contract(
    method: str, networks: Sequence[BlindSpotNetwork], weight_sets: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The metadata of a blind-spot model. `weight_sets` says of each network what it was trained on."""
    kernels = [branch.kernel for branch in branches_of(networks[0])]
    n_taps, largest = kernels[0].shape[1], max(kernel.shape[-1] for kernel in kernels)
    return {
        "spec": SPEC,
        "method": method,
        "taps": {"axis": "time", "offsets": list(range(-(n_taps // 2), n_taps // 2 + 1))},
        "ends": "mirror",
        "channels": ["signal"],
        "margin_px": largest // 2,
        "align_px": 1,
        "min_size_px": largest,
        "boundary": "periodic",
        "normalisation": "none",
        "low_pass": {"shape": "disc", "default_cutoff": DEFAULT_CUTOFF},
        "weight_sets": list(weight_sets),
    }


def build_model(networks: Sequence[BlindSpotNetwork], metadata: dict[str, Any]) -> onnx.ModelProto:
    """One model file from a bank of networks of the same architecture.

    Inputs: frame_0 ... frame_{n_taps-1}, float32 (batch, 1, height, width); `cutoff`, float32 scalar in
    cycles/pixel (1: no low-pass), and `weight_set`, int64 scalar, both with a default. Output `denoised`,
    float32 (batch, 1, height, width), in the units of the frames.
    """
    branches = branches_of(networks[0])
    n_taps = branches[0].kernel.shape[1]
    sizes = [branch.kernel.shape[-1] for branch in branches]
    n_mixing, n_features, _ = branches[0].mixing.shape

    frame_shape: list[str | int | None] = ["batch", 1, "height", "width"]
    inputs = [helper.make_tensor_value_info(f"frame_{i}", TensorProto.FLOAT, frame_shape) for i in range(n_taps)]
    initializers = [numpy_helper.from_array(value, name) for name, value in weight_bank(networks).items()]
    initializers.append(numpy_helper.from_array(np.array(0, np.int64), "weight_set"))
    initializers.append(numpy_helper.from_array(np.array(DEFAULT_CUTOFF, np.float32), "cutoff"))
    inputs.append(helper.make_tensor_value_info("weight_set", TensorProto.INT64, []))
    inputs.append(helper.make_tensor_value_info("cutoff", TensorProto.FLOAT, []))

    domain = functions.DOMAIN
    nodes = [
        helper.make_node("BlindSpot", functions.blind_spot_inputs(n_taps, sizes), ["network"], domain=domain),
        helper.make_node("LowPass", ["network", "cutoff"], ["denoised"], domain=domain),
    ]
    output = helper.make_tensor_value_info("denoised", TensorProto.FLOAT, frame_shape)
    model = helper.make_model(
        helper.make_graph(nodes, metadata["method"], inputs, [output], initializers),
        functions=[
            functions.parse(functions.FOURIER_BASIS),
            functions.parse(functions.LOW_PASS),
            functions.parse(functions.blind_spot(n_taps, sizes, n_features, n_mixing)),
        ],
        opset_imports=[helper.make_opsetid("", functions.OPSET), helper.make_opsetid(domain, 1)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    set_metadata(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
