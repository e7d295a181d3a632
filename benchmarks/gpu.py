"""GPU speed and correctness: `python -m benchmarks.gpu > benchmarks/GPU.md`, on a machine with an NVIDIA GPU.

Needs a PyTorch with CUDA, and what docs/gpu.md lists for the devices. All times are host memory to host memory, one
frame at a time, and all engines are measured in this one process.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import onnx
import torch
from benchmarks.gpu_correctness import ENGINE, TOLERANCE, correctness, file_in
from benchmarks.gpu_engine import engine_file, no_engines
from benchmarks.udvd_cache import network_of
from numpy.typing import NDArray
from torch import nn

from lowdose.bench.compare import Question
from lowdose.bench.machine import machine
from lowdose.devices import DEVICES, available_devices, problem_with, runtime_path
from lowdose.errors import LowdoseError
from lowdose.model import Model, Settings, bundled_models, load
from lowdose_export.parity import disc
from lowdose_export.peers import torch_network
from lowdose_export.udvd import movie_model
from lowdose_export.windowed import windowed_model_of
from lowdose_train.blind_spot import BlindSpotNetwork
from lowdose_train.noise2void import noise2void_network
from lowdose_train.unet import UNet

CUTOFF = 1 / 7
WARM_UP, ROUNDS, LONG_RUN = 20, 500, 10_000
FEWEST_WARM_UP, FEWEST, LONGEST_S = 5, 20, 1.5
"""Rounds of a slow engine, and the time after which there are no more than these."""
CASES = (
    ("wcvd", 1024),
    ("n2v-full-dual", 512),
    ("udvd-full", 1024),
    ("udvd-lite", 1024),
    ("wcvd", 512),
    ("wcvd", 2048),
)
GOALS_MS = {("wcvd", 1024): 0.5, ("udvd-full", 1024): 60.0, ("n2v-full-dual", 512): 4.0}
"""p50, host to host. The papers: 2.31 (network only, A100), 590 and 22."""
PRECISIONS = ("fp32", "fp16")
BATCH_CASES = (("udvd-4d-lite", 128), ("n2v-lite", 256), ("wcvd", 256), ("bfn", 256))
BATCHES = (1, 4, 16, 64)
SCAN_X = 8
"""Narrow, for a result comes a row and one after its pattern: the warm-up must reach the first."""

Case = tuple[str, int]
Rows = Iterator[str]


def gpu() -> torch.device:
    """Raises LowdoseError where PyTorch finds none."""
    if not torch.cuda.is_available():
        raise LowdoseError(
            f"this benchmark needs an NVIDIA GPU and a PyTorch with CUDA; PyTorch {torch.__version__} finds none. "
            "'lowdose devices' says what lowdose finds"
        )
    return torch.device("cuda")


def kinds() -> list[str]:
    """What is measured: the devices that are here, and engines."""
    devices = [device for device in available_devices() if device != "cpu"]
    return devices if no_engines() else [*devices, ENGINE]


def network_and_file(name: str, folder: Path) -> tuple[nn.Module, Path]:
    """The PyTorch network and its model file; the published widths, which are not bundled, have random weights."""
    path = folder / f"{name}.onnx"
    if name == "wcvd":
        model = load("wcvd", device="cpu")
        question = Question(model, np.zeros((3, 1, 8, 8), np.float32), Settings(0, CUTOFF, 0.0), 0)
        network: nn.Module | None = torch_network(question)
        assert network is not None
        return network, bundled_models()["wcvd"]
    if name.startswith("udvd"):
        udvd = network_of(name.removeprefix("udvd-"))
        onnx.save(movie_model(udvd, {"name": "random"}), path)
        return udvd, path
    unet = noise2void_network(2, "full")
    unet.draw(torch.Generator().manual_seed(0))
    onnx.save(windowed_model_of(unet, {"name": "random"}), path)
    return unet.eval(), path


def timed(step: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """p50 and p99 in ms after a warm-up."""
    begin = perf_counter()
    for round_ in range(WARM_UP):
        if round_ < FEWEST_WARM_UP or perf_counter() - begin < LONGEST_S:
            step()
    times: list[float] = []
    begin = perf_counter()
    while len(times) < rounds and (len(times) < FEWEST or perf_counter() - begin < LONGEST_S):
        start = perf_counter()
        step()
        times.append(1e3 * (perf_counter() - start))
    p50, p99 = np.percentile(times, [50, 99])
    return float(p50), float(p99)


def random_frames(n: int, n_channels: int, side: int) -> NDArray[np.uint16]:
    shape = (n, n_channels, side, side) if n_channels > 1 else (n, side, side)
    return np.random.default_rng(0).poisson(5, shape).astype(np.uint16)


def opened(path: Path, kind: str, side: int, precision: str, batch: int = 1) -> Model:
    """A model file, or the engine that is built of it, for square frames. kind: a device, or ENGINE."""
    if kind != ENGINE:
        return load(path, device=kind)
    low_pass = load(path, device="cpu").metadata["low_pass"]
    return load(engine_file(path, (side, side), precision, CUTOFF if low_pass else None, batch))


def stream_step(
    path: Path, kind: str, side: int, precision: str, pinned: bool = False, batch: int = 1
) -> Callable[[], Any]:
    """A push of the next frame of uint16 to a stream of lowdose. pinned: in arrays of `Stream.new_frame`."""
    model = opened(path, kind, side, precision, batch)
    settings = Settings(0, CUTOFF, 0.0) if model.has_choice else None
    scan = (10**6, SCAN_X) if model.scan else None
    stream = model.stream(side, side, np.uint16, settings=settings, batch=batch, scan=scan)
    frames = list(random_frames(8, len(model.channels), side))
    if pinned:
        for i, frame in enumerate(frames):
            frames[i] = stream.new_frame()
            frames[i][:] = frame
    state = {"n": 0}

    def step() -> Any:
        state["n"] += 1
        return stream.push(frames[state["n"] % len(frames)])

    return step


def torch_step(
    network: nn.Module, side: int, precision: str, compiled: bool, device: torch.device
) -> Callable[[], Any]:
    """As many frames as the network sees, to the device, through it, and one back."""
    network = network.to(device)
    run: Callable[..., Any] = torch.compile(network, mode="reduce-overhead") if compiled else network
    n_planes = 3 if isinstance(network, BlindSpotNetwork) else 2 if isinstance(network, UNet) else 5
    frames = random_frames(n_planes, 1, side).astype(np.float32)
    host = torch.from_numpy(frames)[None]
    inside = disc(side, side, CUTOFF).to(device)

    @torch.inference_mode()
    def step() -> Any:
        with torch.autocast(device.type, torch.float16, enabled=precision == "fp16"):
            result = run(host.to(device))
        if isinstance(network, BlindSpotNetwork):
            result = torch.fft.irfft2(torch.fft.rfft2(result.float()) * inside, s=(side, side))
        return result.cpu()

    return step


def speed(device: torch.device, cases: Sequence[Case], rounds: int, compile_too: bool) -> Rows:
    """torch.compile comes last: it takes a minute for some networks."""
    yield "\n## Speed, host memory to host memory\n"
    yield "lowdose: a stream of uint16 frames, float32 results; 'pinned': the frames are in arrays of Stream.new_frame."
    yield "Others: float32 frames. PyTorch fp16 is autocast. Low-pass included in wcvd. No TF32 anywhere.\n"
    yield "| model | size | precision | engine | p50 ms | p99 ms | frames/s | goal ms |"
    yield "|" + "---|" * 8
    with tempfile.TemporaryDirectory() as folder:
        networks = {name: network_and_file(name, Path(folder)) for name, _ in cases}
        for compiled in (False, True)[: 2 if compile_too else 1]:
            for (name, side), precision in itertools.product(cases, PRECISIONS):
                network, path = networks[name]
                file = file_in(precision, path, Path(folder))
                steps: dict[str, Callable[[], Callable[[], Any]]] = {}
                if not compiled:
                    for kind in kinds():
                        made_of = path if kind == ENGINE else file
                        steps[f"lowdose {kind}"] = partial(stream_step, made_of, kind, side, precision)
                        if name == "wcvd":
                            steps[f"lowdose {kind}, pinned"] = partial(
                                stream_step, made_of, kind, side, precision, pinned=True
                            )
                label = f"PyTorch {'torch.compile' if compiled else 'eager'}"
                steps[label] = partial(torch_step, network, side, precision, compiled, device)
                yield from rows(name, side, precision, steps, rounds)


def rows(name: str, side: int, precision: str, steps: dict[str, Callable[[], Callable[[], Any]]], rounds: int) -> Rows:
    for label, make in steps.items():
        start = f"| {name} | {side} | {precision} | {label} |"
        try:
            p50, p99 = timed(make(), rounds)
        except LowdoseError as error:
            yield f"{start} {error} | | | |"
            continue
        yield f"{start} {p50:.3f} | {p99:.3f} | {1e3 / p50:.0f} | {GOALS_MS.get((name, side), '')} |"


def throughput() -> Rows:
    """Frames or patterns one after the other, as many as a batch holds in one run."""
    yield "\n## Throughput with batches, frames or patterns per second\n"
    yield "| model | size | precision | engine |" + "".join(f" batch {batch} |" for batch in BATCHES)
    yield "|---|---|---|---|" + "---|" * len(BATCHES)
    with tempfile.TemporaryDirectory() as folder:
        for (name, side), precision, kind in itertools.product(BATCH_CASES, PRECISIONS, kinds()):
            path = bundled_models()[name]
            made_of = path if kind == ENGINE else file_in(precision, path, Path(folder))
            cells = [per_second(partial(stream_step, made_of, kind, side, precision, batch=batch)) for batch in BATCHES]
            yield f"| {name} | {side} | {precision} | {kind} | {' | '.join(cells)} |"


def per_second(make: Callable[[], Callable[[], Any]]) -> str:
    try:
        step = make()
    except LowdoseError as error:
        return str(error)
    for _ in range(2 * max(BATCHES)):
        step()
    n, begin = 0, perf_counter()
    while perf_counter() - begin < LONGEST_S:
        for _ in range(max(BATCHES)):
            step()
        n += max(BATCHES)
    return f"{n / (perf_counter() - begin):.0f}"


def long_run(n_frames: int) -> Rows:
    """Device memory in use before and after; what it takes first does not count."""
    yield f"\n## {n_frames} frames of wcvd at 512x512: device memory\n"
    for kind in kinds():
        step = stream_step(bundled_models()["wcvd"], kind, 512, "fp32")
        for _ in range(WARM_UP):
            step()
        before = torch.cuda.mem_get_info()[0]
        for _ in range(n_frames):
            step()
        yield f"- {kind}: {(before - torch.cuda.mem_get_info()[0]) / 1e6:.1f} MB more than after {WARM_UP} frames"


def correct() -> Rows:
    yield "## Correctness: largest difference to PyTorch on the CPU, of the output's range\n"
    yield "| device | precision | model | difference |"
    yield "|---|---|---|---|"
    for kind, precision in itertools.product(kinds(), PRECISIONS):
        for name, found in correctness(kind, precision):
            text = found if isinstance(found, str) else f"{found:.1e}"
            wrong = not isinstance(found, str) and not found <= TOLERANCE[precision]
            yield f"| {kind} | {precision} | {name} | {text}{' WRONG' if wrong else ''} |"
    if problem := no_engines():
        yield f"\nNo engines of TensorRT-RTX: {problem}\n"


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--frames", default=LONG_RUN, show_default=True, help="Of the long run.")
@click.option("--case", "cases", type=(str, int), multiple=True, metavar="MODEL SIDE", help="[default: all]")
@click.option("--compile/--no-compile", "compile_too", default=True, help="Measure torch.compile too.")
def main(rounds: int, frames: int, cases: tuple[Case, ...], compile_too: bool) -> None:
    device = gpu()
    torch.backends.cudnn.allow_tf32 = False  # as in lowdose
    facts = machine()
    click.echo(f"# {torch.cuda.get_device_name()}, {facts['cpu']}\n")
    click.echo(f"{facts['versions']}, PyTorch {torch.__version__}, commit {facts['commit']}\n")
    for kind in DEVICES:
        click.echo(f"- {kind}: {problem_with(kind, runtime_path()) or 'available'}")
    click.echo("")
    for part in (correct(), long_run(frames), throughput(), speed(device, cases or CASES, rounds, compile_too)):
        for row in part:
            click.echo(row)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except LowdoseError as error:
        raise SystemExit(f"Error: {error}") from error
