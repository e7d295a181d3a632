"""Trains the bundled blind-feature networks: `python -m lowdose_train.bundled_bfn bfn -o runs`.

They learn from simulated scenes with seeds from 1000 up, under noise of any strength. The length is given in epochs,
not in seconds, so that the same command gives the same weights on the same kind of processor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from lowdose.simulate import diffraction_scan, haadf_movie, hrtem_movie, particle_movie, stem_movie
from lowdose_train.bfn_simulated import SimulatedBfnTask
from lowdose_train.bfn_simulated_scan import SimulatedScanTask
from lowdose_train.bundled_udvd import Scenes, drawn, shuffled
from lowdose_train.loop import train
from lowdose_train.settings import Settings
from lowdose_train.task import Task

FIRST_SEED = 1000
SIDE_PX = 160
N_FRAMES = 14
HRTEM_ANGSTROM = (0.05, 0.22)
STEM_ANGSTROM = (0.1, 0.26)
HAADF_ANGSTROM = (0.1, 0.24)
N_HRTEM, N_STEM, N_PARTICLES, N_HAADF = 30, 20, 16, 30
N_SCANS = 128
WINDOW_PX = 80
DETECTOR_PX = (WINDOW_PX, 224)
SCAN_SIDES = (6, 20)
FLAT = 8
"""Every so many scans one is of a plain field, of which nothing may be made."""
ELEMENTS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")


def stem_scene(seed: int, n_frames: int) -> tuple[str, Any]:
    """Name and clean frames (n_frames, 2, height, width) of adatoms on graphene, bright and weak ones."""
    rng = np.random.default_rng([seed, 8])
    angstrom, element = drawn(seed, STEM_ANGSTROM), str(rng.choice(ELEMENTS))
    settings: dict[str, Any] = {
        "element": element,
        "pixel_size_angstrom": angstrom,
        "n_layers": int(rng.integers(1, 7)),
        "adatoms_per_nm2": float(rng.uniform(0.5, 5.0)),
    }
    scene = stem_movie(seed, n_frames=n_frames, height=SIDE_PX, width=SIDE_PX, **settings)
    return f"stem {element}, seed {seed}, {angstrom:.3f} A/px", scene.clean


def movie_scenes(n_frames: int = N_FRAMES) -> Scenes:
    """Clean movies (n_frames, 1, height, width) of lattices, adatoms and particles."""
    scenes: Scenes = {}
    size: dict[str, Any] = {"n_frames": n_frames, "height": SIDE_PX, "width": SIDE_PX}
    for seed in range(FIRST_SEED, FIRST_SEED + N_HRTEM):
        element, support, angstrom = ("Pt", "Au")[seed % 2], bool(seed % 3), drawn(seed, HRTEM_ANGSTROM)
        scene = hrtem_movie(seed, pixel_size_angstrom=angstrom, element=element, support=support, **size)
        where = "on CeO2" if support else "alone"
        scenes[f"hrtem {element} {where}, seed {seed}, {angstrom:.3f} A/px"] = scene.clean[:, None]
    for seed in range(FIRST_SEED, FIRST_SEED + N_STEM):
        name, clean = stem_scene(seed, n_frames)
        channel = seed % 2
        scenes[f"{name}, {('ADF', 'BF')[channel]}"] = clean[:, channel : channel + 1]
    for seed in range(FIRST_SEED, FIRST_SEED + N_PARTICLES):
        scenes[f"particles, seed {seed}"] = particle_movie(seed, **size).clean[:, None]
    return shuffled(scenes)


def dual_scenes() -> Scenes:
    """Clean ADF and BF movies (n_frames, 2, height, width)."""
    return dict(stem_scene(seed, N_FRAMES) for seed in range(FIRST_SEED, FIRST_SEED + 2 * N_STEM))


def image_scenes() -> Scenes:
    """Clean single images (1, 1, height, width): those of the movies, and HAADF images of crystals."""
    scenes = movie_scenes(n_frames=1)
    for seed in range(FIRST_SEED, FIRST_SEED + N_HAADF):
        angstrom = drawn(seed, HAADF_ANGSTROM)
        scene = haadf_movie(seed, height=SIDE_PX, width=SIDE_PX, pixel_size_angstrom=angstrom)
        scenes[f"haadf, seed {seed}, {angstrom:.3f} A/px"] = scene.clean[:, None]
    return shuffled(scenes)


def scan_scenes() -> Scenes:
    """Clean scans (scan_y, scan_x, WINDOW_PX, WINDOW_PX) of polycrystalline films, and plain fields.

    A window somewhere on a detector of any size: so disks of many sizes come from patterns of one.
    """
    scenes: Scenes = {}
    for seed in range(FIRST_SEED, FIRST_SEED + N_SCANS):
        rng = np.random.default_rng([seed, 8])
        scan_y, scan_x = rng.integers(*SCAN_SIDES, 2).tolist()
        if seed % FLAT == 0:
            edge = int(rng.integers(0, WINDOW_PX))  # less, or nothing, on one side of it
            row = np.where(np.arange(WINDOW_PX) < edge, rng.choice([0.0, 0.1, 1.0]), 1.0).astype(np.float32)
            scenes[f"plain, seed {seed}"] = np.broadcast_to(row, (scan_y, scan_x, WINDOW_PX, WINDOW_PX))
            continue
        side = round(drawn(seed, DETECTOR_PX))
        scene = diffraction_scan(seed, scan_y=scan_y, scan_x=scan_x, height=side, width=side)
        y, x = rng.integers(0, side - WINDOW_PX + 1, 2)
        window = scene.clean[:, :, y : y + WINDOW_PX, x : x + WINDOW_PX]
        scenes[f"diffraction, seed {seed}, {side} px"] = np.ascontiguousarray(window)
    return shuffled(scenes)


SHARED = Settings(method="bfn", epochs=300, learning_rate=3e-3, averaging=0.995, patience_epochs=1000)
MODELS: dict[str, tuple[dict[str, Any], Callable[[], Scenes], type[Task]]] = {
    "bfn": ({"taps": 13, "linear_px": 21}, movie_scenes, SimulatedBfnTask),
    "bfn-dual": ({"taps": 13, "linear_px": 15, "epochs": 1500}, dual_scenes, SimulatedBfnTask),
    "bfn-image": ({"taps": 1, "linear_px": 49, "epochs": 1500}, image_scenes, SimulatedBfnTask),
    "bfn-4d": ({"method": "bfn-4d", "epochs": 200, "batch_size": 16}, scan_scenes, SimulatedScanTask),
}


@click.command()
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the run's folder.")
@click.option("--epochs", type=int, help="Length of the training, of 50 steps each, instead of that of the model.")
@click.option("--batch-size", type=int, help="Crops per step.")
@click.option("--budget", "budget_s", type=float, help="Length in seconds instead.")
@click.option("--device", help="Where to train (default cpu).")
@click.option("--threads", type=int, help="CPU threads of PyTorch, and processes that fit the filters.")
def main(name: str, out: Path, **flags: Any) -> None:
    """Train the bundled model NAME; its checkpoint is OUT/NAME/best.pt."""
    values, scenes, task_type = MODELS[name]
    given = {flag: value for flag, value in flags.items() if value is not None}
    settings = Settings.from_mapping(SHARED.to_mapping() | values | given)
    result = train(settings, scenes(), out / name, show_progress=True, say=click.echo, task_type=task_type)
    click.echo(f"{name}: {result.metrics}")


if __name__ == "__main__":
    main()
