"""`dectris://HOST:PORT`: DECTRIS detectors' SIMPLON stream over ZeroMQ, in JSON (port 9999) or CBOR (stream 2, 31001).

Which of the two it is shows in each message. CBOR is read by its public description and was tested against messages
made here, never against a detector or a simulator of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import zmq
from dectris.compression import decompress

from lowdose.errors import LowdoseError
from lowdose.live.frame import END, Item, LiveFrame, Source, SourceOptions
from lowdose.live.sources.connection import POLL_S, split_address
from lowdose.live.sources.dectris_cbor import Image, decode_message
from lowdose.source import Frame

STREAM_PORT = 9999
_MAX_WAITING = 1000
_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")


class DectrisSource(Source):
    """Frames of one detector; the numbers are the series' own. options.channel: which threshold, of several (CBOR).

    Arm and trigger as usual: this pulls from the stream port and sends nothing. ZeroMQ connects again by itself and
    gives whole messages only; a message that cannot be read is counted and passed over.
    """

    def __init__(self, address: str, options: SourceOptions) -> None:
        super().__init__()
        self.host, self.port = split_address(address, STREAM_PORT, "dectris://HOST or dectris://HOST:PORT")
        self.channel = options.channel or 0
        self._series: object = None

    def frames(self) -> Iterator[Item]:
        context = zmq.Context()
        socket = context.socket(zmq.PULL)
        socket.setsockopt(zmq.RCVHWM, _MAX_WAITING)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(f"tcp://{self.host}:{self.port}")
            while not self.stopping.is_set():
                if not socket.poll(int(POLL_S * 1e3)):
                    continue
                parts = socket.recv_multipart()
                try:
                    yield from self._items(parts)
                except LowdoseError as error:
                    self.survived("garbage", f"dectris://{self.host}: {error}")
        finally:
            socket.close()
            context.term()

    def _items(self, parts: Sequence[bytes]) -> Iterator[Item]:
        if not parts[0].lstrip().startswith(b"{"):
            yield from self._of_series(decode_message(parts[0], self.channel))
            return
        told = read_json(parts[0])
        kind = told.get("htype")
        if kind == "dimage-1.0":
            yield from self._of_series(json_image(told, parts))
        elif kind in ("dheader-1.0", "dseries_end-1.0"):
            yield from self._of_series(told.get("series"))
        elif kind is not None:
            raise LowdoseError(f"a message of the unknown kind {kind!r}")
        # The detector's settings follow the header, without a kind where they come alone.

    def _of_series(self, told: Image | object) -> Iterator[Item]:
        """An image, with END before it where it is the first of a series; END for what opens or closes one."""
        if not isinstance(told, Image):
            self._series = None
            yield END
            return
        if told.series != self._series:
            self._series = told.series
            yield END
        yield LiveFrame(told.pixels, told.number, told.time)


def read_json(part: bytes) -> dict[str, Any]:
    try:
        told = json.loads(part)
    except ValueError as error:
        raise LowdoseError(f"a message that is neither JSON nor CBOR: {bytes(part[:20])!r} ({error})") from error
    if not isinstance(told, dict):
        raise LowdoseError(f"a message that is not an object: {bytes(part[:20])!r}")
    return told


def json_image(told: dict[str, Any], parts: Sequence[bytes]) -> Image:
    """The image of a dimage-1.0 message: its header, what the pixels are, the pixels, and times in ns."""
    if len(parts) < 3:
        raise LowdoseError(f"an image of {len(parts)} parts, expected 3 or more")
    what = read_json(parts[1])
    times = read_json(parts[3]) if len(parts) > 3 else {}
    try:
        width, height = (int(side) for side in what["shape"][:2])
        kind, encoding = str(what["type"]), str(what["encoding"])
        series, number = told["series"], int(told["frame"])
    except (KeyError, TypeError, ValueError) as error:
        raise LowdoseError(f"an image without shape, type, encoding, series or frame ({error!r})") from error
    if kind not in _TYPES:
        raise LowdoseError(f"pixels of type {kind!r}; known: {', '.join(_TYPES)}")
    dtype = np.dtype(kind).newbyteorder(">" if encoding.endswith(">") else "<")
    pixels = json_pixels(parts[2], encoding, dtype, height, width)
    return Image(series, number, str(times.get("start_time", "")), pixels)


def json_pixels(data: bytes, encoding: str, dtype: np.dtype[Any], height: int, width: int) -> Frame:
    """Pixels that are plain ("<") or behind bitshuffle and LZ4 ("bs16-lz4<"), as (height, width), native."""
    packing = encoding.rstrip("<>")
    if packing and packing != f"bs{8 * dtype.itemsize}-lz4":
        raise LowdoseError(f"the encoding {encoding!r}; set the stream's compression to bslz4 or none")
    if packing:
        try:
            data = decompress(data, "bslz4", elem_size=dtype.itemsize)
        except (RuntimeError, ValueError) as error:
            raise LowdoseError(f"an image that cannot be unpacked ({error})") from error
    if len(data) != height * width * dtype.itemsize:
        raise LowdoseError(f"an image of {len(data)} bytes, expected {height}x{width} {dtype}")
    pixels: Frame = np.frombuffer(data, dtype).reshape(height, width)
    return pixels.astype(dtype.newbyteorder("="), copy=False)
