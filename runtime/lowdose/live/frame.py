"""What a live source gives: frames, each with its number, and the word that a sequence has ended."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from lowdose.io.calibration import Calibration
from lowdose.source import Frame


@dataclass(frozen=True)
class LiveFrame:
    """One frame of a stream.

    pixels: (height, width). number: as the source counts within its sequence, from 0; where a number is left out, a
    frame was lost. time: the detector's own, as it writes it. origin: the file that the frame was in, and its place.
    """

    pixels: Frame
    number: int
    time: str = ""
    origin: str = ""


class Mark(Enum):
    """What a source may give between frames: END, the sequence is over and the next frame begins another."""

    END = "end"


END = Mark.END
Item = LiveFrame | Frame | Mark


@dataclass(frozen=True)
class SourceOptions:
    """What addresses do not say: of raw streams the frame's shape (height, width) and dtype; channel: of files."""

    shape: tuple[int, int] | None = None
    dtype: np.dtype[np.generic] | None = None
    channel: int | None = None


class Source(ABC):
    """Where frames come from. A subclass takes (address, options), calls super().__init__() and gives `frames`.

    stopping: set when the run ends; `frames` should look at it at least every tenth of a second and return.
    counters: what went wrong and was survived, by name. calibration: of the frames, once it is known.
    scan: (scan_y, scan_x) where the source knows it.
    """

    calibration = Calibration()
    scan: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.counters: Counter[str] = Counter()
        self.messages: deque[str] = deque(maxlen=100)

    @abstractmethod
    def frames(self) -> Iterator[Item]:
        """Frames as they come: arrays (height, width), or LiveFrames; END between sequences.

        Arrays are numbered in their order. All frames of a sequence have one shape and dtype. The generator is run and
        closed in a thread of its own. Raises LowdoseError where the stream cannot go on.
        """

    def survived(self, counter: str, message: str) -> None:
        """Count a fault that the stream goes on after, and tell the user."""
        self.counters[counter] += 1
        self.messages.append(message)
