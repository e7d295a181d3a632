"""A stream that denoises every frame for itself, by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose import _core
from lowdose.methods.latency import Latency
from lowdose.source import Frame


class FrameByFrame:
    """Applies `denoise`, from float32 (height, width) to the same, to each channel of each frame."""

    def __init__(self, denoise: Callable[[NDArray[np.float32]], NDArray[np.float32]], out_dtype: DTypeLike) -> None:
        self.denoise = denoise
        self.out_dtype = np.dtype(out_dtype).name
        self.latency = Latency()

    @property
    def stats(self) -> dict[str, Any]:
        return self.latency.stats

    def push(self, frame: Frame) -> Frame:
        self.latency.frames_in += 1
        with self.latency.timed():
            channels = frame.reshape(-1, *frame.shape[-2:])
            results = [self.denoise(np.asarray(channel, np.float32)) for channel in channels]
            return _core.cast(np.reshape(results, frame.shape), 0.0, self.out_dtype)

    def flush(self) -> list[Frame]:
        return []
