"""Merlin files, written here pixel by pixel and read back; and the maker's own where they are at hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from rsciio import quantumdetector

from lowdose.errors import LowdoseError
from lowdose.io import create_like, open_stack
from lowdose.io.mib import decode, parse_header

LIMITS = {"U08": 255, "U16": 65535, "U32": 2**32 - 1, 1: 1, 6: 63, 12: 4095, 24: 2**24 - 1}


def header_bytes(
    number: int, height: int, width: int, pixels: str, bits: int, quad: bool = False, length: int | None = None
) -> bytes:
    chips = 4 if quad else 1
    length = length or (768 if quad else 384)
    text = f"MQ1,{number:06d},{length:05d},{chips:02d},{width:04d},{height:04d},{pixels},"
    text += ("   2x2,0F," if quad else "   1x1,01,") + "2026-11-20 12:00:00.123456,0.002000,0,0,0,2.0E+0,"
    text += ",".join(["3RX,011,511,000,175"] * chips)
    text += f",MQ1A,2026-11-20T12:00:00.123456789Z,2500000ns,{bits},"
    return text.encode("ascii").ljust(length, b"\0")


def packed_words(values: list[int], bits: int) -> bytes:
    """Pixels in 64-bit big-endian words, the first in the lowest bits, one after the other."""
    per_word = 64 // bits
    out = b""
    for start in range(0, len(values), per_word):
        word = sum(value << (bits * place) for place, value in enumerate(values[start : start + per_word]))
        out += word.to_bytes(8, "big")
    return out


def raw_payload(frame: np.ndarray, bits: int) -> bytes:
    if bits == 24:
        return raw_payload(frame >> 12, 12) + raw_payload(frame & 4095, 12)
    return packed_words([int(value) for value in frame.ravel()], {1: 1, 6: 8, 12: 16}[bits])


def side_by_side(frame: np.ndarray) -> np.ndarray:
    """A square of four chips as the detector sends it: every row holds a row of each chip."""
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    stored = np.empty((height, 4 * width), frame.dtype)
    for y in range(height):
        for x in range(width):
            stored[y, x] = frame[2 * height - 1 - y, 2 * width - 1 - x]
            stored[y, width + x] = frame[2 * height - 1 - y, width - 1 - x]
            stored[y, 2 * width + x] = frame[y, width + x]
            stored[y, 3 * width + x] = frame[y, x]
    return stored


def movie_of(shape: tuple[int, ...], kind: str | int) -> np.ndarray:
    dtype = {"U08": "u1", "U16": "u2", "U32": "u4", 1: "u1", 6: "u1", 12: "u2", 24: "u4"}[kind]
    return np.random.default_rng(4).integers(0, LIMITS[kind], shape, endpoint=True).astype(dtype)


def write_binary(path: Path, movie: np.ndarray, pixels: str) -> None:
    with path.open("wb") as file:
        for number, frame in enumerate(movie):
            file.write(header_bytes(number + 1, *frame.shape, pixels, 12))
            file.write(frame.astype(frame.dtype.newbyteorder(">")).tobytes())


def write_raw(path: Path, movie: np.ndarray, bits: int, quad: bool) -> None:
    with path.open("wb") as file:
        for number, frame in enumerate(movie):
            stored = side_by_side(frame) if quad else frame
            file.write(header_bytes(number + 1, *stored.shape, "R64", bits, quad))
            file.write(raw_payload(stored, bits))


@pytest.mark.parametrize("pixels", ["U08", "U16", "U32"])
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 1, 1), (2, 4, 64)])
def test_binary_frames(tmp_path: Path, pixels: str, shape: tuple[int, ...]) -> None:
    movie = movie_of(shape, pixels)
    write_binary(tmp_path / "a.mib", movie, pixels)
    with open_stack(tmp_path / "a.mib") as reader:
        assert (reader.axes, reader.shape, reader.dtype) == ("TYX", shape, movie.dtype)
        assert (reader.frame_interval, reader.frame_interval_unit) == (pytest.approx(0.0025), "s")
        for number in reversed(range(shape[0])):
            frame = reader.read(number)
            assert frame.dtype.isnative and frame.flags.writeable and frame.flags.c_contiguous
            np.testing.assert_array_equal(frame[0], movie[number])


@pytest.mark.parametrize("bits", [1, 6, 12, 24])
@pytest.mark.parametrize("quad", [False, True])
def test_raw_frames(tmp_path: Path, bits: int, quad: bool) -> None:
    movie = movie_of((2, 6, 128), bits)
    write_raw(tmp_path / "a.MIB", movie, bits, quad)
    with open_stack(tmp_path / "a.MIB") as reader:
        assert (reader.axes, reader.shape, reader.dtype) == ("TYX", movie.shape, movie.dtype)
        for number, expected in enumerate(movie):
            frame = reader.read(number)
            assert frame.dtype.isnative and frame.flags.writeable
            np.testing.assert_array_equal(frame[0], expected)


def test_header_tells_number_time_and_exposure() -> None:
    header = parse_header(header_bytes(17, 256, 1024, "R64", 12, quad=True) + b"pixels", "stream")
    assert (header.number, header.time) == (17, "2026-11-20T12:00:00.123456789Z")
    assert header.exposure_s == pytest.approx(0.0025)
    assert (header.shape, header.dtype, header.payload_bytes) == ((512, 512), np.uint16, 2 * 512 * 512)
    old = header_bytes(3, 4, 6, "U16", 12).split(b",MQ1A")[0].ljust(384, b"\0")
    header = parse_header(old, "old")
    assert (header.number, header.time, header.counter_bits) == (3, "2026-11-20 12:00:00.123456", None)
    assert header.exposure_s == pytest.approx(0.002)
    assert header.payload_bytes == 48
    np.testing.assert_array_equal(decode(header, bytes(range(48)))[0], np.arange(0, 12, 2) * 257 + 1)


def test_scan_given_and_scan_by_the_row_trigger(tmp_path: Path) -> None:
    movie = movie_of((6, 3, 4), "U16")
    write_binary(tmp_path / "a.mib", movie, "U16")
    with open_stack(tmp_path / "a.mib", scan=(2, 3)) as reader:
        assert (reader.axes, reader.scan_shape) == ("VUYX", (2, 3))
        np.testing.assert_array_equal(reader.read(4)[0], movie[4])
    with pytest.raises(LowdoseError, match="8 patterns, the file has 6"):
        open_stack(tmp_path / "a.mib", scan=(2, 4))
    told = "HDR,\t\r\nCounter Depth (number):\t12\r\nFrames per Trigger (Number):\t{}\r\nEnd\t"
    for per_row, scan in ((3, (2, 3)), (2, (3, 2)), (1, None), (4, None), (6, None)):
        (tmp_path / "a.hdr").write_text(told.format(per_row))
        with open_stack(tmp_path / "a.mib") as reader:
            assert reader.scan_shape == scan
            np.testing.assert_array_equal(np.stack([reader.read(n)[0] for n in range(6)]), movie)
    (tmp_path / "a.hdr").write_text(told.format(3))
    with open_stack(tmp_path / "a.mib", axes="TYX") as reader:
        assert (reader.axes, reader.n_frames) == ("TYX", 6)
    with open_stack(tmp_path / "a.mib", scan=(6, 1)) as reader:
        assert reader.scan_shape == (6, 1)
    with open_stack(tmp_path / "a.mib", axes="UVYX") as reader:
        assert reader.scan_shape == (3, 2)
        np.testing.assert_array_equal(reader.read(1)[0], movie[3])


def test_a_stack_like_a_merlin_file(tmp_path: Path) -> None:
    movie = movie_of((2, 3, 4), "U16")
    write_binary(tmp_path / "a.mib", movie, "U16")
    with open_stack(tmp_path / "a.mib") as reader:
        with create_like(tmp_path / "b.tif", reader, dtype=reader.dtype, provenance={}) as writer:
            for number in range(2):
                writer.write(reader.read(number))
        with pytest.raises(LowdoseError, match="cannot write"):
            create_like(tmp_path / "b.mib", reader, dtype=reader.dtype, provenance={})
    with open_stack(tmp_path / "b.tif") as reader:
        np.testing.assert_array_equal(reader.read(1)[0], movie[1])
        assert reader.frame_interval == pytest.approx(0.0025)


# --- bad input


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"text " * 200, "begins with"),
        (b"MQ1,000001,00384,01", "damaged header"),
        (header_bytes(1, 4, 6, "U16", 12).replace(b"0006", b"00 6"), "damaged header"),
        (header_bytes(1, 4, 6, "U64", 12), "U64"),
        (header_bytes(1, 4, 64, "R64", 7), "R64 with 7 bits"),
        (header_bytes(1, 4, 64, "R64", 12).split(b",MQ1A")[0], "R64 are not supported"),
        (header_bytes(1, 4, 60, "R64", 12), "64-bit words"),
        (header_bytes(1, 0, 6, "U16", 12), "0x6"),
        (header_bytes(1, 4, 6, "U16", 12, length=9), "9 bytes"),
        (header_bytes(1, 4, 128, "R64", 12).replace(b",01,0128", b",02,0128"), "2 chips"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, start: bytes, words: str) -> None:
    (tmp_path / "a.mib").write_bytes(start + bytes(5000))
    with pytest.raises(LowdoseError, match=words):
        open_stack(tmp_path / "a.mib")


@pytest.mark.parametrize("kept", [100, 384, 400, 384 + 24 + 100, 2 * (384 + 24) - 1])
def test_truncated(tmp_path: Path, kept: int) -> None:
    write_binary(tmp_path / "a.mib", movie_of((3, 3, 4), "U16"), "U16")
    (tmp_path / "a.mib").write_bytes((tmp_path / "a.mib").read_bytes()[:kept])
    with pytest.raises(LowdoseError, match=r"truncated|damaged"):
        open_stack(tmp_path / "a.mib")


def test_frames_that_do_not_belong_together(tmp_path: Path) -> None:
    write_binary(tmp_path / "a.mib", movie_of((2, 3, 4), "U16"), "U16")
    content = bytearray((tmp_path / "a.mib").read_bytes())
    second = 384 + 24
    content[second : second + 384] = header_bytes(2, 4, 3, "U16", 12)
    (tmp_path / "a.mib").write_bytes(content)
    with open_stack(tmp_path / "a.mib") as reader:
        reader.read(0)
        with pytest.raises(LowdoseError, match=r"frame 1 is \(4, 3\).*\(3, 4\)"):
            reader.read(1)
    content[second : second + 3] = b"\0\0\0"
    (tmp_path / "a.mib").write_bytes(content)
    with open_stack(tmp_path / "a.mib") as reader, pytest.raises(LowdoseError, match="frame 1: not the header"):
        reader.read(1)


def test_a_file_cut_while_it_is_open(tmp_path: Path) -> None:
    write_binary(tmp_path / "a.mib", movie_of((2, 3, 4), "U16"), "U16")
    with open_stack(tmp_path / "a.mib") as reader:
        (tmp_path / "a.mib").write_bytes((tmp_path / "a.mib").read_bytes()[:-1])
        with pytest.raises(LowdoseError, match="ends inside frame 1"):
            reader.read(1)


def test_empty_file_and_axes_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.mib").write_bytes(b"")
    with pytest.raises(LowdoseError, match="empty"):
        open_stack(tmp_path / "a.mib")
    write_binary(tmp_path / "b.mib", movie_of((2, 3, 4), "U16"), "U16")
    for axes in ("VUYX", "YXT"):
        with pytest.raises(LowdoseError, match="axes"):
            open_stack(tmp_path / "b.mib", axes=axes)


# --- files of the maker


@pytest.fixture(scope="module")
def merlin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked files of the maker; skips where they are absent."""
    packed = Path(__file__).resolve().parents[2] / "shared" / "data" / "formats"
    names = ("Merlin_Single_Quad.zip", "Merlin_navigation4x2_ROI.zip")
    if not all((packed / name).is_file() for name in names):
        pytest.skip(f"no Merlin files at {packed}")
    folder = tmp_path_factory.mktemp("merlin")
    for name in names:
        with zipfile.ZipFile(packed / name) as archive:
            archive.extractall(folder)
    return folder


@pytest.mark.filterwarnings("ignore")  # of RosettaSciIO about what it guesses
def test_against_rosettasciio(merlin: Path) -> None:
    files = [path for path in sorted(merlin.glob("*.mib")) if not path.stem.endswith("RAW")]
    assert len(files) == 18
    for path in files:
        with open_stack(path) as reader:
            got = np.stack([reader.read(number)[0] for number in range(reader.n_frames)])
        expected = quantumdetector.file_reader(str(path))[0]["data"]
        # It shows frames as the maker's software does, from the bottom up.
        np.testing.assert_array_equal(got[:, ::-1], expected.reshape(got.shape))


@pytest.mark.parametrize("chips", ["Single", "Quad"])
def test_raw_frames_show_the_same_bad_pixels(merlin: Path, chips: str) -> None:
    counts = []
    for kind in ("", "RAW"):
        with open_stack(merlin / f"{chips}_9_Frame_CounterDepth_1_Rows_256{kind}.mib") as reader:
            assert reader.n_frames == 9
            counts.append(sum(reader.read(number)[0].astype(int) for number in range(9)))
    assert counts[0].shape == counts[1].shape
    assert np.corrcoef(counts[0].ravel(), counts[1].ravel())[0, 1] > 0.99
