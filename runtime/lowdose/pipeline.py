"""File in, denoised file out: the work of `lowdose denoise`, frame by frame in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import lowdose
from lowdose import _core
from lowdose.drift import Drift, estimate_drift, finish_shift, save_shifts, shift_whole, valid_region
from lowdose.errors import LowdoseError
from lowdose.io import StackReader, create_like, open_stack
from lowdose.methods.method import FrameStream, Method, Options
from lowdose.model import Settings
from lowdose.sample import output_dtype
from lowdose.source import Frame

DEFAULT_MAX_BYTES = 2e9

# Between 0.7 and 4 px the error at 0.8 electrons per pixel was the same, a tenth above the Cramer-Rao limit.
DRIFT_SMOOTHING_PX = 2.0


@dataclass(frozen=True)
class Job(Options):
    """What to do with one file, and how. None: decided from the data or the file.

    dtype: "auto" (the input's, or float32 where rounding would hurt), "same" or "float32". axes: one letter
    per stored dimension. scan: (scan_y, scan_x) where the file does not say it. frames: (first, behind the last),
    Python's rule for slices. max_bytes caps the memory of the stream: its buffers and one run of the network.
    """

    max_bytes: float = DEFAULT_MAX_BYTES
    dtype: str = "auto"
    axes: str | None = None
    scan: tuple[int, int] | None = None
    channel: int | None = None
    frames: slice = field(default_factory=lambda: slice(None))
    drift: bool = False
    overwrite: bool = False


Progress = Callable[[str, int], None]
"""Told the name of the stage and how many of its frames are done."""


class FileSource:
    """The chosen channels and frames of an opened file, as often as one wants to go through them."""

    def __init__(self, reader: StackReader, job: Job) -> None:
        if job.channel is not None and not 0 <= job.channel < reader.n_channels:
            raise LowdoseError(
                f"{reader.path}: channel {job.channel} is not there; the file has {reader.n_channels}, counted from 0"
            )
        self.reader = reader
        self.height, self.width, self.dtype = reader.height, reader.width, reader.dtype
        self.channels = list(range(reader.n_channels)) if job.channel is None else [job.channel]
        self.n_channels = len(self.channels)
        self.channel_names = [reader.channel_names[channel] for channel in self.channels]
        self.range = range(reader.n_frames)[job.frames]
        if not self.range:
            raise LowdoseError(f"{reader.path}: no frame is left of {reader.n_frames} by --frames")
        if reader.scan_shape and len(self.range) != reader.n_frames:
            raise LowdoseError(f"{reader.path} is a scan: a part of its patterns (--frames) is none")
        self.scan = reader.scan_shape

    def __len__(self) -> int:
        return len(self.range)

    def __getitem__(self, index: int) -> Frame:
        frame = self.reader.read(self.range[index])
        return frame[self.channels[0]] if self.n_channels == 1 else frame

    def __iter__(self) -> Iterator[Frame]:
        return (self[index] for index in range(len(self)))


def denoise_file(
    source: Path, out: Path, method: Method, job: Job, progress: Progress = lambda stage, done: None
) -> dict[str, Any]:
    """Denoise the frames in `source` into the new file `out`; the suffix of `out` chooses its format.

    Returns a report (JSON-able): what was read, written and chosen, the device, and times. Raises
    LowdoseError for bad input; then nothing is left under `out`.
    """
    start = time.perf_counter()
    check_output(source, out, job)
    with open_stack(source, axes=job.axes, scan=job.scan) as reader:
        frames = FileSource(reader, job)
        progress("looking at the frames", 0)
        prepared = method.prepare(frames, job)
        dtype = chosen_dtype(job.dtype, frames)
        drift = find_drift(frames, progress) if job.drift else None
        progress("getting ready", 0)  # a network may be compiled for its GPU now
        stream = prepared.stream(frames, dtype if drift is None else np.float32)
        report = {
            "input": str(source),
            "output": str(out),
            "n_frames": len(frames),
            "frames": [frames.range.start, frames.range.stop],
            "channels": frames.channels,
            "drift": job.drift,
            "height": reader.height,
            "width": reader.width,
            "dtype_in": reader.dtype.name,
            "dtype_out": dtype.name,
            "dtype_rule": job.dtype,
            "model": method.name,
            "lowdose": lowdose.__version__,
            "device": method.device,
            "runtime": method.runtime,
            **prepared.report,
        }
        if drift is not None:
            report["drift_file"] = str(drift_path(out))
            report["drift_unsure_frames"] = np.flatnonzero(drift.unsure).tolist()
            rows, columns = valid_region(drift.shifts_px, reader.height, reader.width)
            report["valid_rows"] = [rows.start, rows.stop]
            report["valid_columns"] = [columns.start, columns.stop]
        out.parent.mkdir(parents=True, exist_ok=True)
        with create_like(
            out,
            reader,
            dtype=dtype,
            provenance=report,
            frames=frames.range,
            channel=job.channel,
            overwrite=job.overwrite,
        ) as writer:
            shifted = (
                frames if drift is None else (shift_whole(f, s) for f, s in zip(frames, drift.shifts_px, strict=True))
            )
            for done, denoised in enumerate(run_stream(stream, shifted)):
                if drift is not None:
                    denoised = _core.cast(finish_shift(denoised, drift.shifts_px[done]), 0.0, dtype.name)
                writer.write(denoised.reshape(-1, reader.height, reader.width))
                progress("denoise", done + 1)
        if drift is not None:
            save_shifts(
                drift_path(out),
                drift,
                notes=[f"movie: {source}", f"lowdose {lowdose.__version__}"],
            )
    return report | {"summary": prepared.summary, "seconds": time.perf_counter() - start, "latency": stream.stats}


def run_stream(stream: FrameStream, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Denoised frames in order, as many as `frames` holds."""
    for frame in frames:
        if (denoised := stream.push(frame)) is not None:
            yield denoised
    yield from stream.flush()


def check_output(source: Path, out: Path, job: Job) -> None:
    """Raise LowdoseError when writing `out` would harm something that is there."""
    if out.exists() and source.exists() and out.samefile(source):
        raise LowdoseError(f"{out} is the input itself, and inputs are never overwritten; give another output")
    for path in (out, drift_path(out)) if job.drift else (out,):
        if path.exists() and not job.overwrite:
            raise LowdoseError(f"{path} exists; give another output or --overwrite")


def chosen_dtype(wanted: str, frames: FileSource) -> np.dtype[Any]:
    """The output's dtype by the rule `wanted`; "auto" looks at how strong the signal is."""
    if wanted == "float32":
        return np.dtype(np.float32)
    return frames.dtype if wanted == "same" else output_dtype(frames)


def find_drift(frames: FileSource, progress: Progress) -> Drift:
    """Shifts estimated on the raw frames, smoothed by a Gaussian; several passes over the file."""
    if frames.scan is not None:
        raise LowdoseError(f"--drift is for frames along time and {frames.reader.path} is a scan")
    if frames.n_channels > 1:
        raise LowdoseError(f"--drift is for one channel and {frames.reader.path} has several: choose with --channel")

    def raw() -> Iterator[Frame]:
        for done, frame in enumerate(frames):
            progress("drift", done + 1)
            yield frame

    return estimate_drift(raw, smoothing_px=DRIFT_SMOOTHING_PX)


def drift_path(out: Path) -> Path:
    """Where the shifts of an output are saved."""
    return out.with_name(out.name + ".drift.csv")


def settings_from(cutoff: str) -> Settings:
    """Settings for the command line's --lowpass: "auto", "none" or a cutoff in cycles/pixel.

    Raises LowdoseError for anything else.
    """
    if cutoff == "auto":
        return Settings()
    if cutoff == "none":
        return Settings(cutoff=lowdose.NO_LOW_PASS)
    try:
        value = float(cutoff)
    except ValueError:
        value = -1.0
    if not 0 < value <= 0.5:
        raise LowdoseError(f"--lowpass {cutoff}: expected auto, none, or a cutoff above 0 and up to 0.5 cycles/pixel")
    return Settings(cutoff=value)
