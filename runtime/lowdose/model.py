"""Open a model file and run it: the whole Python interface to denoising."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lowdose import _core
from lowdose.auto import sample_windows
from lowdose.devices import available_devices, check_device, runtime_path
from lowdose.errors import LowdoseError

Frame = NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """How a model is applied; None: chosen from the noisy frames.

    weight_set: index into the model's bank. cutoff: low-pass limit in cycles/pixel (`NO_LOW_PASS`: none).
    offset: detector pedestal, subtracted before the network and added after it.
    """

    weight_set: int | None = None
    cutoff: float | None = None
    offset: float | None = None

    @property
    def complete(self) -> bool:
        return None not in (self.weight_set, self.cutoff, self.offset)


NO_LOW_PASS: float = _core.CUTOFF_NONE


class Stream:
    """Denoises frames as they come. Made by `Model.stream`; not for use by two threads at once."""

    def __init__(self, core: _core.Stream) -> None:
        self._core = core

    @property
    def latency_frames(self) -> int:
        """How many frames a result comes after its frame: 1 for wcvd, 0 for wcid."""
        return self._core.latency_frames

    @property
    def settings(self) -> Settings:
        """What is applied; entries are None until the first result, when automatic ones are chosen."""
        choice = self._core.choice
        return Settings(choice.weight_set, choice.cutoff, choice.offset) if choice else Settings()

    @property
    def n_tiles(self) -> int:
        """Tiles per frame; 1 when frames are denoised whole."""
        return self._core.n_tiles

    @property
    def stats(self) -> dict[str, Any]:
        """Frames in and out, and per stage count, mean, p50, p95, p99 and max in ms (`total`: push to result)."""
        return self._core.statistics()

    def push(self, frame: Frame) -> Frame | None:
        """Take one frame (height, width) of the stream's dtype; return the next result, or None at the start.

        Raises LowdoseError for another shape or dtype and for NaN or infinite pixels; such a frame is not taken.
        """
        return self._core.push(frame)

    def flush(self) -> list[Frame]:
        """End the sequence and return the results still due, so that as many frames come out as went in.

        The sequence is mirrored at its ends (frame 1 stands in for frame -1, the last but one for the one
        after the last): repeating the end frame would show a blind-spot network its own pixel.
        Raises LowdoseError when the sequence is too short, such as one frame for wcvd.
        """
        results = []
        while (frame := self._core.flush()) is not None:
            results.append(frame)
        return results

    def reset(self) -> None:
        """Forget all frames, automatic choices and statistics: the next frame begins a new scene."""
        self._core.reset()


class Model:
    """An opened model file. Attributes: name, path, sha256, metadata (dict), taps, device, kernels, runtime.

    kernels: the instruction set of the compiled kernels in use, None when ONNX Runtime runs the whole graph.
    """

    def __init__(self, path: Path, name: str, device: str, kernels: bool) -> None:
        self.name = name
        self.path = path
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._core = open_on_device(path, device, kernels)
        self.device: str = self._core.device
        self.kernels: str | None = self._core.kernels
        self.runtime = f"onnxruntime {self._core.runtime_version}"
        if self.kernels:
            self.runtime += f" with {self.kernels} kernels"
        self.metadata: dict[str, Any] = json.loads(self._core.metadata)
        self.taps: list[int] = self.metadata["taps"]["offsets"]

    def stream(
        self,
        height: int,
        width: int,
        dtype: DTypeLike = np.float32,
        *,
        out_dtype: DTypeLike = np.float32,
        settings: Settings | None = None,
        threads: int = 0,
        tile: int = 0,
        max_bytes: float = 0,
    ) -> Stream:
        """Prepare a stream of frames (height, width); everything slow happens here, not in the first push.

        dtype: uint8, uint16, int16, uint32, float32 or float64. out_dtype: the same choice; integers are
        rounded and clipped. settings: None for automatic choice from the first frames, made when the first
        result is due. threads: 0 for one per core. tile: largest tile side in pixels, 0 for as large as
        max_bytes (0: no cap) allows; tiled and whole results differ by less than 1e-5 of the output range.
        Raises LowdoseError for frames smaller than the kernels and for a cap that is too small.
        """
        settings = settings or Settings()
        return Stream(
            _core.Stream(
                self._core,
                height,
                width,
                dtype_in=np.dtype(dtype).name,
                dtype_out=np.dtype(out_dtype).name,
                threads=threads,
                tile=tile,
                max_bytes=max_bytes,
                weight_set=settings.weight_set,
                cutoff=settings.cutoff,
                offset=settings.offset,
            )
        )

    def choose(self, windows: NDArray[np.float32], settings: Settings, threads: int = 0) -> Settings:
        """Fill in what `settings` leaves open, from windows (n_windows, n_taps, height, width) of noisy frames.

        The smallest estimated risk decides (cpp/src/choice.hpp says how); no truth and no noise level is needed.
        """
        if settings.complete:
            return settings
        chosen = self._core.choose(windows, settings.weight_set, settings.cutoff, settings.offset, threads)
        return Settings(chosen.weight_set, chosen.cutoff, chosen.offset)

    def denoise(
        self,
        stack: ArrayLike,
        *,
        out_dtype: DTypeLike = np.float32,
        settings: Settings | None = None,
        threads: int = 0,
        tile: int = 0,
        max_bytes: float = 0,
    ) -> NDArray[Any]:
        """Denoise a stack (n_frames, height, width), or one frame (height, width) with a single-frame model.

        Returns an array of the same shape; the ends of the sequence are handled as `Stream.flush` says.
        Settings that are left open are chosen once, from windows spread over the stack. The other
        arguments and errors are those of `stream`.
        """
        frames = np.asarray(stack)
        if frames.ndim not in (2, 3) or frames.size == 0:
            raise LowdoseError(
                f"expected a stack (n_frames, height, width) or a frame (height, width), given shape {frames.shape}"
            )
        if np.iscomplexobj(frames):
            raise LowdoseError("complex pixels cannot be denoised: give the modulus or the phase")
        sequence = frames[None] if frames.ndim == 2 else frames
        sequence = sequence.astype(sequence.dtype.newbyteorder("="), copy=False)
        self.check_length(len(sequence))
        settings = settings or Settings()
        if not settings.complete:
            settings = self.choose(sample_windows(sequence, self.taps), settings, threads)
        stream = self.stream(
            sequence.shape[1],
            sequence.shape[2],
            sequence.dtype,
            out_dtype=out_dtype,
            settings=settings,
            threads=threads,
            tile=tile,
            max_bytes=max_bytes,
        )
        results = [out for frame in sequence if (out := stream.push(frame)) is not None]
        return np.stack(results + stream.flush()).reshape(frames.shape)

    def weight_set_name(self, index: int | None) -> str | None:
        """Name of a weight set in the model's bank; None when it is not chosen yet."""
        return None if index is None else str(self.metadata["weight_sets"][index]["name"])

    def check_length(self, n_frames: int) -> None:
        """Raise LowdoseError when a sequence of `n_frames` is too short for the model."""
        needed = self.taps[-1] + 1
        if n_frames < needed:
            raise LowdoseError(
                f"{self.name} needs at least {needed} frames and was given {n_frames}; "
                "use a single-frame model (--model wcid)"
            )


def open_on_device(path: Path, device: str, kernels: bool) -> _core.Model:
    """Open on exactly `device`; "auto" takes the first of the available ones that opens the model."""
    if device != "auto":
        check_device(device)
        return _core.Model(str(path), runtime_path(), device, kernels)
    *accelerators, cpu = available_devices()
    for candidate in accelerators:
        try:
            return _core.Model(str(path), runtime_path(), candidate, kernels)
        except LowdoseError:
            continue  # built for a GPU, but none is here; Model.device says what was taken
    return _core.Model(str(path), runtime_path(), cpu, kernels)


def bundled_models() -> dict[str, Path]:
    """Names and paths of the models that come with lowdose."""
    folder = Path(str(files("lowdose") / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def load(name_or_path: str | Path, *, device: str = "auto", kernels: bool = True) -> Model:
    """Open a bundled model by name ("wcvd", "wcid") or a model file by path.

    device: "auto", "cpu", "cuda[:N]" or "tensorrt[:N]"; an explicit device that is not there is an error.
    kernels: on the CPU, run compiled kernels instead of the functions in the file (`False`: to compare, or in doubt).
    The environment variable LOWDOSE_CPU lowers their instruction set: avx512, avx2, sse4.2 or portable.
    Raises LowdoseError for an unknown name and for a file that is not ONNX, lacks lowdose's metadata or
    follows a newer spec.
    """
    bundled = bundled_models()
    if str(name_or_path) in bundled:
        return Model(bundled[str(name_or_path)], str(name_or_path), device, kernels)
    path = Path(name_or_path)
    if not path.is_file():
        raise LowdoseError(f"no model '{name_or_path}': expected a file or one of {', '.join(bundled)}")
    return Model(path, path.stem, device, kernels)
