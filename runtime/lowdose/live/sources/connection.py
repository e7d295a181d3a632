"""A TCP connection that can be stopped while it waits, and that is made again when it breaks."""

from __future__ import annotations

import socket
import threading

from lowdose.errors import LowdoseError

POLL_S = 0.1
RETRY_S = 1.0
_CHUNK_BYTES = 2**18


class Stopped(Exception):
    """The run ends while a source waits for bytes."""


class Broken(Exception):
    """The other side closed the connection; its text says with how many bytes of the wanted ones."""


def split_address(address: str, port: int | None, example: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; without a port, the one given. Raises LowdoseError for anything else."""
    host, colon, digits = address.rstrip("/").rpartition(":")
    if not colon:
        host, digits = address.rstrip("/"), "" if port is None else str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not digits.isdigit() or not 0 < int(digits) < 65536:
        raise LowdoseError(f"'{address}': expected {example}")
    return host, int(digits)


class Connection:
    """Bytes from a TCP server, read exactly."""

    def __init__(self, host: str, port: int, stopping: threading.Event) -> None:
        """Connects, trying again until somebody listens. Raises Stopped."""
        self.stopping = stopping
        while True:
            try:
                self._socket = socket.create_connection((host, port), timeout=POLL_S)
                break
            except OSError:
                if stopping.wait(RETRY_S):
                    raise Stopped from None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        self._socket.settimeout(POLL_S)
        self._spare = bytearray()

    def read(self, n_bytes: int) -> bytearray:
        """Exactly `n_bytes`. Raises Broken when the connection ends before, Stopped when the run ends."""
        data = self._spare[:n_bytes]
        del self._spare[:n_bytes]
        if len(data) == n_bytes:
            return data
        done = len(data)
        data.extend(bytes(n_bytes - done))
        view = memoryview(data)
        while done < n_bytes:
            try:
                count = self._socket.recv_into(view[done : done + _CHUNK_BYTES])
            except TimeoutError:
                if self.stopping.is_set():
                    raise Stopped from None
                continue
            except OSError as error:
                raise Broken(f"{error.strerror or error} after {done} of {n_bytes} bytes") from error
            if not count:
                raise Broken(f"closed after {done} of {n_bytes} bytes")
            done += count
        view.release()
        return data

    def put_back(self, data: bytes | bytearray) -> None:
        """Let the next `read` begin with `data`."""
        self._spare[:0] = data

    def close(self) -> None:
        self._socket.close()
