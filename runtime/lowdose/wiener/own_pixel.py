"""The own-pixel step over a scan: noise and error per brightness of the mean pattern, estimated from the noisy scan.

A blind estimate d of a pixel leaves out its own value y; d + a (y - d) with a = e / (e + v) is the best of both, where
e is the mean squared error of d and v the variance of y's noise. Disks that come and go from position to position leave
no patterns whose differences are noise alone, as a movie has; so the noise is told from what the estimate leaves of the
patterns. Of white noise of variance v a good blind filter takes nothing, but adds its own error e to it: the residual
has the variance R = v + e. At the highest frequencies, where there is no signal, the filter, which may not look at the
pixel itself, gives -e / v of the noise: its weights over all frequencies sum to nothing, and where there is signal they
are one. There the residual's variance is Q = v (1 + e / v)^2. Hence v = R^2 / Q. Detail that the estimate leaves at the
highest frequencies counts as noise; then the step is smaller than it could be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.wiener.scan import smooth

N_CLASSES = 6
"""Of detector pixels by the mean pattern's brightness; each has as large a part of the noise's standard deviations."""
SCORES = 1.0
"""An error must be as many of its own standard errors above nothing: a step gains as its square does, and costs as the
variance of its estimate."""
LINE_ERROR = 0.25
"""Of a noise variance that is estimated, as a share of it: on simulated scans of 0.02 electrons per pixel it came out a
quarter too small more than once, on others a tenth; at many electrons it comes out too large."""
LEAST = 1e-6
"""Variance of the noise of a pixel that never counted, in the scan's units."""
DARK = 0.05
"""Electrons per pixel: where there are fewer, nearly all values are 0 and 1."""
MOST_DARK = 1.3
"""Mean square of counts over their mean, in dark pixels; 1 + the brightness if they are electrons."""

Floats = NDArray[np.float64]
Planes = NDArray[np.float32]


@dataclass(frozen=True)
class NoiseLine:
    """The variance of the noise is constant + gain * brightness, in the scan's units."""

    constant: float
    gain: float


@dataclass(frozen=True)
class Residuals:
    """What a blind estimate leaves of patterns or tiles of them, (n, height, width) each: left, the noisy values less
    blind, the estimate; of_class, from `brightness_classes`."""

    left: Planes
    blind: Planes
    of_class: NDArray[np.int_]

    def by_class(self, values: Planes) -> list[Floats]:
        """The values of each class; of values a pixel less high and wide, those whose upper left pixel is of it."""
        of_class = self.of_class[:, : values.shape[1], : values.shape[2]]
        return [values[of_class == number].astype(np.float64) for number in range(N_CLASSES)]


def own_pixel_planes(
    level: Planes, scale: Planes, noise: Residuals, test: Residuals, electrons: bool
) -> tuple[Planes, dict[str, Any]]:
    """e and v for each pixel of the detector, (2, height, width) in units of scale^2, and a report of what was found.

    level, scale: (height, width), the mean pattern and the noise's standard deviation. noise: what the noise is
    estimated from; test: what the error is, best of patterns that were not learned from. electrons: whether the scan is
    known to be counts of them (`counted_electrons`), whose noise is Poisson's. A step with the share a lowers the risk
    mean (1 - a)^2 (y - d)^2 + 2 a v (Stein 1981) by e a; where e is not known to be above nothing it is refused: e = 0.
    """
    found = fitted_noise(noise)
    line = NoiseLine(0.0, 1.0) if electrons else found
    # By the noisy value, whose mean is right, and which is large where the square is: what is left scatters little.
    # Where its mean is below nothing, the class was chosen by the noise.
    squares, values = test.by_class(np.square(test.left)), test.by_class(test.left + test.blind)
    brightness = [value - min(float(value.mean()), 0.0) if len(value) else value for value in values]
    variances = [line.constant + line.gain * value for value in brightness]
    errors = [square - variance for square, variance in zip(squares, variances, strict=True)]
    noises = [float(variance.mean()) if len(variance) else 0.0 for variance in variances]
    ratios = errors_to_noise(errors, noises, 0.0 if electrons else LINE_ERROR)
    of_pixel = np.maximum(line.constant + line.gain * np.maximum(level, 0), LEAST) / np.square(scale)
    noise_variance = float(np.concatenate(variances).mean())
    report = {
        "used": bool(ratios.any()),
        "error_variance": float(np.square(test.left, dtype=np.float64).mean()) - noise_variance,
        "noise_variance": noise_variance,
        "gain": found.gain,
        "read_noise": found.constant**0.5,
        "electrons": electrons,
        "share_by_brightness": (ratios / (1 + ratios)).tolist(),
    }
    planes = np.stack([ratios[brightness_classes(level, scale)] * of_pixel, of_pixel])
    return planes.astype(np.float32), report


def counted_electrons(scan: Planes) -> bool:
    """Whether a scan (scan_y, scan_x, height, width) holds counts of single electrons, from its dark pixels."""
    if scan.min() < 0 or not (scan == np.rint(scan)).all():
        return False
    dark = scan[:, :, smooth(scan.mean(axis=(0, 1))) < DARK]
    return bool(0 < np.square(dark).sum(dtype=np.float64) < MOST_DARK * dark.sum(dtype=np.float64))


def brightness_classes(level: Planes, scale: Planes) -> NDArray[np.int_]:
    """The class of each detector pixel, (height, width), the darkest 0.

    By a smoothed mean pattern: the darkest pixels of the pattern itself are those whose noise was below nothing.
    """
    order = np.argsort(smooth(level).ravel(), kind="stable")
    sizes = scale.ravel()[order].astype(np.float64)
    below = np.cumsum(sizes) - sizes
    classes = np.empty(len(order), np.int_)
    classes[order] = np.minimum(N_CLASSES * below / sizes.sum(), N_CLASSES - 1).astype(np.int_)
    return classes.reshape(level.shape)


def fitted_noise(seen: Residuals) -> NoiseLine:
    """The line through the variances R^2 / Q of all classes; neither of its numbers is below nothing."""
    left = seen.left
    checks = left[:, 1:, 1:] - left[:, :-1, 1:] - left[:, 1:, :-1] + left[:, :-1, :-1]
    whole, high, blind = (
        seen.by_class(values)
        for values in (mean_of_four(np.square(left)), np.square(checks) / 4, mean_of_four(seen.blind))
    )
    x, y, weights = [], [], []
    for r, q, brightness in zip(whole, high, blind, strict=True):
        if len(r) > 1 and q.mean() > 0:
            x.append(max(float(brightness.mean()), 0.0))
            y.append(float(r.mean() ** 2 / q.mean()))
            weights.append(len(q) / max(float(q.var()), 1e-30))
    if not x:
        return NoiseLine(0.0, 0.0)
    return weighted_line(*(np.array(values) for values in (x, y, weights)))


def weighted_line(x: Floats, y: Floats, weights: Floats) -> NoiseLine:
    """Least squares of y = constant + gain * x with neither below nothing."""
    root = np.sqrt(weights)
    gain, constant = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1) * root[:, None], y * root, rcond=None)[0]
    if constant < 0:
        return NoiseLine(0.0, float((weights * x * y).sum() / max((weights * x * x).sum(), 1e-30)))
    if gain < 0:
        return NoiseLine(float((weights * y).sum() / weights.sum()), 0.0)
    return NoiseLine(float(constant), float(gain))


def mean_of_four(planes: Planes) -> Planes:
    """Of neighbouring pixels, (n, height, width) -> (n, height - 1, width - 1)."""
    total = planes[:, 1:, 1:] + planes[:, :-1, 1:] + planes[:, 1:, :-1] + planes[:, :-1, :-1]
    mean: Planes = total / np.float32(4)
    return mean


def errors_to_noise(errors: list[Floats], noises: list[float], line_error: float) -> Floats:
    """e / v of each class from (y - d)^2 - v of its pixels and v; 0 where it is not known to be above nothing.

    It is the mean of all classes, which is known best, but for those that are certainly not like the others.
    line_error: that of v, as a share of it.
    """
    found, uncertain = np.zeros(len(errors)), np.full(len(errors), np.inf)
    for number, (values, noise) in enumerate(zip(errors, noises, strict=True)):
        if len(values) > 1 and noise > 0:
            found[number] = values.mean() / noise
            uncertain[number] = max(float(values.std()), 1e-15) / len(values) ** 0.5 / noise
    weights = uncertain**-2.0
    if not weights.any():
        return np.zeros(len(errors))
    mean, of_mean = (weights * found).sum() / weights.sum(), weights.sum() ** -0.5
    alike = np.abs(found - mean) < SCORES * uncertain
    ratios, uncertain = np.where(alike, mean, found), np.where(alike, of_mean, uncertain)
    return np.where(ratios > SCORES * np.hypot(uncertain, line_error), ratios, 0)
