"""`lowdose models`."""

from __future__ import annotations

import json
from typing import Any

import click

from lowdose.model import bundled_models, load


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def models(as_json: bool) -> None:
    """The models that come with lowdose."""
    facts: dict[str, dict[str, Any]] = {}
    for name in bundled_models():
        model = load(name, device="cpu")
        facts[name] = {
            "frames": len(model.taps),
            "latency_frames": model.taps[-1],
            "weight_sets": [entry["name"] for entry in model.metadata["weight_sets"]],
            "sha256": model.sha256,
            "path": str(model.path),
            "card": str(model.path.with_suffix(".md")),
        }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, fact in facts.items():
        click.echo(f"{name}: sees {fact['frames']} frame(s), {fact['latency_frames']} frame(s) of latency")
        click.echo(f"  weight sets {', '.join(fact['weight_sets'])}")
        click.echo(f"  card {fact['card']}")
