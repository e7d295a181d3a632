"""Drift: known shifts recovered from counting noise, and shifts undone without touching the noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowdose.drift import (
    Drift,
    estimate_drift,
    finish_shift,
    load_shifts,
    save_shifts,
    shift_whole,
    valid_region,
)
from lowdose.errors import LowdoseError

DOSE_PER_PIXEL = 0.8
# For one frame of the scene below the Cramer-Rao limit is about 0.08 px; gold at 300 kV is the same.
GOAL_PX = 0.1


def random_walk(n_frames: int, step_px: float, seed: int) -> np.ndarray:
    shifts = np.cumsum(np.random.default_rng(seed).normal(0, step_px, (n_frames, 2)), axis=0)
    return shifts - shifts[0]


def scene(shifts: np.ndarray, height: int = 230, width: int = 256, lattice: float = 0.85) -> np.ndarray:
    """Expected counts (n_frames, height, width) of a particle on amorphous carbon, mean 0.8.

    Atoms of width 1.7 px, 10 px apart, stand where the drift puts them: nothing is interpolated.
    """
    rng = np.random.default_rng(7)
    steps = np.arange(-30, 31)
    atoms = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2) @ np.array([[9.6, 2.9], [-2.1, 10.2]])
    atoms = atoms[np.hypot(*atoms.T) < 0.4 * height] + (height / 2 + 3.3, width / 2 - 4.7)
    carbon = rng.uniform((-40, -40), (height + 40, width + 40), (4000, 2))
    places = np.concatenate([atoms, carbon])
    heights = np.concatenate([np.full(len(atoms), lattice), rng.choice((-0.08, 0.08), len(carbon))])
    y, x = np.arange(height)[:, None], np.arange(width)[:, None]
    stack = np.ones((len(shifts), height, width))
    for frame, (dy, dx) in zip(stack, shifts, strict=True):
        # The drift brings the frame back, so the specimen stands at minus the drift.
        rows = np.exp(-0.5 * ((y - places[:, 0] + dy) / 1.7) ** 2)
        columns = np.exp(-0.5 * ((x - places[:, 1] + dx) / 1.7) ** 2)
        frame += (rows * heights) @ columns.T
    return DOSE_PER_PIXEL * stack / stack.mean()


def counts(expected: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(expected).astype(np.uint8)


def scatter(drift: Drift, shifts: np.ndarray) -> np.ndarray:
    """Errors without their mean over the movie, which is the error of frame 0 and blurs nothing."""
    errors = drift.shifts_px - shifts
    return errors - errors.mean(axis=0)


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    return random_walk(20, 0.5, seed=3)


@pytest.fixture(scope="module")
def expected(walk: np.ndarray) -> np.ndarray:
    return scene(walk)


@pytest.mark.parametrize("smoothing_px", [0.7, 2.0, 4.0])
def test_known_shifts_are_recovered_from_counts(walk: np.ndarray, expected: np.ndarray, smoothing_px: float) -> None:
    drift = estimate_drift(counts(expected), smoothing_px=smoothing_px)
    errors = scatter(drift, walk)
    assert np.sqrt((errors**2).mean()) < GOAL_PX
    assert np.abs(errors).max() < 4 * GOAL_PX
    assert not drift.unsure.any()
    assert np.abs(drift.shifts_px[0]).max() == 0


def test_without_noise_the_error_is_that_of_the_grid() -> None:
    shifts = np.array([[0, 0], [0.43, -1.27], [-2.61, 3.08], [9.37, -6.5]])
    drift = estimate_drift(scene(shifts))
    assert np.abs(drift.shifts_px - shifts).max() < 0.03


def test_fast_drift_does_not_slip_by_a_lattice_vector() -> None:
    shifts = random_walk(10, 3.0, seed=5)
    drift = estimate_drift(counts(scene(shifts)), smoothing_px=2)
    assert np.abs(scatter(drift, shifts)).max() < 0.5


def test_a_few_columns_that_change_do_not_pull_the_shift(walk: np.ndarray, expected: np.ndarray) -> None:
    changed = expected.copy()
    rng = np.random.default_rng(1)
    for frame in changed:
        for _ in range(6):  # columns that fill or empty, standing still in the frame
            y, x = rng.integers(40, 180, 2)
            frame[y : y + 6, x : x + 6] *= rng.choice((0.6, 1.5))
    errors = scatter(estimate_drift(counts(changed), smoothing_px=2), walk)
    assert np.sqrt((errors**2).mean()) < 1.2 * GOAL_PX


def test_a_region_follows_what_moves_in_it() -> None:
    above, below = random_walk(6, 0.6, seed=1), random_walk(6, 0.6, seed=2)
    frames = np.concatenate([scene(above, 120, 200), scene(below, 120, 200)], axis=1) * 20
    for rows, shifts in ((slice(0, 115), above), (slice(125, None), below)):
        drift = estimate_drift(counts(frames), smoothing_px=1, region=(rows, slice(None)))
        assert np.abs(scatter(drift, shifts)).max() < 0.15


def test_spoilt_frames_are_interpolated_and_said_to_be(walk: np.ndarray, expected: np.ndarray) -> None:
    noisy = counts(expected)
    noisy[[7, 8]] = 0
    noisy[12] = counts(np.full(noisy.shape[1:], DOSE_PER_PIXEL))
    drift = estimate_drift(noisy, smoothing_px=2)
    assert np.flatnonzero(drift.unsure).tolist() == [7, 8, 12]
    found = drift.shifts_px
    np.testing.assert_allclose(found[7], (2 * found[6] + found[9]) / 3)
    np.testing.assert_allclose(found[12], (found[11] + found[13]) / 2)
    kept = ~drift.unsure
    errors = found[kept] - walk[kept]
    assert np.abs(errors - errors.mean(axis=0)).max() < 4 * GOAL_PX


def test_a_blank_first_frame_is_unsure_and_still_the_origin(walk: np.ndarray, expected: np.ndarray) -> None:
    noisy = counts(expected)
    noisy[0] = 0
    drift = estimate_drift(noisy, smoothing_px=2)
    assert np.flatnonzero(drift.unsure).tolist() == [0]
    assert np.abs(drift.shifts_px[0]).max() == 0


@pytest.mark.parametrize("shape", [(2, 64, 64), (12, 65, 47), (30, 33, 64)])
@pytest.mark.parametrize("smoothing_px", [0, 2])
def test_noise_alone_gives_no_drift(shape: tuple[int, int, int], smoothing_px: float) -> None:
    drift = estimate_drift(counts(np.full(shape, DOSE_PER_PIXEL)), smoothing_px=smoothing_px)
    assert drift.unsure.all()
    assert not drift.shifts_px.any()


@pytest.mark.parametrize("shape", [(1, 40, 30), (1, 1, 1), (3, 1, 1), (3, 1, 17), (3, 5, 2), (2, 8, 8)])
def test_tiny_and_constant_movies_have_no_drift(shape: tuple[int, int, int]) -> None:
    drift = estimate_drift(np.ones(shape), smoothing_px=1)
    assert drift.shifts_px.shape == (shape[0], 2)
    assert not drift.shifts_px.any()


def test_a_callable_gives_the_same_as_a_stack_and_holds_no_frames(expected: np.ndarray) -> None:
    noisy = counts(expected[:5])
    passes = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal passes
        passes += 1
        yield from noisy

    assert estimate_drift(frames).shifts_px.tolist() == estimate_drift(noisy).shifts_px.tolist()
    assert passes == 4  # once for the shape, then three times


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        (np.zeros((0, 4, 4)), {}, "no drift frames"),
        (iter(np.zeros((2, 4, 4))), {}, "iterator"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], {}, "Frame 1"),
        (np.full((2, 4, 4), np.nan), {}, "NaN"),
        (np.zeros((2, 4, 4)), {"smoothing_px": -1}, "smoothing_px"),
        (np.zeros((2, 4, 4)), {"search_px": 0.5}, "search_px"),
        (np.zeros((2, 4, 4)), {"upsampling": 9}, "upsampling"),
        (np.zeros((2, 4, 4)), {"region": (slice(9, 12), slice(None))}, "region"),
    ],
)
def test_bad_input_is_named(frames: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LowdoseError, match=message):
        estimate_drift(frames, **settings)


def test_whole_shifts_are_periodic_and_keep_counts() -> None:
    frame = counts(np.full((7, 11), 3.0))
    moved = shift_whole(frame, (2.4, -3.3))
    assert moved.dtype == frame.dtype
    for y in range(7):
        for x in range(11):
            assert moved[y, x] == frame[(y - 2) % 7, (x + 3) % 11]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -2.4), (-0.5, 0.5), (4.0, 2.0), (-3.7, 0.2), (5.49, -7.49)])
def test_finishing_agrees_with_cubic_convolution_of_the_recorded_frame(shift: tuple[float, float]) -> None:
    """Slow reference: each pixel looks where it came from, in the frame with its edges repeated."""
    height, width = 7, 9
    frame = np.random.default_rng(0).random((height, width)).astype(np.float32)
    kernel = {True: lambda d: 1.5 * d**3 - 2.5 * d**2 + 1, False: lambda d: -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2}
    expected = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            at_y = min(max(y - shift[0], 0), height - 1)
            at_x = min(max(x - shift[1], 0), width - 1)
            for j in range(-3, height + 3):
                for i in range(-3, width + 3):
                    d = abs(at_y - j), abs(at_x - i)
                    if max(d) < 2:
                        value = frame[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
                        expected[y, x] += kernel[d[0] <= 1](d[0]) * kernel[d[1] <= 1](d[1]) * value
    finished = finish_shift(shift_whole(frame, shift), shift)
    assert finished.dtype == np.float32
    np.testing.assert_allclose(finished, expected, atol=1e-6)


def test_a_whole_shift_is_finished_without_interpolation() -> None:
    frame = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    finished = finish_shift(shift_whole(frame, (2, -1)), (2, -1))
    np.testing.assert_array_equal(finished[2:, :4], frame[:4, 1:])
    np.testing.assert_array_equal(finished[:2, :4], np.repeat(frame[:1, 1:], 2, axis=0))
    np.testing.assert_array_equal(finished[2:, 4], frame[:4, 4])


def test_an_estimated_drift_aligns_the_scene() -> None:
    shifts = np.array([[0, 0], [3.4, -2.7], [-5.2, 1.1]])
    frames = scene(shifts).astype(np.float32)
    rows, columns = valid_region(shifts, *frames.shape[1:])
    aligned = [finish_shift(shift_whole(frame, s), s)[rows, columns] for frame, s in zip(frames, shifts, strict=True)]
    before = np.abs(frames[1:] - frames[0]).max()
    assert np.abs(np.array(aligned[1:]) - aligned[0]).max() < 0.03 * before


@pytest.mark.parametrize("function", [shift_whole, finish_shift])
@pytest.mark.parametrize("shift", [(7.0, 0.0), (0.0, -9.2), (np.nan, 0.0), (0.0, np.inf)])
def test_shifts_of_a_frame_size_are_refused(function: Any, shift: tuple[float, float]) -> None:
    with pytest.raises(LowdoseError, match="7 x 9"):
        function(np.zeros((7, 9), np.float32), shift)


@pytest.mark.parametrize("shifts", [[[0, 0]], [[0, 0], [2.3, -1]], [[0, 0], [-3, 0.001], [1.5, 4]]])
def test_the_valid_region_is_what_every_frame_recorded(shifts: list[list[float]]) -> None:
    height, width = 13, 11
    recorded = np.ones((height, width), bool)
    for dy, dx in shifts:
        y, x = np.arange(height)[:, None] - dy, np.arange(width) - dx
        recorded &= (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    region = np.zeros_like(recorded)
    region[valid_region(np.array(shifts, float), height, width)] = True
    np.testing.assert_array_equal(region, recorded)


def test_frames_with_nothing_in_common_have_an_empty_valid_region() -> None:
    rows, columns = valid_region(np.array([[0.0, 0], [6, 0], [-6, 0]]), 9, 9)
    assert np.zeros((9, 9))[rows, columns].size == 0


def test_shifts_survive_the_file(tmp_path: Path) -> None:
    drift = Drift(np.array([[0, 0], [-1.23, 4.5]]), np.array([31.25, 3.5]), np.array([False, True]))
    path = tmp_path / "movie.drift.csv"
    path.write_text("an older file")
    save_shifts(path, drift, notes=["movie: a.tif", "two\nlines"])
    loaded = load_shifts(path)
    np.testing.assert_array_equal(loaded.shifts_px, drift.shifts_px)
    np.testing.assert_array_equal(loaded.quality, drift.quality)
    np.testing.assert_array_equal(loaded.unsure, drift.unsure)
    assert "# movie: a.tif\n# two\n# lines\nframe,dy_px,dx_px,quality,unsure\n0,0.0000" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text",
    ["", "frame,dy\n0,1\n", "frame,dy_px,dx_px,quality,unsure\n", "frame,dy_px,dx_px,quality,unsure\n1,0,0,0,0\n",
     "frame,dy_px,dx_px,quality,unsure\n0,nan,0,0,0\n", "frame,dy_px,dx_px,quality,unsure\n0,0,0\n"],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(LowdoseError, match=r"other\.csv does not hold shifts"):
        load_shifts(path)
