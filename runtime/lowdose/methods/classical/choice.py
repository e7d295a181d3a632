"""What a filter needs to know of the noisy frames, and how strong it should be: from these frames alone.

A pixel's noise cannot be predicted from the other pixels, so the Gaussian that predicts pixels best from the others
is the one that predicts the signal best (cross-validation: Craven and Wahba, Numer. Math. 31, 377, 1979). Smoothing
multiplies the coefficients of the cosine transform, so one transform gives the error of every width. The other filters
follow from the width found: it says over how many pixels the noise must be averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.methods.classical.filters import Strength, gaussian_kernel, required
from lowdose.sample import middle
from lowdose.source import FrameSource

Floats = NDArray[np.floating]

SAMPLE_FRAMES = 16  # in a row; of a scan so many rows and columns
SAMPLE_PIXELS = 1.6e7
SIGMAS_PX = 0.5 * 2 ** (np.arange(19) / 4)
SIGMAS_FRAMES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
NO_SMOOTHING = 0.0

# From lowdose.simulate's movies of particles, lattices and HRTEM at several doses: total variation came closest to the
# truth with a weight of 0.85 to 1.2 times the best Gaussian's sigma, the bilateral filter with that sigma and a wide
# range; non-local means wanted an h of 0.6 to 1.2, the more the noisier.
TV_PER_SIGMA = 0.95
BILATERAL_RANGE = 8.0
BILATERAL_WIDEST_PX = 4.0  # its time grows with the square: 0.2 s for 256x256 pixels
NLM_H = 0.85


def sample(frames: FrameSource) -> NDArray[np.float32]:
    """Neighbouring frames to measure, (rows, columns, n_channels, height, width); a movie is one column.

    The middle of the sequence or scan and of its frames. Raises LowdoseError for pixels that are not finite.
    """
    n_y, n_x = frames.scan or (len(frames), 1)
    n_rows, n_columns = min(n_y, SAMPLE_FRAMES), min(n_x, SAMPLE_FRAMES)
    first_row, first_column = (n_y - n_rows) // 2, (n_x - n_columns) // 2
    side = int(np.sqrt(SAMPLE_PIXELS / (n_rows * n_columns * frames.n_channels)))
    rows = [
        [middle(frames[(first_row + y) * n_x + first_column + x], side) for x in range(n_columns)]
        for y in range(n_rows)
    ]
    found = np.asarray(rows, np.float32)
    if not np.isfinite(found).all():
        raise LowdoseError("there are NaN or infinite pixels; replace them first")
    return found.reshape(n_rows, n_columns, frames.n_channels, *found.shape[-2:])


def noise_stds(neighbours: NDArray[np.float32]) -> list[float]:
    """Standard deviation of the noise per channel of a sample (rows, columns, n_channels, height, width).

    From differences between neighbouring frames and from second differences in a frame (Immerkaer, Comput. Vis. Image
    Underst. 64, 300, 1996). Each holds the noise and a part of the signal, so the smallest is taken.
    """
    return [float(np.sqrt(noise_variance(neighbours[:, :, c]))) for c in range(neighbours.shape[2])]


def noise_variance(channel: NDArray[np.float32]) -> float:
    """For one channel, (rows, columns, height, width)."""
    estimates = [np.diff(channel, axis=axis) / np.sqrt(2) for axis in (0, 1) if channel.shape[axis] > 1]
    if min(channel.shape[-2:]) > 2:
        estimates.append(np.diff(np.diff(channel, 2, axis=-1), 2, axis=-2) / 6)
    if not estimates:
        estimates.append(channel - channel.mean())
    return min(float(np.square(estimate, dtype=np.float64).mean()) for estimate in estimates)


def cosine_power(neighbours: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared cosine coefficients of a sample, (rows, columns, height, width): channels added, each by its variance."""
    centred = neighbours - neighbours.mean(axis=(0, 1, 3, 4), keepdims=True)
    transformed = required("scipy.fft", "the choice of a strength").dctn(centred, axes=(0, 1, 3, 4), norm="ortho")
    power = np.square(transformed, dtype=np.float64)
    total = power.sum(axis=(0, 1, 3, 4), keepdims=True)
    found: NDArray[np.float64] = (power / np.where(total > 0, total, 1)).sum(axis=2)
    return found


def transfer(sigma: float, n: int) -> NDArray[np.float64]:
    """What a Gaussian does to the n cosine coefficients of an axis; 0: nothing."""
    if sigma == NO_SMOOTHING:
        return np.ones(n)
    kernel = gaussian_kernel(sigma)
    steps = np.arange(len(kernel)) - len(kernel) // 2
    found: NDArray[np.float64] = np.cos(np.pi * np.outer(np.arange(n) / n, steps)) @ kernel
    return found


def left_out_errors(power: NDArray[np.float64], outer: Sequence[float], inner: Sequence[float]) -> NDArray[np.float64]:
    """Error of predicting a pixel without itself, (len(outer), len(inner)), for sigmas between frames and in them.

    The pixel's own weight is taken out of the residual as in cross-validation: divided by 1 - its mean over all pixels.
    """
    n_y, n_x, height, width = power.shape
    errors = np.empty((len(outer), len(inner)))
    for i, sigma_frames in enumerate(outer):
        between = np.multiply.outer(transfer(sigma_frames, n_y), transfer(sigma_frames, n_x))
        once = np.tensordot(between, power, 2)  # (height, width)
        twice = np.tensordot(between**2, power, 2)
        for j, sigma_px in enumerate(inner):
            down, across = transfer(sigma_px, height), transfer(sigma_px, width)
            residual = power.sum() - 2 * down @ once @ across + down**2 @ twice @ across**2
            others = 1 - between.mean() * down.mean() * across.mean()
            errors[i, j] = residual / others**2 if others > 0 else np.inf
    return errors


def best_sigmas(neighbours: NDArray[np.float32], *, three_d: bool) -> tuple[float, float]:
    """Sigma between frames (0 if not three_d) and in them of the Gaussian with the least error, rounded."""
    outer = SIGMAS_FRAMES if three_d else (NO_SMOOTHING,)
    errors = left_out_errors(cosine_power(neighbours), outer, SIGMAS_PX.tolist())
    i, j = np.unravel_index(np.argmin(errors), errors.shape)
    return outer[i], round_strength(float(SIGMAS_PX[j]))


def default_strength(kind: str, neighbours: NDArray[np.float32]) -> Strength:
    """The strength of a filter that suits a sample of the noisy frames."""
    if kind == "nlm":
        return (NLM_H,)
    sigma_frames, sigma_px = best_sigmas(neighbours, three_d=kind == "gaussian3d")
    if kind == "gaussian3d":
        return (sigma_frames, sigma_px)
    if kind == "tv":
        return (round_strength(TV_PER_SIGMA * sigma_px),)
    if kind == "bilateral":
        return (BILATERAL_RANGE, min(sigma_px, BILATERAL_WIDEST_PX))
    return (sigma_px,)


def round_strength(number: float) -> float:
    """To two digits, so that what is printed can be typed."""
    return float(f"{number:.2g}")
