"""Fit a blind filter to a movie or a single frame, of one or several channels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.wiener.blind_filter import BlindFilter
from lowdose.wiener.covariance import Covariances, covariances
from lowdose.wiener.predictor import Prediction, predict, window

FRAMES = (1, 3, 5, 7, 11, 13)
N_BANDS = 4
LARGEST_DIAMETER_PX = 31
DIAMETER_OF_SMALL_FRAMES_PX = 21
DIAMETERS_OF_IMAGE_PX = (21, 49)
"""Of a single frame: the wide window finds the next unit cells of a crystal, worth up to 2 dB."""
# Unknowns of one solution, chosen so that a fit stays below a second: twice as many for one channel, whose opposite
# neighbours have the same weights; fewer at the ends of a movie, which have a solution each.
MAX_UNKNOWNS = 1250
MAX_UNKNOWNS_AT_END = 600


def fit_movie(
    runs: Sequence[NDArray[np.float32]],
    level: NDArray[np.float32] | None = None,
    window_frames: int | None = None,
    max_frames: int = FRAMES[-1],
    largest_px: int | None = None,
    hidden_px: int = 1,
) -> BlindFilter:
    """Fit to runs of consecutive frames, each (n_frames, n_channels, height, width); one frame is enough.

    The window is chosen by the error of predicting noisy pixels, which is the error of the result plus the noise
    whatever the window. level: per channel, subtracted; the mean where it is None. window_frames: how many frames the
    window has, one of FRAMES; chosen where it is None, up to max_frames. largest_px: its largest diameter; None:
    LARGEST_DIAMETER_PX, for single frames the larger of DIAMETERS_OF_IMAGE_PX. hidden_px: side of the square around a
    pixel that is left out, 3 where neighbours share noise. Raises LowdoseError for pixels that are not finite and for
    constant frames.
    """
    if not all(np.isfinite(run).all() for run in runs):
        raise LowdoseError("there are NaN or infinite pixels; replace them first")
    if any(all(np.ptp(run[:, channel]) == 0 for run in runs) for channel in range(runs[0].shape[1])):
        raise LowdoseError("the frames are constant: there is nothing to fit")
    if level is None:
        level = np.mean([run.mean(axis=(0, 2, 3), dtype=np.float64) for run in runs], axis=0).astype(np.float32)
    n_frames, n_channels, height, width = runs[0].shape
    usable = [n for n in FRAMES if n == 1 or (n // 2 <= (n_frames - 1) // 2 and n <= max_frames)]
    if window_frames is not None:
        usable = [window_frames]
    windows = windows_to_try(usable, n_channels, 2 * min(height, width) - 1, largest_px)
    moments = covariances(runs, level, usable[-1] - 1, 2 * (max(diameter for _, diameter in windows) // 2))
    try:
        places, diameter = solve_places(moments, windows, hidden_px)
    except np.linalg.LinAlgError:
        places, diameter = solve_places(moments.tapered(), windows, hidden_px)
    n, reach = len(places), len(places) // 2
    radius = diameter // 2
    weights = np.zeros((n, n_channels, n, n_channels, 2 * radius + 1, 2 * radius + 1), np.float32)
    for place, predictions in enumerate(places):
        for channel, prediction in enumerate(predictions):
            c, dt, dy, dx = prediction.offsets.T
            weights[place, channel, dt + reach, c, dy + radius, dx + radius] = prediction.weights
    report = {
        "window": [n, diameter, diameter],
        "prediction_error": [prediction.error for prediction in places[reach]],
        "optimism": [prediction.optimism for prediction in places[reach]],
        "fitted_frames": sum(len(run) for run in runs),
    }
    plane = level[:, None, None]
    return BlindFilter(weights, [(0, dt) for dt in range(-reach, reach + 1)], plane, np.ones_like(plane), report)


def fit_bands(
    runs: Sequence[NDArray[np.float32]], fitted: BlindFilter, n_bands: int = N_BANDS, hidden_px: int = 1
) -> list[tuple[slice, BlindFilter]]:
    """Bands of rows, each with a filter like `fitted` that was fitted to all other rows (`fit_without`).

    All rows with `fitted` itself where there are fewer than two bands, or too few pixels to leave some out.
    """
    height = runs[0].shape[2]
    everything = [(slice(0, height), fitted)]
    if min(n_bands, height) < 2:
        return everything
    edges = [i * height // n_bands for i in range(n_bands + 1)]
    rows = [slice(*pair) for pair in itertools.pairwise(edges) if pair[0] < pair[1]]
    try:
        return [(part, fit_without(runs, part, fitted, hidden_px)) for part in rows]
    except np.linalg.LinAlgError:
        return everything


def fit_without(runs: Sequence[NDArray[np.float32]], rows: slice, like: BlindFilter, hidden_px: int = 1) -> BlindFilter:
    """A filter with the window and the level of `like`, fitted to the frames without these rows, of whose noise it
    then knows nothing: what it leaves there shows how well it predicts. It is for frames inside a sequence only.

    runs, hidden_px: see `fit_movie`. Raises LinAlgError when the covariances contradict each other.
    """
    n, radius = len(like.taps), like.radius_px
    moments = covariances(runs, like.level[:, 0, 0], n - 1, 2 * radius, rows)
    offsets = window(range(-(n // 2), n // 2 + 1), 2 * radius + 1, like.n_channels)
    weights = np.zeros((1, *like.weights.shape[1:]), np.float32)
    errors, optimism = [], []
    for channel in range(like.n_channels):
        prediction = predict(moments, channel, offsets, hidden_px)
        c, dt, dy, dx = prediction.offsets.T
        weights[0, channel, dt + n // 2, c, dy + radius, dx + radius] = prediction.weights
        errors.append(prediction.error)
        optimism.append(prediction.optimism)
    return replace(like, weights=weights, report=like.report | {"prediction_error": errors, "optimism": optimism})


def windows_to_try(frames: list[int], n_channels: int, limit: int, largest_px: int | None) -> list[tuple[int, int]]:
    """Numbers of frames, each with the largest diameter that is allowed; of a single frame two diameters."""
    single = frames == [1]
    sides = DIAMETERS_OF_IMAGE_PX if single else [LARGEST_DIAMETER_PX] * len(frames)
    unknowns = MAX_UNKNOWNS * (2 if n_channels == 1 else 1)
    widest = max(DIAMETER_OF_SMALL_FRAMES_PX, (limit + 1) // 4)  # half the shorter side
    return [
        (n, diameter_px(n, n_channels, min(limit, side, widest, largest_px or side), unknowns))
        for n, side in zip([1, 1] if single else frames, sides, strict=True)
    ]


def solve_places(
    moments: Covariances, windows: list[tuple[int, int]], hidden_px: int
) -> tuple[list[list[Prediction]], int]:
    """Predictions per channel for each place of a sequence: its first frames, those inside, its last ones; and the
    diameter of the window inside."""
    n, diameter, inside = best_window(moments, windows, hidden_px)
    reach, limit = n // 2, moments.max_px + 1
    first = [ends(moments, range(-i, reach + 1), limit, hidden_px) for i in range(reach)]
    if moments.n_channels == 1:  # time backwards: the opposite neighbours
        last = [[replace(p, offsets=-p.offsets) for p in place] for place in reversed(first)]
    else:
        last = [ends(moments, range(-reach, i + 1), limit, hidden_px) for i in reversed(range(reach))]
    return [*first, inside, *last], diameter


def diameter_px(n_frames: int, n_channels: int, limit: int, max_unknowns: int) -> int:
    """The largest odd diameter up to `limit` whose window has at most `max_unknowns` neighbours; at least 3."""
    diameter = max(3, limit - 1 + limit % 2)
    while diameter > 3 and len(window(range(n_frames), diameter, n_channels)) > max_unknowns:
        diameter -= 2
    return diameter


def best_window(
    moments: Covariances, windows: list[tuple[int, int]], hidden_px: int
) -> tuple[int, int, list[Prediction]]:
    """Frames and diameter, and prediction per channel, with the least error; the next is tried while that helps."""
    best: tuple[float, int, int, list[Prediction]] | None = None
    for n, diameter in windows:
        offsets = window(range(-(n // 2), n // 2 + 1), diameter, moments.n_channels)
        predictions = [predict(moments, channel, offsets, hidden_px) for channel in range(moments.n_channels)]
        error = float(np.sum([p.error / variance(moments, c) for c, p in enumerate(predictions)]))
        if best is not None and error > best[0]:
            break
        best = (error, n, diameter, predictions)
    assert best is not None  # there is always the window of one frame
    return best[1:]


def variance(moments: Covariances, channel: int) -> float:
    return float(moments.values[channel, channel, moments.max_dt, moments.max_px, moments.max_px])


def ends(moments: Covariances, steps: range, limit: int, hidden_px: int) -> list[Prediction]:
    """Per channel the prediction for a frame near the start or end of a movie, which has only the frames `steps`."""
    diameter = diameter_px(len(steps), moments.n_channels, limit, MAX_UNKNOWNS_AT_END)
    offsets = window(steps, diameter, moments.n_channels)
    return [predict(moments, c, offsets, hidden_px) for c in range(moments.n_channels)]
