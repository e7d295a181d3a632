"""Times of one denoiser on frames of one size, host memory to host memory."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.bench.machine import forget_peak_memory, peak_memory_mb
from lowdose.errors import LowdoseError
from lowdose.methods import find_method
from lowdose.methods.method import FrameStream, Method, Options
from lowdose.methods.network import Network
from lowdose.model import NO_LOW_PASS, Settings, load
from lowdose.source import ArraySource

NO_OP = Path(__file__).with_name("no-op.onnx")
WARM_UP = 3
SCAN = (4, 5)
MIN_FRAMES = 16  # of a movie that methods look at before they begin
TOLERANCE = 1e-4  # of the range of the output; U-Nets sum thousands of products per pixel

Frames = NDArray[np.uint16]


@dataclass(frozen=True)
class Case:
    """What is timed. model: any name of `lowdose denoise --model`, or "no-op". threads: 0 for one per core.

    cutoff: of the low-pass, in cycles/pixel, for models that have one; NO_LOW_PASS for none.
    """

    model: str
    height: int
    width: int
    device: str = "auto"
    threads: int = 0
    cutoff: float = NO_LOW_PASS

    def method(self) -> Method:
        return find_method(str(NO_OP) if self.model == "no-op" else self.model, device=self.device)


def measure(case: Case, n_frames: int) -> dict[str, Any]:
    """Latency of `n_frames` results, frames per second, stages and peak memory, JSON-able.

    Before anything is timed the output is compared with what the same model gives by another way (`check`). Raises
    LowdoseError when it differs, and for what the method cannot denoise.
    """
    forget_peak_memory()
    method = case.method()
    source, truth = simulated(method, case)
    options = options_for(method, case)
    prepared = method.prepare(source, options)
    check(method, source, truth, options, prepared.stream(source, np.float32))
    stream = prepared.stream(longer(source, n_frames), np.float32)
    latency_ms = times_ms(stream, source, whole_blocks(method, n_frames))
    stages = {name: value for name, value in stream.stats.items() if isinstance(value, dict) and value["count"]}
    mean_s = float(latency_ms.mean()) / 1e3
    return {
        "model": case.model,
        "device": method.device,
        "runtime": method.runtime,
        "size": f"{case.height}x{case.width}",
        "threads": case.threads,
        "cutoff": None if case.cutoff == NO_LOW_PASS else case.cutoff,
        "frames": len(latency_ms),
        **percentiles(latency_ms),
        "frames_per_s": 1 / mean_s,
        "mpixel_per_s": case.height * case.width / mean_s / 1e6,
        "peak_memory_mb": peak_memory_mb(),
        "stages_p50_ms": {name: value["p50_ms"] for name, value in stages.items() if name != "total"},
    }


def percentiles(times: NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99 = np.quantile(times, [0.5, 0.95, 0.99]).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": float(times.max())}


def times_ms(stream: FrameStream, source: ArraySource, n_frames: int) -> NDArray[np.float64]:
    """Times of the pushes that gave `n_frames` results, the first ones not counted."""
    times: list[float] = []
    pushed, warm = 0, 0
    while len(times) < n_frames:
        frame = source[pushed % len(source)]
        start = time.perf_counter()
        result = stream.push(frame)
        end = time.perf_counter()
        pushed += 1
        if result is None:
            continue
        warm += 1
        if warm > WARM_UP:
            times.append((end - start) * 1e3)
    return np.asarray(times)


def options_for(method: Method, case: Case) -> Options:
    """Nothing is left to be chosen from the frames."""
    if not isinstance(method, Network):
        return Options(threads=case.threads)
    cutoff = case.cutoff if method.model.metadata["low_pass"] else NO_LOW_PASS
    return Options(settings=Settings(0, cutoff, 0.0), threads=case.threads)


def simulated(method: Method, case: Case) -> tuple[ArraySource, NDArray[np.float64]]:
    """Counts of some twenty electrons per pixel on a drifting lattice, in the layout that the method takes; the truth.

    The truth has the shape of the source's frames.
    """
    model = method.model if isinstance(method, Network) else None
    n_channels = len(model.channels) if model else 1
    is_scan = model.scan if model else False
    n_frames = math.prod(SCAN) if is_scan else max(MIN_FRAMES, WARM_UP + len(model.taps) if model else 0)
    time_step, y, x = np.ogrid[:n_frames, : case.height, : case.width]
    shift = 0.02 * time_step
    wave = np.cos(2 * np.pi * (y / 13 + x / 9 + shift)) + np.cos(2 * np.pi * (x / 12 - y / 10 + shift))
    truth = 20 + 6 * wave[:, None] * np.cos(np.arange(n_channels))[:, None, None]
    noisy = np.random.default_rng(0).poisson(truth).astype(np.uint16)
    if n_channels == 1:
        truth, noisy = truth[:, 0], noisy[:, 0]
    stack = noisy.reshape(*SCAN, *noisy.shape[1:]) if is_scan else noisy
    return ArraySource(stack, n_channels=n_channels, is_scan=is_scan), truth


def check(
    method: Method, source: ArraySource, truth: NDArray[np.float64], options: Options, stream: FrameStream
) -> None:
    """Raise LowdoseError unless the stream gives what it should: nothing wrong is timed.

    A model file must give what it gives without compiled kernels and, where it takes them, in tiles; other methods
    must be nearer to the truth than the noisy frames are.
    """
    results = [out for frame in source if (out := stream.push(frame)) is not None] + stream.flush()
    if len(results) == len(source):
        got = np.stack(results)
        if isinstance(method, Network):
            by_graph = load(method.model.path, device=method.device, kernels=False)
            tile = 0 if "size_px" in method.model.metadata else max(source.height, source.width) // 2 + 1
            stack = source.frames.reshape(*(source.scan or source.frames.shape[:1]), *source.frames.shape[1:])
            wanted = by_graph.denoise(stack, settings=options.settings, threads=options.threads, tile=tile)
            wanted = wanted.reshape(got.shape)
            right = bool(np.abs(got - wanted).max() <= TOLERANCE * np.ptp(wanted))
        else:
            right = bool(np.square(got - truth).mean() < np.square(source.frames - truth).mean())
        if right:
            return
    raise LowdoseError(f"{method.name} gives wrong frames of {source.height}x{source.width}: nothing was timed")


def longer(source: ArraySource, n_frames: int) -> ArraySource:
    """The same frames; of a scan, as many more rows as `n_frames` may need."""
    result = copy.copy(source)
    if source.scan:
        result.scan = (source.scan[0] + n_frames + WARM_UP, source.scan[1])
    return result


def whole_blocks(method: Method, n_frames: int) -> int:
    """`n_frames`, or some more so that no block is timed in part: its first result costs as much as all of it."""
    block = method.model.metadata.get("block") if isinstance(method, Network) else None
    if block is None:
        return n_frames
    hop: int = block["n_frames"] - block["overlap"]
    return -(-n_frames // hop) * hop
