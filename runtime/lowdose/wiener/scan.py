"""Fit a blind filter to a 4D scan: a pattern's pixel from its neighbours on the detector and over the scan.

Diffraction patterns hold a direct beam a thousand times brighter than the rest, and their statistics differ from pixel
to pixel. So each pixel is taken relative to its mean over the scan and in units of its noise; what remains is alike
enough over the detector for one set of weights. Over the scan it is stationary, and covariances come from transforms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdose._fourier import fast_length
from lowdose.errors import LowdoseError
from lowdose.wiener.blind_filter import BlindFilter
from lowdose.wiener.covariance import Floats
from lowdose.wiener.predictor import solve_shrunk

SCAN_REACH = 2
DETECTOR_REACH_PX = 2
N_PIXELS = 8000
"""Detector pixels that are fitted to; each has a sample for every position of the scan."""
BRIGHTNESS_WEIGHT = 0.5
"""Samples count by their noise's standard deviation to this power: 0 is best for weak reflections, 2 for the error in
counts, which the brightest pixels rule. Between them lies what costs neither more than a tenth of a decibel."""


def fit_scan(scan: NDArray[np.float32], mean: NDArray[np.float32] | None = None, hidden_px: int = 1) -> BlindFilter:
    """Fit to a scan (scan_y, scan_x, height, width), or a part of one of at least 2 x 2 positions.

    mean: the mean pattern (height, width), where the scan has more positions than the part. hidden_px: side of the
    square around a pixel that is left out of its own pattern. Raises LowdoseError for
    pixels that are not finite, patterns below 5 px, a single row or column of positions, and constant data.
    """
    n_y, n_x, height, width = scan.shape
    if min(n_y, n_x) < 2 or min(height, width) < 2 * DETECTOR_REACH_PX + 1:
        raise LowdoseError(
            f"a scan of {n_y}x{n_x} patterns of {height}x{width} pixels is too small for the blind filter: it needs "
            f"2x2 patterns of {2 * DETECTOR_REACH_PX + 1}x{2 * DETECTOR_REACH_PX + 1}"
        )
    if not np.isfinite(scan).all():
        raise LowdoseError("there are NaN or infinite pixels; replace them first")
    level = scan.mean(axis=(0, 1), dtype=np.float32) if mean is None else mean
    scale = noise_scale(scan)
    reach_y, reach_x = min(SCAN_REACH, n_y - 1), min(SCAN_REACH, n_x - 1)
    offsets = neighbours(reach_y, reach_x, hidden_px)
    distances = [np.rint(2 * np.hypot(offsets[:, i], offsets[:, i + 1])).astype(int) for i in (0, 2)]
    shells, alike = np.stack(distances, axis=1), np.full(len(offsets), hidden_px == 1)
    normalised = ((scan - level) / scale).astype(np.float32)
    means, n_samples = scan_covariances(normalised, scale, (reach_y, reach_x))
    try:
        weights, error, optimism = solve_shrunk(*normal_equations(means, offsets), shells, alike, n_samples)
    except np.linalg.LinAlgError:  # as Covariances.tapered
        share = [
            np.maximum(0, 1 - np.abs(np.arange(-2 * r, 2 * r + 1)) / n) for r, n in ((reach_y, n_y), (reach_x, n_x))
        ]
        means = means * np.multiply.outer(*share)[..., None, None]
        weights, error, optimism = solve_shrunk(*normal_equations(means, offsets), shells, alike, n_samples)
    taps = [(dy, dx) for dy in range(-reach_y, reach_y + 1) for dx in range(-reach_x, reach_x + 1)]
    side = 2 * DETECTOR_REACH_PX + 1
    kernels = np.zeros((1, 1, len(taps), 1, side, side), np.float32)
    tap = (offsets[:, 0] + reach_y) * (2 * reach_x + 1) + offsets[:, 1] + reach_x
    kernels[0, 0, tap, 0, offsets[:, 2] + DETECTOR_REACH_PX, offsets[:, 3] + DETECTOR_REACH_PX] = weights
    report = {
        "window": [len(taps), side, side],
        "prediction_error": [error],
        "optimism": [optimism],
        "fitted_frames": n_y * n_x,
    }
    return BlindFilter(kernels, taps, level[None].astype(np.float32), scale[None].astype(np.float32), report)


def neighbours(reach_y: int, reach_x: int, hidden_px: int) -> NDArray[np.int_]:
    """Offsets (dy, dx over the scan, dy, dx on the detector), all but the pixel itself and what is hidden, (n, 4)."""
    reaches = (reach_y, reach_x, DETECTOR_REACH_PX, DETECTOR_REACH_PX)
    axes = np.meshgrid(*(np.arange(-reach, reach + 1) for reach in reaches), indexing="ij")
    offsets = np.stack([axis.ravel() for axis in axes], axis=1)
    found: NDArray[np.int_] = offsets[(np.abs(offsets) > (0, 0, hidden_px // 2, hidden_px // 2)).any(axis=1)]
    return found


def noise_scale(scan: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation of the noise per detector pixel, from differences of neighbouring patterns, smoothed.

    Pixels that never counted get that of one count in the whole scan.
    """
    n_y, n_x = scan.shape[:2]
    squares = np.square(np.diff(scan, axis=0)).mean(axis=(0, 1)) + np.square(np.diff(scan, axis=1)).mean(axis=(0, 1))
    variance = smooth(squares / 4)
    if not variance.max() > 0:
        raise LowdoseError("the patterns are constant: there is nothing to fit")
    least = max(variance.max() * 1e-9, 1e-6 / (n_y * n_x))
    scale: NDArray[np.float32] = np.sqrt(np.maximum(variance, least)).astype(np.float32)
    return scale


def smooth(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolution with the binomial kernel (1, 4, 6, 4, 1) / 16 along y and x, borders repeated."""
    for axis in (0, 1):
        padded = np.pad(plane, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], "edge")
        size = plane.shape[axis]
        parts = [np.take(padded, range(i, i + size), axis=axis) for i in range(5)]
        plane = ((parts[0] + 4 * parts[1] + 6 * parts[2] + 4 * parts[3] + parts[4]) / 16).astype(np.float32)
    return plane


def scan_covariances(
    normalised: NDArray[np.float32], scale: NDArray[np.float32], reach: tuple[int, int]
) -> tuple[Floats, int]:
    """Covariances [lag_y + 2 reach_y, lag_x + 2 reach_x, a, b] of a pixel's neighbours a and b, lag positions apart.

    Neighbours on the detector are numbered row by row. Means over the scan and, weighted, over a sample of detector
    pixels; the number of samples is the second result.
    """
    n_y, n_x, height, width = normalised.shape
    margin = DETECTOR_REACH_PX
    inner = np.arange(height * width).reshape(height, width)[margin : height - margin, margin : width - margin].ravel()
    chosen = np.sort(np.random.default_rng(0).permutation(inner)[:N_PIXELS])  # a regular sample could follow the disks
    share = scale.ravel()[chosen] ** BRIGHTNESS_WEIGHT
    share = (share / share.sum()).astype(np.float32)
    steps = [(dy, dx) for dy in range(-margin, margin + 1) for dx in range(-margin, margin + 1)]
    columns = np.stack([chosen + dy * width + dx for dy, dx in steps])  # (n_steps, n_pixels)

    padded = (fast_length(n_y + 2 * reach[0]), fast_length(n_x + 2 * reach[1]))
    transformed = np.fft.rfft2(normalised.reshape(n_y, n_x, -1), s=padded, axes=(0, 1))
    spectra = transformed.astype(np.complex64, copy=False).reshape(-1, height * width)
    products = np.empty((len(spectra), len(steps), len(steps)), np.complex64)
    for product, spectrum in zip(products, spectra, strict=True):
        seen = spectrum[columns]
        product[:] = (np.conj(seen) * share) @ seen.T
    lags = np.fft.irfft2(products.reshape(padded[0], -1, len(steps), len(steps)), s=padded, axes=(0, 1))
    lag_y, lag_x = (np.arange(-2 * r, 2 * r + 1) for r in reach)
    overlap = np.maximum(n_y - np.abs(lag_y), 1)[:, None] * np.maximum(n_x - np.abs(lag_x), 1)
    return lags[lag_y[:, None], lag_x[None, :]] / overlap[..., None, None], len(chosen) * n_y * n_x


def normal_equations(means: Floats, offsets: NDArray[np.int_]) -> tuple[Floats, Floats, float]:
    """Matrix, right side and the predicted pixels' variance, from `scan_covariances`."""
    middle_y, middle_x, centre = means.shape[0] // 2, means.shape[1] // 2, means.shape[2] // 2
    side = 2 * DETECTOR_REACH_PX + 1
    step = (offsets[:, 2] + DETECTOR_REACH_PX) * side + offsets[:, 3] + DETECTOR_REACH_PX
    apart = offsets[None, :, :2] - offsets[:, None, :2]
    matrix = means[apart[..., 0] + middle_y, apart[..., 1] + middle_x, step[:, None], step[None, :]]
    target = means[offsets[:, 0] + middle_y, offsets[:, 1] + middle_x, centre, step]
    return (matrix + matrix.T) / 2, target, float(means[middle_y, middle_x, centre, centre])
