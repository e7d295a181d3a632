"""How the axes of a stored array become frames of (n_channels, height, width).

Letters: T time, Z depth, C channel, S sample of an RGB pixel, Y and X rows and columns of a frame, V and U rows
and columns of a scan (V beside Y, U beside X), so a 4D-STEM scan is VUYX. Any other letter counts frames.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError

CHANNEL_AXES = "CS"  # S: the samples of an RGB pixel
SCAN_AXES = "VU"
_UNNAMED = "IQRW"
_NAMES = {"height": "Y", "row": "Y", "rows": "Y", "width": "X", "column": "X", "columns": "X"}
_NAMES |= {"time": "T", "frame": "T", "frames": "T", "channel": "C", "channels": "C", "depth": "Z"}
_NAMES |= {"scan_y": "V", "scan_x": "U"}


@dataclass(frozen=True)
class Layout:
    """An array's axes, one letter each, and its shape; frame axes are all but C, S, Y and X."""

    axes: str
    shape: tuple[int, ...]

    def size(self, axis: str) -> int:
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def frame_axes(self) -> str:
        """The axes that count frames, in stored order, except that rows of a scan always come before columns."""
        axes = "".join(axis for axis in self.axes if axis not in CHANNEL_AXES + "YX")
        columns_first = "V" in axes and "U" in axes and axes.index("U") < axes.index("V")
        return axes.translate(str.maketrans("UV", "VU")) if columns_first else axes

    @property
    def scan_shape(self) -> tuple[int, int] | None:
        """(scan_y, scan_x) when the frames are the patterns of one scan, else None."""
        return (self.size("V"), self.size("U")) if self.frame_axes == SCAN_AXES else None

    @property
    def n_frames(self) -> int:
        return math.prod(self.size(axis) for axis in self.frame_axes)

    @property
    def n_channels(self) -> int:
        return self.size("C") * self.size("S")

    def position(self, frame: int) -> dict[str, int]:
        """The index along each frame axis; frames count in C order."""
        index: dict[str, int] = {}
        for axis in reversed(self.frame_axes):
            frame, index[axis] = divmod(frame, self.size(axis))
        return index

    def index(self, position: dict[str, int]) -> tuple[int | slice, ...]:
        """What to take from the array for the frame at `position`."""
        return tuple(position.get(axis, slice(None)) for axis in self.axes)

    def blocks(self, position: dict[str, int], n_leading: int) -> list[int]:
        """Flat numbers, over the first `n_leading` axes, of the blocks that the frame lies in."""
        numbers = [0]
        for axis, size in zip(self.axes[:n_leading], self.shape[:n_leading], strict=True):
            steps = [position[axis]] if axis in position else range(size)
            numbers = [number * size + step for number, step in itertools.product(numbers, steps)]
        return numbers

    def join(self, blocks: Sequence[npt.NDArray[Any]], position: dict[str, int], n_leading: int) -> npt.NDArray[Any]:
        """The frame (n_channels, height, width) out of the blocks named by `blocks()`."""
        kept = [self.size(axis) for axis in self.axes[:n_leading] if axis not in position]
        stacked = blocks[0][np.newaxis] if len(blocks) == 1 else np.stack(blocks)
        stacked = stacked.reshape(*kept, *self.shape[n_leading:])
        inside = tuple(position.get(axis, slice(None)) for axis in self.axes[n_leading:])
        return self.arrange(stacked[(slice(None),) * len(kept) + inside])

    def arrange(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array that has lost its frame axes, as a C-contiguous native (n_channels, height, width)."""
        left = [axis for axis in self.axes if axis not in self.frame_axes]
        ordered = array.transpose([left.index(axis) for axis in "CSYX" if axis in left])
        frame = ordered.reshape(self.n_channels, self.size("Y"), self.size("X"))
        return np.ascontiguousarray(frame, dtype=frame_dtype(frame.dtype))


def frame_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that a reader hands out: native byte order, one bit as uint8."""
    return np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")


class UnknownAxesError(LowdoseError):
    """Nothing says what the dimensions of an array are."""


def choose_layout(where: str, shape: tuple[int, ...], file_axes: str | None, override: str | None) -> Layout:
    """Settle the axes: the caller's word, else the file's, else YX and TYX for two and three dimensions.

    Two axes of the file before Y and X that are neither T, Z nor C make a scan. Raises LowdoseError when the
    caller's axes do not fit `shape` and when the stack holds no pixel, UnknownAxesError when nothing tells the
    axes of more than three dimensions.
    """
    if len(shape) < 2:
        raise LowdoseError(f"{where}: shape {shape} is not an image; expected two dimensions or more.")
    if override is not None:
        axes = override.strip().upper()
        if (
            len(axes) != len(shape)
            or len(set(axes)) != len(axes)
            or not set(axes) <= set(string.ascii_uppercase)
            or not {"Y", "X"} <= set(axes)
        ):
            raise LowdoseError(
                f"{where}: axes {override!r} do not fit an array of shape {shape}. Give one different "
                f"letter per dimension, Y and X among them, for example "
                f"{'TCYX'[-len(shape) :] if len(shape) in (2, 4) else 'TYX'}."
            )
    elif file_axes is not None and set(file_axes) >= {"Y", "X"} and len(set(file_axes)) == len(file_axes):
        axes = file_axes
        if len(axes) == 4 and axes.endswith("YX") and not set(axes) & set("TZCSVU"):
            axes = SCAN_AXES + "YX"
    elif len(shape) in (2, 3):
        axes = "TYX"[-len(shape) :]
    else:
        raise UnknownAxesError(
            f"{where}: the file does not say what its {len(shape)} dimensions {shape} are. Say so with "
            f"--axes, one letter each (T time, Z depth, C channel, V and U rows and columns of a scan, Y, X): "
            f"TCYX is a movie with channels, VUYX a 4D-STEM scan, as is --scan {shape[0]}x{shape[1]}."
        )
    if math.prod(shape) == 0:
        raise LowdoseError(f"{where}: the stack is empty: its shape is {shape} (axes {axes}).")
    return Layout(axes, shape)


def name_image_axes(names: Sequence[str], navigate: Sequence[bool]) -> list[str]:
    """Axis names in which the last two are the image, if those are all that is not navigated over.

    HyperSpy calls the axes of a scan x and y too; those lose their names.
    """
    if len(names) < 2 or any(navigate[-2:]) or not all(navigate[:-2]):
        return list(names)
    return ["" if name.lower() in ("x", "y") else name for name in names[:-2]] + ["y", "x"]


def letters_from_names(names: Sequence[str]) -> str:
    """Axis letters for named dimensions; without both "y" and "x" among them the last two are Y and X."""
    known = [_NAMES.get(name.strip().lower(), name.strip().upper()) for name in names]
    if known.count("Y") != 1 or known.count("X") != 1:
        known = ["" if letter in ("Y", "X") else letter for letter in known[:-2]] + ["Y", "X"]
    letters: list[str] = []
    for letter in known:
        usable = letter in ("T", "Z", "C", "V", "U", "Y", "X") and letter not in letters
        letters.append(letter if usable else next(u for u in _UNNAMED if u not in letters))
    if len(letters) == 3 and letters[0] == _UNNAMED[0]:
        letters[0] = "T"
    return "".join(letters)
