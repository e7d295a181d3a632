"""Other engines on the same model, interleaved with lowdose in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.bench.streams import TOLERANCE, WARM_UP, Case, options_for, simulated
from lowdose.errors import LowdoseError
from lowdose.methods.network import Network
from lowdose.model import Model, Settings

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Peer:
    """Another engine, ready to run. run: the denoised frame (n_channels, height, width) of the window it was made for.

    engine: its name and version; form: how the network is put to it.
    """

    engine: str
    form: str
    run: Callable[[], Frames]


@dataclass(frozen=True)
class Question:
    """What peers must answer: model `path` on one window of frames (n_taps, n_channels, height, width)."""

    model: Model
    window: Frames
    settings: Settings
    threads: int


def peers_of(question: Question) -> tuple[list[Peer], list[str]]:
    """All engines that are installed, and why others are not there.

    They are found through entry points, because they need packages that lowdose itself does without.
    """
    peers: list[Peer] = []
    missing = []
    for point in entry_points(group="lowdose.peers"):
        try:
            peers += point.load()(question)
        except ModuleNotFoundError as error:
            missing.append(f"{point.name} needs {error.name}")
    return peers, missing


def compare(case: Case, n_rounds: int) -> dict[str, Any]:
    """Median times of lowdose and of every peer, ratios to lowdose, JSON-able.

    lowdose is timed as a stream of uint16 frames, conversion included; peers get the whole window ready in float32,
    and only their run is timed. Each is checked against lowdose's output first. Raises LowdoseError for models that
    do not run once per frame on their own, and when an engine gives other numbers.
    """
    method = case.method()
    if not isinstance(method, Network):
        raise LowdoseError(f"--compare takes model files; {method.name} is none")
    model = method.model
    if model.scan or model.metadata.get("block") or model.metadata.get("state"):
        raise LowdoseError(f"--compare takes models that run once per frame, on frames along time; not {model.name}")
    align = model.metadata["align_px"]
    if case.height % align or case.width % align:
        raise LowdoseError(f"--compare takes sides that are multiples of {align} px for {model.name}")
    source, _ = simulated(method, case)
    settings = options_for(method, case).settings
    middle, reach = len(source) // 2, len(model.taps) // 2
    frames = source.frames[middle - reach : middle + reach + 1]
    window = np.asarray(frames, np.float32).reshape(len(model.taps), -1, case.height, case.width)
    wanted = model.denoise(source.frames, settings=settings, threads=case.threads)[middle].reshape(window.shape[1:])
    peers, missing = peers_of(Question(model, window, settings, case.threads))
    for peer in peers:
        difference = float(np.abs(peer.run() - wanted).max() / np.ptp(wanted))
        if not difference <= TOLERANCE:
            raise LowdoseError(f"{peer.engine} ({peer.form}) differs by {difference:.1e} of the range: not timed")
    stream = model.stream(case.height, case.width, np.uint16, settings=settings, threads=case.threads)
    for index in range(stream.latency_frames + WARM_UP):
        stream.push(source[index % len(source)])
    runs: list[Callable[[], Any]] = [lambda: stream.push(source[0]), *(peer.run for peer in peers)]
    times_ms = interleaved(runs, n_rounds)
    medians = np.median(times_ms, axis=1).tolist()
    ours = {"engine": f"lowdose ({model.runtime})", "form": "stream", "p50_ms": medians[0], "ratio": 1.0}
    rows = [ours] + [
        {"engine": peer.engine, "form": peer.form, "p50_ms": median, "ratio": median / medians[0]}
        for peer, median in zip(peers, medians[1:], strict=True)
    ]
    return {
        "model": case.model,
        "size": f"{case.height}x{case.width}",
        "threads": case.threads,
        "cutoff": settings.cutoff,
        "rounds": n_rounds,
        "network_p50_ms": stream.stats["network"]["p50_ms"],
        "engines": rows,
        "missing": missing,
    }


def interleaved(runs: Sequence[Callable[[], Any]], n_rounds: int) -> NDArray[np.float64]:
    """Times in ms (n_runs, n_rounds): each round runs all of them, every other round in reverse."""
    times = np.empty((len(runs), n_rounds))
    for round_number in range(n_rounds):
        order = range(len(runs)) if round_number % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            start = time.perf_counter()
            runs[index]()
            times[index, round_number] = (time.perf_counter() - start) * 1e3
    return times
