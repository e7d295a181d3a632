"""Counts phantom and missing particles: what a denoiser of particle movies invents, and what it loses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_laplace, maximum_filter

RADII_PX = (1.5, 2.5, 3.5, 5.0, 7.0, 9.0)
"""Sizes of the spots that are looked for."""
LEAST_CONTRAST = 0.04
"""Of a spot against its surroundings, as a share of the movie's clean range: weaker ones are no detections."""
LEAST_RADIUS_PX = 1.5
"""Smaller true particles may be found but need not be."""
BORDER_PX = 3
"""Nothing is counted this close to the edge of the frame."""
MATCH_PX = 2.0
"""A detection belongs to a particle whose centre is within this distance or within its radius."""


@dataclass(frozen=True)
class Counts:
    """Summed over the frames. phantom: spots that are not there. missing: of `n_true` particles, not found."""

    n_true: int
    phantom: int
    missing: int


def count_particles(
    clean: NDArray[np.floating], denoised: NDArray[np.floating], particles: NDArray[np.floating], *, dark: bool = False
) -> Counts:
    """Compare the spots in denoised frames with the clean ones (both (n_frames, height, width)) and true particles.

    `particles` (n, 4) are frame, y, x and radius in pixels, as in `lowdose.simulate.Scene`; `dark` says that they are
    darker than their support. A spot is a phantom where there is neither a particle nor, in the clean frame, a spot of
    half the contrast: edges and grain of the support are no inventions.
    """
    n_true = phantom = missing = 0
    scale = (-1 if dark else 1) / float(np.ptp(clean))
    for index, (truth, frame) in enumerate(zip(clean, denoised, strict=True)):
        spots = find_spots(frame * scale, LEAST_CONTRAST)
        of_frame = particles[particles[:, 0] == index, 1:]
        reach = np.maximum(of_frame[:, 2], MATCH_PX)
        near = distances(spots, of_frame) <= reach  # (n_spots, n_particles)
        wanted = inside(of_frame, *frame.shape) & (of_frame[:, 2] >= LEAST_RADIUS_PX)
        seen = distances(spots, find_spots(truth * scale, LEAST_CONTRAST / 2)) <= MATCH_PX
        n_true += int(wanted.sum())
        missing += int((wanted & ~near.any(axis=0)).sum())
        phantom += int((~near.any(axis=1) & ~seen.any(axis=1)).sum())
    return Counts(n_true, phantom, missing)


def find_spots(frame: NDArray[np.floating], least_contrast: float) -> NDArray[np.float64]:
    """Centres (n, 2) of bright spots, (y, x), of at least a contrast in the units of the frame.

    Maxima over place and size of the scale-normalised Laplacian of a Gaussian (Lindeberg 1998); a disk of one of
    the sizes gives its contrast.
    """
    image = frame.astype(np.float64)
    # A disk of radius sqrt(2) sigma gives -sigma^2 LoG = 2 / e times its contrast.
    responses = np.stack([-gaussian_laplace(image, r / np.sqrt(2)) * (r**2 / 2) * (np.e / 2) for r in RADII_PX])
    peaks = (responses == maximum_filter(responses, size=(3, 3, 3))) & (responses > least_contrast)
    places = np.argwhere(peaks)[:, 1:].astype(np.float64)
    return places[inside(places, *frame.shape)]


def distances(places: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """From each of places (n, >= 2) to each of the others (m, >= 2), (n, m)."""
    steps = places[:, None, :2] - others[None, :, :2]
    return np.asarray(np.hypot(steps[..., 0], steps[..., 1]))


def inside(places: NDArray[np.floating], height: int, width: int) -> NDArray[np.bool_]:
    """Which places (n, >= 2), (y, x, ...), are not at the border."""
    y, x = places[:, 0], places[:, 1]
    ok = (y >= BORDER_PX) & (y <= height - 1 - BORDER_PX) & (x >= BORDER_PX) & (x <= width - 1 - BORDER_PX)
    return np.asarray(ok)
