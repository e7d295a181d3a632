"""Stacked graphene layers and the heavy atoms that hop on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GRAPHENE_LATTICE_ANGSTROM = 2.46
HOP_ANGSTROM = 3.0
# Two adatoms never come closer.
CLOSEST_ANGSTROM = 2.4
# The share of a frame's adatoms that leaves during the frame; as many arrive on average.
EXCHANGE = 0.02


def graphene(reach: float, angle_rad: float, n_layers: int) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Layers in Bernal stacking within ``reach`` of the origin, and the sites above the top layer.

    Returns the carbon columns (n_columns, 2), their numbers of atoms (n_columns,) and the sites (n_sites, 2)
    for adatoms: atop both sublattices, hollow, and on the three bridges. Positions are (y, x) in angstrom.
    """
    n = int(2 * reach / GRAPHENE_LATTICE_ANGSTROM) + 2
    i, j = (axis.ravel() for axis in np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1)))
    cells = GRAPHENE_LATTICE_ANGSTROM * np.stack([np.sqrt(0.75) * i, j + 0.5 * i], axis=1)
    bond = np.array([GRAPHENE_LATTICE_ANGSTROM / np.sqrt(3), 0.0])
    half_bonds = [
        0.5 * np.linalg.norm(bond) * np.array([np.cos(a), np.sin(a)]) for a in np.deg2rad([0.0, 120.0, 240.0])
    ]
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.array([[cos, sin], [-sin, cos]])

    def everywhere(basis: list[Floats]) -> Floats:
        points = np.concatenate([cells + shift for shift in basis])
        return np.asarray(points[np.hypot(*points.T) <= reach] @ turn)

    # Every other layer is shifted by a bond, so the layers share three kinds of columns.
    kinds = [0 * bond, bond, -bond]
    atoms = [n_layers - n_layers // 2, n_layers, n_layers // 2]
    carbon = [everywhere([kind]) for kind in kinds]
    n_atoms = np.repeat(atoms, [len(columns) for columns in carbon])
    return np.concatenate(carbon), n_atoms, everywhere([*kinds, *half_bonds])


def hopping_path(
    rng: np.random.Generator, sites: Floats, n_frames: int, n_mean: float, hop_rate: float
) -> list[NDArray[np.int64]]:
    """Which sites (indices) are taken in each frame.

    Each adatom has a rate of its own, ``hop_rate`` on average, at which it hops to a free site within
    ``HOP_ANGSTROM``; a few leave and arrive in every frame.
    """
    taken: list[int] = []
    rates: list[float] = []

    def is_free(site: int, others: list[int]) -> bool:
        return not others or bool(np.linalg.norm(sites[others] - sites[site], axis=1).min() >= CLOSEST_ANGSTROM)

    def arrive(n_atoms: int) -> None:
        for site in rng.integers(len(sites), size=n_atoms):
            if is_free(int(site), taken):
                taken.append(int(site))
                rates.append(min(1.0, hop_rate * rng.uniform(0.2, 1.8)))

    arrive(int(rng.poisson(n_mean)))
    path = [np.array(taken, np.int64)]
    for _ in range(1, n_frames):
        stay = np.flatnonzero(rng.random(len(taken)) >= EXCHANGE)
        taken[:], rates[:] = [taken[k] for k in stay], [rates[k] for k in stay]
        for k in np.flatnonzero(rng.random(len(taken)) < rates):
            others = taken[:k] + taken[k + 1 :]
            distance = np.linalg.norm(sites - sites[taken[k]], axis=1)
            goals = [s for s in np.flatnonzero((distance < HOP_ANGSTROM) & (distance > 0)) if is_free(int(s), others)]
            if goals:
                taken[k] = int(rng.choice(goals))
        arrive(int(rng.poisson(EXCHANGE * n_mean)))
        path.append(np.array(taken, np.int64))
    return path
