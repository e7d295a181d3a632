"""A Gaussian along time or over a scan, of frames that come one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lowdose.methods.classical.filters import gaussian_kernel, required


class GaussianWindow:
    """Smooths the rows and columns of a scan; a sequence in time is a scan of one column. Ends are mirrored.

    Rows are smoothed along themselves when they are complete, and held until the rows after them have come.
    """

    def __init__(self, sigma: float, n_columns: int, item_shape: tuple[int, ...]) -> None:
        self.kernel = gaussian_kernel(sigma)
        self.reach = len(self.kernel) // 2
        self.n_columns = n_columns
        self.row = np.empty((n_columns, *item_shape), np.float32)
        self.held = np.zeros((self.n_slots(sigma), *self.row.shape), np.float32)  # row i lies in slot i % n_slots
        self.n_pushed = 0

    @staticmethod
    def n_slots(sigma: float) -> int:
        """How many rows are held: one more than a result needs, because a scan may stop within a row."""
        return len(gaussian_kernel(sigma)) + 1

    @property
    def latency_frames(self) -> int:
        """How many items a result comes after its own."""
        return (self.reach + 1) * self.n_columns - 1

    def push(self, item: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Take the next item; return the next result, or None at the start."""
        self.take(item)
        due = self.n_pushed - 1 - self.latency_frames
        return self.result(due, self.n_pushed // self.n_columns) if due >= 0 else None

    def take(self, item: NDArray[np.float32]) -> None:
        row, column = divmod(self.n_pushed, self.n_columns)
        self.row[column] = item
        self.n_pushed += 1
        if column + 1 == self.n_columns:
            slot = self.held[row % len(self.held)]
            if self.n_columns > 1:
                correlate = required("scipy.ndimage", "gaussian3d").correlate1d
                correlate(self.row, self.kernel, axis=0, output=slot, mode="mirror")
            else:
                slot[:] = self.row

    def result(self, index: int, n_rows: int) -> NDArray[np.float32]:
        """The smoothed item `index`, when there are n_rows rows."""
        row, column = divmod(index, self.n_columns)
        weights = np.zeros(len(self.held), np.float32)
        for step, weight in enumerate(self.kernel, -self.reach):
            weights[mirrored(row + step, n_rows) % len(self.held)] += weight
        smoothed: NDArray[np.float32] = np.tensordot(weights, self.held[:, column], 1)
        return smoothed

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """End the sequence; gives the results still due.

        The last row of a scan that was stopped is filled up with its last item.
        """
        n_items = self.n_pushed
        while self.n_pushed % self.n_columns:
            self.take(self.row[self.n_pushed % self.n_columns - 1])
        n_rows = self.n_pushed // self.n_columns
        self.n_pushed = 0
        for index in range(max(0, n_items - self.latency_frames), n_items):
            yield self.result(index, n_rows)


def mirrored(index: int, n: int) -> int:
    """Where index lies in a sequence of n that is mirrored at its ends without repeating them."""
    if n == 1:
        return 0
    inside = abs(index) % (2 * n - 2)
    return min(inside, 2 * n - 2 - inside)
