"""Names of channels: read from what each format has for them, and kept in what is written."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from lowdose.errors import LowdoseError
from lowdose.io import create_like, create_stack, open_stack

ARRAY = np.arange(3 * 2 * 7 * 5, dtype=np.uint16).reshape(3, 2, 7, 5)
NAMES = ("ADF", "BF 0-19 mrad µ")


def names_of(path: Path, **options: str) -> tuple[str, ...]:
    with open_stack(path, **options) as reader:  # type: ignore[arg-type]
        assert len(reader.channel_names) == reader.n_channels
        return reader.channel_names


@pytest.mark.parametrize("dialect", ["imagej", "ome", "plain"])
@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.h5"])
@pytest.mark.parametrize(("axes", "shape"), [("TCYX", (3, 2, 7, 5)), ("CYX", (2, 7, 5)), ("VUCYX", (3, 1, 2, 7, 5))])
def test_names_are_written_and_come_back(
    tmp_path: Path, name: str, dialect: str, axes: str, shape: tuple[int, ...]
) -> None:
    known = {"channel_names": NAMES, "dialect": dialect}
    n_frames = int(np.prod(shape)) // 70
    with create_stack(tmp_path / name, axes=axes, shape=shape, dtype="uint16", provenance={}, **known) as writer:
        for frame in ARRAY[:n_frames]:
            writer.write(frame)
    assert names_of(tmp_path / name) == NAMES
    with open_stack(tmp_path / name) as reader:
        np.testing.assert_array_equal(reader.read(n_frames - 1), ARRAY[n_frames - 1])
        with create_like(tmp_path / "all.tif", reader, dtype="float32", provenance={}) as writer:
            for number in range(n_frames):
                writer.write(reader.read(number).astype(np.float32))
        with create_like(tmp_path / "one.tif", reader, dtype="uint16", provenance={}, channel=1) as writer:
            for number in range(n_frames):
                writer.write(reader.read(number)[1:])
    assert names_of(tmp_path / "all.tif") == NAMES
    assert names_of(tmp_path / "one.tif") == ("0",)


def test_numbers_where_nothing_names_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY)
    assert names_of(tmp_path / "a.npy", axes="TCYX") == ("0", "1")
    assert names_of(tmp_path / "a.npy", axes="CTYX") == ("0", "1", "2")
    tifffile.imwrite(tmp_path / "b.tif", ARRAY, imagej=True, metadata={"axes": "TCYX"})
    assert names_of(tmp_path / "b.tif") == ("0", "1")
    np.save(tmp_path / "c.npy", ARRAY[0, 0])
    assert names_of(tmp_path / "c.npy") == ("0",)


@pytest.mark.parametrize(
    ("found", "expected"),
    [(["HAADF", "BF"], ("HAADF", "BF")), (["HAADF", "HAADF"], ("0", "1")), (["HAADF"], ("0", "1"))],
)
def test_names_of_ome(tmp_path: Path, found: list[str], expected: tuple[str, ...]) -> None:
    metadata = {"axes": "TCYX", "Channel": {"Name": found}}
    if len(found) == 1:
        metadata["Channel"] = {"Name": [*found, ""]}
    tifffile.imwrite(tmp_path / "a.ome.tif", ARRAY, metadata=metadata, photometric="minisblack")
    assert names_of(tmp_path / "a.ome.tif") == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["HAADF", "BF"] * 3, ("HAADF", "BF")),
        (["HAADF", "BF"], ("HAADF", "BF")),
        ([f"file_{n}.tif" for n in range(6)], ("0", "1")),  # labels of images, not of channels
        (["HAADF", "BF", "HAADF"], ("0", "1")),
    ],
)
def test_names_of_imagej(tmp_path: Path, labels: list[str], expected: tuple[str, ...]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ARRAY, imagej=True, metadata={"axes": "TCYX", "Labels": labels})
    assert names_of(tmp_path / "a.tif") == expected


@pytest.mark.parametrize("labels", [["HAADF", "BF"], np.array([b"HAADF", b"BF"])])
def test_names_of_hdf5(tmp_path: Path, labels: object) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group = file.create_group("entry/data")
        group["data"], group["channel"] = ARRAY, labels
        group.attrs["signal"], group.attrs["axes"] = "data", ["time", "channel", "y", "x"]
    assert names_of(tmp_path / "a.nxs") == ("HAADF", "BF")
    assert names_of(tmp_path / "a.nxs", axes="CTYX") == ("0", "1", "2")


def test_scans_and_folders_keep_names(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for number, frame in enumerate(ARRAY):
        with create_stack(
            tmp_path / "f" / f"{number}.npy",
            axes="CYX",
            shape=frame.shape,
            dtype="uint16",
            provenance={},
            channel_names=NAMES,
        ) as writer:
            writer.write(frame)
    assert names_of(tmp_path / "f") == NAMES
    with open_stack(tmp_path / "f", scan=(1, 3)) as reader:
        assert (reader.axes, reader.channel_names) == ("VUCYX", NAMES)


def test_names_must_fit_the_channels(tmp_path: Path) -> None:
    with pytest.raises(LowdoseError, match="3 channel names"):
        create_stack(
            tmp_path / "a.tif",
            axes="TCYX",
            shape=(3, 2, 7, 5),
            dtype="uint8",
            provenance={},
            channel_names=("a", "b", "c"),
        )


def test_info_shows_names(tmp_path: Path, lowdose) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "a.npy", ARRAY[0])
    assert "channel_names" not in lowdose("info", tmp_path / "a.npy").out
    lowdose("simulate", "stem", "-o", tmp_path / "s.tif", "--size", "16x16", "--frames", "2")
    assert '["ADF", "BF"]' in lowdose("info", tmp_path / "s.tif").out
