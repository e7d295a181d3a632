"""The best linear prediction of a pixel from its neighbours, solved from covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lowdose.wiener.covariance import Covariances, Floats

RIDGE = 1e-6
# A pixel's variance, given any other pixels, holds at least the noise; so it is not much below the prediction error.
LEAST_CONDITIONAL = 0.5
# The prior variance of weights that look like noise alone, as a share of their sampling variance.
LEAST_PRIOR = 0.02


@dataclass(frozen=True)
class Prediction:
    """weights[k] belongs to neighbour offsets[k] = (channel, dt, dy, dx).

    error: mean squared error of predicting the noisy pixel (noise plus error of the clean one), for frames that were
    not fitted to; of the fitted ones it is smaller by the share `optimism`, because the weights fit their noise too.
    """

    offsets: NDArray[np.int_]
    weights: Floats
    error: float
    optimism: float


def disc(diameter_px: int) -> NDArray[np.int_]:
    """Offsets (dy, dx) of the pixels in a disc around a pixel, (n, 2)."""
    reach = np.arange(-(diameter_px // 2), diameter_px // 2 + 1)
    dy, dx = (axis.ravel() for axis in np.meshgrid(reach, reach, indexing="ij"))
    inside = dy**2 + dx**2 <= (diameter_px / 2) ** 2
    return np.stack([dy[inside], dx[inside]], axis=1)


def window(steps: range, diameter_px: int, n_channels: int) -> NDArray[np.int_]:
    """Offsets (channel, dt, dy, dx) of a window over the frames at `steps`, (n, 4)."""
    pixels = disc(diameter_px)
    return np.array([(c, dt, dy, dx) for dt in steps for c in range(n_channels) for dy, dx in pixels])


def predict(covariances: Covariances, channel: int, offsets: NDArray[np.int_], hidden_px: int = 1) -> Prediction:
    """The weights that predict `channel` of a pixel from the neighbours at `offsets`, its own pixel left out.

    hidden_px: side of the square around it that is left out in its own frame and channel; 3 where neighbours share
    noise.

    Solves A w = b with A[o, p] = C(p - o) and b[o] = C(o). A second solution shrinks the weights by what the first one
    says of them (empirical Bayes): the weights of neighbours at one distance have a common variance, of which the
    sampling variance is known. Without it wide windows fit the noise of a short movie. Raises LinAlgError when the
    covariances contradict each other.
    """
    own = (offsets[:, :2] == (channel, 0)).all(axis=1) & (np.abs(offsets[:, 2:]) <= hidden_px // 2).all(axis=1)
    offsets = offsets[~own]
    halves = covariances.n_channels == 1 and is_symmetrical(offsets)
    used = offsets[: len(offsets) // 2] if halves else offsets
    matrix, target = normal_equations(covariances, channel, used, halves)
    centre = (covariances.max_dt, covariances.max_px, covariances.max_px)
    variance = float(covariances.values[channel, channel][centre])
    distance = np.rint(np.hypot(used[:, 2], used[:, 3])).astype(int)
    shells = np.stack([used[:, 0], np.abs(used[:, 1]), distance], axis=1)
    alike = used[:, 0] == channel if hidden_px == 1 else np.zeros(len(used), bool)
    n_values, copies = covariances.n_values, 2 if halves else 1
    with threadpool_limits(1):  # BLAS threads wait actively: on a busy machine it would take a hundred times as long
        weights, error, optimism = solve_shrunk(matrix, target, variance, shells, alike, n_values, copies)
    return Prediction(offsets, np.concatenate([weights, weights[::-1]]) if halves else weights, error, optimism)


def solve_shrunk(
    matrix: Floats,
    target: Floats,
    variance: float,
    shells: NDArray[np.int_],
    alike: NDArray[np.bool_],
    n_samples: int,
    copies: int = 1,
) -> tuple[Floats, float, float]:
    """Weights of a linear prediction, its mean squared error and its optimism (see `Prediction`).

    matrix, target: the normal equations, as means over n_samples; variance: of what is predicted. shells: (n, ...),
    weights with the same entries have a common prior variance. alike: neighbours with the noise of what is predicted,
    each a noise of its own.
    copies: neighbours that share a weight. Raises LinAlgError when the matrix cannot be one of covariances of pixels
    with this prediction error.
    """
    matrix = matrix.copy()
    matrix[np.diag_indices_from(matrix)] += copies * RIDGE * max(variance, 1e-30)
    weights = np.asarray(np.linalg.solve(matrix, target), np.float64)
    error = max(variance - float(weights @ target), 1e-30)
    conditional = np.diag(np.linalg.cholesky(matrix))[alike].min(initial=np.inf) ** 2 / copies
    if conditional < LEAST_CONDITIONAL * error:
        raise np.linalg.LinAlgError("the covariances contradict each other")
    diagonal = np.diag(matrix)
    sampling = error / (diagonal / copies) / n_samples  # variance of each weight
    penalty = copies * error / n_samples / prior_variance(shells, weights, sampling)
    shrunk = matrix.copy()
    shrunk[np.diag_indices_from(shrunk)] += penalty
    weights = np.asarray(np.linalg.solve(shrunk, target), np.float64)
    error = max(float(variance - 2 * weights @ target + weights @ matrix @ weights), 1e-30)
    fitted = copies * float(np.sum(diagonal / (diagonal + penalty)))  # effective number of weights
    optimism = 2 * fitted / n_samples
    return weights, error * (1 + optimism), optimism


def is_symmetrical(offsets: NDArray[np.int_]) -> bool:
    """True when the offsets in reverse order are the opposite ones."""
    return bool((offsets[::-1, 1:] == -offsets[:, 1:]).all())


def normal_equations(
    covariances: Covariances, channel: int, offsets: NDArray[np.int_], halves: bool
) -> tuple[Floats, Floats]:
    """Matrix and right side; with `halves` for one weight per pair of opposite neighbours, which are alike."""
    n_channels, n_px = covariances.n_channels, covariances.values.shape[-1]
    strides = np.array([n_px * n_px, n_px, 1])
    flat = covariances.values.reshape(n_channels * n_channels, -1)
    centre = strides @ (covariances.max_dt, covariances.max_px, covariances.max_px)
    places = offsets[:, 1:] @ strides
    channels = offsets[:, 0]
    target = flat[channel * n_channels + channels, centre + places]
    pair = channels[:, None] * n_channels + channels[None, :]
    matrix = flat[pair, centre + places[None, :] - places[:, None]]
    if halves:
        matrix = 2 * (matrix + flat[0, centre + places[None, :] + places[:, None]])
        target = 2 * target
    return matrix, target


def prior_variance(shells: NDArray[np.int_], weights: Floats, sampling: Floats) -> Floats:
    """Variance of the true weights of each shell: what is left of the mean square of the fitted ones when their
    sampling variance is taken off."""
    _, shell = np.unique(shells, axis=0, return_inverse=True)
    shell = shell.reshape(-1)
    count = np.bincount(shell)
    noise = np.bincount(shell, sampling) / count
    left = np.bincount(shell, weights**2) / count - noise
    prior: Floats = np.maximum(left, LEAST_PRIOR * noise)[shell]
    return prior
