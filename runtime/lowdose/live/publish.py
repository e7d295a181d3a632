"""Denoised frames for other programs: a ZeroMQ publisher."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import zmq

from lowdose.errors import LowdoseError
from lowdose.live.arrival import Result
from lowdose.live.output.record import iso_time

# Frames that a slow subscriber may be behind before it misses some.
_MOST_WAITING = 16


class Publisher:
    """A listener of a live run that publishes at `address`, such as tcp://127.0.0.1:5556.

    A message has two parts: JSON with number, sequence, shape, dtype, time, arrived and latency_ms; and the pixels in C
    order, little-endian. Subscribers that are slow miss frames and see it by the numbers; the stream never waits.
    Raises LowdoseError when the address cannot be taken.
    """

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_WAITING)
        self._socket.setsockopt(zmq.LINGER, 1000)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise LowdoseError(f"--publish {address}: {error}; give an address such as tcp://127.0.0.1:5556") from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def show(self, result: Result, status: Callable[[], dict[str, Any]]) -> None:
        """Publish one result."""
        arrival = result.arrival
        pixels = result.pixels.astype(result.pixels.dtype.newbyteorder("<"), copy=False)
        told = {
            "number": arrival.frame.number,
            "sequence": arrival.sequence,
            "shape": list(pixels.shape),
            "dtype": pixels.dtype.str,
            "time": arrival.frame.time,
            "arrived": iso_time(arrival.arrived_ns),
            "latency_ms": round(result.latency_ms, 3),
        }
        self._socket.send_multipart([json.dumps(told).encode(), pixels.tobytes()], flags=zmq.DONTWAIT)

    def close(self) -> None:
        """Send what waits, for a second at most, and end."""
        self._socket.close()
        self._context.term()
