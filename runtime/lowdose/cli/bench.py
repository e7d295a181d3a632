"""`lowdose bench`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lowdose.bench.camera import at_camera_rate
from lowdose.bench.compare import compare
from lowdose.bench.machine import machine
from lowdose.bench.streams import Case, measure
from lowdose.errors import LowdoseError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def several(name: str, default: tuple[str, ...], help_text: str) -> Callable[[Decorated], Decorated]:
    """An option that may be given more than once."""
    return click.option(f"--{name}", f"{name}s", multiple=True, default=default, show_default=True, help=help_text)


@click.command()
@several("model", ("wcvd",), "Method, bundled model or model file; no-op: what the engine itself takes.")
@several("size", ("512x512", "1024x1024"), "HxW.")
@several("device", ("auto",), "As of `lowdose denoise`.")
@click.option("--threads", multiple=True, type=int, default=(0,), help="CPU threads; 0 for one per core.  [default: 0]")
@click.option("--frames", default=50, show_default=True, help="Timed frames.")
@click.option("--lowpass", "cutoff", default=1 / 7, help="Cutoff in cycles/pixel; 1 for none.  [default: 1/7]")
@click.option("--compare", "comparing", is_flag=True, help="Beside other engines, in turns; needs 'lowdose[export]'.")
@click.option("--camera", "camera_fps", type=float, metavar="FPS", help="Frames come at this rate; count late ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    models: tuple[str, ...],
    sizes: tuple[str, ...],
    devices: tuple[str, ...],
    threads: tuple[int, ...],
    frames: int,
    cutoff: float,
    comparing: bool,
    camera_fps: float | None,
    as_json: bool,
) -> None:
    """Latency per frame of uint16 frames, host memory to host memory.

    --model, --size, --device and --threads may be given more than once: every combination is timed. Outputs are checked
    before anything is timed.
    """
    if comparing and camera_fps:
        raise LowdoseError("--compare and --camera are two benchmarks; give one of them")
    if frames < 1 or (camera_fps is not None and not camera_fps > 0):
        raise LowdoseError("--frames takes a number above 0, and so does --camera")
    cases = [
        Case(model, *parse_size(size), device, n_threads, cutoff)
        for model, device, n_threads, size in itertools.product(models, devices, threads, sizes)
    ]
    facts = machine()
    if not as_json:
        click.echo(f"{facts['cpu']} ({' '.join(facts['cpu_flags'])}), {facts['cores']} cores, {facts['system']}")
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        click.echo(f"lowdose {facts['lowdose']} {facts['commit'] or ''}, Python {facts['python']}, {versions}")
    rows = []
    for number, case in enumerate(cases):
        if comparing:
            rows.append(compare(case, frames))
            lines = comparison(rows[-1])
        elif camera_fps:
            rows.append(at_camera_rate(case, camera_fps, frames))
            lines = camera_line(rows[-1], first=number == 0)
        else:
            rows.append(measure(case, frames))
            lines = latency_line(rows[-1], first=number == 0)
        if not as_json:
            click.echo("\n".join(lines))
    if as_json:
        click.echo(json.dumps({"machine": facts, "rows": rows}, indent=2))


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise LowdoseError(f"--size {text}: expected HxW, such as 512x512")
    return int(height), int(width)


LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


def named(row: dict[str, Any]) -> str:
    return f"{row['model'][-20:]:20} {row['device']:8} {row['threads'] or 'all':>7} {row['size']:>10}"


def latencies(row: dict[str, Any]) -> str:
    return "".join(f" {row[name]:8.2f}" for name in LATENCIES)


HEAD = f"{'model':20} {'device':8} {'threads':>7} {'size':>10}   p50 ms   p95 ms   p99 ms   max ms"


def latency_line(row: dict[str, Any], *, first: bool) -> list[str]:
    memory = "-" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}"
    stages = ", ".join(f"{name} {value:.2f}" for name, value in row["stages_p50_ms"].items())
    rates = f" {row['frames_per_s']:8.1f} {row['mpixel_per_s']:8.1f} {memory:>8}  {stages}"
    head = [f"{HEAD} frames/s  Mpix/s  peak MB  stages (p50, ms)"] if first else []
    return [*head, named(row) + latencies(row) + rates]


def camera_line(row: dict[str, Any], *, first: bool) -> list[str]:
    late = f"    {row['late']} of {row['frames']} at {row['camera_frames_per_s']:g} frames/s"
    return [*([f"{HEAD}    late"] if first else []), named(row) + latencies(row) + late]


def comparison(row: dict[str, Any]) -> list[str]:
    threads = f"{row['threads'] or 'all'} thread{'' if row['threads'] == 1 else 's'}"
    cutoff = f"low-pass {row['cutoff']:.3f}" if row["cutoff"] < 1 else "no low-pass"
    lines = [f"{row['model']}, {row['size']}, {threads}, {cutoff}, medians of {row['rounds']} rounds in turns"]
    for engine in row["engines"]:
        lines.append(f"  {engine['p50_ms']:9.2f} ms  {engine['ratio']:6.2f}x  {engine['engine']}, {engine['form']}")
    lines.append(f"  {row['network_p50_ms']:9.2f} ms of lowdose's are the network")
    return lines + [f"  not there: {reason}" for reason in row["missing"]]
