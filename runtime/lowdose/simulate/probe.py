"""How a focused probe and two detectors turn a thin specimen into an ADF and a BF signal.

Both are linear in the atoms: ADF is the scattering cross-section blurred by the probe; BF follows the
phase of a weak object (H. Rose, Ultramicroscopy 2 (1977) 251) and loses what is scattered off the detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate.grid import Grid
from lowdose.simulate.wave import phase_per_scattering, scattering_factor, wavelength_angstrom

ENERGY_EV = 80e3
APERTURE_MRAD = 32.0
ADF_MRAD = (47.0, 169.0)
BF_MRAD = 19.0
# The share of the beam that reaches the BF detector through vacuum.
BF_SHARE = (BF_MRAD / APERTURE_MRAD) ** 2
# Debye-Waller factor exp(-B g^2 / 4) for B = 1.2 square angstrom.
THERMAL = 0.3

Floats = NDArray[np.float64]
Waves = NDArray[np.complex64]


@dataclass(frozen=True)
class Aberrations:
    """Defocus (overfocus positive), twofold astigmatism, coma and Cs in angstrom; azimuths in radian."""

    defocus: float
    astigmatism: float
    astigmatism_rad: float
    coma: float
    coma_rad: float
    cs: float

    def phase(self, ky: Floats, kx: Floats, wavelength: float) -> Floats:
        """The phase chi in radian at the spatial frequencies (1/angstrom)."""
        angle, azimuth = wavelength * np.hypot(ky, kx), np.arctan2(ky, kx)
        path = 0.5 * angle**2 * (self.defocus + self.astigmatism * np.cos(2 * (azimuth - self.astigmatism_rad)))
        path += self.coma * angle**3 * np.cos(azimuth - self.coma_rad) / 3 + self.cs * angle**4 / 4
        chi: Floats = 2 * np.pi / wavelength * path
        return chi


class Probe:
    """The transfer of both signals on a grid, for an aberrated probe with a source of finite size."""

    def __init__(self, grid: Grid, aberrations: Aberrations, source_angstrom: float) -> None:
        wavelength = wavelength_angstrom(ENERGY_EV)
        ky, kx = grid.fy[:, None], grid.fx_full[None, :]
        mrad = 1e3 * wavelength * np.hypot(ky, kx)
        wave = (mrad <= APERTURE_MRAD) * np.exp(-1j * aberrations.phase(ky, kx, wavelength))
        seen = np.conj(wave) * (mrad <= BF_MRAD)
        beam = (np.abs(wave) ** 2).sum()
        n_half = len(grid.fx)
        self._g = np.hypot(ky, kx)[:, :n_half]
        blur = np.exp(-2 * (np.pi * source_angstrom * self._g) ** 2 - THERMAL * self._g**2)
        self._scale = blur / grid.coarse_angstrom**2
        self._incoherent = correlation(np.conj(wave), wave)[:, :n_half] / beam
        overlap = correlation(seen, wave) / beam
        opposite = np.roll(overlap[::-1, ::-1], 1, axis=(0, 1))
        self._coherent = 1j * (overlap - np.conj(opposite))[:, :n_half]

    def transfer(self, element: str) -> Waves:
        """Factors (2, shape[0], shape[1] // 2 + 1) from a structure factor to the ADF and BF half spectra."""
        phase = phase_per_scattering(ENERGY_EV) * scattering_factor(self._g, element)
        adf = self._incoherent * cross_section(element, adf_share)
        bf = self._coherent * phase - self._incoherent * cross_section(element, bf_loss)
        return np.asarray(np.stack([adf, bf]) * self._scale, np.complex64)


def correlation(a: NDArray[np.complexfloating], b: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """Sum over k of a(k) b(k - g), periodic, for every g."""
    return np.fft.ifft2(np.fft.fft2(a) * np.fft.ifft2(b)) * a.size


def cross_section(element: str, share: Callable[[Floats], Floats]) -> float:
    """Single-scattering cross-section in square angstrom, weighted with ``share`` of the angle in mrad."""
    wavelength = wavelength_angstrom(ENERGY_EV)
    mrad = np.linspace(0.0, ADF_MRAD[1], 2000)
    g = 1e-3 * mrad / wavelength
    rings = 2 * np.pi * g * (g[1] - g[0])
    amplitude = phase_per_scattering(ENERGY_EV) * scattering_factor(g, element)
    return float((amplitude**2 * share(mrad) * rings).sum())


def adf_share(mrad: Floats) -> Floats:
    """Share of the electrons scattered by an angle that the ADF detector counts."""
    return ((mrad >= ADF_MRAD[0]) & (mrad <= ADF_MRAD[1])).astype(np.float64)


def bf_loss(mrad: Floats) -> Floats:
    """Share of the beam that scattering by an angle takes off the BF detector.

    What stays is the overlap of the detector with the shifted disc of the beam.
    """
    big, small = APERTURE_MRAD, BF_MRAD
    apart = np.clip(mrad, big - small, big + small)
    along = (apart**2 + small**2 - big**2) / (2 * apart * small)
    across = (apart**2 + big**2 - small**2) / (2 * apart * big)
    lens = small**2 * np.arccos(np.clip(along, -1, 1)) + big**2 * np.arccos(np.clip(across, -1, 1))
    lens -= apart * small * np.sqrt(np.clip(1 - along**2, 0, 1))
    lost: Floats = BF_SHARE - lens / (np.pi * big**2)
    return lost
