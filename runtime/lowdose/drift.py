"""Drift of a movie: estimated to a fraction of a pixel from noisy frames, and undone.

Drift is the (dy, dx) shift, in pixels, that brings a frame onto the reference (frame 0): a specimen that
has moved down by two pixels has drift (-2, 0). Estimation follows Guizar-Sicairos, Thurman and Fienup (Optics
Letters 33, 156, 2008): a cross-correlation that is evaluated by matrix products around its peak only.
Three things are added for frames of about one electron per pixel: the reference is the mean of all other
aligned frames, never a single frame and never the frame itself; it is weighted, ring by ring in the Fourier
plane, by how much of it is signal; and the tapered window moves with the scene.

A shift is undone in two parts, so that a denoiser in between sees counts with uncorrelated noise:
`shift_whole` before it, `finish_shift` after it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lowdose._frames import Frame, Frames, each_frame
from lowdose._registration import COARSE_STEP_PX, Floats, Mean, Region, Registration
from lowdose.errors import LowdoseError

REFINEMENTS = 2  # passes after tracking; a third changes shifts by much less than the noise does
# Frames of pure noise find accidental peaks in each other's mean: heights up to 12, leads mostly below 2.
# Gold at 0.8 electrons per pixel has heights above 23 and leads above 2; lattice slips have leads below 1.5.
SURE_HEIGHT = 12.0
SURE_LEAD = 1.5
NEAR_PX = 4.0  # an unsure frame is looked for this close to what its neighbours say
CSV_COLUMNS = ("frame", "dy_px", "dx_px", "quality", "unsure")


@dataclass(frozen=True)
class Drift:
    """Shifts of a movie and how far to trust them.

    `shifts_px` (n_frames, 2) float64: (dy, dx) that brings each frame onto frame 0; row 0 is zero.
    `quality` (n_frames,) float64: height of the correlation peak in standard deviations of noise.
    `unsure` (n_frames,) bool: the frame has no clear peak, and its shift is interpolated in time.
    """

    shifts_px: Floats
    quality: Floats
    unsure: npt.NDArray[np.bool_]


def estimate_drift(
    frames: Frames,
    *,
    smoothing_px: float = 0.0,
    search_px: float = 16.0,
    upsampling: int = 100,
    region: Region | None = None,
) -> Drift:
    """Register every frame of a movie onto frame 0.

    `frames`: frames (height, width) of any real dtype that can be iterated several times: a stack
    (n_frames, height, width), a list, or a callable that returns a fresh iterator. Only a few spectra are
    held, whatever the number of frames.

    `smoothing_px`: standard deviation of a Gaussian for the first of three passes; 1 to 4 for raw counts, 0
    for denoised frames. `search_px`: the largest jump between two frames; below half a lattice spacing no
    frame can slip by a lattice vector. `upsampling`: steps per pixel of the result. `region`: rows and
    columns of frame 0 to follow where parts of the scene move differently, as a particle does on its
    support; by default the whole frame, where the part with the strongest contrast decides.

    The error of frame 0 is common to all shifts, and does not blur an aligned movie. With fewer than two sure
    frames nothing can be aligned: all shifts are zero and unsure. A movie of one frame has no drift.
    Raises LowdoseError for no frames, frames that are not of one shape, real and finite, an iterator that can
    be used only once, and settings out of range.
    """
    for name, value, least in (
        ("smoothing_px", smoothing_px, 0),
        ("search_px", search_px, 1),
        ("upsampling", upsampling, 10),
    ):
        if not (np.isfinite(value) and value >= least):
            raise LowdoseError(f"{name} is {value}; it must be at least {least}.")
    height, width = next(each_frame(frames, "drift")).shape
    registration = Registration(height, width, smoothing_px, upsampling, region)
    drift, mean = _track(frames, registration, search_px)
    if len(drift.shifts_px) > 1:
        for _ in range(REFINEMENTS):
            drift, mean = _refine(frames, registration, drift, mean, search_px)
    return Drift(drift.shifts_px - drift.shifts_px[0], drift.quality, drift.unsure)


def _track(frames: Frames, registration: Registration, search_px: float) -> tuple[Drift, Mean]:
    """First pass: every frame onto the mean of those before it, starting from the last good shift."""
    shifts: list[Floats] = []
    heights: list[float] = []
    unsure: list[bool] = []
    mean = Mean(registration)
    smoothing = registration.smoothing**2  # once for the frame, once for the reference
    last = np.zeros(2)
    for frame in each_frame(frames, "drift"):
        own = registration.aligned(frame, last)
        found = registration.match(np.multiply(mean.total, smoothing), own, np.abs(own) ** 2, search_px)
        # A blanked or spoilt frame stands out by its low peak; it must not lead the next ones astray.
        spoilt = len(heights) > 1 and found.height < 0.5 * float(np.median(heights[1:]))
        if not spoilt:
            last = last + found.offset_px
            mean.add(registration.aligned(frame, last))
        shifts.append(last)
        heights.append(found.height)
        unsure.append(spoilt)
    return Drift(np.array(shifts), np.array(heights), np.array(unsure)), mean


def _refine(
    frames: Frames, registration: Registration, before: Drift, mean: Mean, search_px: float
) -> tuple[Drift, Mean]:
    """Next pass: every frame onto the mean of all others. `mean` holds the frames that were sure before."""
    weight, noise = mean.signal_weight_and_noise()
    shifts = before.shifts_px.copy()
    quality = np.zeros(len(shifts))
    unsure = np.ones(len(shifts), bool)
    renewed = Mean(registration)
    for index, frame in enumerate(each_frame(frames, "drift")):
        own = registration.aligned(frame, shifts[index])
        if before.unsure[index]:
            others, reach_px = mean.total, min(NEAR_PX, search_px)
        else:
            others, reach_px = mean.total - own, search_px
        found = registration.match(np.multiply(others, weight), own, noise, reach_px)
        shifts[index] += found.offset_px
        quality[index] = found.height
        at_the_edge = np.abs(found.offset_px).max() > reach_px - COARSE_STEP_PX
        unsure[index] = found.height < SURE_HEIGHT or found.lead < SURE_LEAD or at_the_edge
        if not unsure[index]:
            renewed.add(registration.aligned(frame, shifts[index]))
    if renewed.count < 2:
        return Drift(np.zeros_like(shifts), quality, np.ones_like(unsure)), renewed
    time = np.arange(len(shifts))
    for axis in range(2):
        shifts[:, axis] = np.interp(time, time[~unsure], shifts[~unsure, axis])
    return Drift(shifts, quality, unsure), renewed


def shift_whole(frame: Frame, shift_px: npt.ArrayLike) -> Frame:
    """The frame (height, width) moved by the whole pixels nearest to `shift_px` (dy, dx); same dtype.

    Periodic: what leaves on one side enters on the other, as at the edges of the blind-spot networks, so
    counts stay counts and their noise uncorrelated. `finish_shift` replaces the pixels that came round.
    Raises LowdoseError for a shift of a frame's size or more.
    """
    whole, _ = _split(frame, shift_px)
    return np.roll(frame, (int(whole[0]), int(whole[1])), axis=(0, 1))


def finish_shift(denoised: Frame, shift_px: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Complete the shift of a frame that `shift_whole` has moved by the same `shift_px` (dy, dx).

    Moves the float32 frame (height, width) by the remaining fraction, at most half a pixel, with separable
    cubic convolution (Keys, IEEE Trans. Acoustics, Speech and Signal Processing 29, 1153, 1981; a = -0.5).
    Only pixels that were recorded are used: beyond the edges of the recorded frame its nearest pixel
    is repeated. The interpolation can overshoot a little at sharp edges, below zero too.
    Raises LowdoseError for a shift of a frame's size or more.
    """
    whole, fraction = _split(denoised, shift_px)
    moved = np.asarray(denoised, np.float32)
    for axis in range(2):
        size = moved.shape[axis]
        # Where the recorded frame lies now; the part of it that is outside came in on the other side.
        first, last = int(whole[axis]), int(whole[axis]) + size - 1
        position = np.clip(np.arange(size) - fraction[axis], first, last)
        base = np.floor(position).astype(np.intp)
        total = np.zeros_like(moved)
        for tap in (-1, 0, 1, 2):
            weight = _keys(position - (base + tap)).astype(np.float32)
            source = np.clip(base + tap, first, last) % size
            total += np.take(moved, source, axis=axis) * (weight[:, None] if axis == 0 else weight)
        moved = total
    return moved


def _split(frame: Frame, shift_px: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Whole pixels and remaining fraction (-0.5 to 0.5) of a shift."""
    shift = np.asarray(shift_px, np.float64)
    if frame.ndim != 2 or shift.shape != (2,):
        raise LowdoseError(
            f"Expected a frame (height, width) and a shift (dy, dx); got {frame.shape} and {shift.shape}."
        )
    if not (np.abs(np.rint(shift)) < frame.shape).all():
        raise LowdoseError(
            f"A shift of ({shift[0]:g}, {shift[1]:g}) px leaves nothing of a frame of "
            f"{frame.shape[0]} x {frame.shape[1]}; check the drift that was estimated."
        )
    return np.rint(shift), shift - np.rint(shift)


def _keys(distance: Floats) -> Floats:
    """Cubic convolution kernel, a = -0.5, for distances of up to two pixels."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def valid_region(shifts_px: Floats, height: int, width: int) -> Region:
    """Rows and columns that every frame of the movie recorded, after its shift (n_frames, 2).

    The slices are empty if the frames have no area in common.
    """
    slices = []
    for shift, size in zip(np.asarray(shifts_px, np.float64).T, (height, width), strict=True):
        # The tolerance keeps rounding errors of whole shifts from costing a row.
        start = max(0, int(np.ceil(shift.max() - 1e-6)))
        stop = min(size, int(np.floor(size - 1 + shift.min() + 1e-6)) + 1)
        slices.append(slice(start, max(start, stop)))
    return slices[0], slices[1]


def save_shifts(path: str | os.PathLike[str], drift: Drift, notes: Sequence[str] = ()) -> None:
    """Write a drift as CSV, one row per frame, `notes` as comment lines above; replaces an existing file.

    The file appears under its name only when it is complete.
    """
    lines = [
        "# lowdose drift: (dy, dx) is the shift in pixels that brings a frame onto frame 0",
        "# quality: height of the correlation peak in standard deviations; unsure 1: interpolated in time",
        *(f"# {line}" for note in notes for line in note.splitlines()),
        ",".join(CSV_COLUMNS),
    ]
    rows = zip(drift.shifts_px, drift.quality, drift.unsure, strict=True)
    lines += [f"{i},{dy:.4f},{dx:.4f},{q:.2f},{int(u)}" for i, ((dy, dx), q, u) in enumerate(rows)]
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def load_shifts(path: str | os.PathLike[str]) -> Drift:
    """Read what `save_shifts` wrote. Raises LowdoseError for any other content."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        header, *rows = [line for line in text.splitlines() if not line.startswith("#")]
        table = np.array([[float(cell) for cell in row.split(",")] for row in rows])
        if header != ",".join(CSV_COLUMNS) or table.shape != (len(rows), len(CSV_COLUMNS)):
            raise ValueError("other columns")
        if not np.isfinite(table).all() or not (table[:, 0] == np.arange(len(rows))).all():
            raise ValueError("values that are not finite, or frames that are not 0, 1, 2, ...")
    except ValueError as error:
        raise LowdoseError(
            f"{path} does not hold shifts of lowdose (columns {', '.join(CSV_COLUMNS)}): {error}."
        ) from error
    return Drift(table[:, 1:3].copy(), table[:, 3].copy(), table[:, 4] != 0)
