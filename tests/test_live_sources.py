"""Live sources against files, folders and servers that behave and misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile

from live_peers import PATIENCE_S, Server, noisy_movie, wait_until
from lowdose.errors import LowdoseError
from lowdose.live import END, LiveFrame, SourceOptions, open_source, register_source
from lowdose.live.sources import watch


def take(source, n_frames=None):
    """Items of a source, up to so many frames or to its end."""
    items, got = [], 0
    timer = threading.Timer(PATIENCE_S, source.stopping.set)
    timer.start()
    try:
        for item in source.frames():
            items.append(item)
            got += item is not END
            if got == n_frames:
                break
    finally:
        timer.cancel()
    assert n_frames is None or got == n_frames, f"{got} of {n_frames} frames came"
    return items


def pixels(items):
    return [item.pixels if isinstance(item, LiveFrame) else item for item in items if item is not END]


RAW = SourceOptions(shape=(6, 5), dtype=np.dtype(">u2"))


# --- replay


def test_replay_gives_every_frame_at_its_rate(tmp_path):
    movie = noisy_movie(6)
    tifffile.imwrite(tmp_path / "a@b.tif", movie)
    start = time.monotonic()
    items = take(open_source(f"replay:{tmp_path / 'a@b.tif'}@50"))
    assert time.monotonic() - start >= 5 / 50
    assert items[-1] is END
    np.testing.assert_array_equal(pixels(items), movie)
    assert [item.number for item in items[:-1]] == list(range(6))
    assert items[3].origin == "a@b.tif#3"


@pytest.mark.parametrize("rate", ["0", "-3", "fast", "nan"])
def test_replay_at_rates_that_are_none(tmp_path, rate):
    tifffile.imwrite(tmp_path / "a.tif", noisy_movie(2))
    with pytest.raises(LowdoseError, match="frames per second"):
        open_source(f"replay:{tmp_path / 'a.tif'}@{rate}")


def test_replay_of_one_channel(tmp_path):
    movie = noisy_movie(6).reshape(3, 2, 32, 48)
    tifffile.imwrite(tmp_path / "a.tif", movie, metadata={"axes": "TCYX"}, imagej=True)
    address = f"replay:{tmp_path / 'a.tif'}@1000"
    np.testing.assert_array_equal(pixels(take(open_source(address, SourceOptions(channel=1)))), movie[:, 1])
    with pytest.raises(LowdoseError, match="--channel"):
        open_source(address)
    with pytest.raises(LowdoseError, match="2 channels, counted from 0"):
        open_source(address, SourceOptions(channel=2))


# --- addresses and sources of one's own


@pytest.mark.parametrize("address", ["camera://here", "movie.tif", "", "tcp", "http://x"])
def test_unknown_sources(address):
    with pytest.raises(LowdoseError, match="expected one of replay:"):
        open_source(address)


@pytest.mark.parametrize("address", ["tcp://here", "tcp://here:port", "tcp://:1", "tcp://here:70000"])
def test_addresses_without_host_or_port(address):
    with pytest.raises(LowdoseError, match="expected tcp://HOST:PORT"):
        open_source(address, RAW)


def test_raw_frames_need_shape_and_dtype():
    for options in (SourceOptions(), SourceOptions(shape=(2, 2)), SourceOptions((2, 2), np.dtype("c8"))):
        with pytest.raises(LowdoseError, match=r"--shape|real"):
            open_source("raw:-", options)


PLUGIN = """
import numpy as np
from lowdose.live import Source, register_source

class Camera(Source):
    def __init__(self, address, options):
        super().__init__()
        self.side_px = int(address)

    def frames(self):
        frame = np.zeros((self.side_px, self.side_px), np.uint16)
        for number in range(20):
            frame[:] = number  # the same array again and again, as cameras do
            yield frame

register_source("camera", Camera)
"""


def test_a_source_of_ones_own_on_the_command_line(tmp_path, lowdose):
    (tmp_path / "camera.py").write_text(PLUGIN)
    arguments = ["camera://9", "--load", tmp_path / "camera.py", "--model", "gaussian:1", "-o", tmp_path / "a.tif"]
    outcome = lowdose("live", *arguments)
    assert (outcome.code, "20 frames" in outcome.out) == (0, True), outcome
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.raw.tif")[:, 0, 0], np.arange(20))


@pytest.mark.parametrize("scheme", ["tcp", "Camera", "c", "a:b", ""])
def test_names_that_a_source_cannot_have(scheme):
    with pytest.raises(LowdoseError, match="cannot be called"):
        register_source(scheme, lambda address, options: None)


# --- raw bytes


def test_raw_from_a_pipe():
    movie = noisy_movie(5, 6, 5).astype(">u2")
    script = (
        "import sys, numpy as np\nfrom lowdose.live import open_source, SourceOptions, END\n"
        "source = open_source('raw:-', SourceOptions((6, 5), np.dtype('>u2')))\n"
        "frames = [f for f in source.frames() if f is not END]\n"
        "print(int(np.sum(frames)), len(frames), dict(source.counters))"
    )
    sent = movie.tobytes() + b"cut"
    done = subprocess.run([sys.executable, "-c", script], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().split(" ", 2) == [str(int(movie.sum())), "5", "{'torn_frames': 1}\n"]


def test_raw_from_a_file(tmp_path):
    movie = noisy_movie(5, 6, 5).astype(">u2")
    (tmp_path / "a.raw").write_bytes(movie.tobytes())
    items = take(open_source(f"raw:{tmp_path / 'a.raw'}", RAW))
    assert items[-1] is END and pixels(items)[0].dtype.isnative
    np.testing.assert_array_equal(pixels(items), movie)


def test_a_server_that_dies_in_mid_frame_and_comes_back():
    movie = noisy_movie(8, 6, 5).astype(">u2")
    server = Server(
        lambda client: client.sendall(movie[:3].tobytes() + movie[3].tobytes()[:31]),
        lambda client: client.sendall(movie[4:].tobytes()),
    )
    source = open_source(f"tcp://127.0.0.1:{server.port}", RAW)
    items = take(source, 7)
    assert items[3] is END
    np.testing.assert_array_equal(pixels(items), np.delete(movie, 3, axis=0))
    assert source.counters == {"torn_frames": 1, "disconnects": 1}
    assert "31 of 60 bytes" in source.messages[0]


def test_a_source_that_nobody_serves_waits_and_stops():
    server = Server()
    server.socket.close()
    source = open_source(f"tcp://127.0.0.1:{server.port}", RAW)
    threading.Timer(0.3, source.stopping.set).start()
    assert list(source.frames()) == []


# --- folders


@pytest.fixture
def watched(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    source = open_source(f"watch:{tmp_path}")
    source.patience_s = PATIENCE_S  # whoever writes a file here may be held up
    return source


def collect(source):
    """Items of a source as they come, in a list that another thread fills."""
    items = []

    def run():
        for item in source.frames():
            items.append(item)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return items, thread


def finish(source, thread):
    source.stopping.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_files_come_in_natural_order(tmp_path, watched):
    movie = noisy_movie(12)
    for number in (10, 2, 1, 0, 11, 3):
        np.save(tmp_path / f"f{number}.npy", movie[number])
    items, thread = collect(watched)
    wait_until(lambda: len(items) == 6)
    np.save(tmp_path / "f4.npy", movie[4])
    tifffile.imwrite(tmp_path / "f5.tif", movie[5])
    (tmp_path / ".hidden.npy").write_bytes(b"no")
    (tmp_path / "notes.txt").write_text("no")
    wait_until(lambda: len(items) == 8)
    finish(watched, thread)
    assert [item.origin for item in items] == [f"f{n}.npy#0" for n in (0, 1, 2, 3, 10, 11, 4)] + ["f5.tif#0"]
    assert [item.number for item in items] == list(range(8))
    np.testing.assert_array_equal(items[6].pixels, movie[4])
    assert watched.counters == {}


def test_a_file_is_read_when_it_is_complete(tmp_path, watched):
    movie = noisy_movie(2)
    np.save(tmp_path / "whole.npy", movie[0])
    content = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "whole.npy").unlink()
    items, thread = collect(watched)
    with (tmp_path / "a.npy").open("wb", buffering=0) as file:
        for start in range(0, len(content), 500):
            file.write(content[start : start + 500])
            time.sleep(0.03)
            assert items == [] or start + 500 >= len(content)
    wait_until(lambda: len(items) == 1)
    np.testing.assert_array_equal(items[0].pixels, movie[0])
    finish(watched, thread)
    assert watched.counters == {}


def test_a_stack_that_grows(tmp_path, watched):
    from test_io_mib import write_binary

    movie = noisy_movie(9)
    write_binary(tmp_path / "whole", movie, "U16")
    content = (tmp_path / "whole").read_bytes()
    frame_bytes = len(content) // 9
    items, thread = collect(watched)
    with (tmp_path / "a.mib").open("wb", buffering=0) as file:
        for first, last in ((0, 4), (4, 5), (5, 9)):
            # Half a frame at the end is waited for.
            file.write(content[first * frame_bytes : last * frame_bytes - frame_bytes // 2])
            time.sleep(0.1)
            file.write(content[last * frame_bytes - frame_bytes // 2 : last * frame_bytes])
            wait_until(lambda last=last: len(items) == last)
    finish(watched, thread)
    np.testing.assert_array_equal(pixels(items), movie)
    assert [item.origin for item in items] == [f"a.mib#{n}" for n in range(9)]


def test_broken_and_vanished_files_are_counted_and_passed_over(tmp_path, watched):
    movie = noisy_movie(3)
    watched.patience_s = 3.0
    (tmp_path / "a1.tif").write_bytes(b"not a TIFF file")
    (tmp_path / "a2.tif").write_bytes(b"")
    np.save(tmp_path / "a3.npy", movie[0])
    items, thread = collect(watched)
    wait_until(lambda: "a1.tif" in watched._files)
    (tmp_path / "a2.tif").unlink()
    wait_until(lambda: len(items) == 1)
    tifffile.imwrite(tmp_path / ".mended", movie[1])
    (tmp_path / ".mended").replace(tmp_path / "a1.tif")
    wait_until(lambda: len(items) == 2)
    finish(watched, thread)
    np.testing.assert_array_equal(pixels(items), movie[:2])
    assert watched.counters["broken_files"] == 1
    assert any("a1.tif" in message for message in watched.messages)


def test_another_shape_is_another_sequence(tmp_path, watched):
    np.save(tmp_path / "a1.npy", noisy_movie(2, 5, 6))
    np.save(tmp_path / "a2.npy", noisy_movie(1, 6, 6)[0])
    items = take(watched, 3)
    assert [item if item is END else item.number for item in items] == [0, 1, END, 0]


def test_frames_that_were_done_are_passed_over(tmp_path, watched):
    movie = noisy_movie(6)
    np.save(tmp_path / "a1.npy", movie[:3])
    np.save(tmp_path / "a2.npy", movie[3:])
    watched.done.update({"a1.npy#0": 1, "a1.npy#1": 1, "a1.npy#2": 1, "a2.npy#0": 1})
    np.testing.assert_array_equal(pixels(take(watched, 2)), movie[4:])


def test_clocks_that_jump_between_files(tmp_path, watched):
    """Times of change in the past and in the future are only compared with themselves."""
    movie = noisy_movie(3)
    for number, jump_s in enumerate((-1e8, 1e8, 0)):
        np.save(tmp_path / f"a{number}.npy", movie[number])
        os.utime(tmp_path / f"a{number}.npy", (time.time() + jump_s,) * 2)
    np.testing.assert_array_equal(pixels(take(watched, 3)), movie)


def test_a_folder_that_goes_away_and_comes_back(tmp_path, watched):
    movie = noisy_movie(2)
    np.save(tmp_path / "a0.npy", movie[0])
    items, thread = collect(watched)
    wait_until(lambda: len(items) == 1)
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    wait_until(lambda: watched.counters["folder_away"] > 0)
    np.save(away / "a1.npy", movie[1])
    away.rename(tmp_path)
    wait_until(lambda: len(items) == 2)
    finish(watched, thread)
    np.testing.assert_array_equal(pixels(items), movie)


def test_a_folder_of_100_000_files(tmp_path, watched, monkeypatch):
    """A look at them takes little, and the new file is found; the old ones were done in an earlier run."""
    frame = noisy_movie(1, 4, 4)[0]
    for number in range(100_000):
        if number % 50_000 == 0:  # more links than that no file can have
            np.save(tmp_path / f"f{number}.npy", frame)
        else:
            os.link(tmp_path / f"f{number // 50_000 * 50_000}.npy", tmp_path / f"f{number}.npy")
    watched.done.update(f"f{number}.npy#0" for number in range(99_990))
    items = take(watched, 10)
    assert [item.origin for item in items] == [f"f{number}.npy#0" for number in range(99_990, 100_000)]


def test_no_such_folder(tmp_path):
    with pytest.raises(LowdoseError, match="no such folder"):
        open_source(f"watch:{tmp_path / 'none'}")
