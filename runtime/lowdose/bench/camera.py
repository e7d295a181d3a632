"""A camera's pace: frames come at a fixed rate, whether the denoiser is ready or not."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lowdose.bench.streams import WARM_UP, Case, check, longer, options_for, percentiles, simulated


def at_camera_rate(case: Case, frames_per_s: float, n_frames: int) -> dict[str, Any]:
    """Denoise `n_frames` that come `frames_per_s`, and count those that were late; JSON-able.

    A frame is late when its push ends after the next frame has come. Latency counts from the moment at which the camera
    gives the frame, so it grows when frames wait. Errors as those of `measure`.
    """
    method = case.method()
    source, truth = simulated(method, case)
    options = options_for(method, case)
    prepared = method.prepare(source, options)
    check(method, source, truth, options, prepared.stream(source, np.float32))
    stream = prepared.stream(longer(source, n_frames), np.float32)
    for index in range(WARM_UP + len(source)):
        stream.push(source[index % len(source)])
    period_s = 1 / frames_per_s
    latency_ms = np.empty(n_frames)
    first = time.perf_counter() + period_s
    for index in range(n_frames):
        due = first + index * period_s
        if (wait_s := due - time.perf_counter()) > 0:
            time.sleep(wait_s)
        stream.push(source[index % len(source)])
        latency_ms[index] = (time.perf_counter() - due) * 1e3
    return {
        "model": case.model,
        "device": method.device,
        "size": f"{case.height}x{case.width}",
        "threads": case.threads,
        "camera_frames_per_s": frames_per_s,
        "frames": n_frames,
        "late": int(np.count_nonzero(latency_ms > period_s * 1e3)),
        **percentiles(latency_ms),
    }
