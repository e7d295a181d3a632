"""Open a model file and run it: the whole Python interface to denoising."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lowdose import _core
from lowdose.devices import available_devices, check_device, runtime_path
from lowdose.engine_file import EngineKey, is_engine
from lowdose.errors import LowdoseError
from lowdose.sample import sample_windows
from lowdose.source import ArraySource, FrameSource
from lowdose.tensorrt_rtx import open_engine


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
    """Denoises frames as they come. Made by `Model.stream`; a second thread may call `replace` and nothing else."""

    def __init__(self, core: _core.Stream) -> None:
        self._core = core

    @property
    def latency_frames(self) -> int:
        """How many frames a result comes after its frame: 1 for wcvd, 0 for wcid, a row and one for a scan's cross.

        With batches up to so many, batch - 1 more than without.
        """
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
        """Frames in and out, tiles per frame, and per stage count, mean, p50, p95, p99 and max in ms.

        `total` is from push to result; `replaced` counts the models that took over (see `replace`).
        """
        return {"n_tiles": self.n_tiles, **self._core.statistics()}

    def push(self, frame: Any) -> Any:
        """Take one frame of the stream's dtype; return the next result (an array), or None at the start.

        A frame is (height, width), for models of several channels (n_channels, height, width): an array, or whatever
        gives a buffer or a DLPack capsule of the CPU's memory, taken without a copy. On the device "cuda" it may lie on
        that GPU (a tensor of PyTorch, an array of CuPy, whatever speaks DLPack); the result is there too then, for
        `torch.from_dlpack` or `cupy.from_dlpack`, and nothing is copied. The patterns of a scan come row by row.
        Raises LowdoseError for another shape or dtype, for NaN or infinite pixels and for a frame behind the scan's
        last position; such a frame is not taken.
        """
        return self._core.push(frame)

    def flush(self) -> list[Any]:
        """End the sequence and return the results still due, so that as many frames come out as went in.

        They lie where the last frame did.

        Models that hide only their own frame's pixel see the sequence mirrored at its ends (frame 1 stands in for
        frame -1): repeating the end frame would show them the pixel. A scan may be flushed before it is complete.
        Raises LowdoseError when the sequence is too short, such as one frame for wcvd.
        """
        results = []
        while (frame := self._core.flush()) is not None:
            results.append(frame)
        return results

    def new_frame(self) -> NDArray[Any]:
        """An array of the stream's shape and dtype to write a frame into, not initialised.

        On the device "cuda" the GPU reads it itself (page-locked memory; a few such arrays and results at a time, then
        ordinary ones), so a frame that is written there is not copied again before it crosses the bus.
        """
        return self._core.new_frame()

    def reset(self) -> None:
        """Forget all frames, automatic choices and statistics: the next frame begins a new scene."""
        self._core.reset()

    def replace(self, model: Model, settings: Settings | None = None) -> None:
        """Exchange the weights between two frames: `model` takes over from the next result on, and no frame is lost.

        Everything slow happens here. It may be called by one thread while another one pushes. Frames that wait,
        statistics and the offset stay (one in `settings` is not looked at). A model with several weight sets or a
        low-pass needs its weight_set and cutoff, for nothing is chosen in a running stream; `stream.settings` holds
        those in force. Until the next result both models are in memory, beyond max_bytes. Raises LowdoseError, and
        leaves the stream as it was, for a model with other taps, channels or rules or for frames of another size, and
        for settings that are missing or that it does not have.
        """
        settings = model.with_built_in(settings or Settings())
        self._core.replace(model._core, settings.weight_set, settings.cutoff)


class Model:
    """An opened model file. Attributes: name, path, sha256, metadata (dict), device, kernels, runtime, channels, scan.

    kernels: the instruction set of the compiled kernels in use, "cuda" for those on a GPU, None when ONNX Runtime runs
    the whole graph.
    channels: their names. scan: True when the model takes the patterns of a scan, not frames along time.
    """

    def __init__(self, path: Path, name: str, core: _core.Model, runtime: str, key: EngineKey | None = None) -> None:
        """runtime: what runs it, in words. key: of an engine, whose settings and batch are final."""
        self.name = name
        self.path = path
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._core = core
        self.device: str = core.device
        self.kernels: str | None = core.kernels
        self.runtime = f"{runtime} with {self.kernels} kernels" if self.kernels else runtime
        self._built_in = Settings(key.weight_set, key.cutoff or NO_LOW_PASS) if key else Settings()
        self._batch = key.batch if key else None
        self.metadata: dict[str, Any] = json.loads(self._core.metadata)
        self.channels: list[str] = self.metadata["channels"]
        self.scan: bool = self.metadata["taps"]["axis"] == "scan"
        self.has_choice: bool = bool(self.metadata["low_pass"]) or len(self.metadata["weight_sets"]) > 1

    @property
    def taps(self) -> list[int]:
        """Offsets along time of the frames that the network sees; [0] for a scan."""
        return [0] if self.scan else list(self.metadata["taps"]["offsets"])

    def stream(
        self,
        height: int,
        width: int,
        dtype: DTypeLike = np.float32,
        *,
        out_dtype: DTypeLike = np.float32,
        scan: tuple[int, int] | None = None,
        settings: Settings | None = None,
        threads: int = 0,
        tile: int = 0,
        max_bytes: float = 0,
        batch: int | None = None,
    ) -> Stream:
        """Prepare a stream of frames (height, width); everything slow happens here, not in the first push.

        scan: the positions (scan_y, scan_x) of a scan, for models that see scan neighbours.
        dtype: uint8, uint16, int16, uint32, float32 or float64. out_dtype: the same choice; integers are
        rounded and clipped. settings: None for automatic choice from the first frames, made when the first
        result is due. threads: 0 for one per core. tile: largest tile side in pixels, 0 for as large as
        max_bytes (0: no cap) allows; tiled and whole results differ by less than 1e-5 of the output range.
        batch: frames or patterns of one run, for throughput on a GPU: the first result comes batch - 1 frames later,
        and with it as many as the next pushes return; None: 1, or what an engine was built for. Raises LowdoseError for
        frames smaller than the kernels, for a cap that is too small, for a batch with models that take results of one
        frame for the next (udvd along time) or denoise blocks of frames, and for what an engine was not built for.
        """
        settings = self.with_built_in(settings or Settings())
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
                batch=self.frames_per_run(batch),
                weight_set=settings.weight_set,
                cutoff=settings.cutoff,
                offset=settings.offset,
                scan=scan,
            )
        )

    def choose(self, windows: NDArray[np.float32], settings: Settings, threads: int = 0) -> Settings:
        """Fill in what `settings` leaves open, from windows (n_windows, n_taps, height, width) of noisy frames.

        The smallest estimated risk decides (cpp/src/choice.hpp says how); no truth and no noise level is needed.
        """
        settings = self.with_built_in(settings)
        if settings.complete:
            return settings
        if len(self.channels) > 1:  # nothing is chosen for them
            return Settings(0, NO_LOW_PASS, 0.0)
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
        batch: int | None = None,
    ) -> NDArray[Any]:
        """Denoise a stack (n_frames, height, width), a frame (height, width) or, with its model, a scan.

        For models of several channels these are (n_frames, n_channels, height, width) and (n_channels, height,
        width); a scan is (scan_y, scan_x, height, width). Returns an array of the same shape; the ends of the sequence
        are handled as `Stream.flush` says. Settings that are left open are chosen once, from windows spread over the
        stack. The other arguments and errors are those of `stream`.
        """
        given = np.asarray(stack)
        one_frame = not self.scan and given.ndim == (2 if len(self.channels) == 1 else 3)
        frames = ArraySource(given[None] if one_frame else given, n_channels=len(self.channels), is_scan=self.scan)
        settings = self.settings_for(frames, settings or Settings(), threads)
        stream = self.stream(
            frames.height,
            frames.width,
            frames.dtype,
            out_dtype=out_dtype,
            scan=frames.scan,
            settings=settings,
            threads=threads,
            tile=tile,
            max_bytes=max_bytes,
            batch=batch,
        )
        results = [out for frame in frames if (out := stream.push(frame)) is not None]
        return np.stack(results + stream.flush()).reshape(given.shape)

    def settings_for(self, frames: FrameSource, settings: Settings, threads: int = 0) -> Settings:
        """Fill in what `settings` leaves open, from windows spread over `frames`.

        Raises LowdoseError for a sequence that is too short and for NaN or infinite pixels in the windows.
        """
        self.check_length(len(frames))
        settings = self.with_built_in(settings)
        if settings.complete:
            return settings
        return self.choose(sample_windows(frames, self.taps if self.has_choice else [0]), settings, threads)

    def frames_per_run(self, batch: int | None) -> int:
        """What `batch` of `stream` stands for."""
        return (self._batch or 1) if batch is None else batch

    def with_built_in(self, settings: Settings) -> Settings:
        """`settings` with those that are final in an engine. Raises LowdoseError where it has others."""
        if self._built_in == Settings():
            return settings
        for name in ("weight_set", "cutoff"):
            there, given = getattr(self._built_in, name), getattr(settings, name)
            if given is not None and np.float32(given) != np.float32(there):
                raise LowdoseError(
                    f"the engine {self.path} was built with {name} {there:g}, given {given:g}: leave it out, or build "
                    "an engine with that"
                )
        return replace(self._built_in, offset=settings.offset)

    def weight_set_name(self, index: int | None) -> str | None:
        """Name of a weight set in the model's bank; None when it is not chosen yet."""
        return None if index is None else str(self.metadata["weight_sets"][index]["name"])

    def check_length(self, n_frames: int) -> None:
        """Raise LowdoseError when a sequence of `n_frames` is too short for the model."""
        mirrored = self.metadata["ends"] == "mirror" and not self.scan and not self.metadata.get("block")
        needed = max(abs(tap) for tap in self.taps) + 1 if mirrored else 1
        if n_frames < needed:
            raise LowdoseError(
                f"{self.name} needs at least {needed} frames and was given {n_frames}; "
                "use a single-frame model (--model wcid)"
            )


def open_file(path: Path, name: str, device: str, kernels: bool) -> Model:
    """Open a model file on exactly `device`; "auto" takes the first of the available ones that opens it."""

    def opened(on: str) -> Model:
        core = _core.OnnxModel(str(path), runtime_path(), on, kernels)
        return Model(path, name, core, f"onnxruntime {core.runtime_version}")

    if device != "auto":
        check_device(device)
        return opened(device)
    *accelerators, cpu = available_devices()
    for candidate in accelerators:
        try:
            return opened(candidate)
        except LowdoseError:
            continue  # it does not take all of this graph; Model.device says what was taken
    return opened(cpu)


def bundled_models() -> dict[str, Path]:
    """Names and paths of the models that come with lowdose."""
    folder = Path(str(files("lowdose") / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def load(name_or_path: str | Path, *, device: str = "auto", kernels: bool = True) -> Model:
    """Open a bundled model by name ("wcvd", "wcid"), or a model or engine file by path.

    device: "auto", "cpu", or "cuda", "tensorrt", "rtx" or "directml" with or without ":N"; an explicit device that is
    not there, or does not take all of the graph, is an error.
    kernels: on "cpu" and "cuda", run compiled kernels instead of the functions in the file (`False`: to compare, or in
    doubt).
    The environment variable LOWDOSE_CPU lowers their instruction set: avx512, avx2, sse4.2 or portable.
    An engine (`lowdose engine build`) runs on TensorRT-RTX's own runtime, on "rtx" only, with the settings and the
    batch that it was built with.
    Raises LowdoseError for an unknown name, for a file that is not ONNX, lacks lowdose's metadata or follows a newer
    spec, and for an engine that was built by another version or for other GPUs.
    """
    bundled = bundled_models()
    if str(name_or_path) in bundled:
        return open_file(bundled[str(name_or_path)], str(name_or_path), device, kernels)
    path = Path(name_or_path)
    if not path.is_file():
        raise LowdoseError(f"no model '{name_or_path}': expected a file or one of {', '.join(bundled)}")
    if is_engine(path):
        core, engine, runtime = open_engine(path, device)
        return Model(path, path.stem, core, runtime, engine.key)
    return open_file(path, path.stem, device, kernels)
