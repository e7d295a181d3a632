"""A carbon support as its projected thickness: spheres of carbon black on a film."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate.grid import Grid

Floats = NDArray[np.float64]


def carbon_thickness(
    rng: np.random.Generator, grid: Grid, film_angstrom: float, sphere_angstrom: float, coverage: float
) -> Floats:
    """Thickness in angstrom on the periodic field of ``grid``, (shape[0], shape[1]).

    Spheres of radius about ``sphere_angstrom`` cover the field ``coverage`` times on average, one of them
    always reaching into the frame; between them lies a film of ``film_angstrom`` on average (0: vacuum).
    """
    y, x = positions(grid)
    area = float(np.prod(grid.sides_angstrom))
    n_spheres = 1 + int(rng.poisson(coverage * area / (np.pi * sphere_angstrom**2)))
    radii = sphere_angstrom * rng.uniform(0.6, 1.4, n_spheres)
    centres = rng.uniform(-0.5, 0.5, (n_spheres, 2)) * grid.sides_angstrom
    centres[0] = rng.uniform(-0.5, 0.5, 2) * np.array([grid.height, grid.width]) * grid.pixel_angstrom
    # Carbon black is not quite round: its outline wanders by a few per cent.
    dented = 1 + 0.04 * grain(rng, grid, 0.5 * sphere_angstrom)
    thickness = film_angstrom * np.maximum(0.2, 1 + 0.3 * grain(rng, grid, 0.7 * sphere_angstrom))
    for (at_y, at_x), radius in zip(centres, radii, strict=True):
        away = periodic(y[:, None] - at_y, grid.sides_angstrom[0]) ** 2
        away = away + periodic(x[None, :] - at_x, grid.sides_angstrom[1]) ** 2
        thickness += 2 * np.sqrt(np.maximum((radius * dented) ** 2 - away, 0))
    fine, coarse = rng.uniform(0.01, 0.06), rng.uniform(0.02, 0.08)
    mottled = 1 + fine * grain(rng, grid, rng.uniform(3, 8)) + coarse * grain(rng, grid, rng.uniform(15, 50))
    return np.asarray(thickness * np.maximum(mottled, 0))


def positions(grid: Grid) -> tuple[Floats, Floats]:
    """The y and the x of the field's coarse pixels, in angstrom from the centre of the frame."""
    y, x = (np.asarray(grid.coarse_angstrom * (np.arange(n) - n // 2), np.float64) for n in grid.shape)
    return y, x


def periodic(distance: Floats, side: float) -> Floats:
    """The distance to the nearest of the copies that repeat every ``side``."""
    return np.asarray((distance + side / 2) % side - side / 2)


def grain(rng: np.random.Generator, grid: Grid, width_angstrom: float) -> Floats:
    """Periodic smooth noise of mean 0 and standard deviation 1 whose features are ``width_angstrom`` wide."""
    g2 = grid.fy[:, None] ** 2 + grid.fx[None, :] ** 2
    spectrum = np.fft.rfft2(rng.standard_normal(grid.shape)) * np.exp(-((np.pi * width_angstrom) ** 2) * g2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, grid.shape)
    # A field much smaller than the features is flat.
    return np.asarray(noise / max(float(noise.std()), 1e-12))
