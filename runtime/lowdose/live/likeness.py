"""Whether frames are like what a model was made for: two simple numbers of their noise, and when to warn.

Noise is seen in the difference of neighbouring frames, where the scene is hardly left.

- Spectrum: the correlation of the noise between neighbouring pixels. Every method here takes noise as independent from
  pixel to pixel, that is, its spectrum as flat; binning, interpolation and detector blur make it correlated. What the
  scene leaves, as disks that move from pattern to pattern of a scan, is as large three pixels away and is taken off.
- Intensity: the noise relative to the mean above the pedestal. A model file tells the noise of its training data; where
  they were electron counts, mean and variance are the same, so 1 / std was their relative noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.methods.method import Method
from lowdose.methods.network import Network
from lowdose.sample import middle
from lowdose.source import Frame

# Correlations of white noise scatter by 1/sqrt(pixels), far less; a scene that changes adds a few hundredths.
MOST_CORRELATION = 0.1
SCENE_PX = 3
MOST_NOISE_BEYOND = 1.5
PEDESTAL_PERCENTILE = 0.1


def warnings_for(frames: Sequence[Frame], method: Method) -> list[str]:
    """What the user should know of `frames` (height, width), the first of a stream; empty for a single frame."""
    stack = np.array([middle(frame) for frame in frames], np.float32)
    if len(stack) < 2 or min(stack.shape[1:]) < 3:
        return []
    correlation, relative_noise = noise_of(stack)
    found = []
    if abs(correlation) > MOST_CORRELATION:
        found.append(
            f"the noise of neighbouring pixels is correlated ({correlation:+.2f}), and {method.name} takes it as "
            "independent: expect blotches or lost detail; give unbinned, unfiltered frames"
        )
    noisiest = noisiest_training(method)
    if noisiest is not None and relative_noise > MOST_NOISE_BEYOND * noisiest:
        found.append(
            f"the frames are noisier ({relative_noise:.1f} of their mean) than what {method.name} was trained on "
            f"(up to {noisiest:.1f}): compare with --model wiener, and look at the residual"
        )
    return found


def noise_of(stack: NDArray[np.float32]) -> tuple[float, float]:
    """Correlation of the noise of neighbouring pixels, and its standard deviation over the mean above the pedestal.

    stack: (n_frames, height, width), two frames or more. Of two directions the larger correlation counts.
    """
    noise = np.diff(stack, axis=0) / np.sqrt(2)
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    variance = float((noise**2).mean())
    if variance == 0:
        return 0.0, 0.0
    along = [covariance(noise, axis, 1) - covariance(noise, axis, SCENE_PX) for axis in (1, 2)]
    mean = float(stack.mean()) - float(np.percentile(stack[:2], PEDESTAL_PERCENTILE))
    return max(along, key=abs) / variance, float(np.sqrt(variance)) / max(mean, 1e-12)


def covariance(noise: NDArray[np.float32], axis: int, step_px: int) -> float:
    """Of pixels that lie so far apart along an axis; 0 where there are none."""
    length = noise.shape[axis]
    if length <= step_px:
        return 0.0
    one, other = (np.take(noise, range(first, length - step_px + first), axis) for first in (0, step_px))
    return float((one * other).mean())


def noisiest_training(method: Method) -> float | None:
    """The largest relative noise among the electron counts that a model was trained on; None where it is not told."""
    if not isinstance(method, Network):
        return None
    told: list[Mapping[str, Any]] = []
    for weights in method.model.metadata["weight_sets"]:
        data = weights.get("data")
        told += [entry for entry in data if isinstance(entry, Mapping)] if isinstance(data, list) else []
    counts = [1 / entry["noise_std"] for entry in told if entry.get("noise_std") and entry.get("offset") == 0]
    return max(counts, default=None)
