"""Checkpoints of WCVD or WCID -> one checked model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose_export.checked import write_checked
from lowdose_export.graph import build_model, contract
from lowdose_export.model_file import check_out
from lowdose_export.parity import check_parity
from lowdose_train.blind_spot import BlindSpotNetwork
from lowdose_train.checkpoint import load_checkpoint


def export_blind_spot(checkpoints: Sequence[Path], out: Path, *, overwrite: bool = False) -> dict[str, float]:
    """Write a model file whose bank holds the checkpoints' weights, in order.

    Returns the largest difference to PyTorch per engine, as a share of the output's range. Raises
    LowdoseError, and leaves nothing under `out`, for checkpoints of different methods, for an existing file
    without `overwrite`, and when an engine disagrees with PyTorch.
    """
    check_out(out, overwrite)
    loaded = [load_checkpoint(path) for path in checkpoints]
    networks = [network for network, _ in loaded if isinstance(network, BlindSpotNetwork)]
    methods = sorted({str(record["method"]) for _, record in loaded})
    if len(methods) != 1 or len(networks) != len(loaded):
        raise LowdoseError(f"one model file holds one method; the checkpoints are of {', '.join(methods)}")
    metadata = contract(
        methods[0],
        networks,
        [weight_set(path, record) for path, (_, record) in zip(checkpoints, loaded, strict=True)],
    )
    metadata["lowdose_version"] = __version__
    metadata["bytes_per_px"] = 1.0  # until it is measured
    return write_checked(build_model(networks, metadata), out, lambda path: check_parity(path, networks))


def weight_set(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """What the model file says of one set of weights."""
    return {
        "name": path.resolve().parent.name,
        **{key: record[key] for key in ("data", "seed", "commit", "metrics", "settings")},
    }
