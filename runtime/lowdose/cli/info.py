"""`lowdose info`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lowdose.engine_file import is_engine, read_engine
from lowdose.io import open_stack, read_provenance
from lowdose.model import load


@click.command()
@click.argument("file", type=str)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(file: str, as_json: bool) -> None:
    """What an image file, a model file or an engine holds."""
    path = Path(file)
    if path.is_file() and is_engine(path):
        facts = engine_facts(path)
    else:
        facts = model_facts(file) if path.suffix == ".onnx" else stack_facts(file)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    if "weight_sets" in facts:  # the record of the training is for --json
        facts["weight_sets"] = [entry["name"] for entry in facts["weight_sets"]]
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:20} {json.dumps(value) if isinstance(value, dict | list) else value}")


def model_facts(file: str) -> dict[str, Any]:
    model = load(file, device="cpu")
    return {"file": file, "sha256": model.sha256, **model.metadata}


def engine_facts(path: Path) -> dict[str, Any]:
    engine = read_engine(path)
    return {"file": str(path), **asdict(engine.key), "targets": list(engine.key.targets), **engine.metadata}


def stack_facts(file: str) -> dict[str, Any]:
    with open_stack(file) as reader:
        return {
            "file": file,
            "axes": reader.axes,
            "shape": list(reader.shape),
            "dtype": reader.dtype.name,
            "n_frames": reader.n_frames,
            "scan_shape_yx": list(reader.scan_shape) if reader.scan_shape else None,
            "n_channels": reader.n_channels,
            "channel_names": list(reader.channel_names) if reader.n_channels > 1 else None,
            "pixel_size_yx": list(reader.pixel_size) if reader.pixel_size else None,
            "pixel_unit": reader.pixel_unit,
            "frame_interval": reader.frame_interval,
            "frame_interval_unit": reader.frame_interval_unit,
            "dialect": reader.dialect,
            "made_by_lowdose": read_provenance(file),
        }
