"""Axes: every order of them must give the frames that plain indexing gives."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from lowdose.errors import LowdoseError
from lowdose.io import open_stack, output_layout
from lowdose.io.layout import Layout, letters_from_names, name_image_axes


def reference_frames(array: np.ndarray, axes: str) -> list[np.ndarray]:
    """All frames (n_channels, height, width), by moving axes of the whole array."""
    frame_axes = [axis for axis in axes if axis not in "CSYX"]
    order = [*frame_axes, *(axis for axis in "CSYX" if axis in axes)]
    moved = array.transpose([axes.index(axis) for axis in order])
    sizes = {axis: array.shape[axes.index(axis)] for axis in axes}
    n_frames = int(np.prod([sizes[axis] for axis in frame_axes], dtype=int))
    n_channels = sizes.get("C", 1) * sizes.get("S", 1)
    return list(moved.reshape(n_frames, n_channels, sizes["Y"], sizes["X"]))


SIZES = {"T": 3, "Z": 2, "C": 4, "S": 3, "Y": 5, "X": 7}


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("letters", ["YX", "TYX", "CYX", "YXS", "TCYX", "TZCYX"])
def test_every_order_of_axes(tmp_path: Path, letters: str, fortran: bool) -> None:
    for number, permuted in enumerate(itertools.permutations(letters)):
        if number % (1 if len(letters) < 5 else 11):
            continue
        axes = "".join(permuted)
        shape = tuple(SIZES[axis] for axis in axes)
        array = np.arange(np.prod(shape), dtype=">i2").reshape(shape)
        path = tmp_path / f"{axes}.npy"
        np.save(path, np.asfortranarray(array) if fortran else array)
        expected = reference_frames(array, axes)
        with open_stack(path, axes=axes.lower()) as reader:
            assert (reader.axes, reader.shape, reader.n_frames) == (axes, shape, len(expected))
            for frame, wanted in enumerate(expected):
                got = reader.read(frame)
                assert got.dtype == np.dtype("int16") and got.dtype.isnative
                assert got.flags.c_contiguous and got.flags.writeable
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("axes", ["YX", "TTYX", "TCY", "T1YX", "TCZYX", ""])
def test_wrong_axes_name_the_shape(tmp_path: Path, axes: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5)))
    with pytest.raises(LowdoseError, match=r"\(2, 3, 4, 5\)"):
        open_stack(tmp_path / "a.npy", axes=axes)


def test_axes_without_information(tmp_path: Path) -> None:
    np.save(tmp_path / "2.npy", np.zeros((3, 5)))
    np.save(tmp_path / "3.npy", np.zeros((4, 3, 5)))
    np.save(tmp_path / "4.npy", np.zeros((2, 4, 3, 5)))
    with open_stack(tmp_path / "2.npy") as image, open_stack(tmp_path / "3.npy") as movie:
        assert (image.axes, image.n_frames) == ("YX", 1)
        assert (movie.axes, movie.n_frames, movie.n_channels) == ("TYX", 4, 1)
    with pytest.raises(LowdoseError, match="--axes"):
        open_stack(tmp_path / "4.npy")
    with open_stack(tmp_path / "4.npy", axes="TCYX") as channels:
        assert (channels.n_frames, channels.n_channels) == (2, 4)
        with pytest.raises(IndexError):
            channels.read(2)
        with pytest.raises(IndexError):
            channels.read(-1)


def test_names_become_letters() -> None:
    assert letters_from_names(["time", "y", "x"]) == "TYX"
    assert letters_from_names(["", "", ""]) == "TYX"
    assert letters_from_names(["R_x", "R_y", "Q_x", "Q_y"]) == "IQYX"
    assert letters_from_names(["x", "y"]) == "XY"
    assert letters_from_names(["height", "width", "Time"]) == "YXT"
    assert letters_from_names(["channel", "z", "", "row", "column"]) == "CZIYX"
    scan = name_image_axes(["y", "x", "dy", "dx"], [True, True, False, False])
    assert letters_from_names(scan) == "IQYX"
    assert name_image_axes(["y", "x", "Energy"], [True, True, False]) == ["y", "x", "Energy"]


@pytest.mark.parametrize(
    ("axes", "frames", "channel", "expected"),
    [
        ("TYX", None, None, ("TYX", (3, 5, 7))),
        ("TYX", range(1, 2), None, ("TYX", (1, 5, 7))),
        ("TCYX", range(1, 3), 0, ("TYX", (2, 5, 7))),
        ("CTYX", None, None, ("TCYX", (3, 4, 5, 7))),
        ("YXT", None, 0, ("TYX", (3, 5, 7))),
        ("TZYX", None, None, ("TZYX", (3, 2, 5, 7))),
        ("YXS", None, None, ("CYX", (3, 5, 7))),
        ("YX", range(0, 1), None, ("YX", (5, 7))),
    ],
)
def test_output_layout(
    tmp_path: Path,
    axes: str,
    frames: range | None,
    channel: int | None,
    expected: tuple[str, tuple[int, ...]],
) -> None:
    np.save(tmp_path / "a.npy", np.zeros([SIZES[axis] for axis in axes], np.uint8))
    with open_stack(tmp_path / "a.npy", axes=axes) as reader:
        assert output_layout(reader, frames, channel) == expected


def test_output_layout_refuses(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2, 5, 7)))
    with open_stack(tmp_path / "a.npy", axes="TZYX") as reader:
        with pytest.raises(LowdoseError, match="several axes"):
            output_layout(reader, range(0, 2))
        with pytest.raises(LowdoseError, match="no channel 1"):
            output_layout(reader, channel=1)


def test_positions_count_in_c_order() -> None:
    layout = Layout("TZYX", (3, 2, 5, 7))
    for frame in range(6):
        t, z = np.unravel_index(frame, (3, 2))
        assert layout.position(frame) == {"T": t, "Z": z}
