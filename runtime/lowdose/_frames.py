"""Frames handed to a function that reads them one by one, several times; shared by metrics and drift."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError

Frame = npt.NDArray[Any]
# A frame (height, width); a stack (..., height, width); or anything that gives frames (height, width) afresh
# each time it is iterated or called.
Frames = Frame | Iterable[Frame] | Callable[[], Iterable[Frame]]


def each_frame(frames: Frames, name: str) -> Iterator[Frame]:
    """A fresh pass over frames (height, width), each checked; all leading axes of an array count frames.

    Raises LowdoseError, with `name` in the message, for no frames, frames that are not all of one shape, not
    real or not finite, and for an iterator, which could be read only once.
    """
    if isinstance(frames, Iterator):
        raise LowdoseError(
            f"The {name} frames are read several times, but came as an iterator that can be used only once; "
            "give a stack, a list or a function that returns a new iterator."
        )
    source = frames() if callable(frames) else frames
    if isinstance(source, np.ndarray) and source.ndim >= 2:
        source = source.reshape(-1, *source.shape[-2:]) if source.size else ()
    shape: tuple[int, ...] | None = None
    for index, item in enumerate(source):
        frame = np.asarray(item)
        shape = frame.shape if shape is None else shape
        if frame.ndim != 2 or frame.size == 0 or frame.shape != shape:
            raise LowdoseError(
                f"Frame {index} of {name} has shape {frame.shape}; all must be (height, width), of one shape."
            )
        if frame.dtype.kind not in "buif" or not np.isfinite(frame).all():
            raise LowdoseError(
                f"Frame {index} of {name} ({frame.dtype}) holds NaN, infinite or complex values; "
                "expected finite real numbers."
            )
        yield frame
    if shape is None:
        raise LowdoseError(f"There are no {name} frames; expected at least one.")
