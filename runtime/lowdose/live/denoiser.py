"""Frames of a live stream through any method: a sample is looked at, then one result comes for every frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.live.frame import LiveFrame
from lowdose.live.likeness import warnings_for
from lowdose.methods.method import FrameStream, Method, Options, Prepared
from lowdose.sample import output_dtype
from lowdose.source import ArraySource, Frame

# wiener fits to 16 frames or more, and the others choose from three windows of them.
SAMPLE_FRAMES = 16
SAMPLE_ROWS = 4


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


@dataclass(frozen=True)
class Result:
    """A denoised frame (height, width) with the arrival it belongs to; latency_ms: from that to the result."""

    arrival: Arrival
    pixels: Frame
    latency_ms: float


class FrameShape:
    """What a stream of a method needs to know of frames that are yet to come: a `FrameSource` without any."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any], scan: tuple[int, int] | None) -> None:
        self.height, self.width, self.dtype, self.scan = height, width, dtype, scan
        self.n_channels = 1
        self.channel_names = ["0"]

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Frame:
        raise IndexError(index)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())


class Denoiser:
    """Sequence after sequence, all of whose frames come back denoised and in order.

    The first frames of the first sequence (SAMPLE_FRAMES, of a scan SAMPLE_ROWS rows) wait until the method has looked
    at them; later sequences of the same shape and dtype are denoised in the same way. said: told what was chosen.
    dtype: of the results, "auto", "same" or "float32" as for `lowdose denoise`.
    """

    def __init__(self, method: Method, options: Options, dtype: str, said: Callable[[str], None]) -> None:
        self.method = method
        self.options = options
        self.dtype = dtype
        self.said = said
        self.prepared: Prepared | None = None
        self.report: dict[str, Any] = {}
        self.refused = 0
        self.warnings: list[str] = []
        self._out_dtype = np.dtype(np.float32)
        self._prepared_for: tuple[Any, ...] = ()
        self._sample: list[Arrival] = []
        self._stream: FrameStream | None = None
        self._pending: deque[Arrival] = deque()

    def push(self, arrival: Arrival) -> Iterator[Result]:
        """Take a frame and give the results that are due. Raises LowdoseError when the method cannot denoise them."""
        if self._stream is None and self._prepared_for != frame_kind(arrival):
            self._sample.append(arrival)
            scan = arrival.scan
            wanted = SAMPLE_FRAMES if scan is None else min(scan[0], SAMPLE_ROWS) * scan[1]
            return self._begin() if len(self._sample) == wanted else iter(())
        if self._stream is None:
            self._open(arrival)
        return self._push(arrival)

    def end(self) -> Iterator[Result]:
        """End the sequence: the results still due."""
        if self._sample:
            yield from self._begin()
        stream, self._stream = self._stream, None
        pending, self._pending = self._pending, deque()
        for pixels in stream.flush() if stream and pending else ():
            yield result_of(pending.popleft(), pixels)

    def _begin(self) -> Iterator[Result]:
        waiting, self._sample = self._sample, []
        first = waiting[0]
        start_s = time.perf_counter()
        frames = np.stack([arrival.frame.pixels for arrival in waiting])
        if first.scan is not None:
            n_rows = len(waiting) // first.scan[1]
            whole = frames[: n_rows * first.scan[1]]
            if n_rows == 0:
                raise LowdoseError(f"the scan ended after {len(waiting)} patterns, before its first row was complete")
            sample = ArraySource(whole.reshape(n_rows, first.scan[1], *frames.shape[1:]), is_scan=True)
        else:
            sample = ArraySource(frames)
        self.prepared = self.method.prepare(sample, self.options)
        self._out_dtype = np.dtype(np.float32) if self.dtype == "float32" else sample.dtype
        if self.dtype == "auto":
            self._out_dtype = output_dtype(sample)
        self._prepared_for = frame_kind(first)
        self.report = {
            "model": self.method.name,
            "device": self.method.device,
            "runtime": self.method.runtime,
            "chosen_from_frames": len(waiting),
            **self.prepared.report,
        }
        self.warnings = warnings_for([arrival.frame.pixels for arrival in waiting], self.method)
        self._open(first)
        took_s = time.perf_counter() - start_s
        chosen = f"chosen from the first {len(waiting)} frames, kept from now on ({took_s:.1f} s)"
        self.said(f"{self.method.name} on {self.method.device}: {self.prepared.summary}; {chosen}")
        for warning in self.warnings:
            self.said(f"warning: {warning}")
        for arrival in waiting:
            yield from self._push(arrival)

    def _open(self, arrival: Arrival) -> None:
        assert self.prepared is not None
        height, width = arrival.frame.pixels.shape
        shape = FrameShape(height, width, np.dtype(arrival.frame.pixels.dtype), arrival.scan)
        self._stream = self.prepared.stream(shape, self._out_dtype)

    def _push(self, arrival: Arrival) -> Iterator[Result]:
        assert self._stream is not None
        try:
            pixels = self._stream.push(arrival.frame.pixels)
        except LowdoseError as error:  # NaN, say: such a frame is not taken
            self.refused += 1
            self.said(f"frame {arrival.frame.number} was refused: {error}")
            return
        self._pending.append(arrival)
        if pixels is not None:
            yield result_of(self._pending.popleft(), pixels)


def frame_kind(arrival: Arrival) -> tuple[Any, ...]:
    """What must be the same for frames to be denoised alike: shape, dtype and scan."""
    return arrival.frame.pixels.shape, arrival.frame.pixels.dtype, arrival.scan


def result_of(arrival: Arrival, pixels: Frame) -> Result:
    return Result(arrival, pixels, (time.perf_counter() - arrival.arrived_s) * 1e3)
