"""`replay:FILE@FPS`: the frames of a file, as if they came from a detector."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.live.frame import END, Item, LiveFrame, Source, SourceOptions


class ReplaySource(Source):
    """Frames of any readable file or folder at `fps`; as fast as they are taken where the address names no rate."""

    def __init__(self, address: str, options: SourceOptions) -> None:
        super().__init__()
        path, at, rate = address.rpartition("@")
        try:
            self.period_s = 1 / float(rate) if at else 0.0
        except (ValueError, ZeroDivisionError):
            self.period_s = -1.0
        if not 0 <= self.period_s < 1e6:
            raise LowdoseError(f"replay:{address}: expected FILE@FPS with frames per second, such as movie.tif@30")
        self.path = Path(path if at else address)
        self.channel = options.channel or 0
        with open_stack(self.path) as reader:
            self.calibration = reader.calibration
            self.scan = reader.scan_shape
            n_channels = reader.n_channels
        if not 0 <= self.channel < n_channels or (n_channels > 1 and options.channel is None):
            raise LowdoseError(
                f"{self.path} has {n_channels} channels, counted from 0, and a stream has one: choose with --channel"
            )

    def frames(self) -> Iterator[Item]:
        with open_stack(self.path) as reader:
            start_s = time.monotonic()
            for number in range(reader.n_frames):
                pixels = reader.read(number)[self.channel]
                if self.stopping.wait(max(0.0, start_s + number * self.period_s - time.monotonic())):
                    return
                yield LiveFrame(pixels, number, origin=f"{self.path.name}#{number}")
        yield END
