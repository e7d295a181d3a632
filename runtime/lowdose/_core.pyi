"""The compiled core (cpp/): what `lowdose.model` drives. Errors are `lowdose.LowdoseError`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUTOFF_NONE: float

def runtime_info(ort_path: str) -> tuple[str, list[str]]:
    """Version and execution providers of the ONNX Runtime library at a path."""

def add_plugin(ort_path: str, provider: str, path: str) -> None:
    """Load an execution provider that is a library of its own; the second time nothing happens."""

def with_settings(bytes: bytes, weight_set: int, cutoff: float) -> bytes:
    """A model file with its inputs weight_set and cutoff made constants, where it has them."""

def gpu_kernels(capability: int) -> dict[str, int]:
    """Compile the kernels for a GPU of a compute capability (90: 9.0), which needs NVRTC and no GPU: sizes in bytes."""

def use_gpu(device: str) -> str:
    """Open the NVIDIA GPU N of "rtx:N" for the calling thread; its compute capability, such as "8.9"."""

def cast(frame: NDArray[np.float32], offset: float, dtype: str) -> NDArray[Any]:
    """frame + offset as `dtype`: integers rounded half to even and clipped."""

def low_pass(frame: NDArray[np.float32], cutoff: float) -> NDArray[np.float32]:
    """The disc |frequency| <= cutoff (cycles/pixel) of a frame (height, width)."""

class DeviceFrame:
    shape: tuple[int, ...]
    dtype: str
    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class Choice:
    weight_set: int
    cutoff: float
    offset: float

class Model:
    metadata: str
    device: str
    kernels: str | None
    def choose(
        self,
        windows: NDArray[np.float32],
        weight_set: int | None,
        cutoff: float | None,
        offset: float | None,
        threads: int,
    ) -> Choice: ...

class OnnxModel(Model):
    runtime_version: str
    def __init__(self, path: str, ort_path: str, device: str, kernels: bool) -> None: ...

class EngineModel(Model):
    def __init__(
        self,
        name: str,
        metadata: str,
        *,
        height: int,
        width: int,
        batch: int,
        weight_set: int,
        cutoff: float,
        device: str,
        open: Callable[[dict[str, int]], Callable[[int], None]],
    ) -> None: ...

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
        batch: int,
        weight_set: int | None,
        cutoff: float | None,
        offset: float | None,
        scan: tuple[int, int] | None,
    ) -> None: ...
    def push(self, frame: Any) -> NDArray[Any] | DeviceFrame | None: ...
    def flush(self) -> NDArray[Any] | DeviceFrame | None: ...
    def new_frame(self) -> NDArray[Any]: ...
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
