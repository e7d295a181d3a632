"""Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from live_peers import PATIENCE_S

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,800",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
]  # fmt: skip


class Tab:
    """One page. console: what it logged as errors or threw."""

    def __init__(self, socket):
        self.socket = socket
        self.number = 0
        self.console = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            told = answer.get("params", {})
            if answer["method"] == "Runtime.exceptionThrown":
                self.console.append(str(told))
            elif answer["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
                self.console.append(told["entry"]["text"])

    def run(self, script):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script):
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} stayed {value!r}; console: {self.console}"
            time.sleep(0.05)
        return value

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else "")

    def drag(self, x, y, to_x):
        for kind, at in (
            ("mousePressed", x),
            ("mouseMoved", (x + to_x) / 2),
            ("mouseMoved", to_x),
            ("mouseReleased", to_x),
        ):
            self.call("Input.dispatchMouseEvent", type=kind, x=at, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium():
    """A tab of a new browser; skips where there is none."""
    connect = pytest.importorskip("websockets.sync.client").connect
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = Path(profile) / "DevToolsActivePort"
            end = time.monotonic() + PATIENCE_S
            while not (address := page_of(told)):
                assert time.monotonic() < end and process.poll() is None, "Chromium did not start"
                time.sleep(0.05)
            options = {"max_size": 2**26, "compression": None, "open_timeout": PATIENCE_S, "ping_interval": None}
            with connect(address, **options) as socket:
                yield Tab(socket)
        finally:
            process.kill()
            process.wait(PATIENCE_S)


def page_of(told):
    """The address of the first page's debugger, once the browser has written its port and opened the page."""
    lines = told.read_text().splitlines() if told.is_file() else []
    if len(lines) < 2:  # written in two lines
        return None
    with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=PATIENCE_S) as answer:
        pages = [target for target in json.load(answer) if target["type"] == "page"]
    return pages[0]["webSocketDebuggerUrl"] if pages else None
