"""The filters themselves, and how their strengths are written."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError

Strength = tuple[float, ...]
Plane = NDArray[np.float32]

# Beyond so many standard deviations a Gaussian is cut off, as in scipy.ndimage.
TRUNCATE = 4.0
SPREAD = 3.0  # the same for the bilateral filter's pixels
TV_STEPS = 40
"""About as many as scikit-image's own rule takes. That rule depends on the frame: two that differ by a tenth of the
noise may stop dozens of steps apart, which no estimate of the error survives."""
PATCH_PX = 5
SEARCH_PX = 7


@dataclass(frozen=True)
class Filter:
    """What a filter takes after its name. numbers: their meaning; example: such numbers; package: what computes it."""

    numbers: tuple[str, ...]
    example: str
    package: str


FILTERS = {
    "gaussian": Filter(("sigma in pixels",), "1.5", "scipy"),
    "gaussian3d": Filter(("sigma in frames or scan positions", "sigma in pixels"), "2,1.4", "scipy"),
    "tv": Filter(("weight in noise standard deviations",), "1.2", "skimage"),
    "nlm": Filter(("h in noise standard deviations",), "0.7", "skimage"),
    "bilateral": Filter(("range in noise standard deviations", "sigma in pixels"), "5,2", "numpy"),
}


def parse(name: str) -> tuple[str, Strength | None]:
    """Filter and strength from "tv" or "tv:1.2". Raises LowdoseError for a strength that is not one."""
    kind, colon, text = name.partition(":")
    if not colon:
        return kind, None
    wanted = FILTERS[kind]
    try:
        strength = tuple(float(number) for number in text.split(","))
    except ValueError:
        strength = ()
    if len(strength) != len(wanted.numbers) or not all(0 < number < math.inf for number in strength):
        raise LowdoseError(
            f"--model {name}: expected {kind} alone or with its strength, such as {kind}:{wanted.example} "
            f"({', '.join(wanted.numbers)}; above 0)"
        )
    return kind, strength


def written(kind: str, strength: Strength) -> str:
    """The inverse of `parse`."""
    return f"{kind}:{','.join(f'{number:g}' for number in strength)}"


def required(module: str, kind: str) -> ModuleType:
    """A module of the extra [analysis]. Raises LowdoseError, naming the extra, when it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LowdoseError(
            f"{kind} needs the package {error.name}, which is not installed: pip install 'lowdose[analysis]'"
        ) from error


def gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """A Gaussian of sum 1, cut off at TRUNCATE standard deviations; its length is odd."""
    reach = int(TRUNCATE * sigma + 0.5)
    values = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel: NDArray[np.float64] = values / values.sum()
    return kernel


def filter_plane(kind: str, strength: Strength, plane: Plane, noise_std: float) -> Plane:
    """One frame (height, width) filtered in its plane; borders are mirrored.

    noise_std: in the units of the frame; where it is 0 the filters that count in it give the frame back. For
    gaussian3d this is the part within the frame.
    """
    if FILTERS[kind].package == "scipy":
        gaussian = required("scipy.ndimage", kind).gaussian_filter
        return np.asarray(gaussian(plane, strength[-1], mode="mirror", truncate=TRUNCATE), np.float32)
    if noise_std == 0:
        return plane
    if kind == "bilateral":
        return bilateral(plane, strength[0] * noise_std, strength[1])
    restoration = required("skimage.restoration", kind)
    level = plane.mean(dtype=np.float64)
    relative = (plane - level) / noise_std
    if kind == "tv":  # Chambolle, J. Math. Imaging Vis. 20, 89 (2004)
        result = restoration.denoise_tv_chambolle(relative, weight=strength[0], eps=0, max_num_iter=TV_STEPS)
    else:  # Buades et al., CVPR 2005; the fast way: Darbon et al., ISBI 2008
        result = restoration.denoise_nl_means(
            relative, patch_size=PATCH_PX, patch_distance=SEARCH_PX, h=strength[0], sigma=1.0, fast_mode=True
        )
    return np.asarray(result * noise_std + level, np.float32)


def bilateral(plane: Plane, value_sigma: float, sigma_px: float) -> Plane:
    """Mean of the pixels nearby, Gaussian in their distance and in their difference (Tomasi and Manduchi, ICCV 1998).

    (Not scikit-image's, whose weights by distance are sheared: version 0.26 spreads a point along a diagonal.)
    """
    reach = max(1, math.ceil(SPREAD * sigma_px))
    height, width = plane.shape
    padded = np.pad(plane, reach, "reflect")
    total, weights = plane.copy(), np.ones_like(plane)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if (dy, dx) == (0, 0) or dy**2 + dx**2 > reach**2:
                continue
            other = padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            exponent = np.square((other - plane) / np.float32(value_sigma)) + np.float32((dy**2 + dx**2) / sigma_px**2)
            weight = np.exp(-exponent / 2)
            total += weight * other
            weights += weight
    result: Plane = total / weights
    return result
