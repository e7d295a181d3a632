"""TensorRT-RTX: its package, and engine files on its own runtime."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lowdose import _core
from lowdose.devices import DEVICES, load_nvidia_libraries, with_advice
from lowdose.engine_file import Engine, cache_folder, check_runs_here, read_engine, write_whole
from lowdose.errors import LowdoseError

PACKAGE = "tensorrt_rtx"

Start = Callable[[int], None]
"""Puts one run into a queue of work, given as the address of its CUstream."""


def package(purpose: str) -> Any:
    """TensorRT-RTX. Raises LowdoseError where it is not installed; purpose: for its message, what needs it."""
    if find_spec(PACKAGE) is None:
        raise LowdoseError(f"{purpose} needs TensorRT-RTX, which is not installed: {DEVICES['rtx'].command}")
    return importlib.import_module(PACKAGE)


def name_with_version(package: Any) -> str:
    """As engine files have it."""
    return f"TensorRT-RTX {package.__version__}"


class Messages:
    """What parser, builder and runtime say, most of it of no use unless they fail."""

    def __init__(self, package: Any) -> None:
        severity = package.ILogger.Severity
        self.texts: list[str] = []
        texts = self.texts

        class Logger(package.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                package.ILogger.__init__(self)

            def log(self, level: Any, text: str) -> None:
                if level in (severity.INTERNAL_ERROR, severity.ERROR):
                    texts.append(text)

        self.logger = Logger()

    def __str__(self) -> str:
        return "; ".join(self.texts) or "it does not say why"


class Plan:
    """An engine's plan, on the GPU that is the calling thread's. Raises LowdoseError when it cannot be read there.

    kernels: a file for what TensorRT-RTX compiles for that GPU, so that the next process need not; it is written anew
    where it is not there, or TensorRT-RTX does not take it.
    """

    def __init__(self, path: Path, plan: bytes, package: Any, kernels: Path) -> None:
        self.path = path
        self.package = package
        self.kernels = kernels
        self.messages = Messages(package)
        self.runtime = package.Runtime(self.messages.logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise LowdoseError(f"{name_with_version(package)} cannot read the engine {path}: {self.messages}")

    def open(self, addresses: dict[str, int]) -> Start:
        """An execution context of its own, for tensors at these addresses on the GPU. Raises LowdoseError."""
        engine = self.engine
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        if names != set(addresses):
            raise LowdoseError(f"{self.path} has the tensors {sorted(names)}, expected {sorted(addresses)}")
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = self.package.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        compiled = config.create_runtime_cache()
        known = self.kernels.is_file() and compiled.deserialize(self.kernels.read_bytes())
        config.set_runtime_cache(compiled)
        context = engine.create_execution_context(config)
        if context is None:
            raise LowdoseError(f"the engine {self.path} cannot be made ready: {self.messages}")
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise LowdoseError(f"the engine {self.path} refuses the memory of {name}: {self.messages}")

        def start(queue: int) -> None:
            nonlocal known
            if not context.execute_async_v3(queue):
                raise LowdoseError(f"the engine {self.path} failed to run: {self.messages}")
            if not known:  # the first run has compiled what was missing
                known = True
                with contextlib.suppress(OSError):  # a folder that cannot be written to costs time and nothing else
                    write_whole(self.kernels, bytes(compiled.serialize()))

        return start


def open_engine(path: Path, device: str) -> tuple[_core.EngineModel, Engine, str]:
    """The engine file `path` on a GPU: the opened model, what the file holds, and what runs it, in words.

    device: "auto", or "rtx" with or without ":N". Raises LowdoseError for another device, a file that is damaged, was
    built by another version or for other GPUs, and where TensorRT-RTX or the GPU is not there.
    """
    engine = read_engine(path)
    if not re.fullmatch(r"auto|rtx(:\d+)?", device):
        raise LowdoseError(f"{path} is an engine, which runs on the device rtx (rtx:N), not on '{device}'")
    device = "rtx" if device == "auto" else device
    runtime = package(f"running the engine {path}")
    name = name_with_version(runtime)
    load_nvidia_libraries()
    try:
        capability = _core.use_gpu(device)
    except LowdoseError as error:
        raise LowdoseError(f"{path} needs an NVIDIA RTX GPU: {with_advice(str(error), DEVICES['rtx'])}") from error
    check_runs_here(path, engine.key, name, capability)
    kernels = cache_folder() / f"{engine.key.digest[:16]}-{device.replace(':', '-')}.kernels"
    plan = Plan(path, engine.plan, runtime, kernels)
    return model_of(path, engine, device, plan.open), engine, name


def model_of(path: Path, engine: Engine, device: str, open: Callable[[dict[str, int]], Start]) -> _core.EngineModel:
    key = engine.key
    return _core.EngineModel(
        path.name,
        json.dumps(engine.metadata),
        height=key.height,
        width=key.width,
        batch=key.batch,
        weight_set=key.weight_set,
        cutoff=_core.CUTOFF_NONE if key.cutoff is None else key.cutoff,
        device=device,
        open=open,
    )
