"""File in, denoised file out: the work of `lowdose denoise`, frame by frame in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lowdose
from lowdose import _core
from lowdose.auto import output_dtype, sample_windows
from lowdose.drift import Drift, estimate_drift, finish_shift, save_shifts, shift_whole, valid_region
from lowdose.errors import LowdoseError
from lowdose.io import StackReader, create_like, open_stack
from lowdose.model import Frame, Model, Settings

DEFAULT_MAX_BYTES = 2e9

# Between 0.7 and 4 px the error at 0.8 electrons per pixel was the same, a tenth above the Cramer-Rao limit.
DRIFT_SMOOTHING_PX = 2.0


@dataclass(frozen=True)
class Job:
    """What to do with one file. None: decided from the data or the file.

    dtype: "auto" (the input's, or float32 where rounding would hurt), "same" or "float32". axes: one letter
    per stored dimension. frames: (first, behind the last), Python's rule for slices. max_bytes caps the
    memory of the stream: its buffers and one run of the network.
    """

    settings: Settings = field(default_factory=Settings)
    dtype: str = "auto"
    axes: str | None = None
    channel: int | None = None
    frames: slice = field(default_factory=lambda: slice(None))
    drift: bool = False
    tile: int = 0
    max_bytes: float = DEFAULT_MAX_BYTES
    threads: int = 0
    overwrite: bool = False


Progress = Callable[[str, int], None]
"""Told the name of the stage and how many of its frames are done."""


class Frames:
    """The chosen channel and frames of an opened file, as often as one wants to go through them."""

    def __init__(self, reader: StackReader, job: Job) -> None:
        if job.channel is not None and not 0 <= job.channel < reader.n_channels:
            raise LowdoseError(
                f"{reader.path}: channel {job.channel} is not there; the file has {reader.n_channels}, counted from 0"
            )
        if job.channel is None and reader.n_channels > 1:
            raise LowdoseError(
                f"{reader.path} has {reader.n_channels} channels, the model takes 1: choose one with --channel 0 to "
                f"{reader.n_channels - 1} (or say with --axes that this axis is not channels)"
            )
        self.reader = reader
        self.channel = job.channel or 0
        self.range = range(reader.n_frames)[job.frames]
        if not self.range:
            raise LowdoseError(f"{reader.path}: no frame is left of {reader.n_frames} by --frames")

    def __len__(self) -> int:
        return len(self.range)

    def __getitem__(self, index: int) -> Frame:
        frame: Frame = self.reader.read(self.range[index])[self.channel]
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return (self[index] for index in range(len(self)))


def denoise_file(
    source: Path, out: Path, model: Model, job: Job, progress: Progress = lambda stage, done: None
) -> dict[str, Any]:
    """Denoise the stack in `source` into the new file `out`; the suffix of `out` chooses its format.

    Returns a report (JSON-able): what was read, written and chosen, the device, and times. Raises
    LowdoseError for bad input; then nothing is left under `out`.
    """
    start = time.perf_counter()
    check_output(source, out, job)
    with open_stack(source, axes=job.axes) as reader:
        frames = Frames(reader, job)
        model.check_length(len(frames))
        windows = sample_windows(frames, model.taps)
        settings = model.choose(windows, job.settings, job.threads)
        dtype = chosen_dtype(job.dtype, reader.dtype, model, windows, settings, job.threads)
        drift = find_drift(frames, progress) if job.drift else None
        in_core = dtype if drift is None else np.dtype(np.float32)
        stream = model.stream(
            reader.height,
            reader.width,
            reader.dtype,
            out_dtype=in_core,
            settings=settings,
            threads=job.threads,
            tile=job.tile,
            max_bytes=job.max_bytes,
        )
        report = {
            "input": str(source),
            "output": str(out),
            "n_frames": len(frames),
            "frames": [frames.range.start, frames.range.stop],
            "channel": frames.channel,
            "drift": job.drift,
            "height": reader.height,
            "width": reader.width,
            "dtype_in": reader.dtype.name,
            "dtype_out": dtype.name,
            "dtype_rule": job.dtype,
            "model": model.name,
            "model_sha256": model.sha256,
            "lowdose": lowdose.__version__,
            "device": model.device,
            "runtime": model.runtime,
            "weight_set": model.weight_set_name(settings.weight_set),
            "lowpass_cutoff": None if settings.cutoff == lowdose.NO_LOW_PASS else settings.cutoff,
            "offset": settings.offset,
            "n_tiles": stream.n_tiles,
        }
        if drift is not None:
            report["drift_file"] = str(drift_path(out))
            report["drift_unsure_frames"] = np.flatnonzero(drift.unsure).tolist()
            rows, columns = valid_region(drift.shifts_px, reader.height, reader.width)
            report["valid_rows"] = [rows.start, rows.stop]
            report["valid_columns"] = [columns.start, columns.stop]
        channel = frames.channel if reader.n_channels > 1 or job.channel is not None else None
        out.parent.mkdir(parents=True, exist_ok=True)
        with create_like(
            out,
            reader,
            dtype=dtype,
            provenance=report,
            frames=frames.range,
            channel=channel,
            overwrite=job.overwrite,
        ) as writer:
            shifted = (
                frames if drift is None else (shift_whole(f, s) for f, s in zip(frames, drift.shifts_px, strict=True))
            )
            for done, denoised in enumerate(run_stream(stream, shifted)):
                if drift is not None:
                    denoised = _core.cast(finish_shift(denoised, drift.shifts_px[done]), 0.0, dtype.name)
                writer.write(denoised[None])
                progress("denoise", done + 1)
        if drift is not None:
            save_shifts(
                drift_path(out),
                drift,
                notes=[f"movie: {source}", f"lowdose {lowdose.__version__}"],
            )
    return report | {"seconds": time.perf_counter() - start, "latency": stream.stats}


def run_stream(stream: lowdose.Stream, frames: Any) -> Iterator[Frame]:
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


def chosen_dtype(
    wanted: str,
    dtype: np.dtype[Any],
    model: Model,
    windows: NDArray[np.float32],
    settings: Settings,
    threads: int,
) -> np.dtype[Any]:
    """The output's dtype; for "auto" the windows are denoised to see how strong the signal is."""
    if wanted == "float32":
        return np.dtype(np.float32)
    if wanted == "same" or dtype.kind == "f":
        return dtype
    signals = [model.denoise(window, settings=settings, threads=threads)[model.taps[-1]] for window in windows]
    return output_dtype(dtype, float(np.mean([signal.std() for signal in signals])))


def find_drift(frames: Frames, progress: Progress) -> Drift:
    """Shifts estimated on the raw frames, smoothed by a Gaussian; several passes over the file."""

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
