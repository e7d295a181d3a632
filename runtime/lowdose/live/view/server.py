"""The page's own process: serves one HTML file, and the newest frame over a WebSocket to whoever asks for it.

It is told over standard input what to do, in lines of JSON, and ends with it. A client gets a frame when it asks and
when there is a new one, so a slow client gets fewer, and one that stops reading gets none; nothing piles up.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import os
import struct
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import tifffile
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from lowdose.live.view.slot import Planes, Slot
from lowdose.source import Frame

# All clients together; a single one gets at most half of it.
_FRAMES_PER_S = 40.0
_POLL_S = 0.01
_LONGEST_SIDE_PX = 1024
_PAGE = Path(__file__).with_name("page.html")
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Newest:
    """The newest frame, ready to be sent: read and packed once for all clients."""

    def __init__(self) -> None:
        self._slot: Slot | None = None
        self._changed = 0
        self._version = (0, 0)
        self.frame = ""
        self.planes: Planes = {}
        self.message = b""

    def take_slot(self, path: str) -> None:
        self._slot = Slot(Path(path))
        self._changed += 1

    def version(self) -> tuple[int, int]:
        """Of what can be read now, without reading it."""
        return (self._changed, self._slot.version // 2) if self._slot is not None else (0, 0)

    def want(self) -> None:
        if self._slot is not None:
            self._slot.wanted = True

    def read(self) -> tuple[int, int]:
        """Take what is there, and its version."""
        if self._slot is not None and self.version() != self._version:
            found = self._slot.read()
            if found is not None:
                version, notes, self.planes = found
                self._version = (self._changed, version // 2)
                self.frame = f"{notes['sequence']}:{notes['number']}"
                self.message = pack(notes, self.planes)
        return self._version


def pack(notes: dict[str, Any], planes: Planes) -> bytes:
    """Length of the notes, notes, and the planes as uint16 between the lowest and the highest value of each."""
    listed, data = [], []
    for name, plane in planes.items():
        shown, step = binned(plane)
        finite = np.isfinite(shown)
        low, high = (float(shown[finite].min()), float(shown[finite].max())) if finite.any() else (0.0, 0.0)
        scaled = (np.where(finite, shown, low) - low) * (65535 / (high - low) if high > low else 0.0)
        listed.append([name, *shown.shape, low, high, step])
        data.append(np.rint(scaled).astype("<u2").tobytes())
    told = json.dumps(notes | {"planes": listed}).encode()
    told += b" " * (-len(told) % 4)
    return struct.pack("<I", len(told)) + told + b"".join(data)


def binned(plane: Frame) -> tuple[Frame, int]:
    """Means over squares of so many pixels that the page has to show no more than it can."""
    step = -(-max(plane.shape) // _LONGEST_SIDE_PX)
    if step == 1:
        return plane.astype(np.float32), 1
    height, width = (side // step * step for side in plane.shape)
    squares = plane[:height, :width].astype(np.float32).reshape(height // step, step, width // step, step)
    return squares.mean(axis=(1, 3)), step


class Page:
    """Answers requests. seen: what each client was sent last, by frame, for its snapshots.

    Two frames of each are kept: one may be under way while the client freezes the one before.
    """

    def __init__(self, host: str, token: str, newest: Newest) -> None:
        self.host = host
        self.token = token
        self.newest = newest
        self.port = 0
        self.seen: dict[str, dict[str, Planes]] = {}

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The page, a snapshot, or None to go on with a WebSocket; nothing at all without the token."""
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        own = f"http://{request.headers.get('Host', '')}"
        has_token = hmac.compare_digest(query.get("token", "").encode(), self.token.encode())
        if not has_token or not self._known_host(request):
            return respond(HTTPStatus.FORBIDDEN, b"Forbidden: open the address that lowdose has printed.\n")
        if request.headers.get("Origin", own) != own:
            return respond(HTTPStatus.FORBIDDEN, b"Forbidden: this page belongs to another origin.\n")
        if parts.path == "/frames" and request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        if parts.path == "/":
            return respond(HTTPStatus.OK, _PAGE.read_bytes(), "text/html; charset=utf-8")
        seen = self.seen.get(query.get("client", ""), {})
        if parts.path == "/snapshot.tif" and query.get("frame") in seen:
            return respond(HTTPStatus.OK, snapshot(seen[query["frame"]]), "image/tiff")
        return respond(HTTPStatus.NOT_FOUND, b"Not found.\n")

    def _known_host(self, request: Request) -> bool:
        """On loopback the page goes by its own name only, so that no other name can be made to lead here."""
        if self.host not in ("127.0.0.1", "localhost", "::1"):
            return True
        names = ("127.0.0.1", "localhost", "[::1]")
        return request.headers.get("Host", "") in {f"{name}:{self.port}" for name in names}

    async def frames(self, connection: ServerConnection) -> None:
        """Every word from the client asks for a frame newer than the one it was sent last."""
        client = str(connection.id)
        sent, last_s = (0, 0), 0.0
        try:
            await connection.send(json.dumps({"client": client}))
            async for _ in connection:
                period_s = max(2, len(self.seen)) / _FRAMES_PER_S
                await asyncio.sleep(max(0.0, last_s + period_s - time.monotonic()))
                self.newest.want()
                while (there := self.newest.read()) == sent:
                    if connection.close_code is not None:
                        return
                    await asyncio.sleep(_POLL_S)
                    self.newest.want()
                sent, last_s = there, time.monotonic()
                before = list(self.seen.get(client, {}).items())[-1:]
                self.seen[client] = dict([*before, (self.newest.frame, self.newest.planes)])
                await connection.send(self.newest.message)
        except ConnectionClosed:
            pass
        finally:
            self.seen.pop(client, None)


def snapshot(planes: Planes) -> bytes:
    """A TIFF of the raw and the denoised frame as they are, in this order, float32."""
    file = io.BytesIO()
    stack = np.stack([planes["raw"], planes["denoised"]]).astype(np.float32)
    tifffile.imwrite(file, stack, imagej=True, metadata={"axes": "CYX", "Labels": ["raw", "denoised"]})
    return file.getvalue()


def respond(status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **_SECURITY})
    return Response(status.value, status.phrase, headers, body)


async def run() -> None:
    told = json.loads(sys.stdin.readline())
    newest = Newest()
    page = Page(told["host"], told["token"], newest)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(newest.take_slot, json.loads(line)["slot"])
        loop.call_soon_threadsafe(over.set)

    try:
        server = await serve(
            page.frames, told["host"], told["port"], process_request=page.answer, compression=None, max_size=2**10,
            write_limit=2**16, server_header=None,
        )  # fmt: skip
    except OSError as error:
        print(json.dumps({"error": error.strerror or str(error)}), flush=True)
        return
    page.port = next(iter(server.sockets)).getsockname()[1]
    print(json.dumps({"port": page.port}), flush=True)
    threading.Thread(target=listen, daemon=True).start()
    await over.wait()
    server.close()


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(10)  # the page gets what the stream leaves
    asyncio.run(run())


if __name__ == "__main__":
    main()
