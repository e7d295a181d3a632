"""What is written must come back the same: through our reader and through other people's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from rsciio import emd, mrc, nexus, tiff

from lowdose.io import create_like, create_stack, open_stack, read_provenance

PROVENANCE = {"lowdose": "0.1.0", "model": "wcvd", "model_sha256": "0123456789abcdef", "drift": False}
SHAPES = [
    ("YX", (5, 7)),
    ("YX", (1, 1)),
    ("TYX", (3, 5, 7)),  # three and four frames must not become the colours of one
    ("TYX", (4, 5, 7)),
    ("TYX", (1, 5, 7)),
    ("TYX", (5, 7, 1)),
    ("TYX", (2, 1, 7)),
    ("ZYX", (3, 5, 7)),
    ("TZYX", (2, 3, 5, 7)),
    ("CYX", (3, 5, 7)),
    ("TCYX", (4, 3, 5, 7)),
    ("TZCYX", (2, 3, 4, 5, 7)),
]
SCANS = [("VUYX", (3, 2, 5, 7)), ("VUYX", (1, 1, 5, 7)), ("VUCYX", (3, 2, 4, 5, 7))]
MRC_DTYPES = ("int8", "int16", "uint16", "float16", "float32")
DTYPES = (*MRC_DTYPES, "uint8", "int32", "uint32", "float64")


def make(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = np.random.default_rng(7).integers(-100 if dtype[0] in "if" else 0, 120, shape)
    return values.astype(dtype)


def write(path: Path, axes: str, array: np.ndarray, **known: Any) -> None:
    with create_stack(path, axes=axes, shape=array.shape, dtype=array.dtype, provenance=PROVENANCE, **known) as writer:
        n_channels = array.shape[axes.index("C")] if "C" in axes else 1
        for frame in array.reshape(-1, n_channels, *array.shape[-2:]):
            writer.write(frame)


def read_all(path: Path, axes: str | None = None) -> np.ndarray:
    with open_stack(path, axes=axes) as reader:
        return np.stack([reader.read(frame) for frame in range(reader.n_frames)])


@pytest.mark.parametrize("name", ["a.npy", "a.h5", "a.nxs", "a.emd", "plain.tif"])
@pytest.mark.parametrize(("axes", "shape"), [*SHAPES, *SCANS])
def test_axes_shape_and_values(tmp_path: Path, name: str, axes: str, shape: tuple[int, ...]) -> None:
    array = make(shape, "uint16")
    write(tmp_path / name, axes, array, dialect="plain")
    with open_stack(tmp_path / name) as reader:
        assert (reader.axes, reader.shape, reader.dtype) == (axes, shape, np.uint16)
        assert reader.pixel_size is None and reader.frame_interval is None
    np.testing.assert_array_equal(read_all(tmp_path / name).reshape(shape), array)
    assert read_provenance(tmp_path / name) == PROVENANCE


@pytest.mark.parametrize("dialect", ["imagej", "ome"])
@pytest.mark.parametrize(("axes", "shape"), SHAPES)
def test_tiff_dialects_drop_only_axes_of_one(tmp_path: Path, dialect: str, axes: str, shape: tuple[int, ...]) -> None:
    array = make(shape, "float32")
    write(tmp_path / "a.tif", axes, array, dialect=dialect)
    left = [(axis, size) for axis, size in zip(axes, shape, strict=True) if size > 1 or axis in "YX"]
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.dialect == dialect
        assert list(zip(reader.axes, reader.shape, strict=True)) == left
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif").reshape(shape), array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array.reshape([n for _, n in left]))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert (tif.is_imagej, tif.is_ome) == (dialect == "imagej", dialect == "ome")
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    assert read_provenance(tmp_path / "a.tif") == PROVENANCE


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["a.npy", "a.h5", "a.tif", "a.ome.tif"])
def test_dtypes(tmp_path: Path, name: str, dtype: str) -> None:
    array = make((2, 5, 7), dtype)
    write(tmp_path / name, "TYX", array)
    got = read_all(tmp_path / name)[:, 0]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    ("dtype", "asked", "given"),
    [
        ("uint16", None, "imagej"),
        ("float32", "imagej", "imagej"),
        ("int16", "imagej", "ome"),
        ("float64", None, "ome"),
        ("float16", "ome", "plain"),
        ("uint16", "plain", "plain"),
    ],
)
def test_tiff_dialect_follows_what_it_can_hold(tmp_path: Path, dtype: str, asked: str | None, given: str) -> None:
    write(tmp_path / "a.tif", "TYX", make((2, 5, 7), dtype), dialect=asked)
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.dialect == given


@pytest.mark.parametrize("name", ["a.npy", "a.h5", "ij.tif", "plain.tif", "a.ome.tif", "a.mrc"])
@pytest.mark.parametrize("unit", ["nm", "um", "Å", "pm"])
def test_calibration(tmp_path: Path, name: str, unit: str) -> None:
    known = {"pixel_size": (0.541, 1.2), "pixel_unit": unit, "z_spacing": 1.5}
    axes = "TZYX"
    if name != "a.mrc":
        known |= {"frame_interval": 0.25, "frame_interval_unit": "s"}
    dialect = {"ij.tif": "imagej", "plain.tif": "plain"}.get(name)
    write(tmp_path / name, axes, make((2, 3, 5, 7), "uint16"), dialect=dialect, **known)
    with open_stack(tmp_path / name) as reader:
        scale = 1.0
        if name == "a.mrc":
            scale = {"nm": 10, "um": 1e4, "Å": 1, "pm": 0.01}[unit]
            assert reader.pixel_unit == "Å"
        else:
            assert reader.pixel_unit == {"um": "µm"}.get(unit, unit)
            assert reader.frame_interval == pytest.approx(0.25)
            assert reader.frame_interval_unit == "s"
        # MRC keeps cell edges as float32, ImageJ resolutions as ratios of 32-bit integers.
        assert reader.pixel_size == pytest.approx((0.541 * scale, 1.2 * scale), rel=1e-6)
        assert reader.z_spacing == pytest.approx(1.5 * scale, rel=1e-6)


@pytest.mark.parametrize("name", ["a.npy", "a.h5", "ij.tif", "plain.tif", "a.ome.tif"])
def test_pixels_as_unit(tmp_path: Path, name: str) -> None:
    dialect = {"ij.tif": "imagej", "plain.tif": "plain"}.get(name)
    write(
        tmp_path / name,
        "TYX",
        make((2, 5, 7), "uint8"),
        dialect=dialect,
        pixel_size=(2.0, 2.0),
        pixel_unit="pixel",
    )
    with open_stack(tmp_path / name) as reader:
        assert (reader.pixel_size, reader.pixel_unit) == ((2.0, 2.0), "pixel")


@pytest.mark.parametrize("target", ["b.npy", "b.h5", "b.tif", "b.ome.tif", "b.mrc"])
@pytest.mark.parametrize("source", ["a.npy", "a.h5", "a.tif", "a.ome.tif", "a.mrc"])
def test_from_any_format_to_any(tmp_path: Path, source: str, target: str) -> None:
    array = make((3, 5, 7), "float32")
    write(tmp_path / source, "TYX", array, pixel_size=(0.2, 0.3), pixel_unit="nm")
    with (
        open_stack(tmp_path / source) as reader,
        create_like(tmp_path / target, reader, dtype=reader.dtype, provenance=PROVENANCE) as writer,
    ):
        for frame in range(reader.n_frames):
            writer.write(reader.read(frame))
    with open_stack(tmp_path / target) as reader:
        scale = {"nm": 1.0, "Å": 0.1}[str(reader.pixel_unit)]
        assert reader.axes == "TYX"
        assert reader.pixel_size == pytest.approx((0.2 / scale, 0.3 / scale), rel=1e-6)
    np.testing.assert_array_equal(read_all(tmp_path / target)[:, 0], array)


def test_frames_and_channel_of_a_reader(tmp_path: Path) -> None:
    array = make((5, 2, 3, 4), "uint16")
    write(tmp_path / "a.tif", "TCYX", array)
    with (
        open_stack(tmp_path / "a.tif") as reader,
        create_like(
            tmp_path / "b.tif",
            reader,
            frames=range(1, 4),
            channel=1,
            dtype="float32",
            provenance={},
        ) as writer,
    ):
        for frame in range(1, 4):
            writer.write(reader.read(frame)[1:].astype(np.float32))
    with open_stack(tmp_path / "b.tif") as reader:
        assert (reader.axes, reader.shape) == ("TYX", (3, 3, 4))
    np.testing.assert_array_equal(read_all(tmp_path / "b.tif")[:, 0], array[1:4, 1])


@pytest.mark.parametrize("dtype", [*MRC_DTYPES, "uint8"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("YX", (5, 7)), ("TYX", (3, 5, 7)), ("ZYX", (3, 5, 7)), ("TZYX", (2, 3, 5, 7)), ("TYX", (1, 1, 1))],
)
def test_mrc_is_valid_for_mrcfile(tmp_path: Path, dtype: str, axes: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.mrc"
    array = make(shape, dtype)
    write(path, axes, array, pixel_size=(0.1, 0.2), pixel_unit="nm")
    with (tmp_path / "report").open("w") as report:
        # mrcfile sums float16 in float16, so it cannot confirm the statistics of that.
        assert dtype == "float16" or mrcfile.validate(path, report)
    with mrcfile.open(path) as opened:
        np.testing.assert_array_equal(opened.data.reshape(shape), array)
        assert opened.voxel_size.x == pytest.approx(2.0) and opened.voxel_size.y == pytest.approx(1.0)
        assert opened.is_image_stack() == (axes == "TYX" and shape[0] > 1)
        assert opened.is_volume() == (axes == "ZYX")
        assert opened.is_volume_stack() == (axes == "TZYX")
        assert opened.header.dmin == array.min() and opened.header.dmax == array.max()
        assert opened.header.rms == pytest.approx(array.astype(float).std(), rel=1e-5, abs=1e-6)
    with open_stack(path) as reader:
        # An image series of one is an image to MRC.
        assert reader.axes == (axes if shape[0] > 1 else "YX")
    assert read_provenance(path) == PROVENANCE


def test_provenance_in_short_labels(tmp_path: Path) -> None:
    long = {"model": "m" * 200, **{f"parameter_{n}": n for n in range(60)}}
    with create_stack(tmp_path / "a.mrc", axes="YX", shape=(2, 2), dtype="uint16", provenance=long) as writer:
        writer.write(np.zeros((1, 2, 2), np.uint16))
    found = read_provenance(tmp_path / "a.mrc")
    assert found is not None
    assert long["model"].startswith(found.pop("model"))
    assert found and all(long[key] == value for key, value in found.items())


def test_numpy_notes_lie_beside_the_file(tmp_path: Path) -> None:
    array = make((2, 3, 5, 7), "float64")
    write(tmp_path / "a.npy", "TCYX", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    assert json.loads((tmp_path / "a.npy.json").read_text())["lowdose"] == PROVENANCE
    np.save(tmp_path / "a.npy", array[0])  # another array: the notes no longer fit
    with open_stack(tmp_path / "a.npy") as reader:
        assert reader.axes == "TYX"


def rosetta_axes(signal: dict[str, Any]) -> list[tuple[float, str]]:
    return [(axis["scale"], str(axis["units"])) for axis in signal["axes"]]


@pytest.mark.parametrize("dialect", ["imagej", "ome", "plain"])
def test_tiff_for_rosettasciio(tmp_path: Path, dialect: str) -> None:
    array = make((3, 5, 7), "uint16")
    write(tmp_path / "a.tif", "TYX", array, dialect=dialect, pixel_size=(0.25, 0.5), pixel_unit="µm")
    (signal,) = tiff.file_reader(str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(signal["data"], array)
    if dialect == "imagej":  # the only one of the three whose scale RosettaSciIO reads
        assert rosetta_axes(signal)[-2:] == [(pytest.approx(0.25), "µm"), (pytest.approx(0.5), "µm")]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_mrc_for_rosettasciio(tmp_path: Path) -> None:
    array = make((3, 5, 7), "float32")
    write(tmp_path / "a.mrc", "TYX", array, pixel_size=(0.25, 0.5), pixel_unit="nm")
    (signal,) = mrc.file_reader(str(tmp_path / "a.mrc"))
    np.testing.assert_array_equal(signal["data"], array)
    assert rosetta_axes(signal)[-2:] == [(pytest.approx(0.25), "nm"), (pytest.approx(0.5), "nm")]


def test_hdf5_for_others(tmp_path: Path) -> None:
    array = make((3, 5, 7), "float32")
    known: dict[str, Any] = {"pixel_size": (0.25, 0.5), "pixel_unit": "nm"}
    known |= {"frame_interval": 2.0, "frame_interval_unit": "s"}
    write(tmp_path / "a.nxs", "TYX", array, **known)
    write(tmp_path / "a.emd", "TYX", array, **known)
    with h5py.File(tmp_path / "a.nxs") as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        np.testing.assert_array_equal(data[data.attrs["signal"]], array)
        assert [data[name].attrs["units"] for name in data.attrs["axes"]] == ["s", "nm", "nm"]
        assert json.loads(file.attrs["lowdose"]) == PROVENANCE
    expected = [(2.0, "s"), (0.25, "nm"), (0.5, "nm")]
    (signal,) = (s for s in nexus.file_reader(str(tmp_path / "a.nxs")) if s["data"].ndim > 1)
    np.testing.assert_array_equal(signal["data"], array)
    assert rosetta_axes(signal) == expected
    # RosettaSciIO turns the axes of every EMD file round, names and scales with them.
    (signal,) = emd.file_reader(str(tmp_path / "a.emd"))
    np.testing.assert_array_equal(signal["data"].T, array)
    assert rosetta_axes(signal)[::-1] == expected
    assert [axis["name"] for axis in signal["axes"]] == ["x", "y", "time"]
