"""Electron waves: atomic scattering, the transfer of the objective lens, propagation.

Phases follow exp(+2 pi i k r): a specimen multiplies the wave by exp(+i sigma V), propagation over z by
exp(-i pi lambda z g^2), the lens by exp(-i chi). See E. J. Kirkland, Advanced Computing in Electron
Microscopy, 2nd ed. (2010), chapters 2, 3 and 5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate.crystal import FCC_METALS

BOHR_ANGSTROM = 0.529177
REST_ENERGY_EV = 510998.95
HC_EV_ANGSTROM = 12398.42
# Bounds the memory of a structure factor; large fields hold tens of thousands of columns.
POINTS_AT_ONCE = 1024

ATOMIC_NUMBERS = {"C": 6, "O": 8, "Ce": 58} | {element: number for element, (number, _) in FCC_METALS.items()}
# Outer shells (electrons, radius in angstrom); the heavier elements share one pattern.
LIGHT_SHELLS = {"C": [(4, 0.36)], "O": [(6, 0.263)]}

Floats = NDArray[np.float64]
Waves = NDArray[np.complex64]


def wavelength_angstrom(energy_ev: float) -> float:
    """Relativistic wavelength of the electron."""
    return float(HC_EV_ANGSTROM / np.sqrt(energy_ev * (energy_ev + 2 * REST_ENERGY_EV)))


def phase_per_scattering(energy_ev: float) -> float:
    """Phase in radian per (scattering factor in angstrom / area in square angstrom): gamma * lambda."""
    return wavelength_angstrom(energy_ev) * (1 + energy_ev / REST_ENERGY_EV)


def scattering_factor(g: Floats, element: str) -> Floats:
    """Electron scattering factor in angstrom of an atom at rest, at spatial frequency ``g`` (1/angstrom).

    Mott-Bethe formula for exponentially screened shells around a core with the Thomas-Fermi radius:
    within about 15 % of the tabulated factors, from one line per element.
    """
    atomic_number = ATOMIC_NUMBERS[element]
    heavy = [(18 if atomic_number > 36 else 8, 0.3), (2, 0.5)]
    shells = LIGHT_SHELLS.get(element, heavy)
    q2 = (2 * np.pi * g) ** 2
    core_angstrom = 0.885 * BOHR_ANGSTROM / atomic_number ** (1 / 3)
    core = atomic_number - sum(n for n, _ in shells)
    screened = sum(n / (q2 + radius**-2) for n, radius in [(core, core_angstrom), *shells])
    factor: Floats = 2 / BOHR_ANGSTROM * screened
    return factor


def structure_factor(fy: Floats, fx: Floats, yx: Floats, weight: NDArray[Any]) -> Waves:
    """Sum of weight * exp(-2 pi i (fy y + fx x)) over the points ``yx`` (n, 2): (len(fy), len(fx)).

    The points may lie anywhere between the pixels: nothing is interpolated.
    """
    factor = np.zeros((len(fy), len(fx)), np.complex64)
    for start in range(0, len(yx), POINTS_AT_ONCE):
        part = slice(start, start + POINTS_AT_ONCE)
        along_y = np.exp(-2j * np.pi * np.outer(fy, yx[part, 0])) * weight[part]
        along_x = np.exp(-2j * np.pi * np.outer(yx[part, 1], fx))
        factor += along_y.astype(np.complex64) @ along_x.astype(np.complex64)
    return factor


def lens_transfer(
    fy: Floats,
    fx: Floats,
    energy_ev: float,
    *,
    defocus_angstrom: float,
    cs_angstrom: float,
    astigmatism_angstrom: float,
    astigmatism_rad: float,
    focal_spread_angstrom: float,
    angular_spread_mrad: float,
) -> Waves:
    """Coherent transfer (len(fy), len(fx)) of the objective lens with its two envelopes.

    A positive defocus is an overfocus. Envelopes: Kirkland section 3.2, for a Gaussian spread of focus
    (standard deviation) and of illumination angle.
    """
    wavelength = wavelength_angstrom(energy_ev)
    gy, gx = fy[:, None], fx[None, :]
    g2 = gy**2 + gx**2
    twofold = (gx**2 - gy**2) * np.cos(2 * astigmatism_rad) + 2 * gx * gy * np.sin(2 * astigmatism_rad)
    chi = np.pi * wavelength * (defocus_angstrom * g2 + astigmatism_angstrom * twofold)
    chi += 0.5 * np.pi * cs_angstrom * wavelength**3 * g2**2
    temporal = 0.5 * (np.pi * wavelength * focal_spread_angstrom * g2) ** 2
    slope = (defocus_angstrom + cs_angstrom * wavelength**2 * g2) * np.sqrt(g2)
    spatial = (np.pi * 1e-3 * angular_spread_mrad * slope) ** 2
    transfer: Waves = np.exp(-temporal - spatial - 1j * chi).astype(np.complex64)
    return transfer


def carbon_film(
    rng: np.random.Generator,
    shape: tuple[int, int],
    g: Floats,
    pixel_angstrom: float,
    thickness_angstrom: float,
) -> Waves:
    """Structure factor (shape[0], shape[1] // 2 + 1) of amorphous carbon with 0.1 atoms per cubic angstrom.

    Many random atoms add up to Gaussian noise; atoms that keep their distance have little of it below
    0.3 / angstrom and more at the two nearest-neighbour distances.
    """
    n_atoms_per_pixel = 0.1 * thickness_angstrom * pixel_angstrom**2
    order = 1 - 0.95 * np.exp(-((g / 0.32) ** 2))
    order += 0.6 * np.exp(-(((g - 0.5) / 0.07) ** 2)) + 0.4 * np.exp(-(((g - 0.85) / 0.1) ** 2))
    noise = np.fft.rfft2(rng.standard_normal(shape))
    return np.asarray(noise * np.sqrt(n_atoms_per_pixel * order), np.complex64)
