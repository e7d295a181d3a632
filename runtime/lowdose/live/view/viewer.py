"""The run's side of the page: starts the server's process and shows it the newest frame when it asks."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.live.arrival import Result
from lowdose.live.frame import Source
from lowdose.live.view.slot import Planes, Slot, slot_path
from lowdose.live.virtual import Rings, VirtualImages

# More is not seen, and every frame shown costs the stream a copy.
_MIN_PERIOD_S = 1 / 30


class Viewer:
    """A listener of a live run. address: of the page, with its token.

    host, port: where the page is served; 127.0.0.1 unless others shall see it, 0 for any free port.
    Raises LowdoseError when it cannot be served there.
    """

    def __init__(self, source: Source, rings: Rings, host: str = "127.0.0.1", port: int = 0) -> None:
        if find_spec("websockets") is None:
            raise LowdoseError("--view needs the package websockets: pip install 'lowdose[live]'")
        self.source = source
        self.rings = rings
        self.token = secrets.token_urlsafe(24)
        self._virtual: VirtualImages | None = None
        self._sequence = -1
        self._slot: Slot | None = None
        self._room_bytes = 0
        self._last_s = 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lowdose.live.view.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the run, which then ends its page
        )
        self._tell({"host": host, "port": port, "token": self.token})
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"error": "the page\'s process has ended"}')
        if "error" in answer:
            self.close()
            raise LowdoseError(f"--view: cannot serve the page at {host}:{port}: {answer['error']}")
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{answer['port']}/?token={self.token}"

    def show(self, result: Result, status: Callable[[], dict[str, Any]]) -> None:
        """Pass a result on where the page asks for one."""
        arrival = result.arrival
        if arrival.sequence != self._sequence:
            self._sequence = arrival.sequence
            self._virtual = None if arrival.scan is None else VirtualImages(arrival.scan, self.rings)
        if self._virtual is not None:
            self._virtual.add(result)
        planes: Planes = {"raw": arrival.frame.pixels, "denoised": result.pixels}
        if self._virtual is not None:
            planes |= self._virtual.images
        now_s = time.perf_counter()
        if self._slot is not None and (not self._slot.wanted or now_s - self._last_s < _MIN_PERIOD_S):
            return
        self._last_s = now_s
        self._make_room(sum(plane.nbytes for plane in planes.values()))
        assert self._slot is not None
        known = self.source.calibration
        notes = {
            "number": arrival.frame.number,
            "sequence": arrival.sequence,
            "pixel_size": known.pixel_size and known.pixel_size[1],
            "pixel_unit": known.pixel_unit,
            "status": status(),
        }
        self._slot.write(notes, planes)

    def close(self) -> None:
        """End the page."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._drop_slot()

    def _make_room(self, n_bytes: int) -> None:
        if self._slot is not None and n_bytes <= self._room_bytes:
            return
        self._drop_slot()
        self._room_bytes = int(np.ceil(n_bytes / 4096)) * 4096
        self._slot = Slot(slot_path(), self._room_bytes)
        self._tell({"slot": str(self._slot.path)})

    def _drop_slot(self) -> None:
        if self._slot is not None:
            self._slot.close()
            self._slot.path.unlink(missing_ok=True)
            self._slot = None

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return  # the page is gone, the stream goes on
