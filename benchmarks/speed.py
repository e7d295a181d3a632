"""Speed on this machine: `python -m benchmarks.speed > benchmarks/SPEED.md`, some seven minutes on two quiet cores.

Every ratio is of medians that were measured in turns in one process; everything that is timed is checked first.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import click
import numpy as np
import scipy.fft
from benchmarks import blind_features, udvd_cache, widths
from benchmarks.reucid import STACKS, filter_terrain, steps
from numpy.typing import NDArray

from lowdose import NO_LOW_PASS, Settings, _core, load
from lowdose.bench.compare import compare, interleaved
from lowdose.bench.machine import machine
from lowdose.bench.streams import Case, measure, simulated
from lowdose.model import Stream
from lowdose.reucid.terrain import patch_terrain
from lowdose.wiener import BlindFilter, fit_movie
from lowdose.wiener.follow import FollowingStream

FINDINGS = Path(__file__).with_name("speed_findings.md")
"""What was decided by such measurements."""
INSTRUCTION_SETS = ("avx512", "avx2", "sse4.2")
ROUNDS = 15
CUTOFF = 1 / 7
LONG_RUN = 10_000

Rows = Iterator[str]


def medians(runs: list[Callable[[], Any]], rounds: int = ROUNDS) -> list[float]:
    """Median times in ms, measured in turns after a round that does not count."""
    interleaved(runs, 2)
    return [float(value) for value in np.median(interleaved(runs, rounds), axis=1)]


def movie(side: int, n_frames: int = 8) -> NDArray[np.uint16]:
    case = Case("wcvd", side, side)
    return np.asarray(simulated(case.method(), case)[0].frames[:n_frames])


class Pushes:
    """Pushes of one frame after another to a stream, as a function without arguments."""

    def __init__(self, stream: Any, frames: NDArray[np.uint16]) -> None:
        self.stream, self.frames, self.n = stream, frames, 0

    def __call__(self) -> None:
        self.stream.push(self.frames[self.n % len(self.frames)])
        self.n += 1


def wcvd(side: int, *, threads: int = 1, cutoff: float = NO_LOW_PASS) -> Stream:
    settings = Settings(0, cutoff, 0.0)
    return load("wcvd", device="cpu").stream(side, side, np.uint16, settings=settings, threads=threads)


def engines() -> Rows:
    yield "## WCVD beside other engines, one thread, no low-pass\n"
    yield (
        "lowdose: a stream of uint16 frames, host memory to host memory, and of that the network alone. Others: their "
        "run on float32 frames that are ready, in the quickest of three graph forms.\n"
    )
    yield "| kernels | size | stream | network | ONNX Runtime | OpenVINO | PyTorch | / ONNX Runtime | / OpenVINO |"
    yield "|" + "---|" * 9
    for instructions in INSTRUCTION_SETS:
        os.environ["LOWDOSE_CPU"] = instructions
        for side in (512, 1024):
            row = compare(Case("wcvd", side, side, "cpu", 1), ROUNDS)
            best: dict[str, tuple[float, str]] = {}
            for engine in row["engines"][1:]:
                name = engine["engine"].split()[0]
                best[name] = min(best.get(name, (np.inf, "")), (engine["p50_ms"], engine["form"]))
            network = row["network_p50_ms"]
            cells = [f"{best[name][0]:.1f}" if name in best else "-" for name in ("ONNX", "OpenVINO", "PyTorch")]
            ratios = [f"{best[name][0] / network:.1f}x" if name in best else "-" for name in ("ONNX", "OpenVINO")]
            stream = row["engines"][0]["p50_ms"]
            yield f"| {instructions} | {side} | {stream:.2f} | {network:.2f} | {' | '.join([*cells, *ratios])} |"
    del os.environ["LOWDOSE_CPU"]


def there_and_back(frame: NDArray[np.float32], factor: Any = None) -> NDArray[np.float32]:
    """SciPy's transform, times `factor` where one is given, and the inverse."""
    spectrum = scipy.fft.rfft2(frame)
    result: NDArray[np.float32] = scipy.fft.irfft2(spectrum if factor is None else spectrum * factor, s=frame.shape)
    return result


def low_pass() -> Rows:
    yield "\n## Low-pass, one thread\n"
    yield "| size | WCVD | with low-pass 1/7 | ratio | low-pass alone | SciPy, float32 rfft2, mask, irfft2 | ratio |"
    yield "|" + "---|" * 7
    for side in (512, 1024, 2048):
        frames = movie(side)
        frame = frames[0].astype(np.float32)
        y, x = scipy.fft.fftfreq(side).astype(np.float32), scipy.fft.rfftfreq(side).astype(np.float32)
        disc = y[:, None] ** 2 + x**2 <= np.float32(CUTOFF) ** 2
        by_scipy, ours_alone = partial(there_and_back, frame, disc), partial(_core.low_pass, frame, CUTOFF)
        assert by_scipy().dtype == np.float32
        assert np.allclose(by_scipy(), ours_alone(), atol=1e-3)
        without, filtered, ours, scipys = medians(
            [
                Pushes(wcvd(side), frames),
                Pushes(wcvd(side, cutoff=CUTOFF), frames),
                ours_alone,
                by_scipy,
            ]
        )
        yield (
            f"| {side} | {without:.2f} | {filtered:.2f} | {filtered / without:.2f} | {ours:.2f} | {scipys:.2f} | "
            f"{scipys / ours:.2f}x |"
        )


def threads() -> Rows:
    yield "\n## Two threads and one, WCVD with low-pass\n"
    yield "| size | 1 thread | 2 threads | ratio |"
    yield "|" + "---|" * 4
    for side in (512, 1024, 2048):
        frames = movie(side)
        one, two = medians([Pushes(wcvd(side, threads=n, cutoff=CUTOFF), frames) for n in (1, 2)])
        yield f"| {side} | {one:.2f} | {two:.2f} | {one / two:.2f}x |"


def growth() -> Rows:
    yield "\n## Cost per pixel, WCVD with low-pass, one thread\n"
    sides = (512, 1024, 2048)
    times = medians([Pushes(wcvd(side, cutoff=CUTOFF), movie(side)) for side in sides])
    yield "| size | ms | ns per pixel |"
    yield "|" + "---|" * 3
    for side, time_ms in zip(sides, times, strict=True):
        yield f"| {side} | {time_ms:.2f} | {1e6 * time_ms / side**2:.2f} |"


def engine_alone() -> Rows:
    row = measure(Case("no-op", 512, 512, "cpu", 1), 2000)
    yield "\n## The engine alone\n"
    yield (
        f"no-op model, 512x512 uint16 in, float32 out, 2000 frames: p50 {row['p50_ms']:.3f}, p95 {row['p95_ms']:.3f}, "
        f"p99 {row['p99_ms']:.3f}, max {row['max_ms']:.3f} ms. Allocations of the core per frame: none "
        "(`tests/test_allocations.py`); ONNX Runtime makes 14 small ones in each run."
    )
    frames = movie(128)
    push = Pushes(wcvd(128), frames)
    before = 0
    for number in range(LONG_RUN):
        push()
        if number == 100:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    yield f"\n{LONG_RUN} frames of 128x128 through WCVD: peak memory grew by {grown} kB after the first hundred."


def blind_filter() -> Rows:
    yield "\n## wiener in a stream, one thread\n"
    yield "| size | window (frames) | stream | SciPy, float32 rfft2 + irfft2 | ratio |"
    yield "|" + "---|" * 5
    for side in (512, 1024):
        frames = movie(side, 16)
        sample = frames[:, None, :512, :512].astype(np.float32)
        frame = frames[0].astype(np.float32)
        for n_frames in (1, 5, 13):
            fitted = fit_movie([sample], max_frames=n_frames)
            stream = fitted.stream(side, side, np.uint16)
            ours, scipys = medians([Pushes(stream, frames), partial(there_and_back, frame)])
            yield f"| {side} | {len(fitted.taps)} | {ours:.2f} | {scipys:.2f} | {ours / scipys:.2f} |"
    yield "\n" + while_following(fitted, frames)


def while_following(fitted: BlindFilter, frames: NDArray[np.uint16]) -> str:
    """What a stream takes while its weights are solved again, at 20 frames per second."""
    side = frames.shape[-1]
    stream = FollowingStream(fitted, side, side, np.uint16)
    times = []
    for number in range(200):
        start = perf_counter()
        stream.push(frames[number % len(frames)])
        times.append((perf_counter() - start) * 1e3)
        sleep(max(0.0, 0.05 - times[-1] / 1e3))
    p50, p99 = np.quantile(times[20:], [0.5, 0.99])
    return (
        f"{side}x{side}, window of {len(fitted.taps)} frames, weights solved again every 32 frames in another thread "
        f"({len(stream.swaps)} times): p50 {p50:.1f}, p99 {p99:.1f} ms per frame, 20 frames per second."
    )


def bfn() -> Rows:
    yield "\n## Blind-feature network, the network alone\n"
    yield from blind_features.rows()


def reucid() -> Rows:
    yield "\n## REUCID, ms\n"
    columns = [steps(side, patch_px, 2) for side, patch_px in ((256, 23), (890, 11))]
    yield "| step | 256x256, p = 23 | 890x890, p = 11 |"
    yield "|" + "---|" * 3
    for name in columns[0]:
        yield f"| {name} | " + " | ".join(f"{column[name]:.1f}" for column in columns) + " |"
    every = np.ones((880, 880), np.bool_)
    ours, scipys = medians([lambda: patch_terrain(every, 11), lambda: filter_terrain(every, 11)])
    yield f"\nTerrain, in turns: {scipys / ours:.1f}x faster than scipy.ndimage.uniform_filter ({STACKS} stacks above)."


def u_nets() -> Rows:
    yield "\n## U-Nets, 512x512, one thread\n"
    yield from widths.rows()
    times = udvd_cache.measure(udvd_cache.network_of("lite"), 512, 512, threads=1, n_frames=5)
    kept, again = times.kept_ms, times.computed_again_ms
    yield f"\nudvd-lite with stage 1 once per frame: {kept:.0f} ms, three times: {again:.0f} ms, {times.ratio:.2f}x."


PARTS = {
    part.__name__: part
    for part in (engines, low_pass, threads, growth, engine_alone, blind_filter, bfn, reucid, u_nets)
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PARTS)))
def main(names: tuple[str, ...]) -> None:
    """Print the tables as Markdown: all of them, or those that are named."""
    facts = machine()
    command = " ".join(["python -m benchmarks.speed", *names])
    click.echo("# Speed\n")
    click.echo(f"Made by `{command}`, lowdose {facts['lowdose']} {facts['commit']}, {facts['cpu']}")
    click.echo(f"({' '.join(facts['cpu_flags'])}), {facts['cores']} cores,")
    click.echo(", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".")
    click.echo("Times in ms, medians; ratios are of medians measured in turns in one process.\n")
    for name in names or PARTS:
        for line in PARTS[name]():
            click.echo(line)
    if not names:
        click.echo("\n" + FINDINGS.read_text(encoding="utf-8").strip())


if __name__ == "__main__":
    main()
