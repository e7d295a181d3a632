"""DECTRIS' stream: made here message by message, and from libertem-live's simulator of the detector."""

from __future__ import annotations

import json
import struct
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass

import numpy as np
import pytest

from live_peers import PATIENCE_S, live, noisy_movie, peer_folder, peer_program, wait_until
from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.live import END, open_source
from test_live_run import Results
from test_live_sources import collect, finish, pixels

cbor2 = pytest.importorskip("cbor2")
zmq = pytest.importorskip("zmq")


# --- messages


def literal_lz4(data):
    """LZ4's block format without any matches: one sequence of literals."""
    length, head = len(data), b""
    if length >= 15:
        rest = length - 15
        head = b"\xff" * (rest // 255) + bytes([rest % 255])
    return bytes([min(length, 15) << 4]) + head + data


def bitshuffled(frame):
    """Bitshuffle and LZ4 as HDF5's filter packs them: blocks of 8192 bytes, bit planes first, the rest as it is."""
    size = frame.dtype.itemsize
    flat = frame.reshape(-1)
    per_block = 8192 // size
    whole = len(flat) // 8 * 8
    out = struct.pack(">QI", frame.nbytes, 8192)
    for start in range(0, whole, per_block):
        block = flat[start : min(start + per_block, whole)]
        bits = np.unpackbits(block.view(np.uint8).reshape(len(block), size), axis=1, bitorder="little")
        packed = literal_lz4(np.packbits(bits.T, axis=1, bitorder="little").tobytes())
        out += struct.pack(">I", len(packed)) + packed
    return out + flat[whole:].tobytes()


def json_message(number, frame, series=7, encoding=None, **changes):
    bits = 8 * frame.dtype.itemsize
    encoding = f"bs{bits}-lz4<" if encoding is None else encoding
    data = bitshuffled(frame) if "lz4" in encoding else frame.tobytes()
    what = {"htype": "dimage_d-1.0", "shape": frame.shape[::-1], "type": frame.dtype.name, "encoding": encoding}
    what |= {"size": len(data)} | changes
    heads = [{"htype": "dimage-1.0", "series": series, "frame": number, "hash": ""}, what]
    times = {"htype": "dconfig-1.0", "start_time": 1000 * number, "stop_time": 1000 * number + 900, "real_time": 900}
    return [json.dumps(heads[0]).encode(), json.dumps(heads[1]).encode(), data, json.dumps(times).encode()]


def header(series=7, n_frames=5, shape=(10, 12)):
    told = {"nimages": n_frames, "ntrigger": 1, "trigger_mode": "exts", "bit_depth_image": 16}
    told |= {"x_pixels_in_detector": shape[1], "y_pixels_in_detector": shape[0]}
    return [
        json.dumps({"htype": "dheader-1.0", "series": series, "header_detail": "basic"}).encode(),
        json.dumps(told).encode(),
    ]


def footer(series=7):
    return [json.dumps({"htype": "dseries_end-1.0", "series": series}).encode()]


def cbor_image(number, frame, tag, compressed=True, series=3):
    data = cbor2.CBORTag(56500, ["bslz4", frame.dtype.itemsize, bitshuffled(frame)]) if compressed else frame.tobytes()
    plane = cbor2.CBORTag(40, [list(frame.shape), cbor2.CBORTag(tag, data)])
    told = {"type": "image", "series_id": series, "image_id": number, "start_time": [number * 5, 1000]}
    return cbor2.dumps(cbor2.CBORTag(55799, told | {"data": {"threshold_1": plane}}))


@dataclass(frozen=True)
class Detector:
    socket: zmq.Socket
    address: str


@pytest.fixture
def detector():
    """A socket that pushes, as the detector's does, and the source that pulls from it."""
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield Detector(socket, f"dectris://127.0.0.1:{port}")
    socket.close()
    context.term()


def receive(detector, messages, n_frames):
    source = open_source(detector.address)
    items, thread = collect(source)
    for message in messages:
        detector.socket.send_multipart(message if isinstance(message, list) else [message])
    wait_until(lambda: sum(item is not END for item in items) == n_frames)
    finish(source, thread)
    return source, items


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("shape", [(10, 12), (7, 11), (1, 1), (64, 129)])
def test_json_frames(detector, dtype, shape):
    movie = noisy_movie(3, *shape, dtype="uint8").astype(dtype)
    messages = [header(), *(json_message(n, f) for n, f in enumerate(movie)), footer()]
    source, items = receive(detector, messages, 3)
    frames = [item for item in items if item is not END]
    assert [frame.number for frame in frames] == [0, 1, 2] and frames[1].time == "1000"
    assert frames[0].pixels.dtype == dtype and source.counters == {}
    np.testing.assert_array_equal(pixels(items), movie)


def test_headers_in_parts_plain_pixels_and_two_series(detector):
    movie = noisy_movie(4, 6, 5)
    messages = [*header(1), json_message(0, movie[0], 1, "<"), footer(1), json_message(0, movie[1], 2, "<")]
    messages += [json_message(1, movie[2].astype(">u2"), 2, ">", type="uint16"), json_message(5, movie[3], 4, "<")]
    _, items = receive(detector, messages, 4)
    np.testing.assert_array_equal(pixels(items), movie)
    joined = "".join("e" if item is END else "f" for item in items)
    assert joined.replace("ee", "e").replace("ee", "e").strip("e") == "feffef"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([b"garbage"], "neither JSON nor CBOR"),
        ([b"{garbage"], "neither JSON nor CBOR"),
        ([b"[1]"], "unknown kind|neither"),
        ([b'{"htype": "dnews-1.0"}'], "dnews"),
        ([b'{"htype": "dimage-1.0", "series": 7, "frame": 0}'], "1 parts"),
        (json_message(9, noisy_movie(1, 6, 5)[0], shape=[5, 7]), "6x5|7x5"),
        (json_message(9, noisy_movie(1, 6, 5)[0], type="complex64"), "complex64"),
        (json_message(9, noisy_movie(1, 6, 5)[0], encoding="lz4<"), "bslz4"),
        (json_message(9, noisy_movie(1, 6, 5)[0], shape="wide"), "shape"),
        ([*json_message(9, noisy_movie(1, 6, 5)[0])[:2], b"\x00" * 9, b"{}"], "unpacked|bytes"),
        ([b"\xa1\x64type\x65image"], "series_id"),
        ([b"\xa1\x64type\x64news"], "news"),
        ([b"\xa1\x64type"], "neither JSON nor CBOR"),
    ],
)
def test_messages_that_are_none_are_passed_over(detector, bad, words):
    movie = noisy_movie(2, 6, 5)
    source, items = receive(detector, [header(), json_message(0, movie[0]), bad, json_message(1, movie[1])], 2)
    np.testing.assert_array_equal(pixels(items), movie)
    assert source.counters["garbage"] == 1
    assert any(word in source.messages[0] for word in words.split("|")), source.messages[0]


@pytest.mark.parametrize(("dtype", "tag"), [("u1", 64), ("<u2", 69), ("<u4", 70), ("<f4", 85)])
@pytest.mark.parametrize("compressed", [False, True])
def test_cbor_frames(detector, dtype, tag, compressed):
    """Stream 2 by its description; no peer was there to test against."""
    movie = noisy_movie(3, 9, 17, dtype="uint8").astype(dtype)
    start = cbor2.dumps({"type": "start", "series_id": 3, "number_of_images": 3, "channels": ["threshold_1"]})
    messages = [start, *(cbor_image(n, f, tag, compressed) for n, f in enumerate(movie)), cbor2.dumps({"type": "end"})]
    _, items = receive(detector, messages, 3)
    np.testing.assert_array_equal(pixels(items), movie)
    assert [item.number for item in items if item is not END] == [0, 1, 2]
    assert [item.time for item in items if item is not END][1] == "0.005000000"


def test_a_detector_that_comes_back(tmp_path, detector):
    """The socket goes away between two series; frames of both arrive."""
    movie = noisy_movie(4, 6, 5)
    source = open_source(detector.address)
    items, thread = collect(source)
    for number in range(2):
        detector.socket.send_multipart(json_message(number, movie[number]))
    wait_until(lambda: len(pixels(items)) == 2)
    detector.socket.close()
    with zmq.Context() as context, context.socket(zmq.PUSH) as again:
        wait_until(lambda: bound(again, detector.address.replace("dectris", "tcp")))
        for number in range(2):
            again.send_multipart(json_message(number, movie[2 + number], series=8))
        wait_until(lambda: len(pixels(items)) == 4)
        finish(source, thread)
    np.testing.assert_array_equal(pixels(items), movie)


def bound(socket, address):
    """Whether the socket could take the address, which takes a moment to become free."""
    try:
        socket.bind(address)
    except zmq.ZMQError:
        return False
    return True


def test_the_address():
    assert open_source("dectris://camera").port == 9999
    with pytest.raises(LowdoseError, match="expected dectris://HOST"):
        open_source("dectris://camera:x")


# --- against libertem-live's simulator

PACK = """
import sys, json, struct
import bitshuffle, numpy as np
movie = np.load(sys.argv[1])
for frame in movie:
    data = bitshuffle.compress_lz4(frame).tobytes()
    data = struct.pack(">QI", frame.nbytes, bitshuffle.default_block_size(frame.dtype.itemsize)
        if hasattr(bitshuffle, "default_block_size") else 8192) + data
    sys.stdout.buffer.write(struct.pack("<q", len(data)) + data)
"""


def packed_by_bitshuffle(movie, folder):
    """Every frame as bitshuffle itself packs it, in the peers' environment."""
    np.save(folder / "movie.npy", movie)
    python = peer_folder("python") / "bin" / "python"
    data = subprocess.run([python, "-c", PACK, folder / "movie.npy"], capture_output=True, check=True).stdout
    blobs = []
    while data:
        (length,) = struct.unpack("<q", data[:8])
        blobs.append(data[8 : 8 + length])
        data = data[8 + length :]
    return blobs


@pytest.mark.peer
def test_every_frame_of_the_simulated_detector(tmp_path):
    movie = noisy_movie(60, 128, 192)
    blobs = packed_by_bitshuffle(movie, tmp_path)
    told = header(n_frames=len(movie), shape=movie.shape[1:])
    messages = list(told)
    for number, (frame, blob) in enumerate(zip(movie, blobs, strict=True)):
        parts = json_message(number, frame)
        messages += [parts[0], json.dumps(json.loads(parts[1]) | {"size": len(blob)}).encode(), blob, parts[3]]
    messages += footer()
    (tmp_path / "recorded").write_bytes(b"".join(struct.pack("<q", len(m)) + m for m in messages))
    with simulated_detector(tmp_path / "recorded") as ports:
        command = f"http://127.0.0.1:{ports['port']}/detector/api/1.8.0/command/arm"
        seen = Results()
        source = open_source(f"dectris://127.0.0.1:{ports['zmqport']}")
        came = threading.Event()
        frames = source.frames
        source.frames = lambda: tell_of_first(frames(), came)
        threading.Thread(target=arm_until, args=(command, came), daemon=True).start()
        _, status = live(source, tmp_path / "a.h5", model="wcvd", listeners=[seen], n_frames=60, idle_s=PATIENCE_S)
    assert (status["received"], status["lost"], status["denoised"], status["faults"]) == (60, 0, 60, {})
    assert status["failures"] == [] and seen.numbers == list(range(60))
    with open_stack(tmp_path / "a.raw.h5") as reader:
        got = np.stack([reader.read(n)[0] for n in range(reader.n_frames)])
    assert got.dtype == movie.dtype
    np.testing.assert_array_equal(got, movie)


# The command `libertem-live-dectris-sim` binds its port twice in a row, which fails more often than not. With a filter
# the same simulator sends from Python and binds once.
SIMULATE = """
import sys, time
from libertem_live.detectors.dectris.sim import DectrisSim
path, api, stream = sys.argv[1], int(sys.argv[3]), int(sys.argv[5])
simulator = DectrisSim(path=path, port=api, zmqport=stream, data_filter=lambda data: data)
simulator.start()
time.sleep(600)
"""


def simulated_detector(recorded):
    script = recorded.with_name("simulate.py")
    script.write_text(SIMULATE)
    return peer_program("python", [script, recorded], "port", "zmqport")


def tell_of_first(items, came):
    for item in items:
        came.set()
        yield item


def arm_until(command, came):
    """Arm the detector, again where it gave up because nobody had connected yet; never while it sends."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and not came.wait(15 if put(command) else 0.1):
        pass


def put(address):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, b"{}", method="PUT"), timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False
