"""Virtual detectors: the bright-field and annular dark-field image of a scan, growing pattern by pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdose.live.arrival import Result
from lowdose.source import Frame

# The dark field begins this much outside the bright disk's radius, clear of its edge.
INNER_MARGIN = 1.2


@dataclass(frozen=True)
class Rings:
    """centre_px: (y, x) in a pattern; bright_px: radius of the bright field; dark_px: inner and outer of the dark.

    None: seen from the patterns of the first row. The bright disk is what exceeds half of the brightest part of their
    mean; its centroid is the centre, and the circle of its area gives the radius; the dark field goes from 1.2 of it to
    the corner.
    """

    centre_px: tuple[float, float] | None = None
    bright_px: float | None = None
    dark_px: tuple[float, float] | None = None


class VirtualImages:
    """images: bright and dark field of raw and denoised patterns, each (scan_y, scan_x); NaN where nothing came yet."""

    names = ("bright_raw", "bright", "dark_raw", "dark")

    def __init__(self, scan: tuple[int, int], rings: Rings) -> None:
        self.scan = scan
        self.rings = rings
        self.images = {name: np.full(scan, np.nan, np.float32) for name in self.names}
        self._masks: NDArray[np.float32] | None = None
        self._waiting: list[Result] = []
        self._place = 0

    def add(self, result: Result) -> None:
        """Take the next pattern of the scan."""
        if self._masks is None:
            self._waiting.append(result)
            if len(self._waiting) < self.scan[1]:
                return
            first_row = np.stack([one.arrival.frame.pixels for one in self._waiting])
            mean: NDArray[np.float64] = first_row.mean(axis=0, dtype=np.float64)
            self._masks = ring_masks(mean, self.rings)
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                self.add(one)
            return
        place = divmod(self._place, self.scan[1])
        self._place += 1
        raw, denoised = (
            self._masks @ frame.ravel().astype(np.float32) for frame in (result.arrival.frame.pixels, result.pixels)
        )
        for name, value in zip(self.names, (raw[0], denoised[0], raw[1], denoised[1]), strict=True):
            self.images[name][place] = value


def ring_masks(mean: NDArray[np.float64], rings: Rings) -> NDArray[np.float32]:
    """Weights of the bright and of the dark field, (2, height * width), for patterns like `mean` (height, width)."""
    bright = mean > bright_level(mean)
    y, x = np.mgrid[: mean.shape[0], : mean.shape[1]]
    centre_y, centre_x = rings.centre_px or (float(y[bright].mean()), float(x[bright].mean()))
    radius = rings.bright_px or float(np.sqrt(bright.sum() / np.pi))
    inner, outer = rings.dark_px or (INNER_MARGIN * radius, float(np.hypot(*mean.shape)))
    distance = np.hypot(y - centre_y, x - centre_x)
    masks = np.stack([distance <= radius, (distance >= inner) & (distance <= outer)])
    return masks.reshape(2, -1).astype(np.float32)


def bright_level(mean: Frame) -> float:
    """Half of what the brightest hundredth of a pattern exceeds; below the maximum, so that some pixel is brighter."""
    return min(0.5 * float(np.quantile(mean, 0.99)), float(mean.max()) * (1 - 1e-6) - 1e-12)
