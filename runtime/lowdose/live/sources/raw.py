"""`raw:-` and `tcp://HOST:PORT`: pixels without headers, frame after frame, of a shape and dtype that one says."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io.layout import frame_dtype
from lowdose.live.frame import END, Item, Source, SourceOptions
from lowdose.live.sources.connection import POLL_S, Broken, Connection, Stopped, split_address
from lowdose.source import Frame

_CHUNK_BYTES = 2**18


class RawFrames:
    """Turns bytes into frames."""

    def __init__(self, address: str, options: SourceOptions) -> None:
        if options.shape is None or options.dtype is None:
            raise LowdoseError(f"{address}: raw frames say nothing of themselves: give --shape HxW and --dtype-in")
        if options.dtype.kind not in "uif":
            raise LowdoseError(f"{address}: pixels of type {options.dtype} are not real numbers")
        self.shape, self.dtype = options.shape, options.dtype
        self.n_bytes = self.shape[0] * self.shape[1] * self.dtype.itemsize

    def frame(self, data: bytearray) -> Frame:
        pixels: Frame = np.frombuffer(data, self.dtype).reshape(self.shape)
        return pixels.astype(frame_dtype(self.dtype), copy=False)


class RawSocket(Source):
    """Raw frames from a TCP server. When it closes or dies the sequence ends, and the connection is made again."""

    def __init__(self, address: str, options: SourceOptions) -> None:
        super().__init__()
        self.host, self.port = split_address(address, None, "tcp://HOST:PORT")
        self.raw = RawFrames(f"tcp://{address}", options)

    def frames(self) -> Iterator[Item]:
        while True:
            try:
                connection = Connection(self.host, self.port, self.stopping)
            except Stopped:
                return
            try:
                while True:
                    yield self.raw.frame(connection.read(self.raw.n_bytes))
            except Stopped:
                return
            except Broken as error:
                if "after 0 of" not in str(error):
                    self.survived("torn_frames", f"tcp://{self.host}:{self.port}: a frame was cut off: {error}")
                self.counters["disconnects"] += 1
                yield END
            finally:
                connection.close()


class RawPipe(Source):
    """`raw:-`, raw frames on standard input, or `raw:FILE`, in a file or named pipe; to its end."""

    def __init__(self, address: str, options: SourceOptions) -> None:
        super().__init__()
        self.address = address
        self.raw = RawFrames(f"raw:{address}", options)

    def frames(self) -> Iterator[Item]:
        if self.address == "-":
            yield from self._read(sys.stdin.fileno())
        else:
            with Path(self.address).open("rb", buffering=0) as file:
                yield from self._read(file.fileno())

    def _read(self, descriptor: int) -> Iterator[Item]:
        data = bytearray()
        while not self.stopping.is_set():
            # Windows selects on sockets only; there a read waits until something comes.
            if os.name != "nt" and not select.select([descriptor], [], [], POLL_S)[0]:
                continue
            chunk = os.read(descriptor, min(_CHUNK_BYTES, self.raw.n_bytes - len(data)))
            if not chunk:
                if data:
                    self.survived("torn_frames", f"raw:{self.address}: it ends {len(data)} bytes into a frame")
                yield END
                return
            data += chunk
            if len(data) == self.raw.n_bytes:
                yield self.raw.frame(data)
                data = bytearray()
