"""A polycrystalline film for diffraction: its lattice, its grains, and which reflections they excite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Directions [uvw] along which the molecules or close-packed rows of a grain like to stand.
ZONES = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [1, -1, 0], [1, 1, 2]])
# Reflections further than this from the Ewald sphere, in units of 1/thickness, are left out,
FARTHEST = 8.0
# and so are those that are weaker than this part of the strongest.
FAINTEST = 1e-4


@dataclass(frozen=True)
class Lattice:
    """Reciprocal vectors (n, 3) in 1/angstrom and the squared structure factors (n,) of the reflections."""

    vectors: Floats
    strength: Floats


@dataclass(frozen=True)
class Spots:
    """Reflections near the Ewald sphere.

    ``across`` (n, 2) is g across the beam (y, x) and ``excitation`` (n,) the excitation error of the beam's centre,
    both in 1/angstrom; ``strength`` (n,) is the intensity at the Bragg condition and ``thickness_angstrom`` (n,) that
    of the slab.
    """

    across: Floats
    excitation: Floats
    strength: Floats
    thickness_angstrom: Floats

    def only(self, keep: NDArray[np.bool_]) -> Spots:
        """The reflections for which ``keep`` (n,) is true."""
        return Spots(self.across[keep], self.excitation[keep], self.strength[keep], self.thickness_angstrom[keep])

    def intensity(self, along_y: Floats, along_x: Floats) -> Floats:
        """Kinematic intensity (n, n_y, n_x) of beams tilted by ``along_y`` (n, n_y) and ``along_x`` (n, n_x) radian."""
        error_y = self.excitation[:, None] + self.across[:, :1] * along_y
        error = error_y[:, :, None] + (self.across[:, 1:] * along_x)[:, None, :]
        return np.asarray(self.strength[:, None, None] * np.sinc(error * self.thickness_angstrom[:, None, None]) ** 2)


def draw_lattice(rng: np.random.Generator, molecular: bool, g_max: float) -> tuple[Floats, Lattice]:
    """The cell (3, 3), rows a, b, c in angstrom, and its reflections up to ``g_max``.

    Inorganic: cubic, tetragonal or hexagonal, primitive or centred. Molecular: monoclinic with a
    larger cell. Structure factors scatter like those of random atoms (Wilson statistics); Friedel mates are equal.
    """
    if molecular:
        a, b, c = rng.uniform(6, 13), rng.uniform(5, 8), rng.uniform(7, 16)
        beta = np.deg2rad(rng.uniform(90, 125))
        cell = np.array([[a, 0, 0], [0, b, 0], [c * np.cos(beta), 0, c * np.sin(beta)]])
        centring, falloff, shared = "P", rng.uniform(2.5, 6.0), 0.0
    else:
        a = rng.uniform(3.5, 6.0)
        c = a * rng.choice([1.0, rng.uniform(0.9, 1.7)])
        sixfold = rng.random() < 0.3
        cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(0.75), 0] if sixfold else [0, a, 0], [0, 0, c]])
        centring = "P" if sixfold else str(rng.choice(["P", "I", "F"]))
        falloff, shared = rng.uniform(0.5, 2.0), 0.6
    longest = np.linalg.norm(cell, axis=1)
    n = np.ceil(g_max * longest).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in n), indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = hkl @ np.linalg.inv(cell).T
    # Half of the reflections gets random numbers, the Friedel mates in the other half the same.
    real, imaginary = rng.standard_normal((2, (len(hkl) + 1) // 2))
    random = shared + (1 - shared) * (real**2 + imaginary**2) / 2
    random = np.concatenate([random, random[: len(hkl) // 2][::-1]])
    g = np.linalg.norm(vectors, axis=1)
    strength = random * np.exp(-falloff * g**2) / (1 + (g / 0.4) ** 2) ** 2
    allowed = {
        "P": np.ones(len(hkl), bool),
        "I": hkl.sum(axis=1) % 2 == 0,
        "F": (hkl % 2 == hkl[:, :1] % 2).all(axis=1),
    }[centring]
    keep = allowed & (hkl != 0).any(axis=1) & (g <= g_max)
    return cell, Lattice(vectors[keep], strength[keep])


class Film:
    """The film under each position of the scan: mixed grains, thickness, bending, amorphous share."""

    def __init__(self, rng: np.random.Generator, settings: Mapping[str, Any], wavelength: float, g_max: float) -> None:
        shape = settings["scan_y"], settings["scan_x"]
        cell, lattice = draw_lattice(rng, settings["molecular"], g_max)
        self._half_angle = 1e-3 * settings["semi_angle_mrad"]
        thick = settings["thickness_angstrom"] * rng.uniform(0.7, 1.3, settings["n_grains"])
        tilt = 1e-3 * settings["tilt_mrad"] * rng.standard_normal((settings["n_grains"], 2))
        bending = 1e-3 * settings["bending_mrad"] * np.stack([smooth_field(rng, shape) for _ in range(2)], axis=-1)
        reach = self._half_angle + float(np.linalg.norm(bending, axis=-1).max())
        self._grains = [
            draw_grain(rng, cell, lattice, t, own, reach, wavelength) for t, own in zip(thick, tilt, strict=True)
        ]
        self._weight = grain_map(rng, shape, settings["n_grains"])
        self._bending = bending
        self._relative = np.clip(1 + 0.15 * smooth_field(rng, shape), 0.5, 2)
        thickness = self._relative * (self._weight @ thick)
        self.passed = np.exp(-thickness / rng.uniform(1000, 4000))
        """The share of the electrons that the detector sees at each position (scan_y, scan_x)."""
        self.amorphous = np.clip(settings["amorphous_share"] * (1 + 0.3 * smooth_field(rng, shape)), 0, 0.6)
        """The share of those that is in the rings, (scan_y, scan_x)."""
        self._scale = 1.0
        # Mean intensity of all disks together, for a direct beam of 1.
        mean = np.mean([self.spots(y, x).intensity(*2 * [np.zeros((1, 1))]).sum() for y, x in np.ndindex(shape)])
        share = settings["bragg_share"]
        self._scale = share / (1 - share) / max(float(mean), 1e-12)

    def spots(self, y: int, x: int) -> Spots:
        """What the film excites at a position of the scan."""
        found = []
        for grain, weight in zip(self._grains, self._weight[y, x], strict=True):
            thickness = grain.thickness_angstrom * self._relative[y, x]
            excitation = grain.excitation + grain.across @ self._bending[y, x]
            strength = self._scale * weight * thickness**2 * grain.strength
            found.append(Spots(grain.across, excitation, strength, thickness))
        spots = Spots(*(np.concatenate([getattr(s, f.name) for s in found]) for f in fields(Spots)))
        # The envelope of the shape factor where the disk comes nearest to the Bragg condition.
        miss = np.abs(spots.excitation) - self._half_angle * np.linalg.norm(spots.across, axis=1)
        most = spots.strength / np.maximum(1, np.pi * spots.thickness_angstrom * miss) ** 2
        return spots.only(most > FAINTEST * most.max(initial=0))


def draw_grain(
    rng: np.random.Generator,
    cell: Floats,
    lattice: Lattice,
    thickness_angstrom: float,
    tilt: Floats,
    reach: float,
    wavelength: float,
) -> Spots:
    """A grain near a random zone axis: turned freely about the beam, then tilted by ``tilt`` (2,) radian.

    Reflections come along that further tilts of up to ``reach`` radian can excite.
    """
    beam = ZONES[rng.integers(len(ZONES))] @ cell
    beam = beam / np.linalg.norm(beam)
    first = np.cross(beam, np.eye(3)[np.abs(beam).argmin()])
    first /= np.linalg.norm(first)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    across = np.array([[cos, sin], [-sin, cos]]) @ np.stack([first, np.cross(beam, first)])  # rows: y, x
    g = lattice.vectors @ np.concatenate([across, beam[None]]).T  # (n, 3): y, x, beam
    excitation = g[:, 2] + g[:, :2] @ tilt - wavelength * (g**2).sum(axis=1) / 2
    near = np.abs(excitation) < FARTHEST / thickness_angstrom + reach * np.linalg.norm(g[:, :2], axis=1)
    thickness = np.full(len(g), thickness_angstrom)
    return Spots(g[:, :2], excitation, lattice.strength, thickness).only(near)


def grain_map(rng: np.random.Generator, shape: tuple[int, int], n_grains: int) -> Floats:
    """Share (scan_y, scan_x, n_grains) of each grain: cells around random points, mixed where they meet."""
    points = rng.uniform(-0.5, 0.5, (n_grains, 2)) + rng.uniform(0, 1, (n_grains, 2)) * shape
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)  # (scan_y, scan_x, 2)
    wavy = np.stack([smooth_field(rng, shape) for _ in range(2)], axis=-1)
    away = np.linalg.norm((at + wavy)[:, :, None] - points, axis=-1)  # (scan_y, scan_x, n_grains)
    share = np.exp(-(away - away.min(axis=-1, keepdims=True)) / rng.uniform(0.1, 0.8))
    return np.asarray(share / share.sum(axis=-1, keepdims=True))


def smooth_field(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """A field over the scan of mean about 0 and standard deviation about 1: a slope, a bow and three waves."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    slope, bow = rng.standard_normal(2), 0.6 * rng.standard_normal(2)
    field = slope[0] * y + slope[1] * x + bow[0] * (y**2 - 1 / 3) + bow[1] * (x**2 - 1 / 3)
    for _ in range(3):
        k, phase = 4 * rng.standard_normal(2), rng.uniform(0, 2 * np.pi)
        field = field + 0.5 * np.cos(k[0] * y + k[1] * x + phase)
    return np.asarray(field)
