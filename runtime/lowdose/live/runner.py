"""The live run: source, queue, denoiser and whoever wants the frames, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

import lowdose
from lowdose.errors import LowdoseError
from lowdose.io.layout import frame_dtype
from lowdose.live.arrival import Arrival, Result
from lowdose.live.calibrator import Calibrate, Calibrator
from lowdose.live.denoiser import Denoiser
from lowdose.live.frame import LiveFrame, Mark, Source
from lowdose.live.output.recorder import Recorder, Saved
from lowdose.live.percentiles import Percentiles
from lowdose.live.policy import POLICIES, FrameQueue
from lowdose.methods.method import Method, Options

DEFAULT_BUFFER_BYTES = 256e6


class Listener(Protocol):
    """Sees every result when it is there; must return at once."""

    def show(self, result: Result, status: Callable[[], dict[str, Any]]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class LiveOptions(Options):
    """How a live run goes on. policy: of `FrameQueue`. buffer_bytes: of each queue. scan: (scan_y, scan_x).

    n_frames: end after so many; idle_s: end when nothing came for so long. dtype: of the results. calibrate: what is to
    be made of the stream's own frames.
    """

    policy: str = "block"
    buffer_bytes: float = DEFAULT_BUFFER_BYTES
    scan: tuple[int, int] | None = None
    n_frames: int | None = None
    idle_s: float | None = None
    dtype: str = "auto"
    calibrate: Calibrate | None = None


@dataclass
class Outlets:
    """Where frames go: files for raw and denoised ones, and listeners for the latter."""

    raw: Recorder | None = None
    denoised: Recorder | None = None
    listeners: Sequence[Listener] = field(default_factory=list)


class LiveRun:
    """Runs `source` through `method` until it ends, `stop` is called, or nothing is left that could be done.

    messages: what the user should know, in order, each with the seconds since the start; counters: see `status`.
    """

    def __init__(self, source: Source, method: Method, options: LiveOptions, outlets: Outlets) -> None:
        if options.policy not in POLICIES:
            raise LowdoseError(f"--policy {options.policy}: expected one of {', '.join(POLICIES)}")
        self.source = source
        self.options = options
        self.outlets = outlets
        self.scan = options.scan or source.scan
        if self.scan is not None and options.policy != "block":
            raise LowdoseError(f"--policy {options.policy}: a scan needs all its patterns; use block")
        calibrator = Calibrator(options.calibrate, options, self.say) if options.calibrate else None
        self.denoiser: Denoiser | None = Denoiser(method, options, options.dtype, self.say, calibrator)
        self.method = method
        self.messages: deque[tuple[float, str]] = deque(maxlen=200)
        self.failures: list[str] = []
        self.counters: Counter[str] = Counter()
        self.stages = {name: Percentiles() for name in ("wait", "denoise", "total")}
        self.stopping = threading.Event()
        self._queue: FrameQueue[Arrival] = FrameQueue(1, options.policy)
        self._started_s = time.perf_counter()
        self._last_arrival_s = self._started_s
        self._sequence = 0
        self._model = method.name
        self._last: Arrival | None = None
        self._recent: deque[float] = deque(maxlen=64)
        self._recent_ms: deque[float] = deque(maxlen=500)

    def run(self) -> dict[str, Any]:
        """Returns the last `status`. Raises LowdoseError when nothing could be done from the beginning."""
        reader = threading.Thread(target=self._read, name="source", daemon=True)
        reader.start()
        try:
            while True:
                try:
                    arrival = self._queue.get(0.1)
                except TimeoutError:
                    self._look_around()
                    continue
                except EOFError:
                    break
                self._take(arrival)
                self._look_around()
        finally:
            self.stop()
            self._queue.close()
            reader.join(timeout=5)
            for recorder in (self.outlets.raw, self.outlets.denoised):
                if recorder is not None:
                    recorder.close()
            if self.denoiser is not None:
                self.denoiser.close()
            self._look_around()
            for listener in self.outlets.listeners:
                listener.close()
        return self.status()

    def stop(self) -> None:
        """End the run: frames that wait are denoised and saved, then `run` returns. From any thread, or a signal."""
        self.stopping.set()
        self.source.stopping.set()

    def say(self, message: str) -> None:
        """Tell the user something."""
        self.messages.append((time.perf_counter() - self._started_s, message))

    def status(self) -> dict[str, Any]:
        """Everything that is counted, JSON-able.

        received: frames that came; lost: numbers that the source left out; dropped: given up by the policy; refused: by
        the method; recent_*: total latency of the last 500 results; saved and raw_saved: safe from the end of this
        process; faults: what the source survived; model: what made the last result; latency_frames: how many frames
        came between a frame and its result; calibration: what is going on, empty without.
        """
        raw, out, denoiser = self.outlets.raw, self.outlets.denoised, self.denoiser
        warnings = list(denoiser.warnings) if denoiser else []
        calibrator = denoiser.calibrator if denoiser else None
        stages = {name: stage.report() for name, stage in self.stages.items()}
        if out is not None:
            stages["save"] = out.time_to_save.report()
        recent = list(self._recent)
        recent_ms = np.percentile(list(self._recent_ms) or [0.0], [50, 99])
        rate = (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0
        return {
            "seconds": round(time.perf_counter() - self._started_s, 3),
            **{name: self.counters[name] for name in ("received", "lost", "denoised", "sequences")},
            "refused": denoiser.refused if denoiser else 0,
            "dropped": self._queue.dropped,
            "waiting": len(self._queue),
            "most_waiting": self._queue.deepest,
            "frames_per_s": round(rate, 2),
            "recent_p50_ms": round(float(recent_ms[0]), 3),
            "recent_p99_ms": round(float(recent_ms[1]), 3),
            "saved": out.n_saved if out else 0,
            "raw_saved": raw.n_saved if raw else 0,
            "not_saved": sum(recorder.n_lost for recorder in (raw, out) if recorder),
            "faults": dict(self.source.counters),
            "failures": list(self.failures),
            "warnings": warnings,
            "notice": " | ".join([*self.failures[-1:], *warnings]),
            "model": self._model,
            "latency_frames": denoiser.latency_frames if denoiser else 0,
            "calibration": calibrator.state if calibrator else "",
            "device": (denoiser.report if denoiser else {}).get("device", self.method.device),
            "policy": self.options.policy,
            "stages": stages,
        }

    # --- the source's thread

    def _read(self) -> None:
        frames = self.source.frames()
        try:
            for item in frames:
                if item is Mark.END:
                    self._end_sequence()
                else:
                    assert not isinstance(item, Mark)
                    # A copy, because a camera may fill the same array again.
                    frame = item if isinstance(item, LiveFrame) else LiveFrame(np.array(item), self._next_number())
                    self._receive(frame)
                if self.stopping.is_set() or self.counters["received"] == self.options.n_frames:
                    break
        except Exception as error:  # a user's source may raise anything; what came before is kept
            self._fail(f"the source has ended: {error if isinstance(error, LowdoseError) else repr(error)}")
        finally:
            self._end_sequence()
            self._queue.close()
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def _next_number(self) -> int:
        return 0 if self._last is None else self._last.frame.number + 1

    def _receive(self, frame: LiveFrame) -> None:
        now_s, now_ns = time.perf_counter(), time.time_ns()
        pixels = np.ascontiguousarray(frame.pixels, frame_dtype(frame.pixels.dtype))
        frame = replace(frame, pixels=pixels)
        if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype.kind not in "uif":
            kind = f"{pixels.shape} {pixels.dtype}"
            raise LowdoseError(f"frame {frame.number} is {kind}; expected real pixels (height, width)")
        last = self._last
        if last is not None:
            alike = (pixels.shape, pixels.dtype) == (last.frame.pixels.shape, last.frame.pixels.dtype)
            if not alike or frame.number <= last.frame.number:
                self._end_sequence()
                last = None
        arrival = Arrival(frame, self._sequence, now_s, now_ns, self.scan)
        missing = frame.number - last.frame.number - 1 if last is not None else frame.number if self.scan else 0
        self.counters["received"] += 1
        self.counters["lost"] += missing
        self._last_arrival_s = now_s
        self._recent.append(now_s)
        self._queue.capacity = max(2, int(self.options.buffer_bytes / pixels.nbytes))
        if self.scan is not None:
            # Positions stay right: the pattern before stands in for one that never came, at the start the one behind.
            nearest, first = (arrival, 0) if last is None else (last, last.frame.number + 1)
            for number in range(first, min(frame.number, self.scan[0] * self.scan[1])):
                self._pass_on(replace(nearest, frame=replace(nearest.frame, number=number), stands_in=True))
        self._pass_on(arrival)
        self._last = arrival
        if self.scan is not None and frame.number == self.scan[0] * self.scan[1] - 1:
            self._end_sequence()

    def _pass_on(self, arrival: Arrival) -> None:
        if self.outlets.raw is not None:
            provenance = {"lowdose": lowdose.__version__, "raw": True}
            self.outlets.raw.put(self._saved(arrival, arrival.frame.pixels, provenance))
        self._queue.put(arrival)

    def _end_sequence(self) -> None:
        if self._last is not None:
            self._last = None
            self._sequence += 1
            self.counters["sequences"] += 1
            self._queue.end()

    # --- the thread of `run`

    def _take(self, arrival: Arrival | None) -> None:
        if self.denoiser is None:
            return
        start_s = time.perf_counter()
        if arrival is not None:
            self.stages["wait"].add((start_s - arrival.arrived_s) * 1e3)
        try:
            for result in self.denoiser.end() if arrival is None else self.denoiser.push(arrival):
                now_s = time.perf_counter()
                self.stages["denoise"].add((now_s - start_s) * 1e3)
                self._hand_out(result)
                start_s = time.perf_counter()
        except LowdoseError as error:
            self.denoiser.close()
            self.denoiser = None
            self._fail(f"denoising has stopped: {error}")

    def _hand_out(self, result: Result) -> None:
        self.counters["denoised"] += 1
        self._model = result.model
        self.stages["total"].add(result.latency_ms)
        self._recent_ms.append(result.latency_ms)
        out = self.outlets.denoised
        if out is not None:
            provenance = {"lowdose": lowdose.__version__, **(self.denoiser.report if self.denoiser else {})}
            saved = self._saved(result.arrival, result.pixels, provenance)
            out.put(replace(saved, latency_ms=result.latency_ms, model=result.model))
        for listener in self.outlets.listeners:
            listener.show(result, self.status)

    def _saved(self, arrival: Arrival, pixels: Any, provenance: dict[str, Any]) -> Saved:
        return Saved(
            pixels,
            arrival.sequence,
            arrival.frame.number,
            arrival.arrived_ns,
            arrival.frame.time,
            arrival.frame.origin,
            arrival.scan,
            self.source.calibration,
            provenance,
            note="stands in for a lost one" if arrival.stands_in else "",
        )

    def _fail(self, message: str) -> None:
        self.failures.append(message)
        self.say(message)

    def _look_around(self) -> None:
        """Pass on messages, notice what has failed, and end the run when nothing is left to do."""
        while self.source.messages:
            self.say(self.source.messages.popleft())
        recorders = [recorder for recorder in (self.outlets.raw, self.outlets.denoised) if recorder]
        for recorder in recorders:
            if recorder.error is not None and str(recorder.error) not in self.failures:
                self._fail(str(recorder.error))
        if self.denoiser is not None and self.denoiser.calibrator is not None:
            self.failures += self.denoiser.calibrator.take_failures()
        saving = any(recorder.error is None for recorder in recorders)
        showing = self.denoiser is not None and (bool(self.outlets.listeners) or not recorders)
        idle_s = time.perf_counter() - self._last_arrival_s
        if not (saving or showing) or (self.options.idle_s is not None and idle_s > self.options.idle_s):
            self.stop()
