"""Quality on the simulated sets: `python -m benchmarks.quality DATA benchmarks/quality.jsonl > benchmarks/QUALITY.md`.

DATA is the folder that `make_noise.py` of the shared test data writes. RESULTS (a JSON-lines file) keeps every score
with what made it, so that a run goes on where another stopped; delete a line to measure it again. Scores are from
files outside the project: no data of theirs is in it.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks import three_draws
from benchmarks.cases import CASES, Case
from benchmarks.scoring import channels_of, commit, measured, score

import lowdose
from lowdose.bench.machine import cpu_name
from lowdose.errors import LowdoseError
from lowdose_export.cli import export
from lowdose_train.cli import train

BUNDLED = {
    "image": ("wiener", "bfn", "reucid", "wcid", "n2v-lite", "auto"),
    "movie": ("wiener", "bfn", "wcvd", "udvd-lite", "synthesis3d-lite", "auto"),
    "channels": ("wiener", "bfn", "n2v-lite-dual", "udvd-lite", "auto"),
    "scan": ("wiener", "bfn", "udvd-4d-lite", "auto"),
}

# Trained on the noisy file alone, from random weights or from a bundled model.
OWN = {
    "movie": ("wcvd", "udvd", "udvd from udvd-lite"),
    "channels": ("n2v", "udvd from udvd-lite"),
    "scan": ("udvd-4d", "udvd-4d from udvd-4d-lite"),
    "image": (),
}

FINDINGS = Path(__file__).with_name("quality_findings.md")
"""What people found in the tables."""
EXPLANATION = """\
PSNR in dB / SSIM over all frames, the first and last ones included; where there are several, the PSNR of the inner
frames and of the edge (two frames at each end of a movie, the border of a scan) follows in brackets. Best classical:
quoted from the data's README, parameters tuned against the truth, on a few inner frames. Every method runs as
`lowdose denoise --model NAME` does, with nothing tuned to the file; `NAME, own` is trained by `lowdose train NAME FILE
--budget SECONDS --threads 1` on that noisy file alone, from random weights, in the time given (with more threads where
the cell says so); `NAME from MODEL, own` begins with a bundled model (`--from`).
"""


def trained(data: Path, case: Case, name: str, budget_s: float, threads: int) -> dict[str, Any]:
    """The scores of `name` trained on the noisy file alone, each channel in `budget_s`, by the user's own commands."""
    method, _, start = name.partition(" from ")
    limits = [
        "--budget",
        str(budget_s),
        "--threads",
        str(threads),
        "--axes",
        case.axes,
        *(["--from", start] if start else []),
    ]
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        for channel in channels_of(case, method):
            run = folder / f"run-{channel}"
            one = [] if channel is None else ["--channel", str(channel)]
            train.main([method, str(data / case.noisy), "-o", str(run), *limits, *one], standalone_mode=False)
            export.main([str(run / "best.pt"), "-o", str(folder / f"{method}-{channel}.onnx")], standalone_mode=False)
        return measured(data, case, method, folder) | {"training_s": budget_s, "training_threads": threads}


def results_of(
    data: Path, store: Path, only: str, method: str, own_budget_s: float, threads: int
) -> Iterator[dict[str, Any]]:
    """All results, from `store` or measured now and added to it."""
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() else []
    known = {(entry["case"], entry["method"]): entry for entry in map(json.loads, lines)}
    for case in CASES:
        if (case.name, "noisy") not in known:
            noisy = case.read_noisy(data).astype(np.float32)
            add(store, known, case, "noisy", {"scores": score(case, case.read_truth(data), noisy)})
        for name in BUNDLED[case.kind]:
            if (case.name, name) not in known and only in case.name and method in name:
                try:
                    with tempfile.TemporaryDirectory() as folder:
                        add(store, known, case, name, measured(data, case, name, Path(folder)))
                except LowdoseError as error:
                    click.echo(f"{case.name}, {name}: {error}", err=True)
        for name in OWN[case.kind] if own_budget_s else ():
            if (case.name, f"{name}, own") not in known and only in case.name and method in name:
                add(store, known, case, f"{name}, own", trained(data, case, name, own_budget_s, threads))
    yield from known.values()


def add(store: Path, known: dict[Any, Any], case: Case, name: str, result: dict[str, Any]) -> None:
    facts = {"lowdose": lowdose.__version__, "commit": commit(), "cpu": cpu_name(), "python": platform.python_version()}
    entry = {"case": case.name, "method": name, **result, **facts}
    known[case.name, name] = entry
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    click.echo(f"{case.name}, {name}: {entry['scores']}", err=True)


def cell(scores: dict[str, float]) -> str:
    text = f"{scores['psnr']:.2f} / {scores['ssim']:.3f}"
    return text + (f" ({scores['inner']:.2f}, {scores['edge']:.2f})" if "inner" in scores else "")


def table(kind: str, entries: list[dict[str, Any]]) -> list[str]:
    """A Markdown table of all cases of a kind: a row per case and channel, a column per method."""
    cases = [case for case in CASES if case.kind == kind]
    by_case = {(entry["case"], entry["method"]): entry for entry in entries}
    names = ["noisy", *BUNDLED[kind], *(f"{name}, own" for name in OWN[kind])]
    lines = ["| case | best classical | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
    for case in cases:
        for channel, (best, which) in enumerate(case.best_classical):
            label = case.name + (f", channel {channel}" if len(case.best_classical) > 1 else "")
            cells = [f"{best:.2f} ({which})"]
            for name in names:
                entry = by_case.get((case.name, name))
                text = cell(entry["scores"][channel]) if entry else "-"
                if entry and name == "auto":
                    text += f" {entry['chosen'].split(':')[0]}"
                if entry and "training_s" in entry:
                    text += f" {entry['training_s']:.0f} s"
                    threads = entry.get("training_threads", 1)
                    text += f" {threads} threads" if threads > 1 else ""
                cells.append(text)
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--only", default="", help="Measure only cases whose name holds this.")
@click.option("--method", default="", help="Measure only methods whose name holds this.")
@click.option("--own", default=0.0, help="Seconds of training on each file; 0: none.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of the training.")
def main(data: Path, store: Path, only: str, method: str, own: float, threads: int) -> None:
    """Measure what is missing in STORE and print the tables as Markdown."""
    entries = list(results_of(data, store, only, method, own, threads))
    click.echo("# Quality on the simulated sets\n")
    commits = sorted({entry["commit"] for entry in entries})
    click.echo("Made by `python -m benchmarks.quality DATA benchmarks/quality.jsonl`, lowdose")
    click.echo(f"{lowdose.__version__}, commits {', '.join(commits)}, {cpu_name()}.\n\n{EXPLANATION}")
    titles = {"channels": "Adatoms, two channels", "image": "HAADF images", "movie": "Movies", "scan": "4D-STEM"}
    for kind, title in titles.items():
        click.echo(f"\n## {title}\n")
        click.echo("\n".join(table(kind, entries)))
    draws = three_draws.read(store.with_name("three_draws.jsonl"))
    if draws:
        click.echo(f"\n{three_draws.EXPLANATION}\n")
        click.echo("\n".join(three_draws.table(draws)))
    click.echo("\n" + FINDINGS.read_text(encoding="utf-8").strip())


if __name__ == "__main__":
    main()
