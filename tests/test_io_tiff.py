"""TIFF files made by others: dialects, byte orders, compression, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from lowdose.errors import LowdoseError
from lowdose.io import StackReader, create_stack, open_stack, read_provenance


def stack_of(reader: StackReader) -> np.ndarray:
    return np.stack([reader.read(frame) for frame in range(reader.n_frames)])


def make(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 13])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"metadata": None, "rowsperstrip": 2},
    ],
)
def test_plain(tmp_path: Path, options: dict[str, Any], n_frames: int, bigtiff: bool, byteorder: str) -> None:
    array = make((n_frames, 7, 5))
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="minisblack", bigtiff=bigtiff, byteorder=byteorder, **options
    )
    with open_stack(tmp_path / "a.tif") as reader:
        assert (reader.dialect, reader.n_channels) == ("plain", 1)
        assert reader.dtype == np.uint16 and reader.dtype.isnative
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)
        # pages that no metadata explain: one page is an image, not a series of one
        assert reader.axes == ("YX" if n_frames == 1 and "metadata" in options else "TYX")


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float16", "float32", "float64"])
def test_plain_dtypes_big_endian(tmp_path: Path, dtype: str) -> None:
    array = make((2, 3, 5), dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=">", photometric="minisblack")
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.dtype == array.dtype
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)


def test_one_bit_becomes_uint8(tmp_path: Path) -> None:
    array = make((3, 9), "uint8") > 100
    tifffile.imwrite(tmp_path / "a.tif", array)
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.dtype == np.uint8
        np.testing.assert_array_equal(reader.read(0)[0], array)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_channels(tmp_path: Path, planar: str) -> None:
    array = make((4, 7, 5, 3), "uint8")
    stored = array if planar == "contig" else array.transpose(0, 3, 1, 2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    with open_stack(tmp_path / "a.tif") as reader:
        assert (reader.n_frames, reader.n_channels) == (4, 3)
        np.testing.assert_array_equal(stack_of(reader), array.transpose(0, 3, 1, 2))


def test_a_movie_that_says_it_is_colours_can_be_overruled(tmp_path: Path) -> None:
    array = make((3, 7, 5))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", planarconfig="separate", metadata=None)
    with open_stack(tmp_path / "a.tif") as reader:
        assert (reader.n_frames, reader.n_channels) == (1, 3)
    with open_stack(tmp_path / "a.tif", axes="TYX") as reader:
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "CYX"])
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_imagej_axes(tmp_path: Path, axes: str, size: int) -> None:
    array = make((size, 7, 5))
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": axes})
    with open_stack(tmp_path / "a.tif") as reader:
        assert (reader.axes, reader.shape) == (axes, array.shape)


def test_imagej_without_frames_or_slices_is_time(tmp_path: Path) -> None:
    array = make((6, 7, 5))
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(array, description="ImageJ=1.53t\nimages=6\nunit=nm\n", metadata=None, photometric="minisblack")
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.axes == "TYX"
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)


@pytest.mark.parametrize("written", ["um", "µm", "\\u00B5m", "micron", "nm", "pixel"])
def test_imagej_units(tmp_path: Path, written: str) -> None:
    description = f"ImageJ=1.53t\nunit={written}\n"
    tifffile.imwrite(
        tmp_path / "a.tif",
        make((7, 5)),
        description=description.encode("latin-1"),
        metadata=None,
        resolution=(4.0, 2.0),
        resolutionunit="NONE",
    )
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.pixel_size == (0.5, 0.25)
        assert reader.pixel_unit == {"nm": "nm", "pixel": "pixel"}.get(written, "µm")


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected_nm"),
    [("CENTIMETER", 2e7, 0.5), ("INCH", 2.54e7, 1.0), ("INCH", 72.0, None), ("NONE", 5.0, None)],
)
def test_plain_resolution(tmp_path: Path, unit: str, per_unit: float, expected_nm: float | None) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", make((7, 5)), metadata=None, resolution=(per_unit, per_unit), resolutionunit=unit
    )
    with open_stack(tmp_path / "a.tif") as reader:
        if expected_nm is None:
            assert reader.pixel_size is None and reader.pixel_unit is None
        else:
            assert reader.pixel_size == pytest.approx((expected_nm, expected_nm), rel=1e-6)
            assert reader.pixel_unit == "nm"


@pytest.mark.parametrize("unit", ["µm", "nm", "Å", "pixel"])
def test_ome_from_tifffile(tmp_path: Path, unit: str) -> None:
    array = make((3, 2, 7, 5))
    metadata = {
        "axes": "CTYX",
        "PhysicalSizeX": 0.3,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": 0.2,
        "PhysicalSizeYUnit": unit,
        "TimeIncrement": 40.0,
        "TimeIncrementUnit": "ms",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata=metadata, photometric="minisblack")
    with open_stack(tmp_path / "a.ome.tif") as reader:
        assert (reader.axes, reader.n_frames, reader.n_channels) == ("CTYX", 2, 3)
        assert (reader.pixel_size, reader.pixel_unit) == ((0.2, 0.3), unit)
        assert (reader.frame_interval, reader.frame_interval_unit) == (40.0, "ms")
        np.testing.assert_array_equal(stack_of(reader), array.transpose(1, 0, 2, 3))


def test_four_unexplained_dimensions_need_axes(tmp_path: Path) -> None:
    array = make((2, 3, 7, 5))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with pytest.raises(LowdoseError, match="--axes"):
        open_stack(tmp_path / "a.tif")
    with open_stack(tmp_path / "a.tif", axes="TCYX") as reader:
        np.testing.assert_array_equal(stack_of(reader), array)


def test_several_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(make((4, 6)), metadata=None)
        tif.write(make((7, 9)), metadata=None)
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.shape == (7, 9)
    with open_stack(f"{tmp_path / 'a.tif'}::0") as reader:
        assert reader.shape == (4, 6)
    with pytest.raises(LowdoseError, match="it holds"):
        open_stack(tmp_path / "a.tif", dataset="2")


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "metadata": None},
        {"imagej": True},
        {"ome": True, "photometric": "minisblack"},
        {"compression": "zlib", "photometric": "minisblack"},
        {"bigtiff": True, "photometric": "minisblack"},
        {"imagej": True, "truncate": True},
        {"photometric": "minisblack", "truncate": True},
    ],
)
@pytest.mark.parametrize("kept", [0.01, 0.2, 0.5, 0.9, 0.97])
def test_truncated(tmp_path: Path, options: dict[str, Any], kept: float) -> None:
    """Wherever the file is cut, opening or reading it is an error, never a stack with zeros."""
    path = tmp_path / "a.tif"
    array = np.random.default_rng(0).integers(0, 2**16, (6, 32, 24)).astype(np.uint16)
    tifffile.imwrite(path, array, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(LowdoseError, match=r"truncat|not a TIFF|damaged|decode"), open_stack(path) as reader:
        stack_of(reader)


@pytest.mark.parametrize("lost_bytes", range(1, 60, 4))
@pytest.mark.parametrize("dialect", ["plain", "imagej", "ome"])
def test_what_is_read_after_a_small_cut_is_whole(tmp_path: Path, dialect: str, lost_bytes: int) -> None:
    """The very end may be something that nobody needs; then nothing at all is missing."""
    path = tmp_path / "a.tif"
    array = np.random.default_rng(0).integers(0, 2**16, (6, 9, 7)).astype(np.uint16)
    with create_stack(path, axes="TYX", shape=array.shape, dtype=array.dtype, provenance={}, dialect=dialect) as writer:
        for frame in array:
            writer.write(frame[np.newaxis])
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    try:
        with open_stack(path) as reader:
            assert (reader.axes, reader.dialect) == ("TYX", dialect)
            np.testing.assert_array_equal(stack_of(reader)[:, 0], array)
    except LowdoseError as error:
        assert "truncated" in str(error)


def test_pages_behind_a_cut_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in make((6, 32, 24)):
            tif.write(frame, metadata=None, contiguous=False)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LowdoseError, match="truncated"):
        open_stack(path)


def test_loop_of_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make((7, 5)), metadata=None)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages.first
        next_pointer = first.offset + 2 + 12 * len(first.tags)
        content = bytearray(path.read_bytes())
        content[next_pointer : next_pointer + 4] = first.offset.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(LowdoseError, match="loop"):
        open_stack(path)


def test_planes_in_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, make((3, 7, 5)), photometric="minisblack", metadata={"axes": "TYX"})
    with tifffile.TiffFile(path) as tif:
        xml = str(tif.ome_metadata).replace('SizeT="3"', 'SizeT="4"')
    tifffile.tiffcomment(path, xml.encode())
    with pytest.raises(LowdoseError, match=r"missing|truncated"), open_stack(path) as reader:
        stack_of(reader)


def test_lzw_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make((7, 5)), metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["Compression"].overwrite(5)
    if 5 in tifffile.TIFF.DECOMPRESSORS:
        pytest.skip("imagecodecs is installed, so LZW can be read")
    with pytest.raises(LowdoseError, match="pip install imagecodecs"):
        open_stack(path)


@pytest.mark.parametrize("content", [b"no TIFF, only text\n" * 9, b"II*\0", b"II*\0\0\0\0\0", b"II", b"MM\0*\0\0\1\0"])
def test_not_tiff(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(LowdoseError, match="TIFF"):
        open_stack(tmp_path / "a.tif")


def test_complex(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 7, 5), np.complex64), photometric="minisblack")
    with pytest.raises(LowdoseError, match="complex"):
        open_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("software", [None, "tifffile.py", "lowdose", "lowdose 0.1.0 {cut", "lowdose 1 [1]"])
def test_provenance_of_others(tmp_path: Path, software: str | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", make((7, 5)), software=software)
    assert read_provenance(tmp_path / "a.tif") is None
