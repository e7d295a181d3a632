"""Eigenpatches: the patterns that patches of an image are made of, strongest first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# How many eigenpatches are judged at most; weaker ones are noise.
CANDIDATES = 64


@dataclass(frozen=True)
class Eigenpatches:
    """The strongest eigenpatches (n, p, p), orthonormal, their eigenvalues (n,), and what the others have on average.

    An eigenvalue is the mean over patches of the squared coefficient of the eigenpatch. `rest` is the mean of the
    eigenvalues that are not listed: the noise variance of a pixel, and whatever signal is spread thinly.
    """

    patches: Floats
    values: Floats
    rest: float

    def kept(self, useful: NDArray[np.bool_]) -> Floats:
        """The useful ones as orthonormal columns, (p^2, n_useful)."""
        n, patch_px, _ = self.patches.shape
        return np.asarray(self.patches.reshape(n, patch_px**2)[useful].T)


def n_candidates(patch_px: int) -> int:
    """How many eigenpatches are judged: at most half of all, so that `rest` has something to say."""
    return min(CANDIDATES, patch_px**2 // 2)


def from_moments(moments: Floats, patch_px: int) -> Eigenpatches:
    """Eigenpatches from the second moments (p^2, p^2) of the patches.

    The paper takes a randomised SVD of the patch matrix. There are many more patches than pixels in one, so the
    moments are small, cost less than the products of a randomised SVD, and give all eigenpatches exactly.
    """
    values, vectors = np.linalg.eigh(moments)  # ascending
    n = n_candidates(patch_px)
    strongest = vectors[:, : -n - 1 : -1].T.reshape(n, patch_px, patch_px)
    return Eigenpatches(strongest, values[: -n - 1 : -1], float(values[:-n].mean()))
