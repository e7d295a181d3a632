"""MRC, NumPy, HDF5, DM and foreign files made by others, good and bad."""

from __future__ import annotations

import bz2
import gzip
import os
import subprocess
import sys
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest

from lowdose.errors import LowdoseError
from lowdose.io import StackReader, open_stack, read_provenance


def stack_of(reader: StackReader) -> np.ndarray:
    return np.stack([reader.read(frame) for frame in range(reader.n_frames)])


def make(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(5).integers(0, 100, shape).astype(dtype)


# ---- MRC


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16"])
@pytest.mark.parametrize("packing", ["", ".gz", ".bz2"])
def test_mrc_stack(tmp_path: Path, packing: str, dtype: str, byteorder: str) -> None:
    array = make((3, 7, 5), dtype)
    with mrcfile.new(tmp_path / "a.mrc") as opened:
        opened.set_data(array.astype(array.dtype.newbyteorder(byteorder)))
        opened.set_image_stack()
        opened.voxel_size = (2.0, 3.0, 1.0)
    path = tmp_path / f"a.mrc{packing}"
    if packing:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress}[packing]
        path.write_bytes(pack((tmp_path / "a.mrc").read_bytes()))
    with open_stack(path) as reader:
        assert (reader.axes, reader.shape, reader.dtype) == ("TYX", array.shape, array.dtype)
        assert (reader.pixel_size, reader.pixel_unit) == ((3.0, 2.0), "Å")
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)
        np.testing.assert_array_equal(reader.read(0)[0], array[0])  # backwards, too
    assert read_provenance(path) is None


def test_mrc_volume_and_axis_order(tmp_path: Path) -> None:
    array = make((3, 7, 5), "float32")
    with mrcfile.new(tmp_path / "a.mrc") as opened:
        opened.set_data(array)
        opened.header.cella = (10.0, 21.0, 12.0)
        opened.header.mx, opened.header.my, opened.header.mz = 5, 7, 3
        opened.header.mapc, opened.header.mapr, opened.header.maps = 3, 1, 2
    with open_stack(tmp_path / "a.mrc") as reader:
        assert reader.axes == "ZYX"
        # columns run along z, rows along x, sections along y
        assert (reader.pixel_size, reader.z_spacing) == ((2.0, 4.0), 3.0)
    (tmp_path / "a.mrcs").write_bytes((tmp_path / "a.mrc").read_bytes())
    with open_stack(tmp_path / "a.mrcs") as reader:
        assert reader.axes == "TYX"


@pytest.mark.parametrize(
    ("dmin", "dmax", "imod_flags", "expected"),
    [
        (-5.0, 100.0, None, "int8"),
        (0.0, 200.0, None, "uint8"),
        (0.0, 200.0, 1, "int8"),
        (0.0, 1.0, 0, "uint8"),
    ],
)
def test_mrc_bytes(tmp_path: Path, dmin: float, dmax: float, imod_flags: int | None, expected: str) -> None:
    array = make((7, 5), "int8")
    with mrcfile.new(tmp_path / "a.mrc") as opened:
        opened.set_data(array)
        opened.header.dmin, opened.header.dmax = dmin, dmax
        if imod_flags is not None:
            extra = bytearray(opened.header.extra2.tobytes())
            extra[40:48] = np.array([1146047817, imod_flags], np.int32).tobytes()
            opened.header.extra2 = bytes(extra)
    with open_stack(tmp_path / "a.mrc") as reader:
        assert reader.dtype == np.dtype(expected)


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize("kept", [100, 1023, 1100, 1024 + 3 * 35 * 4 - 1])
def test_mrc_truncated(tmp_path: Path, kept: int, packing: str) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as opened:
        opened.set_data(make((3, 7, 5), "float32"))
    content = (tmp_path / "a.mrc").read_bytes()[:kept]
    path = tmp_path / f"b.mrc{packing}"
    path.write_bytes(gzip.compress(content)[:-9] if packing else content)
    with pytest.raises(LowdoseError, match=r"truncated|cut short|unpacked"), open_stack(path) as reader:
        stack_of(reader)


def test_mrc_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mrc").write_bytes(b"text " * 1000)
    (tmp_path / "a.mrc.gz").write_bytes(b"text " * 1000)
    for name in ("a.mrc", "a.mrc.gz"):
        with pytest.raises(LowdoseError, match=r"not an MRC|unpacked"):
            open_stack(tmp_path / name)


def test_mrc_complex(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as opened:
        opened.set_data(np.ones((7, 5), np.complex64))
    with pytest.raises(LowdoseError, match="complex"):
        open_stack(tmp_path / "a.mrc")


# ---- NumPy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: object) -> None:
    array = make((3, 7, 5))
    save(tmp_path / "a.npz", movie=array, scale=np.float64(3.0))  # type: ignore[operator]
    with open_stack(tmp_path / "a.npz") as reader:
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)
        np.testing.assert_array_equal(reader.read(1)[0], array[1])
    save(tmp_path / "b.npz", movie=array, other=array[0])  # type: ignore[operator]
    with pytest.raises(LowdoseError, match=r"movie \(3, 7, 5\), other \(7, 5\)"):
        open_stack(tmp_path / "b.npz")
    with open_stack(f"{tmp_path / 'b.npz'}::other") as reader:
        assert reader.shape == (7, 5)
    with pytest.raises(LowdoseError, match="no array 'x'"):
        open_stack(tmp_path / "b.npz", dataset="x")


def test_npz_interleaved_frames(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", make((7, 5, 3)))
    with pytest.raises(LowdoseError, match="interleaved"):
        open_stack(tmp_path / "a.npz", axes="YXT")


@pytest.mark.parametrize("kept", [4, 60, 128 + 100])
def test_npy_truncated(tmp_path: Path, kept: int) -> None:
    np.save(tmp_path / "a.npy", make((3, 7, 5)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:kept])
    with pytest.raises(LowdoseError, match=r"truncated|cut short"):
        open_stack(tmp_path / "a.npy")


def test_npz_truncated(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", make((3, 7, 5)))
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:400])
    with pytest.raises(LowdoseError, match="cut short"):
        open_stack(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 7, 5)), "empty"),
        (np.zeros((3, 7, 0)), "empty"),
        (np.zeros((7, 5), complex), "complex"),
        (np.array([["a", "b"]]), "not numbers"),
        (np.zeros((7, 5), [("r", "f4")]), "not numbers"),
        (np.zeros(7), "dimensions"),
    ],
)
def test_npy_that_is_no_stack(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(LowdoseError, match=message):
        open_stack(tmp_path / "a.npy")


# RosettaSciIO leaves files that it cannot read open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.emd", "a.dm3", "a.dm4", "a.blo", "a.png"])
def test_text_with_another_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("only text\n" * 50)
    with pytest.raises(LowdoseError, match=name):
        open_stack(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.h5", "a.mrc", "a.dm3", "a.blo"])
def test_missing_empty_or_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(LowdoseError, match="no such file"):
        open_stack(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(LowdoseError, match="0 bytes"):
        open_stack(tmp_path / name)
    with pytest.raises(LowdoseError, match="folder"):
        open_stack(tmp_path)
    with pytest.raises(LowdoseError, match="no such file"):
        read_provenance(tmp_path / f"missing{name}")


# ---- HDF5


def test_hdf5_finds_the_stack(tmp_path: Path) -> None:
    array = make((3, 7, 5), ">i4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectrum"] = np.zeros(5000)
        file["deep/down/movie"] = array
        file["thumbnail"] = array[0]
        file["text"] = "hello"
    with open_stack(tmp_path / "a.h5") as reader:
        assert (reader.axes, reader.dtype) == ("TYX", np.int32)
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)
    with open_stack(f"{tmp_path / 'a.h5'}::thumbnail") as reader:
        assert reader.shape == (7, 5)
    with pytest.raises(LowdoseError, match="/deep/down/movie"):
        open_stack(tmp_path / "a.h5", dataset="nothing")
    with pytest.raises(LowdoseError, match="not an image"):
        open_stack(tmp_path / "a.h5", dataset="spectrum")
    assert read_provenance(tmp_path / "a.h5") is None


def test_hdf5_lists_what_it_cannot_choose_from(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["two"] = make((3, 7, 5)), make((3, 7, 5))
    with pytest.raises(LowdoseError, match=r"/one .*/two"):
        open_stack(tmp_path / "a.h5")


def test_hdf5_without_an_image(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectrum"] = np.zeros(50)
    with pytest.raises(LowdoseError, match="no image"):
        open_stack(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["wave"] = np.zeros((7, 5), complex)
    with pytest.raises(LowdoseError, match="complex"):
        open_stack(tmp_path / "b.h5")


def test_hdf5_truncated(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["movie"] = make((30, 70, 50))
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(LowdoseError, match="truncated"):
        open_stack(tmp_path / "a.h5")


def test_hdf5_hyperspy_axes(tmp_path: Path) -> None:
    array = make((4, 3, 7, 5))
    described = [("y", 2.0, "nm", True), ("x", 2.0, "nm", True), ("ky", 0.1, "1/nm", False)]
    described.append(("kx", 0.1, "1/nm", False))
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        group = file.create_group("Experiments/scan")
        group["data"] = array
        for number, values in enumerate(described):
            axis = group.create_group(f"axis-{number}")
            axis.attrs.update(dict(zip(("name", "scale", "units", "navigate"), values, strict=True)))
    with open_stack(tmp_path / "a.hspy") as reader:
        assert (reader.axes, reader.n_frames) == ("VUYX", 12)
        assert (reader.pixel_size, reader.pixel_unit) == ((0.1, 0.1), "1/nm")
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array.reshape(12, 7, 5))


# ---- what other libraries read


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.dm4", "nionswift_plugin.DM_IO.parse_dm3", "dm"), ("a.blo", "rsciio", "formats")],
)
def test_extras_that_are_missing(
    tmp_path: Path, name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"any")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LowdoseError, match=rf"pip install 'lowdose\[{extra}\]'"):
        open_stack(tmp_path / name)


def test_suffix_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "a.unheardof").write_bytes(b"any")
    with pytest.raises(LowdoseError, match="no reader"):
        open_stack(tmp_path / "a.unheardof")


def test_base_install_imports_nothing_gpl(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", make((7, 5)))
    code = (
        "import sys; from lowdose.io import open_stack; open_stack(sys.argv[1]).close();"
        "print([m for m in ('rsciio', 'nion', 'nionswift_plugin', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npy")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", [".dm3", ".dm4"])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "uint32"])
def test_dm(tmp_path: Path, suffix: str, dtype: str) -> None:
    calibration = pytest.importorskip("nion.data.Calibration").Calibration
    xdata = pytest.importorskip("nion.data.DataAndMetadata")
    dm3_image_utils = pytest.importorskip("nionswift_plugin.DM_IO.dm3_image_utils")
    array = make((3, 7, 5), dtype)
    image = xdata.new_data_and_metadata(
        array,
        dimensional_calibrations=[
            calibration(0, 0.5, "s"),
            calibration(0, 0.2, "nm"),
            calibration(0, 0.1, "nm"),
        ],
        data_descriptor=xdata.DataDescriptor(True, 0, 2),
    )
    with (tmp_path / f"a{suffix}").open("wb") as file:
        dm3_image_utils.save_image(image, file, int(suffix[-1]))
    with open_stack(tmp_path / f"a{suffix}") as reader:
        assert (reader.axes, reader.dtype) == ("TYX", array.dtype)
        assert reader.pixel_size == pytest.approx((0.2, 0.1)) and reader.pixel_unit == "nm"
        assert reader.frame_interval == pytest.approx(0.5) and reader.frame_interval_unit == "s"
        np.testing.assert_array_equal(stack_of(reader)[:, 0], array)


def test_dm_bytes_above_127(tmp_path: Path) -> None:
    parse_dm3 = pytest.importorskip("nionswift_plugin.DM_IO.parse_dm3")
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = {
        "Data": parse_dm3.DataChunkWriter(pixels.view(np.int8)),
        "DataType": 6,
        "PixelDepth": 1,
        "Dimensions": [16, 16],
    }
    with (tmp_path / "a.dm3").open("wb") as file:
        parse_dm3.dm_write_header(file, 3, {"ImageList": [{"ImageData": data}]})
    with open_stack(tmp_path / "a.dm3") as reader:
        assert reader.dtype == np.uint8
        np.testing.assert_array_equal(reader.read(0)[0], pixels)
