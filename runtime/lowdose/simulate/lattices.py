"""Crystals of several kinds, seen along a zone axis: where their atom columns lie and how strongly they scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sites = tuple[tuple[float, float, float], ...]

CORNER: Sites = ((0.0, 0.0, 0.0),)
CENTRE: Sites = ((0.5, 0.5, 0.5),)
FACES: Sites = ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
EDGES: Sites = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5))
FCC = CORNER + FACES
QUARTERS: Sites = tuple((x + 0.25, y + 0.25, z + 0.25) for x, y, z in FCC)
EIGHTHS: Sites = QUARTERS + tuple((x + 0.75, y + 0.75, z + 0.75) for x, y, z in FCC)
CUBIC_ZONES = ((1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 1))
HEXAGONAL_ZONES = ((0, 0, 1), (1, 0, 0), (2, 1, 0))  # directions, three indices


@dataclass(frozen=True)
class Material:
    """A cell with edges a, a, c in angstrom (a and a at 120 degrees where hexagonal), sites in fractions of the edges.

    ``atoms`` holds the sites of each kind of atom with its atomic number; ``zones`` the axes [uvw] to look along.
    """

    a: float
    c: float
    atoms: tuple[tuple[int, Sites], ...]
    hexagonal: bool = False

    @property
    def zones(self) -> tuple[tuple[int, int, int], ...]:
        return HEXAGONAL_ZONES if self.hexagonal else CUBIC_ZONES

    @property
    def cell(self) -> Floats:
        """Rows: the three edges in angstrom, (3, 3)."""
        second = [-0.5 * self.a, np.sqrt(0.75) * self.a, 0.0] if self.hexagonal else [0.0, self.a, 0.0]
        return np.array([[self.a, 0.0, 0.0], second, [0.0, 0.0, self.c]])


def cubic(a: float, *atoms: tuple[int, Sites]) -> Material:
    return Material(a, a, atoms)


def close_packed(a: float, c: float, number: int) -> Material:
    return Material(a, c, ((number, ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75))),), hexagonal=True)


def wurtzite(a: float, c: float, u: float, metal: int, other: int) -> Material:
    first: Sites = ((1 / 3, 2 / 3, 0.0), (2 / 3, 1 / 3, 0.5))
    second: Sites = tuple((x, y, z + u) for x, y, z in first)
    return Material(a, c, ((metal, first), (other, second)), hexagonal=True)


def rutile(a: float, c: float, u: float, metal: int) -> Material:
    oxygen: Sites = ((u, u, 0.0), (-u, -u, 0.0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5))
    return Material(a, c, ((metal, CORNER + CENTRE), (8, oxygen)))


def layered(a: float, c: float, z: float, metal: int, other: int) -> Material:
    """2H stacking, as in MoS2; ``z`` is the height of the other atoms in fractions of c."""
    first: Sites = ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75))
    heights = (z, 0.5 - z)
    second: Sites = tuple((2 / 3, 1 / 3, h) for h in heights) + tuple((1 / 3, 2 / 3, -h) for h in heights)
    return Material(a, c, ((metal, first), (other, second)), hexagonal=True)


# Lattice constants in angstrom.
MATERIALS = {
    "Au": cubic(4.078, (79, FCC)),
    "Al": cubic(4.050, (13, FCC)),
    "Cu": cubic(3.615, (29, FCC)),
    "Fe": cubic(2.866, (26, CORNER + CENTRE)),
    "W": cubic(3.165, (74, CORNER + CENTRE)),
    "CsCl-NiAl": cubic(2.887, (28, CORNER), (13, CENTRE)),
    "C-diamond": cubic(3.567, (6, FCC + QUARTERS)),
    "Ge": cubic(5.658, (32, FCC + QUARTERS)),
    "GaAs": cubic(5.653, (31, FCC), (33, QUARTERS)),
    "InP": cubic(5.869, (49, FCC), (15, QUARTERS)),
    "CdTe": cubic(6.482, (48, FCC), (52, QUARTERS)),
    "MgO": cubic(4.212, (12, FCC), (8, EDGES + CENTRE)),
    "PbTe": cubic(6.462, (82, FCC), (52, EDGES + CENTRE)),
    "CeO2": cubic(5.411, (58, FCC), (8, EIGHTHS)),
    "BaTiO3": cubic(4.005, (56, CORNER), (22, CENTRE), (8, FACES)),
    "LaAlO3": cubic(3.790, (57, CORNER), (13, CENTRE), (8, FACES)),
    "KTaO3": cubic(3.989, (19, CORNER), (73, CENTRE), (8, FACES)),
    "TiO2": rutile(4.594, 2.959, 0.305, 22),
    "SnO2": rutile(4.737, 3.186, 0.307, 50),
    "Ti": close_packed(2.951, 4.684, 22),
    "Co": close_packed(2.507, 4.070, 27),
    "GaN": wurtzite(3.189, 5.185, 0.377, 31, 7),
    "ZnO": wurtzite(3.250, 5.207, 0.382, 30, 8),
    "MoS2": layered(3.160, 12.295, 0.121, 42, 16),
    "WSe2": layered(3.282, 12.960, 0.121, 74, 34),
}


def atom_columns(material: Material, zone: tuple[int, int, int], reach: float) -> tuple[Floats, Floats, Floats]:
    """Atoms of one period along [uvw] within ``reach`` of the axis, in projection.

    Returns (y, x) in angstrom (n, 2), atomic numbers (n,), and atoms per angstrom of thickness (n,): each site is
    listed once, sites that share a column one after another.
    """
    along = np.array(zone, np.float64) @ material.cell
    period = float(np.linalg.norm(along))
    depth = along / period
    side = np.cross(depth, [0.0, 0.0, 1.0] if abs(depth[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    view = np.stack([np.cross(depth, side), side, depth])  # rows: y, x, along the beam
    corner_distance = np.hypot(reach, period)
    n = np.ceil(corner_distance * np.linalg.norm(np.linalg.inv(material.cell), axis=0)).astype(int) + 1
    cells = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in n), indexing="ij"), axis=-1).reshape(-1, 3)
    found = []
    for number, sites in material.atoms:
        for site in sites:
            place = (cells + site) @ material.cell @ view.T  # (n_cells, 3): y, x, along the beam
            # Half a hundredth of an angstrom below zero, so that rounding cannot count an atom twice or never.
            once = (place[:, 2] >= -5e-3) & (place[:, 2] < period - 5e-3) & (np.hypot(*place.T[:2]) <= reach)
            found.append(np.column_stack([place[once, :2], np.full(once.sum(), float(number))]))
    atoms = np.concatenate(found)
    return atoms[:, :2], atoms[:, 2], np.full(len(atoms), 1 / period)
