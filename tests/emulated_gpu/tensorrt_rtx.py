"""What lowdose calls of TensorRT-RTX's runtime, for the emulated GPU: a plan is an ONNX graph that ONNX Runtime runs.

That the names are those of the package is tested in ../test_engine_file.py.
"""

import ctypes
import enum

import numpy as np
import onnxruntime

__version__ = "0.0.1"

ComputeCapability = enum.Enum("ComputeCapability", ["SM89"])
CudaGraphStrategy = enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])


class ILogger:
    Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING"])


class Runtime:
    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, plan):
        if plan == b"not a plan":
            self.logger.log(ILogger.Severity.ERROR, "Magic tag does not match")
            return None
        return Engine(plan)


class Engine:
    def __init__(self, plan):
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index):
        return (self.inputs + self.outputs)[index].name

    def create_runtime_config(self):
        return Config()

    def create_execution_context(self, config):
        assert config.cuda_graph_strategy is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return Context(self, config.cache)


class Config:
    cuda_graph_strategy = CudaGraphStrategy.DISABLED
    cache = None

    def create_runtime_cache(self):
        return RuntimeCache()

    def set_runtime_cache(self, cache):
        self.cache = cache
        return True


class RuntimeCache:
    contents = b""

    def deserialize(self, blob):
        if blob.startswith(b"kernels"):
            self.contents = blob
        return bool(self.contents)

    def serialize(self):
        return memoryview(self.contents)


class Context:
    n_compiled = 0

    def __init__(self, engine, cache):
        self.engine, self.cache = engine, cache
        self.arrays = {}

    def set_tensor_address(self, name, address):
        tensor = next(tensor for tensor in self.engine.inputs + self.engine.outputs if tensor.name == name)
        pixels = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        self.arrays[name] = np.ctypeslib.as_array(pixels, tuple(tensor.shape))
        return address % 256 == 0  # as TensorRT wants it

    def execute_async_v3(self, queue):
        assert queue
        if not self.cache.contents:
            self.cache.contents = b"kernels"
            Context.n_compiled += 1
        inputs = {tensor.name: self.arrays[tensor.name] for tensor in self.engine.inputs}
        names = [tensor.name for tensor in self.engine.outputs]
        for name, values in zip(names, self.engine.session.run(names, inputs), strict=True):
            self.arrays[name][...] = values
        return True
