"""Detector models: from the expected signal to the recorded array.

A signal is in units of the incident beam: 1 is ``dose_per_pixel`` electrons. Each model takes the
signal (any shape, float, >= 0) and a generator, and returns the recorded array of the same shape. All raise
LowdoseError for settings out of range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError

Recorded = NDArray[np.unsignedinteger[Any]]


def counting(signal: NDArray[np.floating[Any]], rng: np.random.Generator, *, dose_per_pixel: float = 2.0) -> Recorded:
    """Electrons counted one by one: Poisson, uint8 where the largest count fits, else uint16 (clipped)."""
    count = rng.poisson(electrons(signal, dose_per_pixel))
    if count.max() <= 255:
        return count.astype(np.uint8)
    return to_uint16(count)


def poisson_gaussian(
    signal: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    *,
    dose_per_pixel: float = 10.0,
    gaussian_share: float = 0.3,
    gain: float = 40.0,
    offset: float = 1000.0,
) -> Recorded:
    """Poisson and Gaussian noise, the latter with ``gaussian_share`` of the mean variance; uint16.

    ``gain`` is in units per electron, ``offset`` in units.
    """
    if not 0 <= gaussian_share < 1:
        raise LowdoseError(f"the Gaussian share of the variance is {gaussian_share}; expected 0 <= share < 1")
    expected = electrons(signal, dose_per_pixel)
    gaussian_sd = np.sqrt(expected.mean() * gaussian_share / (1 - gaussian_share))
    read = rng.poisson(expected) + gaussian_sd * rng.standard_normal(expected.shape)
    return to_uint16(offset + gain * read)


def linear_integration(
    signal: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    *,
    dose_per_pixel: float = 20.0,
    fano: float = 0.5,
    gain: float = 20.0,
    offset: float = 40.0,
    read_noise: float = 8.0,
) -> Recorded:
    """An integrating detector: each electron leaves a random energy, then read noise is added; uint16.

    The energy of one electron is gamma-distributed with mean 1 and variance ``fano``. ``gain`` is in
    units per electron, ``offset`` and ``read_noise`` (standard deviation) in units.
    """
    if min(fano, read_noise) < 0:
        raise LowdoseError(f"fano {fano} and read noise {read_noise}: neither may be negative")
    count = rng.poisson(electrons(signal, dose_per_pixel))
    energy = fano * rng.standard_gamma(count / fano) if fano > 0 else count
    return to_uint16(offset + gain * energy + read_noise * rng.standard_normal(count.shape))


def electrons(signal: NDArray[np.floating[Any]], dose_per_pixel: float) -> NDArray[np.float64]:
    """Expected electrons per pixel, in double precision."""
    if not 0 < dose_per_pixel < np.inf:
        raise LowdoseError(f"the dose is {dose_per_pixel} electrons per pixel; it must be positive")
    return np.asarray(signal, np.float64) * dose_per_pixel


def to_uint16(values: NDArray[Any]) -> Recorded:
    """Rounded and clipped to the range, never wrapped."""
    clipped: Recorded = np.clip(np.rint(values), 0, 65535).astype(np.uint16)
    return clipped
