"""Files that grow: complete after every frame, whatever happens next."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile

from live_peers import Movie, live, noisy_movie, wait_until
from lowdose.errors import LowdoseError
from lowdose.io import open_stack, read_provenance
from lowdose.io.calibration import Calibration
from lowdose.io.writer import StackSpec
from lowdose.live.output import Recorder
from lowdose.live.output import growing as growing_module
from lowdose.live.output.hdf5 import GrowingHdf5
from lowdose.live.output.record import read_rows, record_path
from lowdose.live.output.recorder import Saved, parts
from lowdose.live.output.tiff import GrowingTiff
from lowdose.live.output.zarr import GrowingZarr

MAKERS = {".h5": GrowingHdf5, ".tif": GrowingTiff, ".zarr": GrowingZarr}
SHAPES = [(1, 1), (7, 5), (64, 33), (3, 4096)]


def spec_of(movie, scan=None):
    axes = "TYX" if scan is None else "VUYX"
    known = Calibration((0.02, 0.03), "nm")
    return StackSpec(axes, (*(scan or (1,)), *movie.shape[1:]), movie.dtype, known, None, {"model": "tiny"})


def read(path):
    if path.suffix == ".zarr":
        return np.asarray(pytest.importorskip("zarr").open(str(path), mode="r"))
    with open_stack(path) as reader:
        stack = np.stack([reader.read(number)[0] for number in range(reader.n_frames)])
    return stack.reshape(*reader.scan_shape, *stack.shape[1:]) if reader.scan_shape else stack


@pytest.mark.parametrize("suffix", MAKERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_frames_come_back_after_every_one(tmp_path, suffix, dtype):
    for number, shape in enumerate(SHAPES):
        movie = noisy_movie(4, *shape, dtype="uint16").astype(dtype)
        path = tmp_path / f"{number}{suffix}"
        growing = MAKERS[suffix](path, spec_of(movie))
        assert not path.exists()
        for n in range(4):
            growing.append(movie[n])
            got = read(path)
            assert got.dtype == movie.dtype
            np.testing.assert_array_equal(got.reshape(n + 1, *shape), movie[: n + 1])
        growing.close()
        assert sorted(tmp_path.glob(".lowdose*")) == []


@pytest.mark.parametrize("suffix", [".h5", ".tif"])
def test_killed_between_any_two_writes(tmp_path, suffix, monkeypatch):
    """The file opens in the state after each single write, with all frames that counted before it."""
    movie = noisy_movie(5, 6, 7)
    path = tmp_path / f"a{suffix}"
    states = []
    write_at = growing_module.write_at

    def watched(file, place, data):
        write_at(file, place, data)
        if path.exists():
            copy = tmp_path / f"copy{len(states)}{suffix}"
            shutil.copy(path, copy)
            states.append((copy, growing.n_frames))

    monkeypatch.setattr(f"{MAKERS[suffix].__module__}.write_at", watched)
    growing = MAKERS[suffix](path, spec_of(movie))
    for frame in movie:
        growing.append(frame)
    growing.close()
    assert len(states) > 8
    for copy, n_counted in states:
        got = read(copy).reshape(-1, 6, 7)
        assert n_counted <= len(got) <= n_counted + 1
        np.testing.assert_array_equal(got, movie[: len(got)])


@pytest.mark.parametrize("suffix", MAKERS)
def test_a_scan_has_its_shape_from_the_beginning(tmp_path, suffix):
    patterns = noisy_movie(6, 5, 8)
    growing = MAKERS[suffix](tmp_path / f"a{suffix}", spec_of(patterns, scan=(2, 3)))
    for pattern in patterns[:4]:
        growing.append(pattern)
    got = read(tmp_path / f"a{suffix}")
    if suffix != ".tif":
        assert got.shape == (2, 3, 5, 8)
        assert not got.reshape(6, 5, 8)[4:].any()
    np.testing.assert_array_equal(got.reshape(-1, 5, 8)[:4], patterns[:4])
    growing.close()


def test_pixel_size_and_provenance_are_inside(tmp_path):
    movie = noisy_movie(3, 8, 9)
    for suffix, maker in MAKERS.items():
        growing = maker(tmp_path / f"a{suffix}", spec_of(movie))
        growing.append(movie[0])
        growing.append(movie[1])
        growing.close()
    for suffix in (".h5", ".tif"):
        with open_stack(tmp_path / f"a{suffix}") as reader:
            assert (reader.axes, reader.pixel_unit) == ("TYX", "nm")
            assert reader.pixel_size == pytest.approx((0.02, 0.03), rel=1e-5)
        assert read_provenance(tmp_path / f"a{suffix}") == {"model": "tiny"}
    zarr = pytest.importorskip("zarr")
    assert zarr.open(str(tmp_path / "a.zarr"), mode="r").attrs["lowdose"] == {"model": "tiny"}
    with h5py.File(tmp_path / "a.h5") as file:  # and the library itself can go on with the file
        assert file["entry/data/data"].shape == (2, 8, 9)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff and len(tif.pages) == 2


def saved(pixels, number, sequence=0, **more):
    return Saved(pixels, sequence, number, 1_700_000_000_123_456_789, "t", "", **more)


def test_records_tell_numbers_times_and_gaps(tmp_path):
    movie = noisy_movie(4, 5, 6)
    recorder = Recorder(tmp_path / "a.h5", buffer_bytes=1e6)
    for frame, number in zip(movie, (0, 1, 5, 6), strict=True):
        recorder.put(saved(frame, number, latency_ms=1.5))
    recorder.close()
    assert (recorder.n_saved, recorder.error, recorder.files) == (4, None, [tmp_path / "a.h5"])
    with record_path(tmp_path / "a.h5").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["lost_before"]) for row in rows] == [("0", "0"), ("1", "0"), ("5", "3"), ("6", "0")]
    assert rows[0]["arrived"] == "2023-11-14T22:13:20.123456Z"
    assert (rows[0]["detector_time"], rows[0]["latency_ms"]) == ("t", "1.500")


def test_other_shapes_and_every_scan_begin_another_file(tmp_path):
    recorder = Recorder(tmp_path / "a.tif", buffer_bytes=1e6)
    small, large = noisy_movie(2, 5, 6), noisy_movie(2, 7, 6)
    for sequence, movie in enumerate((small, small, large)):
        for number, frame in enumerate(movie):
            recorder.put(saved(frame, number, sequence))
    for sequence in (3, 4):
        recorder.put(saved(small[0], 0, sequence, scan=(1, 2)))
    recorder.close()
    names = ["a.tif", "a-2.tif", "a-3.tif", "a-4.tif"]
    assert [path.name for path in recorder.files] == names
    assert [len(read(tmp_path / name)) for name in names] == [4, 2, 1, 1]
    assert parts(tmp_path / "a.tif") == recorder.files


def test_outputs_are_not_overwritten_unless_asked(tmp_path):
    movie = noisy_movie(2, 5, 6)
    for kind in (".h5", ".zarr"):
        recorder = Recorder(tmp_path / f"a{kind}", buffer_bytes=1e6)
        recorder.put(saved(movie[0], 0))
        recorder.close()
        with pytest.raises(LowdoseError, match="exists"):
            Recorder(tmp_path / f"a{kind}", buffer_bytes=1e6)
    with pytest.raises(LowdoseError, match="files only"):
        Recorder(tmp_path / "a.zarr", buffer_bytes=1e6, overwrite=True)
    recorder = Recorder(tmp_path / "a.h5", buffer_bytes=1e6, overwrite=True)
    recorder.put(saved(movie[1], 0))
    recorder.close()
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), movie[1:])
    for name, words in (("a.mp4", "saved as"), ("there/a.h5", "does not exist")):
        with pytest.raises(LowdoseError, match=words):
            Recorder(tmp_path / name, buffer_bytes=1e6)


def test_rows_that_were_cut_off_are_passed_over(tmp_path):
    (tmp_path / "a.csv").write_text("frame,origin\n0,a.tif#0\n1,a.t")
    assert [row["origin"] for row in read_rows(tmp_path / "a.csv")] == ["a.tif#0"]


LIMITED = """
import resource, sys, json
import numpy as np
from pathlib import Path
sys.path.insert(0, "tests")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from live_peers import Movie, live, noisy_movie
run, status = live(Movie(noisy_movie(64, 50, 60)), Path(sys.argv[1]))
print(json.dumps(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
@pytest.mark.parametrize("suffix", [".h5", ".tif"])
def test_a_full_disk_takes_back_nothing(tmp_path, suffix, request):
    """The limit of 200 kB for a file stands for the full disk: 33 raw frames fit and fewer denoised ones."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / f"a{suffix}")],
        cwd=request.config.rootpath, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status = json.loads(done.stdout)
    assert 10 < status["saved"] <= status["raw_saved"] < 34
    assert len(status["failures"]) == 2 and all("the disk is full" in words for words in status["failures"])
    assert status["not_saved"] > 0
    np.testing.assert_array_equal(read(tmp_path / f"a.raw{suffix}"), noisy_movie(64, 50, 60)[: status["raw_saved"]])
    assert len(read(tmp_path / f"a{suffix}")) == status["saved"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("suffix", MAKERS)
def test_kill_in_mid_write_loses_nothing_that_was_told_as_saved(tmp_path, suffix):
    movie = noisy_movie(2000, 32, 32)
    np.save(tmp_path / "movie.npy", movie)
    script = "from lowdose.cli import live; live.STATUS_EVERY_S = 0.02\nfrom lowdose.cli.main import main; main()"
    arguments = ["live", f"replay:{tmp_path / 'movie.npy'}@400", "-o", str(tmp_path / f"a{suffix}"), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script, *arguments, "--model", "gaussian:1", "--dtype", "same"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = next(status for line in process.stdout if (status := json.loads(line))["saved"] > 60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    raw, denoised = read(tmp_path / f"a.raw{suffix}"), read(tmp_path / f"a{suffix}")
    assert len(raw) >= told["raw_saved"] and len(denoised) >= told["saved"]
    np.testing.assert_array_equal(raw, movie[: len(raw)])
    rows = list(read_rows(record_path(tmp_path / f"a{suffix}")))
    assert told["saved"] <= len(rows) <= len(denoised)


def test_the_disk_is_slower_than_the_source(tmp_path):
    """Raw frames wait in a buffer and then hold the source up; none is lost."""
    recorder = Recorder(tmp_path / "a.h5", buffer_bytes=1)  # two frames
    movie = noisy_movie(50, 16, 16)
    for number, frame in enumerate(movie):
        recorder.put(saved(frame, number))
    wait_until(lambda: recorder.n_waiting == 0)
    recorder.close()
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), movie)


def test_a_run_saves_raw_and_denoised(tmp_path):
    movie = noisy_movie(20)
    _, status = live(Movie(movie), tmp_path / "a.h5")
    assert (status["saved"], status["raw_saved"], status["failures"]) == (20, 20, [])
    np.testing.assert_array_equal(read(tmp_path / "a.raw.h5"), movie)
    assert read(tmp_path / "a.h5").shape == movie.shape
    assert read_provenance(tmp_path / "a.h5")["model"] == "gaussian:1"
