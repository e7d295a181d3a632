"""Frames of a live stream through any method: a sample is looked at, then one result comes for every frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.live.arrival import Arrival, FrameShape, Result, result_of
from lowdose.live.calibration_run import Calibrated
from lowdose.live.calibrator import Calibrator
from lowdose.live.likeness import warnings_for
from lowdose.live.relay import Named, Relay, Runner
from lowdose.methods.method import FrameStream, Method, Options, Prepared
from lowdose.sample import output_dtype
from lowdose.source import ArraySource
from lowdose.wiener import FollowingStream

# wiener fits to 16 frames or more, and the others choose from three windows of them.
SAMPLE_FRAMES = 16
SAMPLE_ROWS = 4


class Denoiser:
    """Sequence after sequence, all of whose frames come back denoised and in order.

    The first frames of the first sequence (SAMPLE_FRAMES, of a scan SAMPLE_ROWS rows) wait until the method has looked
    at them; later sequences of the same shape and dtype are denoised in the same way. Constant frames before them are
    refused. said: told what was chosen.
    dtype: of the results, "auto", "same" or "float32" as for `lowdose denoise`. calibrator: makes further models; each
    takes over between two frames of a movie, and between two scans.
    """

    def __init__(
        self,
        method: Method,
        options: Options,
        dtype: str,
        said: Callable[[str], None],
        calibrator: Calibrator | None = None,
    ) -> None:
        self.method = method
        self.options = options
        self.dtype = dtype
        self.said = said
        self.calibrator = calibrator
        self.prepared: Prepared | None = None
        self.report: dict[str, Any] = {}
        self.name = method.name
        self.latency_frames = 0
        self.refused = 0
        self.warnings: list[str] = []
        self._out_dtype = np.dtype(np.float32)
        self._prepared_for: tuple[Any, ...] = ()
        self._sample: list[Arrival] = []
        self._relay: Relay | None = None
        self._due: Calibrated | None = None
        self._pending: deque[Arrival] = deque()

    def push(self, arrival: Arrival) -> Iterator[Result]:
        """Take a frame and give the results that are due. Raises LowdoseError when the method cannot denoise them."""
        if self._relay is None and self._prepared_for != arrival.kind:
            scan = arrival.scan
            if scan is None and not self._sample and not np.ptp(arrival.frame.pixels):
                self._refuse_blank(arrival)
                return iter(())
            self._sample.append(arrival)
            wanted = SAMPLE_FRAMES if scan is None else min(scan[0], SAMPLE_ROWS) * scan[1]
            return self._begin() if len(self._sample) == wanted else iter(())
        if self._relay is None:
            self._open(arrival)
        return self._push(arrival)

    def end(self) -> Iterator[Result]:
        """End the sequence: the results still due."""
        if self._sample:
            yield from self._begin()
        relay, self._relay = self._relay, None
        if self.calibrator is not None:
            self.calibrator.end()
        if relay is not None and self._pending:
            try:
                results = relay.flush()
            except LowdoseError as error:  # shorter than the method's window
                self.refused += len(self._pending)
                self.said(f"sequence {self._pending[0].sequence} was refused: {error}")
                results = []
            yield from self._results(results)
        self._pending.clear()

    def close(self) -> None:
        """Give up what is under way beside the stream."""
        if self.calibrator is not None:
            self.calibrator.close()

    def _refuse_blank(self, arrival: Arrival) -> None:
        """Before the beam is on nothing can be chosen."""
        self.refused += 1
        if self.refused == 1:
            self.said(f"frame {arrival.frame.number} is constant: denoising begins with the first that is not")

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
        self._prepared_for = first.kind
        self.name, self._due = self.method.name, None
        self.report = {
            "model": self.method.name,
            "device": self.method.device,
            "runtime": self.method.runtime,
            "chosen_from_frames": len(waiting),
            **self.prepared.report,
        }
        if self.calibrator is not None:
            self.report["calibrate"] = self.calibrator.what.method
        self.warnings = warnings_for([arrival.frame.pixels for arrival in waiting], self.method)
        self._open(first)
        took_s = time.perf_counter() - start_s
        chosen = f"chosen from the first {len(waiting)} frames{self._kept()} ({took_s:.1f} s)"
        self.said(f"{self.method.name} on {self.method.device}: {self.prepared.summary}; {chosen}")
        for warning in self.warnings:
            self.said(f"warning: {warning}")
        if self.calibrator is not None:
            self.calibrator.begin(self._out_dtype)
        for arrival in waiting:
            yield from self._push(arrival)

    def _kept(self) -> str:
        """What becomes of that choice, for people."""
        if self.calibrator is not None:
            return ", until a calibrated model takes over"
        return ", and fitted again as the stream goes on" if self.report.get("follows") else ", kept from now on"

    def _open(self, arrival: Arrival) -> None:
        """Begin a sequence; a model that waits to take over does it here."""
        assert self.prepared is not None
        if self._due is not None:
            self._adopt(arrival)
        stream = self.prepared.stream(FrameShape(arrival), self._out_dtype)
        self._relay = Relay(Runner(stream, self._name_of(stream)))

    def _push(self, arrival: Arrival) -> Iterator[Result]:
        assert self._relay is not None
        self._look_for_a_model(self._relay, arrival)
        try:
            results = self._relay.push(arrival.frame.pixels)
        except LowdoseError as error:  # NaN, say: such a frame is not taken
            self.refused += 1
            self.said(f"frame {arrival.frame.number} was refused: {error}")
            return
        if self.calibrator is not None:
            self.calibrator.see(arrival)
        self._pending.append(arrival)
        yield from self._results(results)
        if results:
            self.latency_frames = len(self._pending)

    def _look_for_a_model(self, relay: Relay, arrival: Arrival) -> None:
        if self.calibrator is None:
            return
        if relay.failure is not None and self._due is not None:
            self.said(f"{self._due.name} cannot take over: {relay.failure}")
            self._due = None
        found = self.calibrator.take()
        if found is not None:
            self._due = found
            if arrival.scan is None:  # of a scan all patterns are denoised alike
                relay.take_over(found.runner)

    def _results(self, results: list[Named]) -> Iterator[Result]:
        for pixels, name in results:
            arrival = self._pending.popleft()
            if self._due is not None and name == self._due.name:
                self._adopt(arrival)
            yield result_of(arrival, pixels, name)

    def _adopt(self, arrival: Arrival) -> None:
        """From this frame on, results are of the model that was due."""
        assert self._due is not None and self.calibrator is not None
        due, self._due = self._due, None
        self.prepared, self.report, self.name = due.prepared, due.report, due.name
        self.calibrator.use(due)
        self.said(f"{due.name} denoises from frame {arrival.place} on: {due.said}")

    def _name_of(self, stream: FrameStream) -> Callable[[], str]:
        """What results of a stream are called; a filter that is fitted again counts its fits."""
        name = self.name
        if isinstance(stream, FollowingStream):
            return lambda: f"{name} fit {stream.n_fits}"
        return lambda: name
