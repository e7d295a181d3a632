"""Frames that are no NumPy arrays: buffers and DLPack objects are taken as they are."""

from __future__ import annotations

import numpy as np
import pytest

import lowdose


class OnlyDlpack:
    """What a library without NumPy hands over."""

    def __init__(self, array):
        self.array = array
        self.n_exports = 0

    def __dlpack__(self, **arguments):
        self.n_exports += 1
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.fixture
def frame():
    return np.random.default_rng(0).poisson(3, (24, 32)).astype(np.uint16)


@pytest.mark.parametrize("as_other", [memoryview, OnlyDlpack])
def test_a_frame_may_be_a_buffer_or_dlpack(frame, as_other):
    model = lowdose.load("wcid", device="cpu")
    settings = lowdose.Settings(0, lowdose.NO_LOW_PASS, 0.0)
    expected = model.stream(24, 32, "uint16", settings=settings).push(frame)
    other = as_other(frame)
    np.testing.assert_array_equal(model.stream(24, 32, "uint16", settings=settings).push(other), expected)
    assert getattr(other, "n_exports", 1) == 1


def test_what_is_no_frame_is_refused(frame):
    stream = lowdose.load("wcid", device="cpu").stream(24, 32, "uint16")
    with pytest.raises(lowdose.LowdoseError, match="24x32 uint16"):
        stream.push(memoryview(frame.astype(np.float32)))
    with pytest.raises(lowdose.LowdoseError, match="24x32 uint16"):
        stream.push([[1, 2], [3, 4]])
