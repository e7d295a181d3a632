"""lowdose.h for ctypes: what the tests drive the C library with."""

from __future__ import annotations

import ctypes
from ctypes import (
    Structure,
    byref,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint32,
    c_uint64,
    c_void_p,
)

import numpy as np

OK, NONE, END = 0, 1, 2
DTYPES = {"uint8": 1, "uint16": 2, "int16": 3, "uint32": 4, "float32": 5, "float64": 6}


class EngineOptions(Structure):
    _fields_ = [("struct_bytes", c_size_t), ("runtime_path", c_char_p), ("log", c_void_p), ("log_user", c_void_p)]


class ModelOptions(Structure):
    _fields_ = [("struct_bytes", c_size_t), ("device", c_char_p), ("without_kernels", c_int32)]


class StreamOptions(Structure):
    _fields_ = [
        ("struct_bytes", c_size_t),
        *[(name, c_int32) for name in ("height", "width", "dtype_in", "dtype_out", "scan_y", "scan_x", "threads")],
        ("tile_px", c_int32),
        ("max_bytes", c_uint64),
        ("given", c_uint32),
        ("weight_set", c_int32),
        ("cutoff", c_float),
        ("offset", c_float),
        ("dark", c_void_p),
        ("gain", c_void_p),
        ("bad_pixels", c_void_p),
        ("policy", c_int32),
        ("queue_frames", c_int32),
        ("deadline_ms", c_double),
        ("progress", c_void_p),
        ("progress_user", c_void_p),
    ]


IMAGE = [
    ("struct_bytes", c_size_t),
    ("data", c_void_p),
    ("height", c_int32),
    ("width", c_int32),
    ("dtype", c_int32),
    ("reserved", c_int32),
    ("row_stride_bytes", c_ssize_t),
    ("channel_stride_bytes", c_ssize_t),
    ("sequence", c_uint64),
    ("timestamp", c_int64),
]


class Frame(Structure):
    _fields_ = IMAGE


class Result(Structure):
    _fields_ = [*IMAGE, ("n_dropped", c_uint64), ("age_ms", c_double), ("n_replaced", c_uint64)]


class Library:
    """The functions of a shared library, and one engine."""

    def __init__(self, path: str, runtime_path: str) -> None:
        self.functions = ctypes.CDLL(path)
        self.engine = c_void_p()
        message = ctypes.create_string_buffer(1024)
        options = EngineOptions(ctypes.sizeof(EngineOptions), runtime_path.encode(), None, None)
        status = self.functions.lowdose_engine_create(
            byref(options), byref(self.engine), message, c_size_t(len(message))
        )
        assert status == OK, message.value

    def close(self) -> None:
        self.functions.lowdose_engine_destroy(self.engine)

    def denoise(self, model_path: str, stack, *, scan=None, queue_frames=0, threads=1, out_dtype="float32"):
        """The results of a stack (n_frames, [n_channels,] height, width), pushed and popped one by one."""
        model, stream = c_void_p(), c_void_p()
        lib = self.functions
        options = StreamOptions()
        options.struct_bytes = ctypes.sizeof(StreamOptions)
        options.height, options.width = stack.shape[-2:]
        options.dtype_in, options.dtype_out = DTYPES[stack.dtype.name], DTYPES[out_dtype]
        options.scan_y, options.scan_x = scan or (0, 0)
        options.queue_frames = queue_frames
        options.threads = threads
        cpu = ModelOptions(ctypes.sizeof(ModelOptions), b"cpu", 0)
        assert lib.lowdose_model_open(self.engine, str(model_path).encode(), byref(cpu), byref(model)) == OK
        assert lib.lowdose_stream_open(model, byref(options), byref(stream)) == OK
        lib.lowdose_model_close(model)
        results = []

        def pop() -> int:
            out = np.empty(stack.shape[1:], out_dtype)
            result = Result()
            result.struct_bytes = ctypes.sizeof(Result)
            result.data = out.ctypes.data
            result.height, result.width, result.dtype = *stack.shape[-2:], DTYPES[out_dtype]
            status = lib.lowdose_stream_pop(stream, byref(result), c_double(-1 if queue_frames else 0))
            if status == OK:
                assert result.sequence == len(results)
                results.append(out)
            return status

        for i, pixels in enumerate(stack):
            frame = Frame()
            frame.struct_bytes = ctypes.sizeof(Frame)
            frame.data = pixels.ctypes.data
            frame.height, frame.width, frame.dtype = *stack.shape[-2:], DTYPES[stack.dtype.name]
            frame.sequence = i
            assert lib.lowdose_stream_push(stream, byref(frame)) == OK
            if not queue_frames:
                assert pop() in (OK, NONE)
        assert lib.lowdose_stream_flush(stream) == OK
        while (status := pop()) == OK:
            pass
        assert status == END
        lib.lowdose_stream_close(stream)
        return np.stack(results)
