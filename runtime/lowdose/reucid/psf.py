"""The patch size: as wide as the point spread function and its surroundings, read off the noisy image itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdose._fourier import fast_length

Floats = NDArray[np.float64]

SMALLEST_PATCH_PX = 5
LARGEST_PATCH_PX = 35
# Where the image has no scale of its own (noise, or nothing but slow gradients).
DEFAULT_PATCH_PX = 17
# A dip counts when the profile rises behind it by this many standard deviations of its noise.
SIGNIFICANCE = 3.5
# Weights of the moving average over the radius, and the share of independent noise that it leaves.
SMOOTHING = np.array([0.25, 0.5, 0.25])
SMOOTHED_NOISE = float(np.sqrt((SMOOTHING**2).sum()))


def patch_size(image: Floats) -> int:
    """Side in pixels of the patches for an image (height, width) of at least 16 x 16: odd, 5 to 35.

    2 r + 1, where r is the radius of the first minimum of the radially averaged autocorrelation, or of its first
    inflexion where there is no minimum (Mitchell, Sanvito, Jones, Scientific Reports 2025), 17 where there is
    neither. Never more than an eighth of the image's smaller side: with fewer patches for its pixels, noise makes
    eigenvalues that look like signal.
    """
    largest = largest_patch(*image.shape)
    radius = feature_radius(image, LARGEST_PATCH_PX // 2)
    wanted = DEFAULT_PATCH_PX if radius is None else 2 * radius + 1
    return int(np.clip(wanted, SMALLEST_PATCH_PX, largest))


def largest_patch(height: int, width: int) -> int:
    """The largest odd patch side that is chosen for an image of this size."""
    eighth = min(height, width) // 8
    return max(SMALLEST_PATCH_PX, min(LARGEST_PATCH_PX, eighth - 1 + eighth % 2))


def feature_radius(image: Floats, largest_px: int) -> int | None:
    """Radius in pixels, 2 to `largest_px`, of the first minimum or else of the first inflexion; None without either."""
    reach = min(2 * largest_px, (min(image.shape) - 1) // 2)
    profile, noise = radial_autocorrelation(image, reach)
    smooth = profile.copy()
    smooth[2:-1] = np.convolve(profile[1:], SMOOTHING, mode="valid")
    minimum = first_dip(smooth, SMOOTHED_NOISE * noise)
    if minimum is None:
        slope = np.concatenate([[0.0], (smooth[2:] - smooth[:-2]) / 2, [0.0]])
        slope[:2], slope[-1] = slope[2], slope[-2]
        minimum = first_dip(slope, SMOOTHED_NOISE * noise)
    return None if minimum is None else min(minimum, largest_px)


def radial_autocorrelation(image: Floats, reach: int) -> tuple[Floats, Floats]:
    """Autocorrelation (mean removed, periodic) averaged over rings of radius 0 ... `reach`, and its standard deviation.

    Both (reach + 1,), as shares of the variance. White noise adds all its variance at radius 0 and to every other lag
    a random number with variance 1 / n_pixels; a lag and its opposite are the same number. So radius 0 is
    replaced by radius 1, and the standard deviation falls with the number of lags in a ring.
    """
    fluctuation = image - image.mean()
    shape = fast_length(image.shape[0]), fast_length(image.shape[1])  # a few zeros at the edge do not matter
    lags = np.fft.irfft2(np.abs(np.fft.rfft2(fluctuation, shape)) ** 2, shape)
    near = np.roll(lags, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    steps = np.arange(-reach, reach + 1)
    ring = np.rint(np.hypot(steps[:, None], steps)).astype(int).ravel()
    n_lags = np.bincount(ring)[: reach + 1]
    variance = lags[0, 0] if lags[0, 0] > 0 else 1.0
    profile = np.bincount(ring, near.ravel())[: reach + 1] / (n_lags * variance)
    profile[0] = profile[1]
    return profile, np.sqrt(2 / (n_lags * image.size))


def first_dip(profile: Floats, noise: Floats) -> int | None:
    """Index, from 2 on, of the lowest point before the profile first rises significantly above it; None: no rise."""
    lowest = 2
    for r in range(3, len(profile)):
        if profile[r] < profile[lowest]:
            lowest = r
        elif profile[r] - profile[lowest] > SIGNIFICANCE * np.hypot(noise[r], noise[lowest]):
            return lowest
    return None
