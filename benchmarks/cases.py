"""The simulated sets with known truth: what is scored, and the best classical filter beside it.

The data's README says how the sets were made. The classical values are quoted from it: parameters tuned against the
truth, on a few frames. `path`s are inside the folder that its `make_noise.py` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

Stack = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One noisy file. The truth in its units is scale * clean + offset.

    kind: "image", "movie", "channels" (a movie of several) or "scan". best_classical: per channel, dB and filter.
    """

    noisy: str
    clean: str
    kind: str
    best_classical: Sequence[tuple[float, str]]
    scale: float = 1.0
    offset: float = 0.0
    poisson_map: str | None = None
    """File that says what electron counts the clean detector counts stand for, channel by channel."""

    @property
    def name(self) -> str:
        return self.noisy.rsplit(".", 1)[0]

    @property
    def axes(self) -> str:
        return {"image": "YX", "movie": "TYX", "channels": "TCYX", "scan": "VUYX"}[self.kind]

    def read_noisy(self, data: Path) -> Stack:
        path = data / self.noisy
        return np.asarray(np.load(path) if path.suffix == ".npy" else tifffile.imread(path))

    def read_truth(self, data: Path) -> NDArray[np.float32]:
        stored = np.load(data / self.clean)
        clean = stored if isinstance(stored, np.ndarray) else stored["clean"]
        if self.poisson_map:
            of = np.load(data / self.poisson_map)
            low, high = (of[end].reshape(1, -1, 1, 1) for end in ("lo", "hi"))
            clean = of["scale"] * (low + (clean - 12000) / 4000 * (high - low))
        truth: NDArray[np.float32] = clean.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return truth

    def edges(self, n_frames: int, scan: tuple[int, int] | None) -> NDArray[np.bool_]:
        """Which frames lie at the ends of the sequence (two on each side) or on the border of the scan."""
        if scan:
            inside = np.zeros(scan, bool)
            inside[1:-1, 1:-1] = True
            return ~inside.ravel()
        index = np.arange(n_frames)
        return (index < 2) | (index >= n_frames - 2)


def adatoms(level: str, adf: tuple[float, str], bf: tuple[float, str]) -> Case:
    return Case(f"A_adatoms/noisy_psnr{level}.npy", "A_adatoms/clean_counts.npz", "channels", (adf, bf))


def haadf(name: str, noise: str, best: float, which: str) -> Case:
    return Case(f"B_haadf/{name}_{noise}.npy", f"B_haadf/{name}_clean.npy", "image", ((best, which),))


def hrtem(noisy: str, clean: str, scale: float, best: float, which: str) -> Case:
    return Case(f"C_hrtem/{noisy}", f"C_hrtem/{clean}", "movie", ((best, which),), scale)


TRACKED = "drift-corrected Gaussian 3-D"

CASES = (
    adatoms("16", (31.94, "BM3D"), (30.37, "BM3D")),
    adatoms("10", (27.89, "BM3D"), (27.03, "BM3D")),
    Case(
        "A_adatoms/noisy_poisson.tif",
        "A_adatoms/clean_counts.npz",
        "channels",
        ((29.54, "patch PCA"), (23.93, "Gaussian 3-D")),
        poisson_map="A_adatoms/poisson_map.npz",
    ),
    adatoms("07", (24.97, "Gaussian 3-D"), (25.06, "Gaussian 3-D")),
    haadf("Si110", "dose100", 12.78, "Gaussian"),
    haadf("Si110", "dose500", 16.33, "patch PCA"),
    haadf("Si110", "dose1000", 18.69, "patch PCA"),
    haadf("Si110", "dose10000", 25.86, "patch PCA"),
    haadf("Si110", "matched100", 34.02, "BM3D"),
    haadf("Si110", "matched500", 33.85, "BM3D"),
    haadf("Si110", "matched1000", 35.28, "patch PCA"),
    haadf("Si110", "matched10000", 35.84, "BM3D"),
    haadf("SrTiO3", "dose100", 18.83, "patch PCA"),
    haadf("SrTiO3", "dose500", 23.63, "patch PCA"),
    haadf("SrTiO3", "dose1000", 25.71, "patch PCA"),
    haadf("SrTiO3", "dose10000", 32.07, "patch PCA"),
    haadf("SrTiO3", "matched100", 34.46, "patch PCA"),
    haadf("SrTiO3", "matched500", 34.26, "patch PCA"),
    haadf("SrTiO3", "matched1000", 35.97, "patch PCA"),
    haadf("SrTiO3", "matched10000", 36.44, "patch PCA"),
    hrtem("pt_mean2.0.tif", "pt_clean_rel.npz", 2.0, 29.20, TRACKED),
    hrtem("pt_mean0.3.tif", "pt_clean_rel.npz", 0.3, 26.34, TRACKED),
    hrtem("au_mean0.8.tif", "au_clean_rel.npz", 0.8, 25.59, TRACKED),
    hrtem("co_linear.npy", "co_clean.npz", 1.0, 30.36, "BM3D"),
    Case("D_4dstem/noisy.tif", "D_4dstem/clean.npz", "scan", ((43.39, "SVD over scan"),)),
    Case("D_4dstem/noisy_tenth_dose.tif", "D_4dstem/clean.npz", "scan", ((38.55, "Gaussian scan+2-D"),), 0.1),
    Case("E_catalyst/noisy.npy", "E_catalyst/clean.npz", "movie", ((35.20, "Gaussian 3-D"),)),
    Case("E_catalyst/noisy_low.npy", "E_catalyst/clean.npz", "movie", ((31.26, "Gaussian 3-D"),), 0.25, 750.0),
)
