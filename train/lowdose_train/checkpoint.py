"""Checkpoints: one file that holds the weights and everything that says where they come from."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose.model import bundled_models
from lowdose_train.methods import TASKS
from lowdose_train.settings import Settings

FORMAT_VERSION = 1


def save(contents: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of plain values and tensors; `path` never holds half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    torch.save({"format_version": FORMAT_VERSION, **contents}, unfinished)
    unfinished.replace(path)


def read(path: Path) -> dict[str, Any]:
    """What `save` wrote, or the same from a model file. Raises LowdoseError for a missing, foreign or newer file."""
    if path.suffix == ".onnx":
        return read_model_file(path)
    try:
        contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a file that is no checkpoint
        raise LowdoseError(f"cannot read the checkpoint {path}: {error}") from error
    version = contents.get("format_version") if isinstance(contents, dict) else None
    if version is None:
        raise LowdoseError(f"{path} is no lowdose checkpoint; expected best.pt from 'lowdose train'")
    if version > FORMAT_VERSION:
        raise LowdoseError(
            f"{path} has checkpoint format {version}, this lowdose reads up to {FORMAT_VERSION}; update lowdose"
        )
    return contents


def read_model_file(path: Path) -> dict[str, Any]:
    """The contents of the checkpoint from which a model file was exported; its weights have the network's names."""
    try:
        import onnx  # of the extra [export]: only this needs it
    except ModuleNotFoundError as error:
        raise LowdoseError("to begin with a model file: pip install 'lowdose[export]'") from error
    model = onnx.load(path)
    metadata = json.loads(next((p.value for p in model.metadata_props if p.key == "lowdose"), "{}"))
    record = dict(next(iter(metadata.get("weight_sets", [])), {}))
    record.pop("name", None)
    named = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer if "." in w.name}
    if not named:
        raise LowdoseError(f"{path} holds no weights that training could begin with; give a best.pt")
    weights = {name: torch.from_numpy(values.copy()) for name, values in named.items()}
    if "scan.level" in weights:
        weights["scan.taps"] = torch.tensor(metadata["taps"]["offsets"])
    return {"method": metadata.get("method"), "state_dict": weights, **record}


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Network on the CPU, ready to run, and the rest of the file.

    The second value has method, settings, metrics, seed, commit and data, as `best.pt` records them.
    Raises LowdoseError for a file that is no checkpoint of a known method.
    """
    contents = read(Path(path))
    method, weights = contents.get("method"), contents.pop("state_dict", None)
    if method not in TASKS or weights is None:
        raise LowdoseError(f"{path} holds no network of a known method ({', '.join(TASKS)})")
    settings = Settings.from_mapping({"method": method, **contents.get("settings", {})})
    network = TASKS[method].network_for(settings, weights)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise LowdoseError(f"the weights in {path} do not fit the network: {error}") from error
    return network.eval(), contents


def starting_point(name_or_path: str) -> Path:
    """What fine-tuning begins with: a checkpoint, a model file, or a bundled model by its name.

    Raises LowdoseError for anything else.
    """
    bundled = bundled_models()
    if name_or_path in bundled:
        return bundled[name_or_path]
    if not Path(name_or_path).is_file():
        raise LowdoseError(
            f"no checkpoint '{name_or_path}': expected a best.pt, a model file or a bundled model's name"
        )
    return Path(name_or_path)


def source_commit() -> str:
    """Version of lowdose, and the commit it runs from where that is a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__} {commit}"
