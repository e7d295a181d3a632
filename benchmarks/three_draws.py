"""bfn on three draws of the noise: `python -m benchmarks.three_draws benchmarks/three_draws.jsonl DATA DATA DATA`.

Each DATA is a folder that `make_noise.py` of the shared test data wrote, with another seed each. Measured are the noisy
files, wiener, bfn untouched, and bfn calibrated on the noisy file alone by the command that users have. RESULTS keeps
every score, so that a run goes on where another stopped. Prints a table, mean and largest deviation of the draws.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.cases import CASES, TRACKED, Case
from benchmarks.scoring import commit, denoised, measured, score

from lowdose.bench.machine import cpu_name
from lowdose.errors import LowdoseError
from lowdose_export.calibrate import calibrate

EXPLANATION = """\
## bfn on three draws of the noise

`python -m benchmarks.three_draws`: PSNR in dB over all frames, mean of the draws of the noise and half of what lies
between the largest and the least. The first draw is that of all other tables; on the others nothing was chosen, but
three faults were found and mended. bfn, calibrated: `lowdose calibrate FILE --method bfn --budget 60s --threads 1`, so
one core of two. Best classical: tuned against the truth; quoted from the data's README, on one to six frames, but for
three movies of C, which vary from frame to frame, measured on all frames (`python -m benchmarks.drift_corrected`), as
all else is.
"""
Results = dict[tuple[str, str, int], dict[str, Any]]

METHODS = ("noisy", "wiener", "bfn", "bfn, calibrated")
GOALS = {"A_adatoms": (2.0, 1.5), "B_haadf": (0.0,), "D_4dstem": (1.0,), "E_catalyst": (1.0,)}
GOALS_OF_MOVIES = {"co_linear": 1.0, "pt_mean2.0": 0.5, "pt_mean0.3": 0.0, "au_mean0.8": 0.0}
"""Over the best classical filter, in dB, per channel."""
ON_ALL_FRAMES = {
    "C_hrtem/pt_mean2.0": (28.07, TRACKED),
    "C_hrtem/pt_mean0.3": (24.80, TRACKED),
    "C_hrtem/au_mean0.8": (25.00, TRACKED),
}


def goal(case: Case, channel: int) -> float:
    for name, gains in GOALS.items():
        if case.name.startswith(name):
            return gains[channel]
    return next(gain for name, gain in GOALS_OF_MOVIES.items() if name in case.name)


def calibrated(data: Path, case: Case, budget_s: float, threads: int) -> dict[str, Any]:
    """The scores of what `lowdose calibrate --method bfn` makes of the noisy file."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "bfn.onnx"
        limits = ["--budget", f"{budget_s}s", "--threads", str(threads), "--axes", case.axes]
        arguments = [str(data / case.noisy), "-o", str(out), "--method", "bfn", *limits]
        calibrate.main(arguments, standalone_mode=False)
        result, _ = denoised(data / case.noisy, case, str(out), Path(name))
    return {"scores": score(case, case.read_truth(data), result), "budget_s": budget_s, "threads": threads}


def scores_of(data: Path, case: Case, method: str, budget_s: float, threads: int) -> dict[str, Any]:
    if method == "noisy":
        return {"scores": score(case, case.read_truth(data), case.read_noisy(data).astype(np.float32))}
    if method == "bfn, calibrated":
        return calibrated(data, case, budget_s, threads)
    with tempfile.TemporaryDirectory() as folder:
        return measured(data, case, method, Path(folder))


def cell(entries: list[dict[str, Any]], channel: int) -> str:
    if not entries:
        return "-"
    values = np.array([entry["scores"][channel]["psnr"] for entry in entries])
    spread = f" ± {np.ptp(values) / 2:.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"


def mean_of(entries: list[dict[str, Any]], channel: int) -> float:
    return float(np.mean([entry["scores"][channel]["psnr"] for entry in entries])) if entries else float("nan")


def read(store: Path) -> Results:
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() else []
    return {(entry["case"], entry["method"], entry["draw"]): entry for entry in map(json.loads, lines)}


def table(known: Results) -> list[str]:
    lines = ["| case | best classical | " + " | ".join(METHODS) + " | over it | goal |", "|" + "---|" * 8]
    for case in CASES:
        for channel, quoted in enumerate(case.best_classical):
            best, which = ON_ALL_FRAMES.get(case.name, quoted)
            label = case.name + (f", channel {channel}" if len(case.best_classical) > 1 else "")
            of = {name: [e for key, e in known.items() if key[:2] == (case.name, name)] for name in METHODS}
            gained = mean_of(of["bfn, calibrated"], channel) - best
            wanted = goal(case, channel)
            cells = [label, f"{best:.2f} ({which})", *(cell(of[name], channel) for name in METHODS)]
            verdict = "" if np.isnan(gained) else " met" if gained >= wanted else " **missed**"
            cells += ["-" if np.isnan(gained) else f"{gained:+.2f}", f"{wanted:+.1f}{verdict}"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("draws", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--only", default="", help="Measure only cases whose name holds this.")
@click.option("--budget", default=60.0, show_default=True, help="Seconds of each calibration.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of each calibration.")
def main(store: Path, draws: tuple[Path, ...], only: str, budget: float, threads: int) -> None:
    """Measure what is missing in STORE and print the table as Markdown."""
    known = read(store)
    for draw, data in enumerate(draws):
        for case in CASES:
            for method in METHODS:
                if (case.name, method, draw) in known or only not in case.name:
                    continue
                try:
                    result = scores_of(data, case, method, budget, threads)
                except LowdoseError as error:
                    click.echo(f"{case.name}, {method}: {error}", err=True)
                    continue
                facts = {"case": case.name, "method": method, "draw": draw, "commit": commit(), "cpu": cpu_name()}
                known[case.name, method, draw] = facts | result
                with store.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(facts | result) + "\n")
                click.echo(f"{case.name}, {method}, {draw}: {[s['psnr'] for s in result['scores']]}", err=True)
    click.echo("\n".join(table(known)))


if __name__ == "__main__":
    main()
