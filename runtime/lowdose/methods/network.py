"""A model file as a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lowdose.errors import LowdoseError
from lowdose.methods.method import FrameStream, Options
from lowdose.model import NO_LOW_PASS, Model, Settings, Stream
from lowdose.source import Frame, FrameSource


class Network:
    """Denoises with an opened model file."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name, self.device, self.runtime = model.name, model.device, model.runtime

    def prepare(self, frames: FrameSource, options: Options) -> PreparedNetwork:
        model = self.model
        order = channel_order(model, frames)
        if model.scan and frames.scan is None:
            raise LowdoseError(f"{model.name} denoises scans and these are frames along time; give --scan NYxNX")
        settings = model.settings_for(frames, options.settings, options.threads)
        return PreparedNetwork(model, options, settings, order)


@dataclass(frozen=True)
class PreparedNetwork:
    """A model file with all its settings. order: the file's channel for each of the model's."""

    model: Model
    options: Options
    settings: Settings
    order: list[int]

    @property
    def report(self) -> dict[str, Any]:
        cutoff = self.settings.cutoff
        return {
            "model_sha256": self.model.sha256,
            "weight_set": self.model.weight_set_name(self.settings.weight_set),
            "lowpass_cutoff": None if cutoff == NO_LOW_PASS else cutoff,
            "offset": self.settings.offset,
            "channel_order": self.order,
            "batch": self.model.frames_per_run(self.options.batch),
        }

    @property
    def summary(self) -> str:
        cutoff = self.settings.cutoff
        parts = []
        if len(self.model.metadata["weight_sets"]) > 1:
            parts.append(f"weights {self.model.weight_set_name(self.settings.weight_set)}")
        if self.model.metadata["low_pass"]:
            parts.append(f"low-pass {'none' if cutoff == NO_LOW_PASS else f'{cutoff:.3f} cycles/pixel'}")
        if self.settings.offset:
            parts.append(f"offset {self.settings.offset:g}")
        return ", ".join(parts) or "nothing to choose"

    @property
    def alone(self) -> bool:
        return not self.model.scan and self.model.taps == [0]

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        stream = self.model.stream(
            frames.height,
            frames.width,
            frames.dtype,
            out_dtype=out_dtype,
            scan=frames.scan if self.model.scan else None,
            settings=self.settings,
            threads=self.options.threads,
            tile=self.options.tile,
            max_bytes=self.options.max_bytes,
            batch=self.options.batch,
        )
        return stream if self.order == sorted(self.order) else ReorderedStream(stream, self.order)


class ReorderedStream:
    """A stream whose frames hold their channels in another order than the model's."""

    def __init__(self, stream: Stream, order: list[int]) -> None:
        self.inner = stream
        self.order = order

    def push(self, frame: Frame) -> Frame | None:
        result = self.inner.push(np.ascontiguousarray(frame[self.order]))
        return None if result is None else self.back(result)

    def flush(self) -> list[Frame]:
        return [self.back(frame) for frame in self.inner.flush()]

    @property
    def stats(self) -> dict[str, Any]:
        return self.inner.stats

    def back(self, result: Frame) -> Frame:
        out = np.empty_like(result)
        out[self.order] = result
        return out


def channel_order(model: Model, frames: FrameSource) -> list[int]:
    """The file's channel for each of the model's: by name where the file has the model's names, else as they come.

    Raises LowdoseError when their numbers differ.
    """
    wanted, there = model.channels, frames.channel_names
    if len(wanted) != frames.n_channels:
        plural = "channel" if frames.n_channels == 1 else "channels"
        if len(wanted) == 1:
            advice = f"choose one with --channel 0 to {frames.n_channels - 1} (or say with --axes what this axis is)"
        else:
            advice = "use a model for as many"
        names = ", ".join(wanted)
        raise LowdoseError(
            f"the data have {frames.n_channels} {plural}, {model.name} takes {len(wanted)} ({names}): {advice}"
        )
    folded = [name.casefold() for name in there]
    if len(wanted) > 1 and sorted(folded) == sorted(name.casefold() for name in wanted):
        return [folded.index(name.casefold()) for name in wanted]
    return list(range(len(wanted)))
