"""Frames on their way through a live run: with when they came, and with their results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowdose.live.frame import LiveFrame
from lowdose.source import Frame


@dataclass(frozen=True)
class Arrival:
    """A frame with when it came: arrived_s by a clock that does not jump, arrived_ns since 1970.

    sequence: which one it belongs to, from 0; scan: of that sequence. stands_in: repeated for one that never came.
    """

    frame: LiveFrame
    sequence: int
    arrived_s: float
    arrived_ns: int
    scan: tuple[int, int] | None = None
    stands_in: bool = False

    @property
    def kind(self) -> tuple[Any, ...]:
        """What must be the same for frames to be denoised alike: shape, dtype and scan."""
        return self.frame.pixels.shape, self.frame.pixels.dtype, self.scan

    @property
    def place(self) -> str:
        """Sequence and number, for people: 12, or 3:12 behind the first sequence."""
        return f"{self.sequence}:{self.frame.number}" if self.sequence else str(self.frame.number)


@dataclass(frozen=True)
class Result:
    """A denoised frame (height, width) with the arrival it belongs to, and the name of what denoised it.

    latency_ms: from arrival to result.
    """

    arrival: Arrival
    pixels: Frame
    latency_ms: float
    model: str = ""


def result_of(arrival: Arrival, pixels: Frame, model: str) -> Result:
    """The result that is there now."""
    return Result(arrival, pixels, (time.perf_counter() - arrival.arrived_s) * 1e3, model)


class FrameShape:
    """What a stream of a method needs to know of frames that are yet to come: a `FrameSource` without any."""

    def __init__(self, arrival: Arrival) -> None:
        pixels = arrival.frame.pixels
        self.height, self.width = pixels.shape
        self.dtype: np.dtype[Any] = np.dtype(pixels.dtype)
        self.scan = arrival.scan
        self.n_channels = 1
        self.channel_names = ["0"]

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Frame:
        raise IndexError(index)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())
