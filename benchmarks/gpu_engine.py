"""Engines on TensorRT-RTX's own runtime, with PyTorch for the memory of the device."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from lowdose.engine_file import check_runs_here, read_engine
from lowdose.errors import LowdoseError
from lowdose_export.engine import build_engine, builder_name, engine_key
from lowdose_export.engine_builder import builder_package, check_targets
from lowdose_export.engine_graph import engine_graph


class OpenEngine:
    """An engine for the GPU that is here. tensors: its inputs and outputs on the device, by name."""

    def __init__(self, path: Path, size: tuple[int, int], precision: str) -> None:
        capability = "{}.{}".format(*torch.cuda.get_device_capability())
        check_targets([capability])
        key = engine_key(path, size, precision=precision, targets=(capability,))
        self.file = build_engine(path, key)
        check_runs_here(self.file, key, builder_name(), capability)
        package = builder_package()
        self.logger = package.Logger(package.ILogger.Severity.ERROR)
        self.runtime = package.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(read_engine(self.file).plan)
        if self.engine is None:
            raise LowdoseError(f"TensorRT-RTX cannot read the engine {self.file}")
        self.context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.tensors = {name: torch.ones(tuple(self.engine.get_tensor_shape(name)), device="cuda") for name in names}
        for name, tensor in self.tensors.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        stream: Callable[[], Any] = torch.cuda.Stream
        self.stream = stream()

    def run(self) -> None:
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise LowdoseError(f"the engine {self.file} failed to run")


def engine_step(path: Path, side: int, precision: str) -> Callable[[], Any]:
    """The newest frame to the device, one run, one frame back.

    The other frames stay on the device, and UDVD's states are fed back there.
    """
    engine = OpenEngine(path, (side, side), precision)
    tensors = engine.tensors
    frames = sorted((name for name in tensors if name.startswith("frame_")), key=lambda name: int(name[6:]))
    newest = torch.rand(tensors[frames[-1]].shape).pin_memory()
    result = torch.empty_like(tensors["denoised"], device="cpu").pin_memory()

    def step() -> Any:
        with torch.cuda.stream(engine.stream):
            for older, newer in pairwise(frames):
                tensors[older].copy_(tensors[newer], non_blocking=True)
            tensors[frames[-1]].copy_(newest, non_blocking=True)
            engine.run()
            if "state" in tensors:
                tensors["state_0"].copy_(tensors["state_1"], non_blocking=True)
                tensors["state_1"].copy_(tensors["state"], non_blocking=True)
            result.copy_(tensors["denoised"], non_blocking=True)
        engine.stream.synchronize()
        return result

    return step


def engine_difference(path: Path, size: tuple[int, int], precision: str) -> float:
    """Largest difference to the float32 graph in ONNX Runtime on the CPU, as a share of the output's range."""
    graph = engine_graph(path, size).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {value.name: 1 + random.random(value.shape, np.float32) for value in session.get_inputs()}
    (expected,) = session.run(["denoised"], feeds)
    engine = OpenEngine(path, size, precision)
    for name, values in feeds.items():
        engine.tensors[name].copy_(torch.from_numpy(values))
    torch.cuda.synchronize()
    engine.run()
    engine.stream.synchronize()
    return float(np.abs(engine.tensors["denoised"].cpu().numpy() - expected).max() / np.ptp(expected))
