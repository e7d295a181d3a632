"""What stands in for frames, positions and pixels beyond an edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mirrored(indices: ArrayLike, size: int) -> NDArray[np.int_]:
    """Indices within 0 ... size - 1 for any integers: mirrored about the first and last, as often as it takes."""
    period = max(1, 2 * (size - 1))
    folded = np.asarray(indices, np.int_) % period
    return np.minimum(folded, period - folded)
