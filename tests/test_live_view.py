"""The page of a live run: in a browser, and against clients that it should not serve or wait for."""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import tifffile

from browser import chromium
from live_peers import PATIENCE_S, Movie, live, noisy_movie, wait_until
from lowdose.io import open_stack
from lowdose.live import END, LiveOptions, LiveRun, Outlets, Source
from lowdose.live.arrival import Arrival, Result
from lowdose.live.frame import LiveFrame
from lowdose.live.view.slot import Slot
from lowdose.live.virtual import Rings, VirtualImages
from lowdose.methods import find_method
from test_live_run import Results

websockets = pytest.importorskip("websockets")
from websockets.sync.client import connect  # noqa: E402 - behind the skip

from lowdose.live.view import Viewer  # noqa: E402
from lowdose.live.view.server import binned, pack  # noqa: E402

PERIOD_PX = 8


class Lattice(Source):
    """Noisy frames of a lattice of PERIOD_PX, the same over and over, until it is stopped."""

    def __init__(self, period_s=0.01, shape=(128, 160)):
        super().__init__()
        y, x = np.mgrid[: shape[0], : shape[1]]
        scene = 60 + 30 * np.cos(2 * np.pi * x / PERIOD_PX) * np.cos(2 * np.pi * y / PERIOD_PX)
        self.movie = np.random.default_rng(1).poisson(scene, (32, *shape)).astype(np.uint16)
        self.period_s = period_s

    def frames(self):
        number = 0
        while not self.stopping.wait(self.period_s):
            yield LiveFrame(self.movie[number % 32], number)
            number += 1


@contextmanager
def shown(source, model="wcvd", **options):
    """A run with its page: (the viewer, the run)."""
    viewer = Viewer(source, Rings())
    run = LiveRun(source, find_method(model), LiveOptions(threads=1, **options), Outlets(listeners=[viewer]))
    thread = threading.Thread(target=run.run)
    thread.start()
    try:
        yield viewer, run
    finally:
        run.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.peer
def test_the_page_in_a_browser(tmp_path):
    source = Lattice()
    with chromium() as tab, shown(source) as (viewer, _):
        tab.call("Page.navigate", url=viewer.address)
        tab.wait("typeof view !== 'undefined' && view.shown > 3")
        # Frames move.
        first = int(tab.run("$('number').textContent"))
        tab.wait(f"Number($('number').textContent) > {first + 5}")
        assert tab.run("$('model').textContent") == "wcvd"
        # The wipe moves, by key and by mouse.
        tab.press("ArrowRight")
        assert tab.run("view.wipe") == pytest.approx(0.52)
        box = tab.run("view.box")
        tab.drag(box["x"] + box["width"] / 2, box["y"] + 200, box["x"] + box["width"] / 4)
        assert tab.run("view.wipe") == pytest.approx(0.25, abs=0.02)
        # The spectrum of the lattice has its peaks where they belong, in the raw and in the denoised frame.
        tab.wait("Object.keys(view.ffts).length === 3")
        side = tab.run("view.ffts.fft_denoised.width")
        assert side == 128
        for name in ("fft_raw", "fft_denoised"):
            power = np.array(tab.run(f"Array.from(view.ffts.{name}.pixels)")).reshape(side, side)
            brightest = {divmod(int(place), side) for place in np.argsort(power.ravel())[-4:]}
            step = side // PERIOD_PX
            assert brightest == {(side // 2 + a * step, side // 2 + b * step) for a in (-1, 1) for b in (-1, 1)}
        rest = np.array(tab.run("Array.from(view.ffts.fft_residual.pixels)")).reshape(side, side)
        assert rest[side // 2 + step, side // 2 + step] < power[side // 2 + step, side // 2 + step]
        # Freezing holds the frame; strength 0 is the raw frame, whose residual is nothing.
        tab.press(" ")
        assert tab.run("view.frozen && $('freeze').getAttribute('aria-pressed') === 'true'")
        number = tab.run("view.frame.notes.number")
        tab.run("$('strength').value = 0, $('strength').oninput()")
        assert tab.run("$('percent').textContent") == "0 %"
        time.sleep(0.3)
        assert tab.run("view.frame.notes.number") == number
        # The snapshot is of this very frame, with the pixels as they are.
        script = "fetch(snapshotAddress()).then(r => r.arrayBuffer())"
        data = tab.run(f"{script}.then(b => Array.from(new Uint8Array(b)))")
        raw, denoised = tifffile.imread(io.BytesIO(bytes(data)))
        np.testing.assert_array_equal(raw, source.movie[number % 32])
        assert denoised.std() < raw.std()
        # Layout, contrast and colours by key; everything fits the window.
        for key in "lac":
            tab.press(key)
        chosen = tab.run("['layout', 'contrast', 'colours'].map(id => $(id).value)")
        assert chosen == ["beside", "once", "viridis"]
        assert tab.run("document.documentElement.scrollHeight <= 800 && document.documentElement.scrollWidth <= 1280")
        assert tab.run(
            "[...document.querySelectorAll('footer *, figure')].every(e => e.getBoundingClientRect().bottom <= 800)"
        )
        tab.screenshot(tmp_path / "page.png")
        assert tab.console == [] and tab.run("view.errors") == []


class Scans(Source):
    """The same scan again and again, until it is stopped."""

    def frames(self):
        patterns = scan_of().reshape(-1, 32, 32)
        while True:
            for number, pattern in enumerate(patterns):
                if self.stopping.wait(0.02):
                    return
                yield LiveFrame(pattern, number)
            yield END


@pytest.mark.peer
def test_the_page_of_a_scan(tmp_path):
    """Virtual images grow scan after scan, keep their shape in the squares that they stand in, and fit the window."""
    with chromium() as tab, shown(Scans(), model="gaussian:1", scan=(6, 7)) as (viewer, _):
        tab.call("Page.navigate", url=viewer.address)
        tab.wait("typeof view !== 'undefined' && view.shown > 3 && $('scan').style.display === 'grid'")
        for name in VirtualImages.names:
            assert tab.run(f"[view.frame.planes.{name}.height, view.frame.planes.{name}.width]") == [6, 7]
            assert tab.run(f"[$('{name}').height, $('{name}').width]") == [6, 7]
            assert tab.run(f"getComputedStyle($('{name}')).objectFit") == "contain"
        # Behind the first scan the number of the scan is told as well.
        tab.wait("Number($('number').textContent.split(':')[0]) >= 2 && $('number').textContent.includes(':')")
        assert tab.run("$('behind').textContent") == "0 frames"
        # A field that is left by Escape gives the keys back to the page.
        tab.run("$('contrast').focus()")
        tab.press("Escape")
        tab.press("l")
        assert tab.run("$('layout').value") == "beside"
        assert tab.run("[...document.querySelectorAll('#side *')].every(e => e.getBoundingClientRect().bottom <= 800)")
        tab.screenshot(tmp_path / "scan.png")
        assert tab.console == [] and tab.run("view.errors") == []


def patient(url, origin):
    """A connected client; raises where it is refused."""
    return connect(url, origin=origin, compression=None, max_size=2**24, open_timeout=PATIENCE_S)


def ask(viewer, path, **headers):
    address = viewer.address.split("/")[2]
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    connection.request("GET", path, headers={"Host": address, **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_nobody_sees_anything_without_the_token(tmp_path):
    with shown(Lattice()) as (viewer, _):
        token, address = viewer.token, viewer.address.split("/")[2]
        answer, body = ask(viewer, f"/?token={token}")
        assert answer.status == 200 and b"<html" in body
        assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
        for reference in (b"http://", b"https://", b"src=", b"@import"):
            assert reference not in body  # nothing from elsewhere
        for path in (
            "/",
            "/?token=",
            f"/?token={token}x",
            f"/?token={token[:-1]}",
            "/snapshot.tif",
            "/frames",
            "/?token=%ff",
        ):
            answer, body = ask(viewer, path)
            assert answer.status == 403 and len(body) < 100
        assert ask(viewer, f"/../../etc/passwd?token={token}")[0].status == 404
        assert ask(viewer, f"/snapshot.tif?token={token}&client=1")[0].status == 404
        assert ask(viewer, f"/?token={token}", Host="evil.example:80")[0].status == 403
        assert ask(viewer, f"/?token={token}", Origin="http://evil.example")[0].status == 403
        for url, origin in (
            (f"ws://{address}/frames", None),
            (f"ws://{address}/frames?token={token}", "http://evil.example"),
        ):
            with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
                patient(url, origin).__enter__()
        with patient(f"ws://{address}/frames?token={token}", f"http://{address}") as client:
            assert "client" in json.loads(client.recv(timeout=PATIENCE_S))
            client.send("next")
            message = client.recv(timeout=PATIENCE_S)
            (length,) = struct.unpack_from("<I", message)
            notes = json.loads(message[4 : 4 + length])
            assert [plane[0] for plane in notes["planes"]] == ["raw", "denoised"]
        assert address.startswith("127.0.0.1:")


def stalled_client(viewer):
    """A client that asks for frames again and again and reads none."""
    host, port = viewer.address.split("/")[2].split(":")
    client = socket.create_connection((host, int(port)))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = f"GET /frames?token={viewer.token} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
    request += "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    client.sendall(request.encode() + b"\x81\x84\0\0\0\0next" * 200)
    return client


def test_viewers_that_stop_reading_and_many_viewers_do_not_slow_the_stream():
    source = Lattice(period_s=0.005)
    seen = Results()
    with shown(source) as (viewer, run), ExitStack() as stack:
        run.outlets.listeners.append(seen)
        wait_until(lambda: run.counters["denoised"] > 20)
        stalled = [stalled_client(viewer) for _ in range(3)]
        address = viewer.address.split("/")[2]
        url = f"ws://{address}/frames?token={viewer.token}"
        clients = [stack.enter_context(patient(url, f"http://{address}")) for _ in range(20)]
        begun = len(seen.results)
        for _ in range(3):
            for client in clients:
                client.send("next")
            for client in clients:
                while isinstance(client.recv(timeout=PATIENCE_S), str):
                    pass
        assert len(seen.results) > begun
        for client in stalled:
            client.close()
        status = run.status()
    assert status["dropped"] == 0 and status["failures"] == []
    assert seen.numbers == list(range(seen.numbers[0], seen.numbers[-1] + 1))


def test_the_stream_goes_on_when_the_page_dies():
    with shown(Lattice()) as (viewer, run):
        wait_until(lambda: run.counters["denoised"] > 20)
        viewer._process.kill()
        before = run.counters["denoised"]
        wait_until(lambda: run.counters["denoised"] > before + 50)


def test_a_port_that_is_taken(lowdose, tmp_path):
    np.save(tmp_path / "m.npy", noisy_movie(3))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--no-raw", "--view", "--view-at", f"127.0.0.1:{port}", "--model", "gaussian:1"]
        outcome = lowdose("live", f"replay:{tmp_path / 'm.npy'}@100", *arguments)
    assert outcome.code == 2 and "cannot serve the page" in outcome.err
    for text in ("here", ":80", "here:x", "here:70000"):
        assert lowdose("live", f"replay:{tmp_path / 'm.npy'}@100", "--no-raw", "--view", "--view-at", text).code == 2


# --- what is sent


def test_planes_are_packed_to_16_bits_and_large_ones_binned():
    plane = np.random.default_rng(2).normal(0, 5, (7, 9)).astype(np.float32)
    holes = np.where(plane > 3, np.nan, plane)
    message = pack({"number": 3}, {"raw": plane, "bright": holes, "flat": np.ones((2, 2), np.uint8)})
    (length,) = struct.unpack_from("<I", message)
    notes = json.loads(message[4 : 4 + length])
    name, height, width, low, high, step = notes["planes"][0]
    got = np.frombuffer(message, "<u2", height * width, 4 + length) / 65535 * (high - low) + low
    np.testing.assert_allclose(got.reshape(7, 9), plane, atol=(high - low) / 65535)
    assert (name, step, length % 4, len(message)) == ("raw", 1, 0, 4 + length + 2 * (63 + 63 + 4))
    large = np.arange(2050 * 6, dtype=np.float32).reshape(6, 2050)
    small, step = binned(large)
    assert step == 3 and small.shape == (2, 683)
    assert small[1, 2] == pytest.approx(large[3:6, 6:9].mean())


def test_the_slot_gives_the_newest_frame_whole(tmp_path):
    """A writer that never waits beside a reader: whatever is read belongs together."""
    writer = Slot(tmp_path / "slot", 8 * 64 * 64)
    reader = Slot(tmp_path / "slot")
    assert reader.read() is None
    over = threading.Event()

    def write():
        number = 0
        while not over.is_set():
            number += 1
            writer.write({"number": number}, {"raw": np.full((64, 64), number % 60000, np.uint32)})

    thread = threading.Thread(target=write)
    thread.start()
    got = []
    try:
        until = time.monotonic() + 60
        while len(got) < 50 and time.monotonic() < until:
            time.sleep(0)  # the threads share one interpreter: this lets the writer move on
            if (found := reader.read()) is not None:
                _, notes, planes = found
                assert (planes["raw"] == notes["number"] % 60000).all()
                got.append(notes["number"])
    finally:
        over.set()
        thread.join()
    assert len(got) == 50
    assert got == sorted(got)


# --- scans


def test_virtual_images_against_sums_over_rings():
    scan, shape = (3, 4), (40, 44)
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y - 18, x - 23)
    rng = np.random.default_rng(3)
    patterns = rng.poisson(50 * (distance <= 9) + 2, (12, *shape)).astype(np.uint16)
    images = VirtualImages(scan, Rings(dark_px=(12, 16)))
    for number, pattern in enumerate(patterns):
        images.add(Result(Arrival(LiveFrame(pattern, number), 0, 0.0, 0, scan), pattern / 2, 0.0))
        assert np.isnan(images.images["dark"]).sum() == (12 if number < 3 else 11 - number)
    expected = {
        "bright": patterns[:, distance <= 9.0].sum(1),
        "dark": patterns[:, (distance >= 12) & (distance <= 16)].sum(1),
    }
    for name, sums in expected.items():
        # The disk is found to a fraction of a pixel, so its edge differs by a few pixels.
        tolerance = {"bright": 0.05, "dark": 0.1}[name]
        np.testing.assert_allclose(images.images[f"{name}_raw"].ravel(), sums, rtol=tolerance)
        np.testing.assert_allclose(images.images[name], images.images[f"{name}_raw"] / 2, rtol=1e-4)


def test_a_blank_pattern_has_virtual_images_too():
    images = VirtualImages((1, 2), Rings())
    for number in range(2):
        blank = np.zeros((5, 6), np.uint8)
        images.add(Result(Arrival(LiveFrame(blank, number), 0, 0.0, 0, (1, 2)), blank.astype(np.float32), 0.0))
    assert not any(image.any() for image in images.images.values())


def scan_of(ny=6, nx=7, side=32):
    y, x = np.mgrid[:side, :side]
    scene = [[20 * np.exp(-((y - 16 - v) ** 2 + (x - 14 - u) ** 2) / 40) + 1 for u in range(nx)] for v in range(ny)]
    return np.random.default_rng(5).poisson(np.array(scene)).astype(np.uint16)


@pytest.mark.parametrize("model", ["udvd-4d-lite", "wiener", "gaussian:1"])
def test_a_scan_comes_out_whole_and_a_row_behind(tmp_path, model):
    scan = scan_of()
    seen = Results()
    patterns = scan.reshape(-1, 32, 32)
    arrived = []
    source = Movie(patterns, arrived.append)
    run, status = live(source, tmp_path / "a.h5", model=model, listeners=[seen], scan=(6, 7), dtype="float32")
    assert status["failures"] == [] and status["denoised"] == 42
    stream = run.denoiser.prepared.stream(Shape(scan), np.float32)
    expected = [r for p in patterns if (r := stream.push(p)) is not None] + list(stream.flush())
    np.testing.assert_array_equal(np.stack([result.pixels for result in seen.results]), np.stack(expected))
    for name in ("a.h5", "a.raw.h5"):
        with open_stack(tmp_path / name) as reader:
            assert reader.scan_shape == (6, 7)


class Shape:
    def __init__(self, scan):
        self.scan, (self.height, self.width) = scan.shape[:2], scan.shape[2:]
        self.dtype, self.n_channels, self.channel_names = scan.dtype, 1, ["0"]


def test_patterns_that_are_lost_keep_their_places(tmp_path):
    patterns = scan_of().reshape(-1, 32, 32)
    there = [n for n in range(42) if n not in (0, 1, 9, 41)]

    class Lossy(Source):
        def frames(self):
            for number in there:
                yield LiveFrame(patterns[number], number)

    _, status = live(Lossy(), tmp_path / "a.h5", scan=(6, 7), model="gaussian:1")
    assert (status["received"], status["lost"], status["raw_saved"]) == (38, 3, 41)
    with open_stack(tmp_path / "a.raw.h5") as reader:
        raw = np.stack([reader.read(n)[0] for n in range(42)])
    expected = patterns[[2, 2, *range(2, 9), 8, *range(10, 41)]]
    np.testing.assert_array_equal(raw[:41], expected)
    assert not raw[41].any()
    rows = (tmp_path / "a.h5.frames.csv").read_text()
    assert rows.count("stands in") == 3
