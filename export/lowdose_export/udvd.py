"""Checkpoints of UDVD -> one checked model file: of movies with state between the frames, of scans without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose_export.blind_spot import weight_set
from lowdose_export.checked import write_checked
from lowdose_export.functions import OPSET
from lowdose_export.model_file import IR_VERSION, SPEC, check_out, set_metadata
from lowdose_export.udvd_graph import UdvdGraph
from lowdose_export.udvd_parity import check_udvd_parity
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.scan_taps import SCAN_TAPS
from lowdose_train.udvd import ALIGN_PX, TRIPLET, MovieUdvd, ScanUdvd, Udvd

MEMORY_SIDES_PX = (128, 256)
STATES = ("state_0", "state_1")


def export_udvd(checkpoints: Sequence[Path], out: Path, *, overwrite: bool = False) -> dict[str, float]:
    """Write the model file of one checkpoint, and compare PyTorch, ONNX Runtime and the core, whole and in tiles.

    Returns the largest difference to PyTorch per engine, as a share of the output's range. Raises LowdoseError, and
    leaves nothing under `out`, for more than one checkpoint, for an existing file without `overwrite`, and when an
    engine disagrees with PyTorch.
    """
    check_out(out, overwrite)
    if len(checkpoints) != 1:
        raise LowdoseError(f"{len(checkpoints)} checkpoints; a model file of udvd holds one")
    network, record = load_checkpoint(checkpoints[0])
    trained_on = weight_set(checkpoints[0], record)
    if isinstance(network, MovieUdvd):
        model = movie_model(network, trained_on)
    else:
        assert isinstance(network, ScanUdvd)
        model = scan_model(network, trained_on, record["settings"]["neighbours"])
    return write_checked(model, out, lambda path: check_udvd_parity(path, network), memory_sides_px=MEMORY_SIDES_PX)


def movie_model(network: MovieUdvd, trained_on: dict[str, Any]) -> onnx.ModelProto:
    """Stage 1 on the newest triplet, stage 2 on its result and on those of the two steps before (the states)."""
    graph = UdvdGraph(network)
    newest = graph.stage_1([f"frame_{i}" for i in range(TRIPLET)])
    graph.rename(newest, "state")
    graph.stage_2([*STATES, "state"])
    state = {"inputs": list(STATES), "output": "state", "channels": network.n_state}
    taps = {"axis": "time", "offsets": [0, 1, 2]}
    return finished(graph, network, {"method": "udvd", "taps": taps, "ends": "repeat", "state": state}, trained_on)


def scan_model(network: ScanUdvd, trained_on: dict[str, Any], neighbours: str) -> onnx.ModelProto:
    """Both stages on a pattern and its neighbours in the scan."""
    taps = SCAN_TAPS[neighbours]
    graph = UdvdGraph(network)
    frames = [f"frame_{tap}" for tap in taps.triplets]
    graph.stage_2([graph.stage_1(frames[i : i + TRIPLET]) for i in range(0, len(frames), TRIPLET)])
    offsets = [list(offset) for offset in taps.offsets]
    rules = {"method": "udvd-4d", "taps": {"axis": "scan", "offsets": offsets}, "ends": "mirror"}
    return finished(graph, network, rules, trained_on)


def finished(graph: UdvdGraph, network: Udvd, rules: dict[str, Any], trained_on: dict[str, Any]) -> onnx.ModelProto:
    """The model file of a graph that ends in `denoised`, by the contract of export/README.md."""
    value = helper.make_tensor_value_info

    def planes(name: str, n: int) -> onnx.ValueInfoProto:
        return value(name, TensorProto.FLOAT, ["batch", n, "height", "width"])

    inputs = [planes(f"frame_{i}", 1) for i in range(len(rules["taps"]["offsets"]))]
    outputs = [planes("denoised", 1)]
    if "state" in rules:
        inputs += [planes(name, network.n_state) for name in STATES]
        outputs.append(planes("state", network.n_state))
    model = helper.make_model(
        helper.make_graph(graph.nodes, rules["method"], inputs, outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    metadata = {
        "spec": SPEC,
        **rules,
        "channels": ["signal"],
        "margin_px": network.margin_px,
        "align_px": ALIGN_PX,
        "min_size_px": 1,
        "boundary": "internal",
        "normalisation": "none",
        "low_pass": None,
        "weight_sets": [trained_on],
        "lowdose_version": __version__,
        "bytes_per_px": 1.0,
    }
    set_metadata(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
