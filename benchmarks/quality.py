"""Quality on the simulated HRTEM movies with known truth: `python benchmarks/quality.py DATA > benchmarks/QUALITY.md`.

DATA is the folder that `make_noise.py` of the shared test data writes (it holds C_hrtem). All frames are scored.
"""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lowdose
from lowdose.cli.bench import cpu_name
from lowdose.methods import find_method
from lowdose.metrics import evaluate, psnr
from lowdose.pipeline import Job, denoise_file
from lowdose_export.blind_spot import export_blind_spot
from lowdose_train.loop import train
from lowdose_train.settings import Settings

Stack = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A noisy file, its truth with the factor to the noisy file's units, and the best classical filter.

    `classical` is quoted from the data's README: parameters tuned against the truth, scored on `frames`.
    """

    noisy: str
    truth: str
    scale: float
    frames: tuple[int, ...]
    classical: str


CASES = (
    Case("pt_mean2.0.tif", "pt_clean_rel.npz", 2.0, (10,), "29.20 (drift-corrected Gaussian 3-D)"),
    Case("pt_mean0.3.tif", "pt_clean_rel.npz", 0.3, (10,), "26.34 (drift-corrected Gaussian 3-D)"),
    Case("au_mean0.8.tif", "au_clean_rel.npz", 0.8, (6, 13), "25.59 (drift-corrected Gaussian 3-D)"),
    Case("co_linear.npy", "co_clean.npz", 1.0, (6, 13), "30.36 (BM3D)"),
)

EXPLANATION = """\
PSNR in dB / SSIM over all frames, ends included; in brackets the PSNR on those one or two frames on which the data's
README scores the classical filters. Gaussian: SciPy, the same sigma along t, y and x (two readings of the paper's
"(3,3,3)"). Best classical: quoted from that README, parameters tuned against the truth. (a) the bundled wcvd as it is;
(b) WCVD trained on the noisy file alone, on one thread. Both with weights and low-pass chosen from the noisy frames;
what was chosen stands behind.
"""


def read(path: Path) -> Stack:
    return np.asarray(np.load(path) if path.suffix == ".npy" else tifffile.imread(path))


def score(case: Case, truth: Stack, result: Stack) -> str:
    metrics = evaluate(truth, result)
    some = psnr(truth[list(case.frames)], result[list(case.frames)], data_range=float(np.ptp(truth)))
    return f"{metrics['psnr']:.2f} / {metrics['ssim']:.3f} ({some:.2f})"


def denoised(source: Path, model: str, folder: Path) -> tuple[Stack, str]:
    """What `lowdose denoise` with default settings gives, and what it chose."""
    out = folder / "denoised.npy"
    report = denoise_file(source, out, find_method(model, device="cpu"), Job(overwrite=True))
    cutoff = report["lowpass_cutoff"]
    return np.load(out), f"{report['weight_set']}, cutoff {'none' if cutoff is None else f'{cutoff:.3f}'}"


def train_on(source: Path, budget_s: float, seed: int, folder: Path) -> tuple[str, float]:
    """WCVD trained on the noisy file alone, exported, and the seconds that the training took."""
    start = time.perf_counter()
    train(Settings(budget_s=budget_s, seed=seed, threads=1), {source.name: read(source)}, folder / "run")
    seconds = time.perf_counter() - start
    export_blind_spot([folder / "run" / "best.pt"], folder / "own.onnx")
    return str(folder / "own.onnx"), seconds


def row(data: Path, case: Case, budget_s: float, seed: int) -> str:
    source = data / "C_hrtem" / case.noisy
    noisy = read(source).astype(np.float32)
    truth = np.load(data / "C_hrtem" / case.truth)["clean"].astype(np.float32) * np.float32(case.scale)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundled, chosen = denoised(source, "wcvd", folder)
        model, seconds = train_on(source, budget_s, seed, folder)
        own, own_chosen = denoised(source, model, folder)
    cells = [
        case.noisy,
        score(case, truth, noisy),
        score(case, truth, gaussian_filter(noisy, 1)),
        score(case, truth, gaussian_filter(noisy, 3)),
        case.classical,
        f"{score(case, truth, bundled)} {chosen}",
        f"{score(case, truth, own)} {own_chosen}; {seconds:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--budget", default=100.0, show_default=True, help="Seconds of training per file for (b).")
@click.option("--seed", default=0, show_default=True, help="Seed of the training for (b).")
def main(data: Path, budget: float, seed: int) -> None:
    """Print the table as Markdown."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    facts = {
        "lowdose": lowdose.__version__,
        "commit": commit.stdout.strip(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
    }
    click.echo("# Quality on simulated HRTEM movies\n")
    click.echo(f"Made by `python benchmarks/quality.py DATA --budget {budget:g} --seed {seed}`\n{json.dumps(facts)}.\n")
    click.echo(EXPLANATION)
    click.echo("| movie | noisy | Gaussian 1 | Gaussian 3 | best classical | (a) bundled wcvd | (b) own training |")
    click.echo("|---|---|---|---|---|---|---|")
    for case in CASES:
        click.echo(row(data, case, budget, seed))


if __name__ == "__main__":
    main()
