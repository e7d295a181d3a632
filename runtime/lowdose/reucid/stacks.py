"""The memory plan: how many stacks the patches are dealt into, and which patch belongs to which."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BYTES_PER_ELEMENT = 8  # float64


def patch_matrix_bytes(height: int, width: int, patch_px: int) -> int:
    """Size of the matrix of all patches: (height - p + 1)(width - p + 1) rows of p^2 float64 numbers."""
    return (height - patch_px + 1) * (width - patch_px + 1) * patch_px**2 * BYTES_PER_ELEMENT


def stacks_needed(height: int, width: int, patch_px: int, memory_bytes: float) -> int:
    """The smallest number of stacks whose patch matrices take about `memory_bytes` each, at least 1."""
    return max(1, math.ceil(patch_matrix_bytes(height, width, patch_px) / memory_bytes))


def deal(height: int, width: int, patch_px: int, n_stacks: int, seed: int) -> NDArray[np.int32]:
    """A random stack number, 0 ... n_stacks - 1, for the patch that starts at each pixel.

    (height - p + 1, width - p + 1): the last p - 1 rows and columns start no patch, but others cover them.
    """
    shape = (height - patch_px + 1, width - patch_px + 1)
    return np.random.default_rng(seed).integers(n_stacks, size=shape, dtype=np.int32)
