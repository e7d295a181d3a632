"""`lowdose devices`."""

from __future__ import annotations

import json

import click

from lowdose import _core
from lowdose.devices import available_devices, runtime_path

EXTRAS = {"cuda": "gpu", "tensorrt": "gpu"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def devices(as_json: bool) -> None:
    """What models can run on here, and what would add the rest."""
    path = runtime_path()
    version, providers = _core.runtime_info(path)
    available = available_devices()
    facts = {
        "onnxruntime": version,
        "path": path,
        "providers": providers,
        "available": available,
        "missing": {name: f"pip install 'lowdose[{extra}]'" for name, extra in EXTRAS.items() if name not in available},
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"ONNX Runtime {version} ({path})")
    click.echo(f"available: {', '.join(available)}")
    for name, command in EXTRAS.items():
        if name not in available:
            click.echo(
                f"missing:   {name} (NVIDIA GPU; pip uninstall onnxruntime, then pip install 'lowdose[{command}]')"
            )
