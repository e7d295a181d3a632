"""4D-STEM scans from files that name their axes, from files that do not, and from folders of patterns."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from lowdose.errors import LowdoseError
from lowdose.io import StackReader, create_like, create_stack, open_stack, read_provenance

SCAN = np.random.default_rng(3).integers(0, 200, (4, 3, 7, 5)).astype(np.uint16)


def patterns(reader: StackReader) -> np.ndarray:
    return np.stack([reader.read(frame) for frame in range(reader.n_frames)])


def check_scan(reader: StackReader) -> None:
    """Whether `reader` gives SCAN, pattern (y, x) as frame y * scan_x + x."""
    assert (reader.axes, reader.shape, reader.scan_shape) == ("VUYX", SCAN.shape, (4, 3))
    assert reader.dtype == SCAN.dtype
    for y, x in np.ndindex(4, 3):
        np.testing.assert_array_equal(reader.read(y * 3 + x)[0], SCAN[y, x])


def write_npy(path: Path) -> None:
    np.save(path, SCAN)


def write_tiff(path: Path) -> None:
    tifffile.imwrite(path, SCAN, photometric="minisblack")


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["patterns"] = SCAN


def write_npz(path: Path) -> None:
    np.savez(path, patterns=SCAN)


UNNAMED = {"a.npy": write_npy, "a.tif": write_tiff, "a.h5": write_hdf5, "a.npz": write_npz}


@pytest.mark.parametrize("name", UNNAMED)
def test_four_unnamed_dimensions_stay_ambiguous(tmp_path: Path, name: str) -> None:
    UNNAMED[name](tmp_path / name)
    with pytest.raises(LowdoseError, match=r"TCYX.*VUYX.*--scan 4x3"):
        open_stack(tmp_path / name)
    with open_stack(tmp_path / name, axes="vuyx") as reader:
        check_scan(reader)
    with open_stack(tmp_path / name, scan=(4, 3)) as reader:
        check_scan(reader)
    with pytest.raises(LowdoseError, match="--scan 4x3"):
        open_stack(tmp_path / name, scan=(3, 4))
    with open_stack(tmp_path / name, axes="TCYX") as reader:
        assert (reader.n_frames, reader.n_channels, reader.scan_shape) == (4, 3, None)


def test_columns_first_still_count_along_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SCAN.transpose(1, 2, 0, 3))
    with open_stack(tmp_path / "a.npy", axes="UYVX") as reader:
        assert reader.scan_shape == (4, 3)
        np.testing.assert_array_equal(patterns(reader)[:, 0], SCAN.reshape(12, 7, 5))
        with create_like(tmp_path / "b.h5", reader, dtype=reader.dtype, provenance={}) as writer:
            for frame in patterns(reader):
                writer.write(frame)
    with open_stack(tmp_path / "b.h5") as reader:
        check_scan(reader)


@pytest.mark.parametrize("names", [("R_x", "R_y", "Q_x", "Q_y"), ("Rx", "Ry", "Qx", "Qy"), ("", "", "", "")])
@pytest.mark.parametrize("first", [0, 1])
def test_emd_datacubes(tmp_path: Path, names: tuple[str, ...], first: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("datacube_root/datacube")
        group["data"] = SCAN
        for number, (name, step) in enumerate(zip(names, (2.0, 2.0, 0.1, 0.1), strict=True)):
            axis = group.create_dataset(f"dim{first + number}", data=[0.0, step])
            axis.attrs["name"], axis.attrs["units"] = name, "nm" if number < 2 else "A^-1"
    with open_stack(tmp_path / "a.h5") as reader:
        check_scan(reader)
        assert reader.pixel_size == pytest.approx((0.1, 0.1))
        assert reader.pixel_unit == "A^-1"


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("scan_y", "scan_x", "y", "x"), "VUYX"),
        (("row", "line", "ky", "kx"), "VUYX"),
        (("time", "channel", "y", "x"), "TCYX"),
        (("time", "position", "y", "x"), "TIYX"),
    ],
)
def test_nexus_and_dimension_labels(tmp_path: Path, names: tuple[str, ...], axes: str) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group = file.create_group("entry/data")
        group["data"] = SCAN
        group.attrs["signal"], group.attrs["axes"] = "data", list(names)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = SCAN
        for dimension, name in zip(file["data"].dims, names, strict=True):
            dimension.label = name
    for file_name in ("a.nxs", "b.h5"):
        with open_stack(tmp_path / file_name) as reader:
            assert reader.axes == axes
            assert reader.scan_shape == ((4, 3) if axes == "VUYX" else None)


@pytest.mark.parametrize("axes", ["VUYX", "IQYX", "AHYX"])
def test_tiff_that_names_its_axes(tmp_path: Path, axes: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", SCAN, photometric="minisblack", metadata={"axes": axes})
    with open_stack(tmp_path / "a.tif") as reader:
        check_scan(reader)


@pytest.mark.parametrize("axes", ["TCYX", "TZYX", "ZCYX"])
def test_movies_are_no_scans(tmp_path: Path, axes: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", SCAN, imagej=True, metadata={"axes": axes})
    with open_stack(tmp_path / "a.tif") as reader:
        assert (reader.axes, reader.scan_shape) == (axes, None)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.mrc", "a.h5"])
def test_patterns_one_after_the_other(tmp_path: Path, name: str) -> None:
    known = {"pixel_size": (0.25, 0.5), "pixel_unit": "nm"}
    with create_stack(tmp_path / name, axes="TYX", shape=(12, 7, 5), dtype="uint16", provenance={}, **known) as writer:
        for pattern in SCAN.reshape(12, 1, 7, 5):
            writer.write(pattern)
    with open_stack(tmp_path / name) as reader:
        assert reader.scan_shape is None
    with open_stack(tmp_path / name, scan=(4, 3)) as reader:
        check_scan(reader)
        assert reader.pixel_size is not None
        assert reader.pixel_size[1] / reader.pixel_size[0] == pytest.approx(2)
        with pytest.raises(IndexError):
            reader.read(12)
        with create_like(tmp_path / "out.tif", reader, dtype=reader.dtype, provenance={}) as writer:
            for pattern in patterns(reader):
                writer.write(pattern)
    with open_stack(tmp_path / "out.tif") as reader:
        check_scan(reader)


@pytest.mark.parametrize("scan", [(3, 4), (12, 1), (4, 3)])
def test_another_shape_of_a_known_scan(tmp_path: Path, scan: tuple[int, int]) -> None:
    np.save(tmp_path / "a.npy", SCAN)
    with open_stack(tmp_path / "a.npy", axes="VUYX", scan=scan) as reader:
        assert reader.scan_shape == scan
        np.testing.assert_array_equal(patterns(reader)[:, 0], SCAN.reshape(12, 7, 5))


@pytest.mark.parametrize("scan", [(4, 4), (0, 12), (-4, -3), (1, 11)])
def test_a_scan_that_does_not_fit_says_both_numbers(tmp_path: Path, scan: tuple[int, int]) -> None:
    np.save(tmp_path / "a.npy", SCAN.reshape(12, 7, 5))
    with pytest.raises(LowdoseError, match=rf"{scan[0] * scan[1]} patterns.* 12 "):
        open_stack(tmp_path / "a.npy", scan=scan)
    np.save(tmp_path / "b.npy", SCAN)
    with pytest.raises(LowdoseError, match="12 in a scan of 4x3"):
        open_stack(tmp_path / "b.npy", axes="VUYX", scan=(5, 5))


def test_a_scan_of_images_with_channels(tmp_path: Path) -> None:
    array = np.arange(6 * 2 * 7 * 5, dtype=np.float32).reshape(6, 2, 7, 5)
    np.save(tmp_path / "a.npy", array)
    with open_stack(tmp_path / "a.npy", axes="TCYX", scan=(2, 3)) as reader:
        assert (reader.axes, reader.shape, reader.scan_shape) == ("VUCYX", (2, 3, 2, 7, 5), (2, 3))
        np.testing.assert_array_equal(patterns(reader), array)


def test_info_shows_the_scan(tmp_path: Path, lowdose) -> None:  # type: ignore[no-untyped-def]
    with create_stack(tmp_path / "a.h5", axes="VUYX", shape=SCAN.shape, dtype="uint16", provenance={}) as writer:
        for pattern in SCAN.reshape(12, 1, 7, 5):
            writer.write(pattern)
    assert json.loads(lowdose("info", tmp_path / "a.h5", "--json").out)["scan_shape_yx"] == [4, 3]


# --- folders


def write_folder(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    for name, pattern in zip(names, SCAN.reshape(12, 7, 5), strict=True):
        if name.endswith(".npy"):
            np.save(folder / name, pattern)
        else:
            tifffile.imwrite(folder / name, pattern)


@pytest.mark.parametrize(
    "names",
    [
        [f"frame_{n}.tif" for n in range(12)],
        [f"{n:03d}.npy" for n in range(98, 110)],
        [f"y{n // 3}_x{n % 3}.tif" for n in range(12)],
        [f"scan {n // 3 + 8}-{n % 3 + 9}{'.tif' if n % 2 else '.npy'}" for n in range(12)],
    ],
)
def test_folder_in_natural_order(tmp_path: Path, names: list[str]) -> None:
    write_folder(tmp_path / "f", names)
    (tmp_path / "f" / "notes.txt").write_text("no image")
    (tmp_path / "f" / "deeper").mkdir()
    np.save(tmp_path / "f" / "deeper" / "0.npy", SCAN)
    with open_stack(tmp_path / "f") as reader:
        assert (reader.axes, reader.shape, reader.scan_shape) == ("TYX", (12, 7, 5), None)
        assert reader.path == tmp_path / "f"
        np.testing.assert_array_equal(patterns(reader)[:, 0], SCAN.reshape(12, 7, 5))
    with open_stack(tmp_path / "f", scan=(4, 3)) as reader:
        check_scan(reader)
        with create_like(tmp_path / "out.npy", reader, dtype=reader.dtype, provenance={}) as writer:
            for pattern in patterns(reader):
                writer.write(pattern)
    with open_stack(tmp_path / "out.npy") as reader:
        check_scan(reader)
    assert read_provenance(tmp_path / "f") is None


def test_folder_of_images_with_channels(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for n in range(2):
        np.save(tmp_path / "f" / f"{n}.npy", SCAN[n])
    with open_stack(tmp_path / "f", axes="CYX") as reader:
        assert (reader.axes, reader.shape) == ("TCYX", (2, 3, 7, 5))
        np.testing.assert_array_equal(patterns(reader), SCAN[:2])


def test_folder_with_an_odd_image_names_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "f", [f"{n}.npy" for n in range(12)])
    np.save(tmp_path / "f" / "7.npy", SCAN[0, 0, :6])
    with pytest.raises(LowdoseError, match=r"7\.npy.*\(1, 6, 5\) uint16.*0\.npy.*\(1, 7, 5\)"):
        open_stack(tmp_path / "f")
    np.save(tmp_path / "f" / "7.npy", SCAN[0, 0].astype(np.float32))
    with pytest.raises(LowdoseError, match=r"7\.npy.*float32"):
        open_stack(tmp_path / "f")
    np.save(tmp_path / "f" / "7.npy", SCAN[0])
    with pytest.raises(LowdoseError, match=r"7\.npy: holds 3 frames"):
        open_stack(tmp_path / "f")
    # As long as the others, so only reading tells.
    np.save(tmp_path / "f" / "7.npy", SCAN[0, 0].T)
    with open_stack(tmp_path / "f") as reader:
        reader.read(6)
        with pytest.raises(LowdoseError, match=r"7\.npy.*\(1, 5, 7\)"):
            reader.read(7)
    (tmp_path / "f" / "7.npy").unlink()
    with pytest.raises(LowdoseError, match="12 patterns, the file has 11"):
        open_stack(tmp_path / "f", scan=(4, 3))


def test_folder_without_images_or_with_a_damaged_first(tmp_path: Path) -> None:
    with pytest.raises(LowdoseError, match="no image of a known format"):
        open_stack(tmp_path)
    (tmp_path / "1.tif").write_bytes(b"no image")
    with pytest.raises(LowdoseError, match=r"1\.tif"):
        open_stack(tmp_path)
    (tmp_path / "1.tif").write_bytes(b"")
    with pytest.raises(LowdoseError, match=r"1\.tif: the file is empty"):
        open_stack(tmp_path)


def test_info_of_a_folder(tmp_path: Path, lowdose) -> None:  # type: ignore[no-untyped-def]
    write_folder(tmp_path / "f", [f"{n}.npy" for n in range(12)])
    facts = json.loads(lowdose("info", tmp_path / "f", "--json").out)
    assert (facts["shape"], facts["scan_shape_yx"]) == ([12, 7, 5], None)
