"""Overlap-add: patches go onto a canvas, and the patch terrain says how many of them cover each pixel."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def patch_terrain(processed: NDArray[np.bool_], patch_px: int) -> NDArray[np.int32]:
    """How many processed patches cover each pixel, (height, width) int32.

    processed: (height - p + 1, width - p + 1), whether the patch that starts at a pixel counts. Sums roll down the
    columns and along the rows, so the cost does not depend on the patch size.
    """
    n_rows, n_columns = processed.shape
    height, width = n_rows + patch_px - 1, n_columns + patch_px - 1
    terrain = np.empty((height, width), np.int32)
    column = np.zeros(n_columns, np.int32)
    for y in range(height):
        if y < n_rows:
            for x in range(n_columns):
                column[x] += np.int32(processed[y, x])
        if y >= patch_px:
            for x in range(n_columns):
                column[x] -= np.int32(processed[y - patch_px, x])
        covered = np.int32(0)
        for x in range(width):
            if x < n_columns:
                covered += column[x]
            if x >= patch_px:
                covered -= column[x - patch_px]
            terrain[y, x] = covered
    return terrain


@njit(cache=True, nogil=True)
def add_patches(canvas: Floats, origins: NDArray[np.int64], patches: Floats, patch_px: int) -> None:
    """Add patches (n, p^2) to the canvas (height, width), each at its origin (y, x) from `origins` (n, 2)."""
    for i in range(len(origins)):
        top, left = origins[i]
        for y in range(patch_px):
            for x in range(patch_px):
                canvas[top + y, left + x] += patches[i, y * patch_px + x]
