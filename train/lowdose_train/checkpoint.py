"""Checkpoints: one file that holds the weights and everything that says where they come from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose_train.methods import TASKS
from lowdose_train.settings import Settings

FORMAT_VERSION = 1
BASES = Path(__file__).parent / "bases"
"""Checkpoints of bundled models, NAME.pt, to begin training from."""


def save(contents: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of plain values and tensors; `path` never holds half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    torch.save({"format_version": FORMAT_VERSION, **contents}, unfinished)
    unfinished.replace(path)


def read(path: Path) -> dict[str, Any]:
    """What `save` wrote. Raises LowdoseError for a missing, foreign or newer file."""
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


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Network on the CPU, ready to run, and the rest of the file.

    The second value has method, settings, metrics, seed, commit and data, as `best.pt` records them.
    `path` may be the name of a bundled base, such as n2v-lite, where no such file is there.
    Raises LowdoseError for a file that is no checkpoint of a known method.
    """
    base = BASES / f"{path}.pt"
    contents = read(base if base.is_file() and not Path(path).exists() else Path(path))
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


def source_commit() -> str:
    """Version of lowdose, and the commit it runs from where that is a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__} {commit}"
