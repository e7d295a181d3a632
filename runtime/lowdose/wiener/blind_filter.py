"""A fitted blind filter and its stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose import _core
from lowdose.errors import LowdoseError
from lowdose.source import Frame


def stream_bytes(n_taps: int, n_slots: int, n_channels: int, height: int, width: int) -> float:
    """About what a stream holds: spectra of `n_slots` frames and of the kernels (those of an end too), and planes."""
    spectrum = 8.0 * height * (width / 2 + 1)
    kernels = 2 * n_taps * n_channels**2
    return spectrum * (n_slots * n_channels + kernels + 1) + 4.0 * height * width * (2 * n_channels + 2)


@dataclass(frozen=True)
class BlindFilter:
    """Weights of a blind filter, and what they were fitted to.

    weights: float32 (places, channels, taps, channels, side, side): the prediction for an output channel is
    level + scale times the sum over taps, channels, y and x of weights times (frame - level) / scale. places: of a
    sequence, its first frames, those inside, its last ones; one for a scan, all positions alike. taps: (dy, dx) over
    the scan, along time (0, dt). level, scale: float32 (n_channels, 1, 1) or, for scans, frames (n_channels, height,
    width). report: what was chosen, JSON-able.
    """

    weights: NDArray[np.float32]
    taps: list[tuple[int, int]]
    level: NDArray[np.float32]
    scale: NDArray[np.float32]
    report: dict[str, Any]

    @property
    def n_channels(self) -> int:
        return int(self.weights.shape[1])

    @property
    def radius_px(self) -> int:
        return int(self.weights.shape[-1]) // 2

    def stream(
        self,
        height: int,
        width: int,
        dtype: DTypeLike,
        *,
        out_dtype: DTypeLike = np.float32,
        scan: tuple[int, int] | None = None,
    ) -> FilterStream:
        """A stream of frames (height, width), with several channels (n_channels, height, width)."""
        core = _core.FilterStream(
            height,
            width,
            n_channels=self.n_channels,
            taps=self.taps,
            radius_px=self.radius_px,
            dtype_in=np.dtype(dtype).name,
            dtype_out=np.dtype(out_dtype).name,
            scan=scan,
        )
        stream = FilterStream(core, self.taps, (self.n_channels, height, width))
        stream.replace(self)
        return stream


class FilterStream:
    """Filters frames as they come, in the Fourier domain. Made by `BlindFilter.stream`; not for use by two threads at
    once, except for `replace`, `prepare` and `use`."""

    def __init__(
        self, core: _core.FilterStream, taps: list[tuple[int, int]], frame_shape: tuple[int, int, int]
    ) -> None:
        self._core = core
        self._taps = taps
        self._shape = frame_shape

    @property
    def latency_frames(self) -> int:
        """How many frames a result comes after its frame."""
        return self._core.latency_frames

    @property
    def stats(self) -> dict[str, Any]:
        """As `lowdose.Stream.stats`."""
        return {"n_tiles": 1, **self._core.statistics()}

    def push(self, frame: Frame) -> Frame | None:
        """Take one frame; return the next result, or None at the start. Errors as those of `lowdose.Stream.push`."""
        return self._core.push(frame)

    def flush(self) -> list[Frame]:
        """End the sequence and return the results still due, so that as many frames come out as went in."""
        results = []
        while (frame := self._core.flush()) is not None:
            results.append(frame)
        return results

    def replace(self, fitted: BlindFilter) -> None:
        """Exchange the filter between two frames: `fitted` takes over from the next result on, and no frame is lost.

        It may be called by one thread while another one pushes. Raises LowdoseError, and leaves the stream as it was,
        for a filter with other taps, another kernel size, or fitted with another level or scale.
        """
        self.use(self.prepare(fitted))

    def prepare(self, fitted: BlindFilter) -> _core.FilterKernels:
        """The slow part of `replace`, for any thread: the weights in the form that `use` takes. Errors as there."""
        if fitted.taps != self._taps:
            raise LowdoseError(f"the filter has the taps {fitted.taps}, the stream {self._taps}: fit it with the same")
        level, scale = (np.broadcast_to(plane, self._shape) for plane in (fitted.level, fitted.scale))
        return self._core.prepare(fitted.weights, level, scale)

    def use(self, kernels: _core.FilterKernels) -> None:
        """The quick part of `replace`: they take over from the next result on."""
        self._core.use(kernels)
