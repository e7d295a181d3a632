"""Quality of denoised frames: against a clean truth, or against other noisy frames of the same scene.

Every function takes frames as one frame (height, width), as a stack (n_frames, height, width) in which all
further leading axes count frames too, or, for files larger than memory, as a list or a callable that gives
frames one by one. A few frames are held at a time. Values are compared as float64, in the units they come in.

All raise LowdoseError for shapes or numbers of frames that differ, for pixels that are not finite, and where
constant clean frames leave a result undefined; `evaluate` then says None for that result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from lowdose._frames import Frames, each_frame
from lowdose.errors import LowdoseError

Floats = npt.NDArray[np.float64]

SSIM_WINDOW_PX = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(clean: Frames, denoised: Frames, data_range: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(R^2 / MSE), with the MSE over all pixels of all frames.

    R is `data_range`, by default max - min of `clean`. Infinite where the two are equal.
    """
    errors = _errors(clean, denoised)
    return _decibels(errors.data_range if data_range is None else data_range, errors.mse)


def nrmse(clean: Frames, denoised: Frames, normalization: str = "euclidean") -> float:
    """Root of the MSE over all pixels, divided by the root mean square of `clean` ("euclidean") or by its
    max - min ("min-max")."""
    return _errors(clean, denoised).nrmse(normalization)


def ief(clean: Frames, denoised: Frames, noisy: Frames) -> float:
    """Image enhancement factor, sum (noisy - clean)^2 / sum (denoised - clean)^2; infinite for no error."""
    return _enhancement(_errors(clean, noisy, "noisy"), _errors(clean, denoised))


def ssim(clean: Frames, denoised: Frames, data_range: float | None = None) -> float | None:
    """Structural similarity (Wang et al., IEEE Trans. Image Processing 13, 600, 2004), mean over frames.

    Uniform 7 x 7 window, sample covariance, K1 = 0.01, K2 = 0.03, only windows that lie inside the frame.
    `data_range` as for `psnr`. None for frames of fewer than 7 pixels on a side: no window fits.
    """
    span = _errors(clean, denoised).data_range if data_range is None else data_range
    if not span > 0:
        raise LowdoseError(f"SSIM needs a data range above zero, but it is {span:g}; are the clean frames constant?")
    values = []
    for truth, result in _together(("clean", clean), ("denoised", denoised)):
        if min(truth.shape) < SSIM_WINDOW_PX:
            return None
        values.append(_ssim_of_frame(truth, result, span))
    return float(np.mean(values))


def umse(noisy: Frames, denoised: Frames) -> float | None:
    """Unsupervised mean squared error, which needs no truth; None for fewer than four frames.

    Mean over the inner frames i of mean (denoised_i - a)^2 - mean (b - c)^2 / 2, where a, b and c are the
    noisy frames i - 1, i + 1 and i + 2 (i - 2 where there is no i + 2). Right for a scene at rest whose noise
    is independent from frame to frame; it can be negative. (Lee et al., Machine Learning Pipeline for
    Denoising Low Signal-To-Noise Ratio and Out-of-Distribution TEM Datasets, eq. 1.)
    """
    terms: list[float] = []
    window: deque[tuple[Floats, Floats]] = deque(maxlen=4)
    for pair in _together(("noisy", noisy), ("denoised", denoised)):
        window.append(pair)
        if len(window) == 4:
            (a, _), (_, result), (b, _), (c, _) = window
            terms.append(_mean_square(result - a) - _mean_square(b - c) / 2)
    if not terms:
        return None
    (c, _), (a, _), (_, result), (b, _) = window
    terms.append(_mean_square(result - a) - _mean_square(b - c) / 2)
    return float(np.mean(terms))


def upsnr(noisy: Frames, denoised: Frames) -> float | None:
    """Unsupervised PSNR in dB, 10 log10(M^2 / uMSE), where M is the maximum of `noisy`.

    None for fewer than four frames, and where the uMSE or M is not positive. (As `umse`, eq. 2.)
    """
    return _upsnr(noisy, umse(noisy, denoised))


def evaluate(clean: Frames, denoised: Frames, noisy: Frames | None = None) -> dict[str, int | float | None]:
    """All metrics of this module by name; those that compare with `noisy` only if it is given.

    Also `n_frames`, `data_range` (max - min of clean), `mse` and `psnr_noisy`. None: not defined here.
    """
    errors = _errors(clean, denoised)
    span = errors.data_range
    scores: dict[str, int | float | None] = {
        "n_frames": errors.n_frames,
        "data_range": span,
        "mse": errors.mse,
        "psnr": _decibels(span, errors.mse) if span > 0 else None,
        "ssim": ssim(clean, denoised, span) if span > 0 else None,
        "nrmse": errors.nrmse("euclidean") if errors.mean_square > 0 else None,
        "nrmse_minmax": errors.nrmse("min-max") if span > 0 else None,
    }
    if noisy is not None:
        before = _errors(clean, noisy, "noisy")
        error = umse(noisy, denoised)
        scores["psnr_noisy"] = _decibels(span, before.mse) if span > 0 else None
        scores["ief"] = _enhancement(before, errors)
        scores["umse"] = error
        scores["upsnr"] = _upsnr(noisy, error)
    return scores


@dataclass(frozen=True)
class _Errors:
    """Squared error against clean and squared clean, both as means over all pixels; max - min of clean."""

    n_frames: int
    mse: float
    mean_square: float
    data_range: float

    def nrmse(self, normalization: str) -> float:
        scales = {"euclidean": float(np.sqrt(self.mean_square)), "min-max": self.data_range}
        if normalization not in scales:
            raise LowdoseError(f"The normalization is '{normalization}'; choose from {', '.join(scales)}.")
        if not scales[normalization] > 0:
            raise LowdoseError(f"The {normalization} NRMSE of constant clean frames is not defined.")
        return float(np.sqrt(self.mse)) / scales[normalization]


def _errors(clean: Frames, other: Frames, name: str = "denoised") -> _Errors:
    n_frames, error, square = 0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for truth, result in _together(("clean", clean), (name, other)):
        n_frames += 1
        error += _mean_square(result - truth)
        square += _mean_square(truth)
        low, high = min(low, float(truth.min())), max(high, float(truth.max()))
    return _Errors(n_frames, error / n_frames, square / n_frames, high - low)


def _together(first: tuple[str, Frames], second: tuple[str, Frames]) -> Iterator[tuple[Floats, Floats]]:
    """Frames of two movies side by side, as float64."""
    (name, frames), (other_name, other_frames) = first, second
    pairs = zip_longest(each_frame(frames, name), each_frame(other_frames, other_name))
    for index, (one, other) in enumerate(pairs):
        if one is None or other is None:
            short, long = (name, other_name) if one is None else (other_name, name)
            raise LowdoseError(f"There are {index} {short} frames but more {long} frames; expected as many.")
        if one.shape != other.shape:
            raise LowdoseError(
                f"The {name} frames are {one.shape[0]} x {one.shape[1]} pixels and the {other_name} frames "
                f"{other.shape[0]} x {other.shape[1]}; expected the same size."
            )
        yield one.astype(np.float64), other.astype(np.float64)


def _ssim_of_frame(clean: Floats, denoised: Floats, data_range: float) -> float:
    # Variances do not change with a common offset; taking it out keeps their digits on a high background.
    level = clean.mean()
    x, y = clean - level, denoised - level
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    sample = SSIM_WINDOW_PX**2 / (SSIM_WINDOW_PX**2 - 1)
    var_x = sample * (_window_mean(x * x) - mean_x * mean_x)
    var_y = sample * (_window_mean(y * y) - mean_y * mean_y)
    covariance = sample * (_window_mean(x * y) - mean_x * mean_y)
    mean_x, mean_y = mean_x + level, mean_y + level
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return float((luminance * structure).mean())


def _window_mean(values: Floats) -> Floats:
    """Mean over every window that fits: (height - 6, width - 6)."""
    rows, columns = (size - SSIM_WINDOW_PX + 1 for size in values.shape)
    down = np.zeros((rows, values.shape[1]))
    for start in range(SSIM_WINDOW_PX):
        down += values[start : start + rows]
    across = np.zeros((rows, columns))
    for start in range(SSIM_WINDOW_PX):
        across += down[:, start : start + columns]
    return across / SSIM_WINDOW_PX**2


def _mean_square(values: Floats) -> float:
    return float(np.mean(values * values))


def _enhancement(before: _Errors, after: _Errors) -> float:
    return before.mse / after.mse if after.mse > 0 else np.inf


def _upsnr(noisy: Frames, error: float | None) -> float | None:
    if error is None or error <= 0:
        return None
    peak = max(float(frame.max()) for frame in each_frame(noisy, "noisy"))
    return _decibels(peak, error) if peak > 0 else None


def _decibels(peak: float, mse: float) -> float:
    if not peak > 0:
        raise LowdoseError(f"PSNR needs a data range above zero, but it is {peak:g}; are the clean frames constant?")
    return float(10 * np.log10(peak * peak / mse)) if mse > 0 else np.inf
