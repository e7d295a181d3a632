"""Merlin's stream: made here message by message, and from libertem-live's simulator of the detector."""

from __future__ import annotations

import contextlib
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from live_peers import PATIENCE_S, Server, live, peer_program
from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.live import END, open_source
from lowdose.live.sources.merlin import DATA_PORT
from test_io_mib import header_bytes, movie_of, raw_payload, side_by_side
from test_live_run import Results
from test_live_sources import pixels, take


def message(body):
    return b"MPX,%010d," % (len(body) + 1) + body


def opening(n_frames):
    text = f"HDR,\nTime and Date Stamp:\t20/11/2026\r\nFrames in Acquisition (Number):\t{n_frames}\r\n"
    return message((text + "End\t").encode().ljust(2048, b"\0"))


def frame_message(number, frame, pixels="U16", bits=12, quad=False):
    if pixels == "R64":
        stored = side_by_side(frame) if quad else frame
        return message(header_bytes(number, *stored.shape, pixels, bits, quad) + raw_payload(stored, bits))
    stored = frame.astype(frame.dtype.newbyteorder(">"))
    return message(header_bytes(number, *frame.shape, pixels, bits) + stored.tobytes())


def sends(data):
    """A script that sends in pieces of odd lengths, as networks do, and then closes."""

    def script(client):
        for start in range(0, len(data), 1009):
            client.sendall(data[start : start + 1009])

    return script


@pytest.mark.parametrize(
    ("kind", "quad"),
    [*((kind, False) for kind in ("U08", "U16", "U32", 1, 6, 12, 24)), *((bits, True) for bits in (1, 6, 12, 24))],
)
def test_frames_of_every_packing(kind, quad):
    movie = movie_of((3, 6, 128), kind)
    pixel_kind, bits = ("R64", kind) if isinstance(kind, int) else (kind, 12)
    data = opening(3) + b"".join(frame_message(n + 1, f, pixel_kind, bits, quad) for n, f in enumerate(movie))
    server = Server(sends(data))
    items = take(open_source(f"merlin://127.0.0.1:{server.port}"), 3)
    assert items[0] is END and [item.number for item in items[1:]] == [0, 1, 2]
    assert items[1].time == "2026-11-20T12:00:00.123456789Z"
    assert items[1].pixels.dtype == movie.dtype
    np.testing.assert_array_equal(pixels(items), movie)


def test_acquisitions_are_sequences_and_lost_numbers_show(tmp_path):
    movie = movie_of((7, 8, 64), "U16")
    first = opening(3) + b"".join(frame_message(n + 1, movie[n]) for n in range(3))
    second = opening(0) + b"".join(frame_message(n, movie[k]) for k, n in ((3, 11), (4, 12), (5, 14), (6, 15)))
    server = Server(sends(first + second))
    source = open_source(f"merlin://127.0.0.1:{server.port}")
    seen = Results()
    _, status = live(source, tmp_path / "a.h5", listeners=[seen], n_frames=7)
    assert (status["sequences"], status["lost"], status["received"]) == (2, 1, 7)
    assert [(r.arrival.sequence, r.arrival.frame.number) for r in seen.results] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 3), (1, 4)
    ]  # fmt: skip


def test_a_detector_that_dies_in_mid_frame_and_comes_back():
    movie = movie_of((4, 8, 64), "U16")
    data = [frame_message(n + 1, movie[n]) for n in range(4)]
    server = Server(sends(opening(4) + data[0] + data[1][:700]), sends(opening(2) + data[2] + data[3]))
    source = open_source(f"merlin://127.0.0.1:{server.port}")
    np.testing.assert_array_equal(pixels(take(source, 3)), movie[[0, 2, 3]])
    assert (source.counters["torn_frames"], source.counters["disconnects"]) == (1, 1)
    assert "a frame was cut off" in source.messages[0]


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage",
        b"MPX,00000000ff,MQ1,",
        b"MMPX,",
        b"MPX,9999999999,",
        b"MPX,0000000000,",
        b"\0" * 100,
        message(b"MQ1,000001,00384,01"),
        message(b"no frame at all"),
        message(header_bytes(9, 8, 64, "U16", 12) + bytes(10)),
        message(header_bytes(9, 8, 64, "U99", 12) + bytes(1024)),
        bytes(np.random.default_rng(5).integers(0, 256, 5000, np.uint8)),
    ],
)
def test_garbage_between_frames_is_passed_over(garbage):
    movie = movie_of((3, 8, 64), "U16")
    data = garbage + opening(0) + frame_message(1, movie[0]) + garbage + frame_message(2, movie[1])
    server = Server(sends(data + frame_message(3, movie[2])))
    source = open_source(f"merlin://127.0.0.1:{server.port}")
    np.testing.assert_array_equal(pixels(take(source, 3)), movie)
    assert source.counters["garbage"] == 2 and source.messages


def test_a_stream_of_nothing_but_garbage_can_be_stopped():
    def script(client):
        with contextlib.suppress(OSError):
            while True:
                client.sendall(b"MPX,garbage" * 1000)

    source = open_source(f"merlin://127.0.0.1:{Server(script).port}")
    threading.Timer(0.3, source.stopping.set).start()
    assert list(source.frames()) == []


def test_names_in_the_stream_are_no_paths(tmp_path):
    """What a header says goes into the record as text and nowhere else."""
    movie = movie_of((2, 8, 64), "U16")
    evil = b"../../../../evil,"
    body = header_bytes(1, 8, 64, "U16", 12).replace(b"2026-11-20T12:00:00.123456789Z,", evil).ljust(384, b"\0")
    server = Server(sends(opening(0) + message(body[:384] + movie[0].astype(">u2").tobytes())))
    (tmp_path / "out").mkdir()
    live(open_source(f"merlin://127.0.0.1:{server.port}"), tmp_path / "out" / "a.h5", n_frames=1)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert "../../../../evil" in (tmp_path / "out" / "a.h5.frames.csv").read_text()


def test_the_address():
    assert open_source("merlin://camera").port == DATA_PORT
    with pytest.raises(LowdoseError, match="expected merlin://HOST"):
        open_source("merlin://")


# --- against libertem-live's simulator


@pytest.fixture(scope="module")
def merlin_files(tmp_path_factory):
    packed = Path(__file__).resolve().parents[2] / "shared" / "data" / "formats"
    if not (packed / "Merlin_Single_Quad.zip").is_file():
        pytest.skip(f"no Merlin files at {packed}")
    folder = tmp_path_factory.mktemp("merlin")
    with zipfile.ZipFile(packed / "Merlin_Single_Quad.zip") as archive:
        archive.extractall(folder)
    return folder


def alone(path, folder):
    """A copy: the simulator takes all files for one whose names begin alike, such as NAME.mib and NAMERAW.mib."""
    shutil.copy(path.with_suffix(".mib"), folder)
    return shutil.copy(path, folder)


def simulated_detector(path):
    arguments = [path, "--host", "127.0.0.1"]
    return peer_program("libertem-live-mib-sim", arguments, "data-port", "control-port", "trigger-port")


@pytest.mark.peer
@pytest.mark.parametrize(("chips", "depth"), [("Single", "1"), ("Quad", "6"), ("Quad", "12"), ("Single", "24")])
def test_every_frame_of_the_simulated_detector(tmp_path, merlin_files, chips, depth):
    """Frames arrive in order, bit for bit those of the file, and come out denoised."""
    path = alone(merlin_files / f"{chips}_9_Frame_CounterDepth_{depth}_Rows_256.hdr", tmp_path)
    with open_stack(Path(path).with_suffix(".mib")) as reader:
        expected = np.stack([reader.read(n)[0] for n in range(reader.n_frames)])
    with simulated_detector(path) as ports:
        seen = Results()
        source = open_source(f"merlin://127.0.0.1:{ports['data-port']}")
        _, status = live(source, tmp_path / "a.h5", model="wcvd", listeners=[seen], n_frames=9, idle_s=PATIENCE_S)
    assert (status["received"], status["lost"], status["denoised"], status["raw_saved"]) == (9, 0, 9, 9)
    assert status["failures"] == [] and seen.numbers == list(range(9))
    with open_stack(tmp_path / "a.raw.h5") as reader:
        got = np.stack([reader.read(n)[0] for n in range(reader.n_frames)])
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.peer
@pytest.mark.parametrize("chips", ["Single", "Quad"])
def test_raw_frames_of_the_simulated_detector(tmp_path, merlin_files, chips):
    """R64: as the `.mib` reader decodes them."""
    path = alone(merlin_files / f"{chips}_9_Frame_CounterDepth_1_Rows_256RAW.hdr", tmp_path)
    with open_stack(Path(path).with_suffix(".mib")) as reader:
        expected = np.stack([reader.read(n)[0] for n in range(reader.n_frames)])
    with simulated_detector(path) as ports:
        items = take(open_source(f"merlin://127.0.0.1:{ports['data-port']}"), 9)
    np.testing.assert_array_equal(pixels(items), expected)
    assert [item.number for item in items if item is not END] == list(range(9))
