"""The last layer of a blind-feature network, fitted in closed form to the frames that the network is to denoise.

The network's result is the linear filter's plus weights times what the layers below give ("inputs"). None of these has
seen the noise of the own pixel, so the weights that best predict what the filter leaves of the noisy pixel are the best
for the clean one, as for the filter itself (Batson and Royer 2019): a linear system of a hundred unknowns. How far to
move from the weights that training gave is decided by cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""On the squared change of a weight, in units of the mean square of its input."""
LEAST_SIZE = 0.1
"""Of an input, as a share of the median: one that is nearly always zero would get a weight of hundreds from a few
pixels, and ruin others. It is penalised as if it were so large."""
N_FOLDS = 8
CERTAINTY = 1.0
"""A choice farther from the filter must be better by so many standard errors."""
MOST_STRENGTH = 1.25


@dataclass(frozen=True)
class Moments:
    """Of a part of the frames: inputs (n, n), sums of products of the inputs, the last of which is 1; target (n,), of
    inputs and target; squares, of the target; n_pixels."""

    inputs: Floats
    target: Floats
    squares: float
    n_pixels: int

    @staticmethod
    def of(inputs: NDArray[np.float32], target: NDArray[np.float32]) -> Moments:
        """inputs (n, n_pixels), the last of them 1, target (n_pixels): float32."""
        rows = np.concatenate([inputs, target[None]])
        return Moments.from_products(rows @ rows.T, target.size)

    @staticmethod
    def from_products(products: NDArray[np.float32], n_pixels: int) -> Moments:
        """Of all rows, (n + 1, n + 1): the inputs and, last, the target."""
        exact = products.astype(np.float64)
        return Moments(exact[:-1, :-1], exact[:-1, -1], float(exact[-1, -1]), n_pixels)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.inputs + other.inputs,
            self.target + other.target,
            self.squares + other.squares,
            self.n_pixels + other.n_pixels,
        )

    def error(self, weights: Floats) -> float:
        """Mean squared error of the weights."""
        total = self.squares - 2 * weights @ self.target + weights @ self.inputs @ weights
        return float(total) / self.n_pixels


@dataclass(frozen=True)
class LastLayer:
    """weights (n,), the last one the bias; gain: by how much of the filter's error, noise included, the error on parts
    that were not fitted to is less; change: the penalty that was chosen, 0 for the trained weights, None for none."""

    weights: Floats
    gain: float
    penalty: float | None


def fit_last_layer(parts: Sequence[Moments], trained: Floats) -> LastLayer:
    """parts: of the frames, at least two. trained: (n,), weights to begin with.

    Candidates are no correction at all, the trained weights times a strength, and those with changes under one of
    PENALTIES.
    """
    folds = [total(parts[i :: min(N_FOLDS, len(parts))]) for i in range(min(N_FOLDS, len(parts)))]
    everything = total(folds)
    errors = np.empty((len(PENALTIES) + 2, len(folds)))
    for i, fold in enumerate(folds):
        rest = total([other for other in folds if other is not fold])
        errors[:, i] = [fold.error(weights) for weights in candidates(rest, trained)]
    chosen = 0
    for i in range(1, len(errors)):
        better = errors[chosen] - errors[i]
        if better.mean() > CERTAINTY * better.std() / np.sqrt(len(folds) - 1):
            chosen = i
    gain = 1 - float(errors[chosen].mean() / errors[0].mean())
    penalty = None if chosen == 0 else 0.0 if chosen == 1 else PENALTIES[::-1][chosen - 2]
    return LastLayer(candidates(everything, trained)[chosen], gain, penalty)


def candidates(moments: Moments, trained: Floats) -> list[Floats]:
    """Weights from none to the freest."""
    size = trained @ moments.inputs @ trained
    strength = float(np.clip(trained @ moments.target / size, 0, MOST_STRENGTH)) if size > 0 else 0.0
    start = strength * trained
    left = moments.target - moments.inputs @ start
    scale = np.sqrt(np.diag(moments.inputs))
    scale = np.maximum(scale, max(LEAST_SIZE * float(np.median(scale)), 1e-30))
    values, vectors = np.linalg.eigh(moments.inputs / np.outer(scale, scale))
    along = vectors.T @ (left / scale)
    changes = [vectors @ (along / (np.maximum(values, 0) + penalty)) / scale for penalty in reversed(PENALTIES)]
    return [np.zeros_like(trained), start, *(start + change for change in changes)]


def total(parts: Sequence[Moments]) -> Moments:
    result = parts[0]
    for part in parts[1:]:
        result = result + part
    return result
