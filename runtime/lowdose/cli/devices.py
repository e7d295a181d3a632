"""`lowdose devices`."""

from __future__ import annotations

import json

import click

from lowdose import _core
from lowdose.devices import DEVICES, available_devices, problem_with, runtime_path


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def devices(as_json: bool) -> None:
    """What models can run on here, and what would add the rest.

    A small model is opened on each device, so one that is listed as available works.
    """
    path = runtime_path()
    version, providers = _core.runtime_info(path)
    available = available_devices()
    missing = {name: problem for name in DEVICES if (problem := problem_with(name, path)) is not None}
    facts = {
        "onnxruntime": version,
        "path": path,
        "providers": providers,
        "available": available,
        "missing": {
            name: {"needs": DEVICES[name].needs, "problem": problem, "command": DEVICES[name].command}
            for name, problem in missing.items()
        },
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"ONNX Runtime {version} ({path})")
    click.echo(f"available: {', '.join(available)}")
    for name, problem in missing.items():
        click.echo(f"missing:   {name} ({DEVICES[name].needs}): {problem}")
