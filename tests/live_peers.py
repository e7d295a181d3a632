"""What the tests of live streams share: servers that send what they are told, and runs of the whole chain."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from lowdose.live import LiveOptions, LiveRun, Outlets, Recorder, Source
from lowdose.methods import find_method


class Movie(Source):
    """Frames of an array; `between` is called before each with its number."""

    def __init__(self, frames, between=lambda number: None):
        super().__init__()
        self.array = frames
        self.between = between

    def frames(self):
        for number, frame in enumerate(self.array):
            self.between(number)
            yield frame


class Server:
    """A TCP server on loopback: each client in turn is given the next of `scripts`, a function of its socket."""

    def __init__(self, *scripts):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, args=(scripts,), daemon=True).start()

    def _serve(self, scripts):
        for script in scripts:
            client, _ = self.socket.accept()
            with client:
                script(client)
        self.socket.close()


def noisy_movie(n_frames=24, height=32, width=48, dtype=np.uint16, seed=0):
    y, x = np.mgrid[:height, :width]
    scene = 400 + 200 * np.sin(x / 3) * np.cos(y / 4)
    return np.random.default_rng(seed).poisson(scene, (n_frames, height, width)).astype(dtype)


def live(source, out=None, model="gaussian:1", listeners=(), **options):
    """A run with its files beside each other: (the run, its last status). model: a method, or its name."""
    outlets = Outlets(listeners=list(listeners))
    if out is not None:
        outlets.raw = Recorder(out.with_stem(f"{out.stem}.raw"), buffer_bytes=1e8)
        outlets.denoised = Recorder(out, buffer_bytes=1e8)
    method = find_method(model) if isinstance(model, str) else model
    run = LiveRun(source, method, LiveOptions(threads=1, **options), outlets)
    return run, run.run()


# How long a test waits for what will come: long enough for a machine that has much else to do.
PATIENCE_S = 120.0


def wait_until(condition, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def peer_folder(name):
    """The environment that libertem-live is installed in, which must hold the program `name`."""
    folder = Path(os.environ.get("LOWDOSE_PEERS", Path(__file__).resolve().parents[1] / ".venv-peers"))
    if not (folder / "bin" / name).exists():
        pytest.skip(f"no {name}: pip install 'libertem-live[sim]' bitshuffle into .venv-peers (as .ci/run does)")
    return folder


@contextmanager
def peer_program(name, arguments, *port_options):
    """A program of libertem-live on free ports of loopback; gives the ports by option. Skips where it is absent.

    LOWDOSE_PEERS is the folder of its own environment: it is a peer of the tests and no part of lowdose.
    """
    program = peer_folder(name) / "bin" / name
    ports = dict(zip(port_options, free_ports(len(port_options)), strict=True))
    options = [text for option, port in ports.items() for text in (f"--{option}", str(port))]
    with tempfile.TemporaryFile() as log:
        command = [program, *map(str, arguments), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield ports
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it has children of its own
            process.wait(PATIENCE_S)


def free_ports(n_ports):
    """Ports that nobody listens at, below those that the system gives to clients, which might take them meanwhile."""
    ports = []
    while len(ports) < n_ports:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports
