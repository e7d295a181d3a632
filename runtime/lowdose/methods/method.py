"""What every denoising method offers: it looks at the noisy frames, then takes them one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import DTypeLike

from lowdose.model import Settings
from lowdose.source import Frame, FrameSource


@dataclass(frozen=True)
class Options:
    """How a method runs. threads: 0 for one per core. tile: largest tile side in pixels, 0 for as large as max_bytes
    (0: no cap) allows. settings, batch (frames of one run, None: 1, or what an engine was built
    for): of model files; other methods have none."""

    settings: Settings = field(default_factory=Settings)
    threads: int = 0
    tile: int = 0
    max_bytes: float = 0
    batch: int | None = None


class FrameStream(Protocol):
    """Frames in one by one, denoised frames out in order, as many as went in. `stats` as in `lowdose.Stream`."""

    def push(self, frame: Frame) -> Frame | None: ...
    def flush(self) -> list[Frame]: ...
    @property
    def stats(self) -> dict[str, Any]: ...


class Prepared(Protocol):
    """A method that has seen the noisy frames. report: what it chose, JSON-able; summary: the same for people.

    alone: True when every frame is denoised for itself.
    """

    @property
    def report(self) -> dict[str, Any]: ...
    @property
    def summary(self) -> str: ...
    @property
    def alone(self) -> bool: ...
    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        """A stream for the frames that were looked at, or for a part of them with the same channels and dtype."""
        ...


class Method(Protocol):
    """A way to denoise. runtime: what it runs on, in words."""

    name: str
    device: str
    runtime: str

    def prepare(self, frames: FrameSource, options: Options) -> Prepared:
        """Look at the noisy frames. Raises LowdoseError when the method cannot denoise them."""
        ...
