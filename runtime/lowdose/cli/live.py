"""`lowdose live`."""

from __future__ import annotations

import json
import re
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click
import numpy as np

from lowdose.cli.denoise import parse_bytes, parse_scan
from lowdose.errors import LowdoseError
from lowdose.live import LiveOptions, LiveRun, Outlets, Recorder, Source, SourceOptions, open_source
from lowdose.live.calibrator import WIENER, Calibrate
from lowdose.live.policy import POLICIES
from lowdose.live.runner import DEFAULT_BUFFER_BYTES, Listener
from lowdose.live.view import Viewer
from lowdose.live.virtual import Rings
from lowdose.methods import find_method
from lowdose.methods.method import Method
from lowdose.methods.wiener import Wiener
from lowdose.pipeline import DEFAULT_MAX_BYTES, settings_from

STATUS_EVERY_S = 1.0
DEFAULT_MODEL = "wcvd"


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """Height and width from "HxW". Raises LowdoseError for anything else."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text or "")
    if text is not None and not match:
        raise LowdoseError(f"--shape {text}: expected height and width, such as 512x512")
    return (int(match[1]), int(match[2])) if match else None


def parse_dtype(text: str | None) -> np.dtype[Any] | None:
    """A NumPy dtype by name. Raises LowdoseError for anything else."""
    try:
        return None if text is None else np.dtype(text)
    except TypeError as error:
        raise LowdoseError(f"--dtype-in {text}: expected a type such as uint16, >u2 or float32") from error


def parse_pair(option: str, text: str | None) -> tuple[float, float] | None:
    """Two numbers from "A,B". Raises LowdoseError for anything else."""
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError as error:
        raise LowdoseError(f"{option} {text}: expected two numbers, such as 20,60") from error
    return first, second


def parse_at(text: str) -> tuple[str, int]:
    """Host and port from "HOST:PORT". Raises LowdoseError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise LowdoseError(f"--view-at {text}: expected HOST:PORT, such as 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.command()
@click.argument("source")
@click.option(
    "--model",
    "model_name",
    help="wiener, a classical filter, a bundled model or a file.  [default: wcvd; with --calibrate wiener]",
)
@click.option("--follow", is_flag=True, help="wiener: fit again and again to the frames that came last.")
@click.option(
    "--calibrate",
    is_flag=False,
    flag_value=WIENER,
    metavar="[METHOD]",
    help="Make a model from the first frames in another process and go over to it between two frames; again when the "
    "frames drift.  [METHOD: wiener, or another of `lowdose calibrate`]",
)
@click.option("--budget", metavar="TIME", help="For a METHOD that is trained, such as 60s.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]|tensorrt[:N]", help="Where to run.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Append denoised frames to this .h5, .tif or .zarr, and raw ones to NAME.raw beside it.",
)
@click.option("--no-raw", is_flag=True, help="Do not save the raw frames.")
@click.option("--overwrite", is_flag=True, help="Replace existing output files.")
@click.option("--resume", is_flag=True, help="Go on in further files beside OUT; watch: passes over what is done.")
@click.option("--scan", metavar="NYxNX", help="The frames are a scan of so many rows and columns, row by row.")
@click.option(
    "--policy",
    default="block",
    show_default=True,
    type=click.Choice(POLICIES),
    help="What becomes of frames that come faster than they are denoised. (Raw ones are saved in any case.)",
)
@click.option(
    "--buffer", default=f"{DEFAULT_BUFFER_BYTES / 1e6:g}MB", show_default=True, help="Memory for frames that wait."
)
@click.option("--lowpass", default="auto", metavar="auto|CUTOFF|none", help="In cycles/pixel.  [default: auto]")
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(["auto", "same", "float32"]))
@click.option("--shape", metavar="HxW", help="Of the frames of raw: and tcp://.")
@click.option("--dtype-in", help="Of the pixels of raw: and tcp://, such as uint16 or >u2.")
@click.option("--channel", type=int, help="Of files with several, counted from 0.")
@click.option("--threads", default=0, help="CPU threads; 0 for one per core.")
@click.option("--n-frames", type=int, help="End after so many frames.")
@click.option("--idle", "idle_s", type=float, help="End when no frame came for so many seconds.")
@click.option("--load", "plugin", type=click.Path(path_type=Path, exists=True), help="A Python file with your source.")
@click.option("--view", is_flag=True, help="Show raw and denoised frames on a local web page.")
@click.option(
    "--view-at", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Where; 0 is any free port."
)
@click.option(
    "--bright", type=float, help="Radius in pixels of the virtual bright field.  [default: from the patterns]"
)
@click.option("--publish", metavar="ADDRESS", help="Publish over ZeroMQ, such as at tcp://127.0.0.1:5556.")
@click.option("--dark", metavar="R1,R2", help="Radii in pixels of the annular dark field.")
@click.option("--centre", metavar="Y,X", help="Centre of both in the pattern, in pixels.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as a line of JSON every second and at the end.")
def live(
    source: str, model_name: str | None, follow: bool, calibrate: str | None, budget: str | None, device: str,
    out: Path | None, no_raw: bool, overwrite: bool, resume: bool, scan: str | None, policy: str, buffer: str,
    lowpass: str, dtype: str, shape: str | None, dtype_in: str | None, channel: int | None, threads: int,
    n_frames: int | None, idle_s: float | None, plugin: Path | None, view: bool, view_at: str, publish: str | None,
    bright: float | None, dark: str | None, centre: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Denoise a stream while the beam is on.

    SOURCE is merlin://HOST, dectris://HOST, watch:FOLDER, replay:FILE@FPS, tcp://HOST:PORT, raw:- or a scheme of your
    own (--load). Ctrl-C ends the run in order; what was saved by then, and at any moment before, can be opened.
    """
    if out is None and not no_raw:
        raise LowdoseError("the raw frames are always kept: give --out FILE, or say --no-raw")
    if plugin is not None:
        runpy.run_path(str(plugin))
    if budget is not None and calibrate in (None, WIENER):
        raise LowdoseError("--budget is for --calibrate with a method that is trained, which wiener is not")
    options = LiveOptions(
        settings=settings_from(lowpass),
        threads=threads,
        max_bytes=DEFAULT_MAX_BYTES,
        policy=policy,
        buffer_bytes=parse_bytes(buffer),
        scan=parse_scan(scan),
        n_frames=n_frames,
        idle_s=idle_s,
        dtype=dtype,
        calibrate=None if calibrate is None else Calibrate(calibrate, budget, device, out),
    )
    stream = open_source(source, SourceOptions(parse_shape(shape), parse_dtype(dtype_in), channel))
    is_scan = (options.scan or stream.scan) is not None
    method = open_method(model_name, device, follow=follow, calibrated=calibrate is not None, is_scan=is_scan)
    listeners: list[Listener] = []
    outlets = open_outlets(stream, out, options, no_raw=no_raw, overwrite=overwrite, resume=resume)
    outlets.listeners = listeners
    run = LiveRun(stream, method, options, outlets)
    if view:
        rings = Rings(parse_pair("--centre", centre), bright, parse_pair("--dark", dark))
        viewer = Viewer(stream, rings, *parse_at(view_at))
        listeners.append(viewer)
        run.say(f"the page: {viewer.address}")
    if publish is not None:
        listeners.append(open_publisher(publish))
    if not as_json:
        click.echo(f"{source} -> {method.name} on {method.device} ({method.runtime})")
    return watch_over(run, as_json)


def open_method(name: str | None, device: str, *, follow: bool, calibrated: bool, is_scan: bool) -> Method:
    """What a run begins with. Where a calibration is under way and nothing is said, wiener, which follows movies."""
    if name is None and calibrated:
        return Wiener(following=not is_scan)
    if follow and name != WIENER:
        raise LowdoseError(f"--follow is for --model wiener, not for {name or DEFAULT_MODEL}")
    return Wiener(following=True) if follow else find_method(name or DEFAULT_MODEL, device=device)


def open_outlets(
    stream: Source, out: Path | None, options: LiveOptions, *, no_raw: bool, overwrite: bool, resume: bool
) -> Outlets:
    """The files of a run: OUT, and for the raw frames NAME.raw beside it."""
    if out is None:
        return Outlets()
    files = [out] if no_raw else [out, out.with_stem(f"{out.stem}.raw")]
    recorders = [
        Recorder(path, buffer_bytes=options.buffer_bytes, overwrite=overwrite, resume=resume) for path in files
    ]
    done = getattr(stream, "done", None)
    if resume and done is not None:
        done.update(recorders[0].done_origins)
    return Outlets(raw=None if no_raw else recorders[1], denoised=recorders[0])


def open_publisher(address: str) -> Listener:
    """Raises LowdoseError where the extra is missing and for an address that cannot be taken."""
    try:
        from lowdose.live.publish import Publisher
    except ModuleNotFoundError as error:
        raise LowdoseError(f"--publish needs the package {error.name}: pip install 'lowdose[live]'") from error
    return Publisher(address)


def watch_over(run: LiveRun, as_json: bool) -> int:
    """Run to the end, with status lines and messages. Returns the exit code.

    Ctrl-C and SIGTERM end it in order: what came is denoised and saved. A second one gives up what waits.
    """

    def stop(number: int, _: object) -> None:
        run.stop()
        signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    over = threading.Event()
    reporter = threading.Thread(target=report_until, args=(run, over, as_json), daemon=True)
    reporter.start()
    code = 0
    try:
        run.run()
    except KeyboardInterrupt:
        code = 130
    finally:
        over.set()
        reporter.join()
    show_messages(run)
    status = run.status()
    click.echo(json.dumps(status | {"end": True}) if as_json else summary(status))
    return code or (2 if run.failures else 0)


def report_until(run: LiveRun, over: threading.Event, as_json: bool) -> None:
    """Messages as they come, and the status every second."""
    terminal = sys.stderr.isatty()
    while not over.wait(STATUS_EVERY_S):
        show_messages(run)
        status = run.status()
        if as_json:
            click.echo(json.dumps(status))
        elif terminal:
            click.echo(f"\r{line(status)}\033[K", err=True, nl=False)


def show_messages(run: LiveRun) -> None:
    while run.messages:
        seconds, message = run.messages.popleft()
        click.echo(f"[{seconds:8.1f} s] {message}", err=True)


def line(status: dict[str, Any]) -> str:
    return (
        f"{status['received']} frames, {status['frames_per_s']:.1f}/s, latency p50 {status['recent_p50_ms']:.1f} "
        f"p99 {status['recent_p99_ms']:.1f} ms, dropped {status['dropped']}, lost {status['lost']}, "
        f"saved {status['saved']} (raw {status['raw_saved']})"
    )


def summary(status: dict[str, Any]) -> str:
    faults = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in status["faults"].items())
    return f"{line(status)}" + (f"; survived: {faults}" if faults else "")
