"""Second moments of all patches of an image, without a matrix of patches.

Each entry belongs to a lag: two pixels of a patch, (dy, dx) apart. Summed over all patches it is a sum of
image x shifted image over a box as large as the field of patch origins, and the boxes of one lag overlap almost wholly.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lowdose.reucid.threads import for_each

Floats = NDArray[np.float64]

# Lags of a row that are summed side by side, so that a pixel is loaded once for all of them.
UNROLLED = 4
# Sums may be reordered, so that they run in vector registers; float64 leaves digits to spare.
FAST_MATH = {"reassoc", "contract"}


def second_moments(image: Floats, patch_px: int, threads: int = 1) -> Floats:
    """Mean over all patches of the outer product of a patch with itself, (p^2, p^2), of an image (height, width).

    The result has the same bits for any number of threads.
    """
    padded = np.pad(image, ((0, 0), (0, UNROLLED - 1)))
    moments = np.empty((patch_px**2, patch_px**2))
    for_each(lambda dy: fill_lags(padded, patch_px, dy, moments), range(patch_px), threads)
    return moments


@njit(cache=True, nogil=True, fastmath=FAST_MATH)
def fill_lags(padded: Floats, patch_px: int, dy: int, moments: Floats) -> None:
    """Write the entries with the vertical lag `dy` into `moments`, and their mirror images."""
    height, n_across = padded.shape[0], padded.shape[1] - (UNROLLED - 1) - patch_px + 1
    n_down = height - patch_px + 1
    sums = np.zeros((patch_px + UNROLLED - 1, patch_px))
    # Row sums of the first and of the last rows are kept: the box rolls over them.
    top, bottom = np.empty((2, patch_px, patch_px, patch_px))
    for leftwards in range(2 if dy > 0 else 1):
        box = np.zeros((patch_px, patch_px))
        for y in range(height - dy):
            upper, lower = padded[y], padded[y + dy]
            if leftwards:
                row_sums(lower, upper, n_across, patch_px, sums)
            else:
                row_sums(upper, lower, n_across, patch_px, sums)
            if y < n_down:
                box += sums[:patch_px]
            else:
                bottom[y - n_down] = sums[:patch_px]
            if y < patch_px:
                top[y] = sums[:patch_px]
        for y in range(patch_px - dy):
            if y > 0:
                box += bottom[y - 1] - top[y - 1]
            for dx in range(patch_px):
                for x in range(patch_px - dx):
                    first = (y + leftwards * dy) * patch_px + x
                    second = (y + (1 - leftwards) * dy) * patch_px + x + dx
                    moments[first, second] = moments[second, first] = box[dx, x] / (n_across * n_down)


@njit(cache=True, nogil=True, fastmath=FAST_MATH)
def row_sums(first: Floats, second: Floats, n_across: int, patch_px: int, sums: Floats) -> None:
    """sums[dx, x] = sum over i < n_across of first[x + i] * second[x + dx + i]."""
    for dx in range(0, patch_px, UNROLLED):
        a, b, c, d = second[dx:], second[dx + 1 :], second[dx + 2 :], second[dx + 3 :]
        sum_a = sum_b = sum_c = sum_d = 0.0
        for i in range(n_across):
            value = first[i]
            sum_a += value * a[i]
            sum_b += value * b[i]
            sum_c += value * c[i]
            sum_d += value * d[i]
        sums[dx, 0], sums[dx + 1, 0], sums[dx + 2, 0], sums[dx + 3, 0] = sum_a, sum_b, sum_c, sum_d
    for dx in range(patch_px):
        for x in range(1, patch_px - dx):
            entering = first[x + n_across - 1] * second[x + dx + n_across - 1]
            sums[dx, x] = sums[dx, x - 1] + entering - first[x - 1] * second[x + dx - 1]
