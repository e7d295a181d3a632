"""Noisy frames to denoise, from a file or an array, as often as a method wants to look at them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError

Frame = NDArray[Any]


class FrameSource(Protocol):
    """A sequence of frames (height, width), with several channels (n_channels, height, width), all of `dtype`.

    scan: the positions (scan_y, scan_x) when the frames are the patterns of a scan, row by row; else None.
    channel_names: one for each channel.
    """

    height: int
    width: int
    n_channels: int
    dtype: np.dtype[Any]
    scan: tuple[int, int] | None
    channel_names: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Frame: ...
    def __iter__(self) -> Iterator[Frame]: ...


class ArraySource:
    """Frames of an array (n_frames, height, width), (n_frames, n_channels, ...) or (scan_y, scan_x, height, width)."""

    def __init__(self, stack: NDArray[Any], *, n_channels: int = 1, is_scan: bool = False) -> None:
        layout = "(scan_y, scan_x, height, width)" if is_scan else "(n_frames, height, width)"
        if n_channels > 1:
            layout = f"(n_frames, {n_channels}, height, width)"
        wanted = 4 if is_scan or n_channels > 1 else 3
        if stack.ndim != wanted or stack.size == 0 or (n_channels > 1 and stack.shape[1] != n_channels):
            raise LowdoseError(f"expected an array {layout}, given shape {stack.shape}")
        if np.iscomplexobj(stack):
            raise LowdoseError("complex pixels cannot be denoised: give the modulus or the phase")
        self.scan = (stack.shape[0], stack.shape[1]) if is_scan else None
        frames = stack.reshape(-1, *stack.shape[2:]) if is_scan else stack
        self.frames = frames.astype(stack.dtype.newbyteorder("="), copy=False)
        self.height, self.width = stack.shape[-2:]
        self.n_channels = n_channels
        self.channel_names = [str(channel) for channel in range(n_channels)]
        self.dtype = self.frames.dtype

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        frame: Frame = self.frames[index]
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)
