"""`lowdose bench`."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import lowdose
from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Model, Settings, load

WARM_UP = 3
SCAN = (4, 5)
TOLERANCE = 1e-4  # of the range of the output; U-Nets sum thousands of products per pixel


@click.command()
@click.option("--model", "model_name", default="wcvd", show_default=True, help="Bundled model or model file.")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    default=("512x512", "1024x1024"),
    show_default=True,
    help="HxW; may be repeated.",
)
@click.option("--frames", default=20, show_default=True, help="Timed frames.")
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", default=0, help="CPU threads; 0 for one per core.")
@click.option("--lowpass", "cutoff", default=1 / 7, help="Cutoff in cycles/pixel; 1 for none.  [default: 1/7]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    model_name: str,
    sizes: tuple[str, ...],
    frames: int,
    device: str,
    threads: int,
    cutoff: float,
    as_json: bool,
) -> None:
    """Latency per frame of uint16 frames, host memory to host memory."""
    model = load(model_name, device=device)
    rows = [measure(model, *parse_size(size), frames, threads, cutoff) for size in sizes]
    facts = {
        "model": model.name, "device": model.device, "runtime": model.runtime, "lowdose": lowdose.__version__,
        "cpu": cpu_name(), "cores": os.cpu_count(), "threads": threads, "cutoff": cutoff, "rows": rows,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{model.name} on {model.device}, {model.runtime}, lowdose {lowdose.__version__}")
    click.echo(f"{cpu_name()}, {os.cpu_count()} cores")
    click.echo("  size        p50 ms   p95 ms   p99 ms   max ms   frames/s  Mpixel/s")
    for row in rows:
        total = row["stages"]["total"]
        click.echo(
            f"  {row['size']:10}"
            + "".join(f" {total[name]:8.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
            + f" {row['frames_per_s']:10.1f} {row['mpixel_per_s']:9.1f}"
        )


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise LowdoseError(f"--size {text}: expected HxW, such as 512x512")
    return int(height), int(width)


def measure(model: Model, height: int, width: int, n_frames: int, threads: int, cutoff: float) -> dict[str, Any]:
    """Times of one frame size; before anything is timed, the output is compared with that of tiled frames."""
    random = np.random.default_rng(0)
    if block := model.metadata.get("block"):  # whole blocks, or the rate would depend on where they begin
        hop = block["n_frames"] - block["overlap"]
        n_frames = -(-n_frames // hop) * hop
    scan = SCAN if model.scan else None
    n_checked = math.prod(SCAN) if model.scan else WARM_UP + len(model.taps)
    shape = (height, width) if len(model.channels) == 1 else (len(model.channels), height, width)
    frames = random.poisson(100, (n_checked, *shape)).astype(np.uint16)
    settings = Settings(0, cutoff if model.metadata["low_pass"] else NO_LOW_PASS, 0.0)
    stream = model.stream(height, width, np.uint16, scan=scan, settings=settings, threads=threads)
    outputs = [out for frame in frames if (out := stream.push(frame)) is not None] + stream.flush()
    stack = frames if scan is None else frames.reshape(*scan, *shape)
    expected = model.denoise(stack, settings=settings, threads=threads, tile=max(height, width) // 2 + 1)
    if not np.abs(np.stack(outputs) - expected.reshape(frames.shape)).max() <= TOLERANCE * np.ptp(expected):
        raise LowdoseError(f"{model.name} gives wrong frames of {height}x{width}: nothing was timed")
    # A scan long enough for the frames that fill it and those that are timed.
    timed_scan = None if scan is None else (scan[0] + n_frames, scan[1])
    stream = model.stream(height, width, np.uint16, scan=timed_scan, settings=settings, threads=threads)
    for i in range(stream.latency_frames + WARM_UP):
        stream.push(frames[i % len(frames)])
    before = stream.stats["frames_out"]
    start = time.perf_counter()
    for i in range(n_frames):
        stream.push(frames[i % len(frames)])
    seconds = time.perf_counter() - start
    stats = stream.stats
    stages = {name: value for name, value in stats.items() if isinstance(value, dict)}
    rate = (stats["frames_out"] - before) / seconds
    return {
        "size": f"{height}x{width}",
        "frames_per_s": rate,
        "mpixel_per_s": rate * height * width / 1e6,
        "stages": stages,
    }


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
