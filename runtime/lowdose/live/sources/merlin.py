"""`merlin://HOST:PORT`: the data stream of Quantum Detectors' MerlinEM over TCP.

Messages are "MPX,", ten digits, "," and a body; the digits count the body and the comma before it. A body that begins
with HDR opens an acquisition and says in words how many frames it will have; one that begins with MQ1 is a frame as it
stands in a `.mib` file (`lowdose.io.mib`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lowdose.errors import LowdoseError
from lowdose.io.mib import decode, parse_header
from lowdose.live.frame import END, Item, LiveFrame, Source, SourceOptions
from lowdose.live.sources.connection import Broken, Connection, Stopped, split_address

DATA_PORT = 6342
_HEAD_BYTES = 15
_HEAD = re.compile(rb"MPX,(\d{10}),")
# 24 bits of 4096x4096 pixels are less.
_LONGEST_BYTES = 2**28


class MerlinSource(Source):
    """Frames of U08, U16, U32 and raw pixels (1, 6, 12, 24 bits), of one chip or of four; numbered from 0.

    The detector is the server; lowdose connects, waits for frames, and connects again when it has gone. Start
    acquisitions as usual: this reads the data port and sends nothing. What is no message is passed over and counted.
    """

    def __init__(self, address: str, options: SourceOptions) -> None:
        super().__init__()
        self.host, self.port = split_address(address, DATA_PORT, "merlin://HOST or merlin://HOST:PORT")
        self._first: int | None = None
        self._n_expected = 0
        self._n_frames = 0

    def frames(self) -> Iterator[Item]:
        while True:
            try:
                connection = Connection(self.host, self.port, self.stopping)
            except Stopped:
                return
            self._begin(1, 0)
            try:
                while True:
                    yield from self._items(self._message(connection))
            except Stopped:
                return
            except Broken as error:
                self.counters["disconnects"] += 1
                if "after 0 of 15 " not in str(error):
                    self.survived("torn_frames", f"merlin://{self.host}: a frame was cut off: {error}")
                yield END
            finally:
                connection.close()

    def _message(self, connection: Connection) -> bytearray:
        """The next body; what is no message before it is passed over."""
        head = connection.read(_HEAD_BYTES)
        n_passed = 0
        while not (found := _HEAD.fullmatch(head)) or not 0 < int(found[1]) <= _LONGEST_BYTES:
            start = head.find(b"M", 1)
            start = _HEAD_BYTES if start < 0 else start
            n_passed += start
            head = head[start:] + connection.read(start)
        if n_passed:
            self.survived("garbage", f"merlin://{self.host}: passed over {n_passed} bytes that are no message")
        return connection.read(int(found[1]) - 1)

    def _items(self, body: bytearray) -> Iterator[Item]:
        if body.startswith(b"HDR"):
            yield END
            told = re.search(rb"(?m)^Frames in Acquisition[^:\n]*:\s*(\d+)", body)
            self._begin(None, int(told[1]) if told else 0)
            return
        try:
            header = parse_header(bytes(body[:4096]), f"merlin://{self.host}")
            if len(body) != header.header_bytes + header.payload_bytes:
                raise LowdoseError(
                    f"merlin://{self.host}: a frame of {len(body)} bytes, and its header tells "
                    f"{header.header_bytes} + {header.payload_bytes}"
                )
        except LowdoseError as error:
            self.survived("garbage", str(error))
            return
        if self._first is None:
            self._first = header.number
        pixels = decode(header, bytes(memoryview(body)[header.header_bytes :]))
        yield LiveFrame(pixels, max(0, header.number - self._first), header.time)
        self._n_frames += 1
        if self._n_frames == self._n_expected:
            yield END

    def _begin(self, first: int | None, n_expected: int) -> None:
        """first: the number of an acquisition's first frame, None for the one that comes; n_expected: 0 for unknown."""
        self._first, self._n_expected, self._n_frames = first, n_expected, 0
