"""Atom columns of the specimens: a facetted fcc particle and a CeO2 support, both seen along [110].

Positions are (y, x) in angstrom, y pointing down from the particle into the support, with the
interface at y = 0. The depth along the beam is kept apart. A column is a row of atoms along the
beam, which the microscope shows as one spot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Atomic number and lattice constant in angstrom (Co: its fcc phase).
FCC_METALS = {
    "Ag": (47, 4.086),
    "Al": (13, 4.050),
    "Au": (79, 4.078),
    "Co": (27, 3.545),
    "Cu": (29, 3.615),
    "Ir": (77, 3.839),
    "Ni": (28, 3.524),
    "Pd": (46, 3.891),
    "Pt": (78, 3.924),
    "Rh": (45, 3.803),
}
CERIA_LATTICE_ANGSTROM = 5.411
INTERFACE_GAP_ANGSTROM = 2.4

# Rows: the cubic directions of image y, image x and the beam.
VIEW = np.array([[0, 0, np.sqrt(2)], [1, -1, 0], [1, 1, 0]]) / np.sqrt(2)
# In-plane normals (y, x) of the planes that can lie on the interface: {111} and {100}.
FLOORS = np.array([[1 / np.sqrt(3), np.sqrt(2 / 3)], [1.0, 0.0]])


@dataclass(frozen=True)
class Columns:
    """Atom columns of one element with room for ``depth.shape[1]`` atoms each, taken in order.

    ``yx`` is (n_columns, 2), ``depth`` (n_columns, n_places) in angstrom; ``n_atoms`` (n_columns,) says
    how many places of each column are taken; ``surface`` (n_columns,) marks those that can change.
    """

    element: str
    yx: Floats
    depth: Floats
    n_atoms: NDArray[np.int64]
    surface: NDArray[np.bool_]

    def turned(self, angle_rad: float, about: Floats) -> Columns:
        """The columns turned by ``angle_rad``, with the point ``about`` (y, x) at the origin."""
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        return replace(self, yx=(self.yx - about) @ np.array([[cos, sin], [-sin, cos]]))

    def only(self, keep: NDArray[np.bool_]) -> Columns:
        """The columns for which ``keep`` (n_columns,) is true."""
        return Columns(self.element, self.yx[keep], self.depth[keep], self.n_atoms[keep], self.surface[keep])


def lattice_110(lattice: float, reach: float, turn: Floats) -> tuple[Floats, Floats]:
    """Columns of an fcc lattice along [110] within ``reach`` of the origin, turned by ``turn`` (2, 2).

    Returns (y, x) of shape (n_columns, 2) and the depth of one atom of each column, (n_columns,): next
    columns are shifted by half of the period along the beam, ``lattice / sqrt(2)``.
    """
    half = np.array([lattice / 2, lattice / np.sqrt(8)])
    n_y, n_x = (int(n) for n in reach / half + 1)
    i, j = np.meshgrid(np.arange(-n_y, n_y + 1), np.arange(-n_x, n_x + 1), indexing="ij")
    on = ((i + j) % 2 == 0) & (np.hypot(i * half[0], j * half[1]) <= reach)
    return np.stack([i[on], j[on]], axis=1) * half @ turn.T, (i[on] % 2) * half[1]


def downwards(floor: Floats, mirror: bool) -> Floats:
    """The (2, 2) matrix that turns the in-plane normal ``floor`` to (1, 0), which is down."""
    turn = np.array([floor, [-floor[1], floor[0]]])
    return turn * [[1], [-1]] if mirror else turn


def fcc_particle(rng: np.random.Generator, element: str, radius: float, thickness: float, supported: bool) -> Columns:
    """A truncated octahedron with facets {111} and {100}, ``thickness`` deep, centred on x = 0.

    Empty columns next to its facets come along as sites for adatoms. The bottom row of atoms lies
    ``INTERFACE_GAP_ANGSTROM`` above y = 0; when ``supported`` it is a flat facet without such sites.
    """
    _, lattice = FCC_METALS[element]
    turn = downwards(FLOORS[rng.choice(2, p=[0.7, 0.3])], bool(rng.integers(2)))
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / np.sqrt(3)
    normals = np.concatenate([corners, np.eye(3), -np.eye(3)]) @ VIEW.T  # (n_facets, 3): y, x, beam
    normals[:, :2] = normals[:, :2] @ turn.T
    distance = radius * np.repeat([1.0, rng.uniform(0.9, 1.15)], [8, 6])
    distance *= rng.uniform(0.85, 1.15, 14)
    floor = radius * rng.uniform(0.2, 0.7) if supported else 2 * radius
    normals = np.concatenate([normals, [[1, 0, 0], [0, 0, 1], [0, 0, -1]]])
    distance = np.concatenate([distance, [floor, thickness / 2, thickness / 2]])

    nearest = lattice / np.sqrt(2)
    yx, first = lattice_110(lattice, 1.4 * radius + 2 * nearest, turn)
    n_places = int(thickness / nearest) + 3
    depth = first[:, None] + nearest * (np.arange(n_places) - n_places // 2)  # (n_columns, n_places)
    room = distance - yx @ normals[:, :2].T  # (n_columns, n_facets)
    filled = (depth[..., None] * normals[:, 2] <= room[:, None, :]).all(axis=2)
    # Sharp corners do not live long: a sphere rounds them.
    filled &= np.hypot(np.linalg.norm(yx, axis=1)[:, None], depth) <= 1.15 * radius
    n_atoms = filled.sum(axis=1)
    # The atoms of the crystal come first, then the free places, the ones near the middle before others.
    order = np.lexsort((np.abs(depth), ~filled), axis=1)
    depth = np.take_along_axis(depth, order, axis=1)

    distances = np.linalg.norm(yx[:, None] - yx[None], axis=2)
    touches = (distances < 1.05 * nearest) & (distances > 0)
    neighbours = (touches & (n_atoms > 0)).sum(axis=1)
    bottom = yx[n_atoms > 0, 0].max()
    open_side = yx[:, 0] < (bottom - 0.5 * nearest if supported else np.inf)
    adatom_site = (n_atoms == 0) & (neighbours > 0) & open_side
    surface = adatom_site | ((n_atoms > 0) & (neighbours < 6) & open_side)
    keep = (n_atoms > 0) | adatom_site
    yx = yx - [bottom + INTERFACE_GAP_ANGSTROM, 0.0]
    yx = yx + np.where(surface, 0.06, 0.02)[:, None] * rng.standard_normal(yx.shape)
    return Columns(element, yx, depth, n_atoms, surface).only(keep)


def ceria_support(rng: np.random.Generator, reach: float, thickness: float, footprint: Floats) -> list[Columns]:
    """CeO2 below y = 0 with a stepped (111) surface: the cerium and the oxygen columns within ``reach``.

    Oxygen sits in the tetrahedral sites of the cerium lattice: columns at a quarter of the lattice
    constant above and below each cerium column, half a period along the beam. Lower terraces begin near
    the ends of the particle, whose columns have the x positions ``footprint``.
    """
    turn = downwards(FLOORS[0], bool(rng.integers(2)))
    lattice, layer = CERIA_LATTICE_ANGSTROM, CERIA_LATTICE_ANGSTROM / np.sqrt(3)
    left, right = footprint.min() - rng.uniform(-3, 12), footprint.max() + rng.uniform(-3, 12)
    drop = rng.integers(0, 3, 2)
    shift = np.array([0.3 * layer, rng.uniform(0, lattice)])
    quarter = np.array([lattice / 4, 0.0]) @ turn.T
    cerium, first = lattice_110(lattice, reach + lattice, turn)
    columns = []
    period = lattice / np.sqrt(2)
    oxygen = np.concatenate([cerium + quarter, cerium - quarter])
    for element, yx, start in (
        ("Ce", cerium + shift, first),
        ("O", oxygen + shift, np.tile(first, 2) + period / 2),
    ):
        terrace = layer * (drop[0] * (yx[:, 1] < left) + drop[1] * (yx[:, 1] > right))
        keep = (yx[:, 0] >= terrace) & (np.hypot(*yx.T) <= reach)
        yx, start, below = yx[keep], start[keep], (yx[:, 0] - terrace)[keep]
        # A crystal edge is thinner than the bulk behind it.
        local = thickness * np.minimum(1.0, 0.6 + below / 40.0)
        n_places = int(thickness / period) + 3
        depth = start[:, None] + period * (np.arange(n_places) - n_places // 2)
        filled = np.abs(depth) <= local[:, None] / 2
        depth = np.take_along_axis(depth, np.argsort(~filled, axis=1, kind="stable"), axis=1)
        columns.append(Columns(element, yx, depth, filled.sum(axis=1), np.zeros(len(yx), bool)))
    return columns
