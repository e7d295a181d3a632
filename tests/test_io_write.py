"""Writers leave either a whole file or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from lowdose.errors import LowdoseError
from lowdose.io import StackWriter, create_stack, open_stack

NAMES = ["a.tif", "a.ome.tif", "a.mrc", "a.npy", "a.h5"]
FRAME = np.arange(35, dtype=np.uint16).reshape(1, 5, 7)


def create(path: Path, *, n_frames: int = 3, overwrite: bool = False) -> StackWriter:
    return create_stack(
        path,
        axes="TYX",
        shape=(n_frames, 5, 7),
        dtype="uint16",
        provenance={"model": "wcvd"},
        overwrite=overwrite,
    )


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError])
def test_interruption_leaves_nothing(tmp_path: Path, name: str, interruption: type[BaseException]) -> None:
    with pytest.raises(interruption), create(tmp_path / name) as writer:
        writer.write(FRAME)
        assert not (tmp_path / name).exists()
        raise interruption
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_too_few_frames_leave_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(LowdoseError, match="2 of 3"), create(tmp_path / name) as writer:
        writer.write(FRAME)
        writer.write(FRAME)
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_wrong_frames_leave_nothing(tmp_path: Path, name: str) -> None:
    for wrong in (FRAME[0], FRAME[:, :, :6], FRAME.astype(np.float32), np.concatenate([FRAME, FRAME])):
        with pytest.raises(ValueError, match="expected a frame"), create(tmp_path / name) as writer:
            writer.write(wrong)
    with pytest.raises(ValueError, match="already"), create(tmp_path / name, n_frames=1) as writer:
        writer.write(FRAME)
        writer.write(FRAME)
    assert files(tmp_path) == []


def test_views_and_foreign_byte_order_are_written_right(tmp_path: Path) -> None:
    wide = np.arange(70, dtype=np.uint16).reshape(1, 5, 14)
    with create(tmp_path / "a.tif", n_frames=1) as writer:
        writer.write(wide[:, ::-1, ::2])
    with open_stack(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader.read(0), wide[:, ::-1, ::2])


@pytest.mark.parametrize("name", NAMES)
def test_overwrite_only_when_asked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(LowdoseError, match="--overwrite"):
        create(tmp_path / name)
    with pytest.raises(KeyError), create(tmp_path / name, overwrite=True):
        raise KeyError
    assert (tmp_path / name).read_text() == "precious"
    with create(tmp_path / name, n_frames=1, overwrite=True) as writer:
        writer.write(FRAME)
    with open_stack(tmp_path / name) as reader:
        np.testing.assert_array_equal(reader.read(0), FRAME)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_taken_meanwhile_is_kept(tmp_path: Path, name: str) -> None:
    with pytest.raises(LowdoseError, match="exists"), create(tmp_path / name, n_frames=1) as writer:
        writer.write(FRAME)
        (tmp_path / name).write_text("precious")
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_notes_of_another_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.npy.json").write_text("precious")
    with pytest.raises(LowdoseError, match=r"npy\.json"):
        create(tmp_path / "a.npy")


@pytest.mark.parametrize("name", NAMES)
def test_places_that_cannot_be_written(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LowdoseError, match="folder"):
        create(tmp_path / "missing" / name)
    (tmp_path / "file").touch()
    with pytest.raises(LowdoseError, match="folder"):
        create(tmp_path / "file" / name)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with (
            pytest.raises(LowdoseError, match="cannot write here: Permission denied"),
            create(tmp_path / name),
        ):
            pass
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_too_small_is_noticed_first(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 900, 100))
    with pytest.raises(LowdoseError, match="210 bytes"), create(tmp_path / name):
        pass
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_at_the_end(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(LowdoseError, match=r"disk is full.*\(70 bytes\)"),
        create(tmp_path / name, n_frames=1) as writer,
    ):
        writer.write(FRAME)
    assert files(tmp_path) == []


# A limit on the size of files stands in for a full disk: the same writes fail, with EFBIG for ENOSPC.
_LIMITED = """
import resource, signal, sys
import numpy as np
from lowdose.errors import LowdoseError
from lowdose.io import create_stack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for path in sys.argv[2:]:
    try:
        with create_stack(path, axes="TYX", shape=(50, 64, 64), dtype="uint16", provenance={}) as writer:
            for _ in range(50):
                writer.write(np.ones((1, 64, 64), np.uint16))
    except LowdoseError as error:
        print(error)
"""


@pytest.mark.parametrize("limit_bytes", [0, 300, 200_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, limit_bytes: int) -> None:
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(limit_bytes), *(str(tmp_path / name) for name in NAMES)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    messages = done.stdout.splitlines()
    assert len(messages) == len(NAMES)
    assert all("disk is full" in message and "409600 bytes" in message for message in messages)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "axes", "shape", "dtype", "message"),
    [
        ("a.xyz", "YX", (5, 7), "uint16", "cannot write .xyz"),
        ("a", "YX", (5, 7), "uint16", "without a suffix"),
        ("a.dm4", "YX", (5, 7), "uint16", "cannot write .dm4"),
        ("a.tif", "CTYX", (2, 3, 5, 7), "uint16", "frame after frame"),
        ("a.tif", "TYX", (5, 7), "uint16", "do not fit"),
        ("a.tif", "TYX", (0, 5, 7), "uint16", "empty"),
        ("a.tif", "YX", (5, 7), "complex64", "real numbers"),
        ("a.mrc", "TCYX", (2, 3, 5, 7), "uint16", "--channel"),
        ("a.mrc", "YX", (5, 7), "float64", "float32"),
    ],
)
def test_what_no_file_can_hold(
    tmp_path: Path, name: str, axes: str, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    with pytest.raises(LowdoseError, match=message):
        create_stack(tmp_path / name, axes=axes, shape=shape, dtype=dtype, provenance={})
    assert files(tmp_path) == []
