"""Which scan positions UDVD sees beside its own, and how they make three triplets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdose.sample import neighbour


@dataclass(frozen=True)
class ScanTaps:
    """`offsets` (dy, dx) over the scan, the own position first; `triplets` are numbers of offsets, three by three.

    The second triplet has the own position in its middle.
    """

    offsets: tuple[tuple[int, int], ...]
    triplets: tuple[int, int, int, int, int, int, int, int, int]

    def positions(self, scan_y: int, scan_x: int) -> NDArray[np.int_]:
        """(scan_y * scan_x, 9): numbers of the positions in each position's triplets, row by row of the scan.

        Beyond the edge of the scan, the position as far on the other side stands in, as in the compiled core.
        """
        rows = [[neighbour(y, dy, scan_y) for dy, _ in self.offsets] for y in range(scan_y)]
        columns = [[neighbour(x, dx, scan_x) for _, dx in self.offsets] for x in range(scan_x)]
        numbers: NDArray[np.int_] = np.array(rows)[:, None] * scan_x + np.array(columns)  # (scan_y, scan_x, n_offsets)
        return numbers.reshape(scan_y * scan_x, -1)[:, list(self.triplets)]


SCAN_TAPS = {
    "cross": ScanTaps(((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)), (1, 3, 0, 3, 0, 4, 0, 4, 2)),
    "line": ScanTaps(((0, 0), (0, -2), (0, -1), (0, 1), (0, 2)), (1, 2, 0, 2, 0, 3, 0, 3, 4)),
    "3x3": ScanTaps(
        ((0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)), (1, 2, 3, 4, 0, 5, 6, 7, 8)
    ),
}
"""The cross in the order above, left, own, right, below, the line from left to right, both in overlapping triplets
as frames of a movie; the 3x3 neighbourhood in its rows."""
