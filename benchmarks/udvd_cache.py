"""What a stream of UDVD saves by keeping the results of stage 1: `python -m benchmarks.udvd_cache`.

The model file takes stage 1 of the two triplets before from its state. Beside it runs the same network without state,
which computes stage 1 of all three triplets for every frame. Both run in the core, frame by frame in turn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from lowdose.bench.machine import cpu_name
from lowdose.errors import LowdoseError
from lowdose.model import Settings, Stream, bundled_models, load
from lowdose_export.udvd import finished, movie_model
from lowdose_export.udvd_graph import UdvdGraph
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.udvd import TRIPLET, WIDTHS, MovieUdvd

TOLERANCE = 1e-5
"""Of the output's range; both sum the same products."""
N_TAPS = 5


@dataclass(frozen=True)
class Times:
    """Medians in ms per frame, and the ratio of the medians."""

    kept_ms: float
    computed_again_ms: float

    @property
    def ratio(self) -> float:
        return self.computed_again_ms / self.kept_ms


def network_of(width: str) -> MovieUdvd:
    """The bundled network for "lite"; for other widths random weights."""
    if width == "lite":
        network = load_checkpoint(bundled_models()["udvd-lite"])[0]
        assert isinstance(network, MovieUdvd)
        return network
    torch.manual_seed(0)
    return MovieUdvd(WIDTHS[width]).eval()


def model_without_state(network: MovieUdvd) -> onnx.ModelProto:
    """Five frames in, one out: stage 1 three times."""
    graph = UdvdGraph(network)
    graph.stage_2([graph.stage_1([f"frame_{i + tap}" for tap in range(TRIPLET)]) for i in range(N_TAPS - 2)])
    taps = {"axis": "time", "offsets": [-2, -1, 0, 1, 2]}
    return finished(graph, network, {"method": "udvd", "taps": taps, "ends": "repeat"}, {"name": "none"})


def measure(network: MovieUdvd, height: int, width: int, *, threads: int, n_frames: int) -> Times:
    """Median times per frame (height, width) of `n_frames` frames. Raises LowdoseError if the outputs differ."""
    frames = np.random.default_rng(0).poisson(3, (N_TAPS + n_frames, height, width)).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        streams = []
        for name, model in (("kept", movie_model(network, {"name": "none"})), ("again", model_without_state(network))):
            path = Path(folder) / f"{name}.onnx"
            onnx.save(model, path)
            settings = Settings(0, None, 0.0)
            streams.append(
                load(path, device="cpu").stream(height, width, np.uint16, settings=settings, threads=threads)
            )
    times: tuple[list[float], list[float]] = ([], [])
    for i, frame in enumerate(frames):
        results = []
        for stream, taken in zip(streams, times, strict=True):
            seconds, result = timed_push(stream, frame)
            results.append(result)
            if i >= N_TAPS:  # the first result runs steps for the frames before it
                taken.append(1e3 * seconds)
        if results[0] is not None and results[1] is not None:
            difference = float(np.abs(results[0] - results[1]).max() / np.ptp(results[1]))
            if not difference <= TOLERANCE:
                raise LowdoseError(f"with and without state differ by {difference:.1e} of the range at frame {i}")
    return Times(*(statistics.median(taken) for taken in times))


def timed_push(stream: Stream, frame: NDArray[Any]) -> tuple[float, NDArray[Any] | None]:
    start = time.perf_counter()
    result = stream.push(frame)
    return time.perf_counter() - start, result


@click.command()
@click.option("--width", "widths", multiple=True, type=click.Choice(list(WIDTHS)), default=("lite",), show_default=True)
@click.option("--size", default=512, show_default=True, help="Side of the frames in pixels.")
@click.option("--threads", default=1, show_default=True)
@click.option("--frames", default=10, show_default=True, help="Timed frames.")
def main(widths: tuple[str, ...], size: int, threads: int, frames: int) -> None:
    """Print the times of both, and their ratio."""
    click.echo(f"{cpu_name()}, {threads} thread(s), {size}x{size} px, median of {frames} frames in turn")
    for width in widths:
        times = measure(network_of(width), size, size, threads=threads, n_frames=frames)
        click.echo(
            f"udvd {width}: {times.kept_ms:.0f} ms with stage 1 kept, {times.computed_again_ms:.0f} ms computed again, "
            f"ratio {times.ratio:.2f}"
        )


if __name__ == "__main__":
    main()
