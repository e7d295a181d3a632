"""The specimen in the field of view: the slices of its projected potential, and how they change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate.crystal import Columns, ceria_support, fcc_particle
from lowdose.simulate.grid import Grid
from lowdose.simulate.wave import carbon_film, phase_per_scattering, scattering_factor, structure_factor

SLICE_ANGSTROM = 5.5
# Debye-Waller factor exp(-B g^2 / 4) of the columns, for B = 0.6 square angstrom.
THERMAL = 0.15

Floats = NDArray[np.float64]
Waves = NDArray[np.complex64]


@dataclass(frozen=True)
class Specimen:
    """A particle and what carries it; positions from the centre of the frame, in angstrom (y, x)."""

    particle: Columns
    crystals: list[Columns]
    film_angstrom: float


def particle_on_support(rng: np.random.Generator, grid: Grid, element: str, radius: float, support: bool) -> Specimen:
    """A particle on a CeO2 crystal (``support``) or on an amorphous carbon film, in a random orientation."""
    thickness = float(np.clip(radius * rng.uniform(0.6, 1.2), 8.0, 22.0))
    particle = fcc_particle(rng, element, radius, thickness, support)
    solid = particle.yx[particle.n_atoms > 0]
    field = min(grid.height, grid.width) * grid.pixel_angstrom
    look_at = solid.mean(axis=0) + rng.uniform(-0.1, 0.1, 2) * field
    crystals: list[Columns] = []
    if support:
        # The interface crosses the lower part of the field, however small the field is.
        look_at[0] = -np.clip(rng.uniform(0.15, 0.3) * field, 4.0, 0.5 * np.ptp(solid[:, 0]))
        reach = float(np.hypot(*grid.sides_angstrom))
        crystals = ceria_support(rng, reach, rng.uniform(15.0, 40.0), particle.yx[:, 1])
    angle = rng.uniform(0, 2 * np.pi)
    placed = [columns.turned(angle, look_at) for columns in (particle, *crystals)]
    placed = [columns.only(grid.holds(columns.yx)) for columns in placed]
    return Specimen(placed[0], placed[1:], 0.0 if support else rng.uniform(15.0, 40.0))


class Slices:
    """Half spectra (n_slices, shape[0], shape[1] // 2 + 1) of the phase that each slice adds to the wave.

    Only what differs between two frames is added or taken away.
    """

    def __init__(self, rng: np.random.Generator, grid: Grid, specimen: Specimen, energy_ev: float, band: float) -> None:
        self._grid = grid
        self._particle = specimen.particle
        self._taken = specimen.particle.n_atoms.copy()
        g = np.hypot(grid.fy[:, None], grid.fx[None, :])
        unit = phase_per_scattering(energy_ev) / grid.coarse_angstrom**2 * np.exp(-THERMAL * g**2) * (g < band)
        columns = [specimen.particle, *specimen.crystals]
        deepest = max(float(np.abs(c.depth).max(initial=0.0)) for c in columns)
        n_slices = int(2 * deepest / SLICE_ANGSTROM) + 1
        self.spectra = np.zeros((n_slices, len(grid.fy), len(grid.fx)), np.complex64)
        for c in columns:
            atom = (unit * scattering_factor(g, c.element)).astype(np.float32)
            slices = slice_index(c.depth, n_slices)
            taken = np.arange(c.depth.shape[1]) < c.n_atoms[:, None]
            for index, spectrum in enumerate(self.spectra):
                count = (taken & (slices == index)).sum(axis=1)
                used = count > 0
                spectrum += atom * structure_factor(grid.fy, grid.fx, c.yx[used], count[used])
        self._slices = slice_index(self._particle.depth, n_slices)
        self._atom = (unit * scattering_factor(g, self._particle.element)).astype(np.float32)
        if specimen.film_angstrom > 0:
            film = carbon_film(rng, grid.shape, g, grid.coarse_angstrom, specimen.film_angstrom)
            film *= (unit * scattering_factor(g, "C")).astype(np.float32)
            self.spectra = np.concatenate([self.spectra, film[None]])

    def set_occupancy(self, taken: NDArray[np.int64]) -> None:
        """Let each column of the particle hold ``taken`` (n_columns,) atoms."""
        for column in np.flatnonzero(taken != self._taken):
            yx = self._particle.yx[column : column + 1]
            one = self._atom * structure_factor(self._grid.fy, self._grid.fx, yx, np.ones(1))
            for place in range(self._taken[column], taken[column]):
                self.spectra[self._slices[column, place]] += one
            for place in range(taken[column], self._taken[column]):
                self.spectra[self._slices[column, place]] -= one
        self._taken = taken


def slice_index(depth: Floats, n_slices: int) -> NDArray[np.int64]:
    """The slice that holds each depth; the slices are centred on depth 0."""
    return np.clip(np.floor(depth / SLICE_ANGSTROM + n_slices / 2).astype(np.int64), 0, n_slices - 1)
