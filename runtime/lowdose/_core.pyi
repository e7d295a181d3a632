"""The compiled core (cpp/): what `lowdose.model` drives. Errors are `lowdose.LowdoseError`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CUTOFF_NONE: float

def runtime_info(ort_path: str) -> tuple[str, list[str]]:
    """Version and execution providers of the ONNX Runtime library at a path."""

def add_plugin(ort_path: str, provider: str, path: str) -> None:
    """Load an execution provider that is a library of its own; the second time nothing happens."""

def cast(frame: NDArray[np.float32], offset: float, dtype: str) -> NDArray[Any]:
    """frame + offset as `dtype`: integers rounded half to even and clipped."""

def low_pass(frame: NDArray[np.float32], cutoff: float) -> NDArray[np.float32]:
    """The disc |frequency| <= cutoff (cycles/pixel) of a frame (height, width)."""

class Choice:
    weight_set: int
    cutoff: float
    offset: float

class Model:
    metadata: str
    device: str
    kernels: str | None
    runtime_version: str
    def __init__(self, path: str, ort_path: str, device: str, kernels: bool) -> None: ...
    def choose(
        self,
        windows: NDArray[np.float32],
        weight_set: int | None,
        cutoff: float | None,
        offset: float | None,
        threads: int,
    ) -> Choice: ...

class Stream:
    latency_frames: int
    choice: Choice | None
    n_tiles: int
    def __init__(
        self,
        model: Model,
        height: int,
        width: int,
        *,
        dtype_in: str,
        dtype_out: str,
        threads: int,
        tile: int,
        max_bytes: float,
        weight_set: int | None,
        cutoff: float | None,
        offset: float | None,
        scan: tuple[int, int] | None,
    ) -> None: ...
    def push(self, frame: Any) -> NDArray[Any] | None: ...
    def flush(self) -> NDArray[Any] | None: ...
    def reset(self) -> None: ...
    def replace(self, model: Model, weight_set: int | None, cutoff: float | None) -> None: ...
    def statistics(self) -> dict[str, Any]: ...

class FilterKernels: ...

class FilterStream:
    latency_frames: int
    def __init__(
        self,
        height: int,
        width: int,
        *,
        n_channels: int,
        taps: list[tuple[int, int]],
        radius_px: int,
        dtype_in: str,
        dtype_out: str,
        scan: tuple[int, int] | None,
    ) -> None: ...
    def prepare(
        self, weights: NDArray[np.float32], level: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> FilterKernels: ...
    def use(self, kernels: FilterKernels) -> None: ...
    def push(self, frame: Any) -> NDArray[Any] | None: ...
    def flush(self) -> NDArray[Any] | None: ...
    def reset(self) -> None: ...
    def statistics(self) -> dict[str, Any]: ...
