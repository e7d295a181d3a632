"""A classical filter as a stream: frames in one by one, as many out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose import _core
from lowdose.errors import LowdoseError
from lowdose.methods.classical.filters import Strength, filter_plane, written
from lowdose.methods.classical.window import GaussianWindow
from lowdose.methods.latency import Latency
from lowdose.source import Frame


class FilteredStream:
    """Filters frames (height, width), with several channels (n_channels, height, width), each channel alone.

    noise_stds: per channel. scan: the positions (scan_y, scan_x) when the frames are the patterns of a scan.
    Raises LowdoseError when gaussian3d would have to hold more than max_bytes (0: no cap) of frames.
    """

    def __init__(
        self,
        kind: str,
        strength: Strength,
        noise_stds: list[float],
        size: tuple[int, int],
        dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        *,
        scan: tuple[int, int] | None = None,
        max_bytes: float = 0,
    ) -> None:
        self.kind, self.strength, self.noise_stds = kind, strength, noise_stds
        self.shape = size if len(noise_stds) == 1 else (len(noise_stds), *size)
        self.dtype, self.out_dtype = dtype, out_dtype
        self.n_positions = scan[0] * scan[1] if scan else None
        self.window = None
        if kind == "gaussian3d":
            n_columns = scan[1] if scan else 1
            check_memory(kind, strength, n_columns * int(np.prod(self.shape)), max_bytes)
            self.window = GaussianWindow(strength[0], n_columns, self.shape)
        self.n_pushed = 0
        self.latency = Latency()

    @property
    def latency_frames(self) -> int:
        """How many frames a result comes after its frame."""
        return self.window.latency_frames if self.window else 0

    @property
    def stats(self) -> dict[str, Any]:
        """As `lowdose.Stream.stats`."""
        return self.latency.stats

    def push(self, frame: Frame) -> Frame | None:
        """Take one frame; return the next result, or None at the start. Errors as those of `lowdose.Stream.push`."""
        self.check(frame)
        start = time.perf_counter()
        planes = frame.astype(np.float32).reshape(-1, *self.shape[-2:])
        filtered = np.stack(
            [
                filter_plane(self.kind, self.strength, plane, noise)
                for plane, noise in zip(planes, self.noise_stds, strict=True)
            ]
        ).reshape(self.shape)
        self.latency.frames_in += 1
        self.n_pushed += 1
        result = self.window.push(filtered) if self.window else filtered
        return None if result is None else self.finished(result, start)

    def flush(self) -> list[Frame]:
        """End the sequence and return the results still due, so that as many frames come out as went in.

        gaussian3d mirrors the sequence at its ends; a scan that was stopped within a row repeats its last pattern.
        """
        self.n_pushed = 0
        results: list[Frame] = []
        start = time.perf_counter()
        for result in self.window.flush() if self.window else ():
            results.append(self.finished(result, start))
            start = time.perf_counter()
        return results

    def finished(self, result: NDArray[np.float32], start: float) -> Frame:
        out = _core.cast(result, 0.0, self.out_dtype.name)
        self.latency.add(start)
        return out

    def check(self, frame: Frame) -> None:
        if frame.shape != self.shape or frame.dtype != self.dtype:
            wanted, given = ("x".join(map(str, shape)) for shape in (self.shape, frame.shape))
            raise LowdoseError(f"the stream takes frames of {wanted} {self.dtype}, given {given} {frame.dtype}")
        if not np.isfinite(frame).all():
            raise LowdoseError("there are NaN or infinite pixels; replace them first")
        if self.n_pushed == self.n_positions:
            raise LowdoseError(f"the scan of {self.n_positions} positions is complete: flush the stream first")


def check_memory(kind: str, strength: Strength, row_pixels: int, max_bytes: float) -> None:
    """Raise LowdoseError when the window of gaussian3d exceeds max_bytes (0: no cap)."""
    n_bytes = 4 * row_pixels * (GaussianWindow.n_slots(strength[0]) + 1)  # and the row that is filled
    if 0 < max_bytes < n_bytes:
        raise LowdoseError(
            f"{written(kind, strength)} holds {n_bytes / 1e6:.0f} MB of frames and may hold {max_bytes / 1e6:.0f} MB: "
            "use a smaller sigma or a larger --max-mem"
        )
