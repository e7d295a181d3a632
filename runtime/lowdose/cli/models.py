"""`lowdose models`."""

from __future__ import annotations

import json
from typing import Any

import click

from lowdose.model import Model, bundled_models, load
from lowdose.reucid.classifier import Classifier, load_classifier


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def models(as_json: bool) -> None:
    """The models that come with lowdose."""
    facts: dict[str, dict[str, Any]] = {}
    for name in bundled_models():
        model: Model | Classifier
        if name == "reucid":
            model = load_classifier(name)
            seen = {"frames": 1, "latency_frames": 0, "weight_sets": []}
        else:
            model = load(name, device="cpu")
            seen = {
                "frames": len(model.taps),
                "latency_frames": model.taps[-1],
                "weight_sets": [entry["name"] for entry in model.metadata["weight_sets"]],
            }
        card = {"sha256": model.sha256, "path": str(model.path), "card": str(model.path.with_suffix(".md"))}
        facts[name] = seen | card
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, fact in facts.items():
        click.echo(f"{name}: sees {fact['frames']} frame(s), {fact['latency_frames']} frame(s) of latency")
        if fact["weight_sets"]:
            click.echo(f"  weight sets {', '.join(fact['weight_sets'])}")
        click.echo(f"  card {fact['card']}")
