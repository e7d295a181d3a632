"""The core's own pixel work, without a model: low-pass and conversion."""

import numpy as np
import pytest

import references
from lowdose import LowdoseError, _core

SHAPES = [(1, 1), (1, 9), (7, 1), (2, 2), (5, 3), (17, 13), (31, 64), (97, 101), (96, 128), (60, 210)]
# Single precision through two transforms of some ten stages.
TOLERANCE = 2e-6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cutoff", [0.03, 1 / 7, 0.25, 0.5, 0.7, 1.0])
def test_low_pass_keeps_the_disc(shape, cutoff):
    frame = np.random.default_rng(shape[0]).normal(3, 1, shape).astype(np.float32)
    result = _core.low_pass(frame, cutoff)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, references.low_pass(frame, cutoff), atol=TOLERANCE * np.abs(frame).max())


def test_low_pass_radius_is_in_cycles_per_pixel_on_both_axes():
    """The same wave passes or is stopped along y as along x on a frame that is not square."""
    height, width = 40, 120
    y, x = np.mgrid[:height, :width]
    for wave, passes in ((2 * np.pi / 8, True), (2 * np.pi / 5, False)):
        for position in (y, x):
            frame = np.sin(wave * position).astype(np.float32)
            expected = frame if passes else np.zeros_like(frame)
            np.testing.assert_allclose(_core.low_pass(frame, 0.16), expected, atol=1e-5)


def test_low_pass_errors_follow_the_contrast_not_the_level():
    frame = np.random.default_rng(0).normal(1000, 1, (200, 300)).astype(np.float32)
    spacing = np.spacing(np.float32(1000))
    np.testing.assert_allclose(
        _core.low_pass(frame, 1 / 7), references.low_pass(frame, 1 / 7), rtol=0, atol=2 * spacing
    )


def test_low_pass_leaves_its_input_alone():
    frame = np.arange(48, dtype=np.float32).reshape(6, 8)
    before = frame.copy()
    _core.low_pass(frame, 0.1)
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize("cutoff", [0.0, -0.1, float("nan")])
def test_low_pass_refuses_a_cutoff_that_keeps_nothing(cutoff):
    with pytest.raises(LowdoseError, match="cutoff must be above 0"):
        _core.low_pass(np.ones((4, 4), np.float32), cutoff)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3,), (2, 3, 4)])
def test_low_pass_refuses_what_is_not_a_frame(shape):
    with pytest.raises(LowdoseError, match="height, width"):
        _core.low_pass(np.ones(shape, np.float32), 0.1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_cast_rounds_and_clips_but_never_wraps(dtype):
    limits = np.iinfo(dtype)
    values = np.float32([-1e12, -70000.4, -1.6, -0.5, 0.49, 0.5, 1.5, 2.5, 254.6, 300, 66000, 1e12])
    expected = np.clip(np.rint(values.astype(np.float64) + 0.25), limits.min, limits.max).astype(dtype)
    result = _core.cast(values[None], 0.25, dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[0], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cast_to_float_adds_the_offset(dtype):
    result = _core.cast(np.float32([[1.5, -2.5]]), 0.25, dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, [[1.75, -2.25]])


def test_cast_names_the_types_it_takes():
    with pytest.raises(LowdoseError, match=r"int64 is not supported.*uint8.*float64"):
        _core.cast(np.ones((1, 1), np.float32), 0, "int64")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_integers_of_what_is_no_number_are_the_lowest(dtype):
    frame = np.array([[np.nan, -np.inf, np.inf, 3.5]], np.float32)
    limits = np.iinfo(dtype)
    np.testing.assert_array_equal(_core.cast(frame, 0.0, dtype), [[limits.min, limits.min, limits.max, 4]])
