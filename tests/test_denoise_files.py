"""`lowdose denoise`: files in, files out."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from lowdose import NO_LOW_PASS, Settings, load
from lowdose.drift import load_shifts
from lowdose.io import open_stack, read_provenance
from lowdose.methods import find_method
from lowdose.pipeline import Job, denoise_file

SHAPE = (5, 24, 31)


def counts(shape=SHAPE, mean=2.0, seed=0):
    bump = mean * (1 + 0.5 * np.sin(np.arange(shape[-1]) / 3))
    return np.random.default_rng(seed).poisson(np.broadcast_to(bump, shape))


@pytest.fixture
def movie(tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(
        path,
        counts().astype(np.uint16),
        imagej=True,
        metadata={"axes": "TYX", "unit": "nm"},
        resolution=(20, 20),
    )
    return path


def test_the_file_holds_what_the_model_gives(lowdose, movie, model_files):
    out = movie.with_name("out.tif")
    before = movie.read_bytes()
    outcome = lowdose(
        "denoise", movie, "-o", out, "--model", model_files["wcvd"], "--lowpass", "none", "--device", "cpu"
    )
    assert outcome.code == 0, outcome.err
    assert "on cpu" in outcome.out
    model = load(model_files["wcvd"], device="cpu")
    record = read_provenance(out)
    settings = Settings(
        weight_set=["wcvd-0", "wcvd-1"].index(record["weight_set"]),
        cutoff=NO_LOW_PASS,
        offset=record["offset"],
    )
    expected = model.denoise(tifffile.imread(movie), settings=settings)
    with open_stack(out) as reader:
        assert (reader.axes, reader.shape, reader.dtype) == ("TYX", SHAPE, np.float32)
        assert reader.pixel_size == pytest.approx((0.05, 0.05))
        assert reader.pixel_unit == "nm"
        np.testing.assert_array_equal(np.stack([reader.read(t)[0] for t in range(5)]), expected)
    assert movie.read_bytes() == before
    assert record["model_sha256"] == model.sha256
    assert record["device"] == "cpu"
    assert record["lowpass_cutoff"] is None


def test_json_is_one_object_and_nothing_else(lowdose, movie, model_files):
    out = movie.with_name("out.npy")
    outcome = lowdose("denoise", movie, "-o", out, "--model", model_files["wcvd"], "--json")
    (report,) = json.loads(outcome.out)["results"]
    assert report["n_frames"] == 5
    assert (report["frames"], report["channels"], report["drift"]) == ([0, 5], [0], False)
    assert report["latency"]["total"]["count"] == 5
    assert np.load(out).shape == SHAPE


def test_weak_counts_become_float_and_strong_ones_stay(lowdose, tmp_path, model_files):
    for mean, wanted, expected in (
        (2, "auto", "float32"),
        (400, "auto", "uint16"),
        (2, "same", "uint16"),
        (400, "float32", "float32"),
    ):
        source, out = tmp_path / f"{mean}-{wanted}.npy", tmp_path / f"{mean}-{wanted}-out.npy"
        np.save(source, counts(mean=mean).astype(np.uint16))
        outcome = lowdose("denoise", source, "-o", out, "--model", model_files["wcvd"], "--dtype", wanted)
        assert outcome.code == 0, outcome.err
        assert np.load(out).dtype == expected
        assert ("would cost more than 1 %" in outcome.out) == (wanted == "auto" and mean == 2)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".mrc", ".npy", ".h5"])
def test_formats_convert_into_each_other(lowdose, movie, model_files, suffix):
    out = movie.with_name("out" + suffix)
    assert lowdose("denoise", movie, "-o", out, "--model", model_files["wcid"]).code == 0
    with open_stack(out) as reader:
        assert (reader.axes, reader.shape) == ("TYX", SHAPE)
    assert read_provenance(out)["model"] == "wcid"


def test_frames_and_channel_are_picked(lowdose, tmp_path, model_files):
    source, out = tmp_path / "in.npy", tmp_path / "out.npy"
    stack = counts((6, 2, 16, 18)).astype(np.float32)
    np.save(source, stack)
    arguments = ("--axes", "TCYX", "--channel", "1", "--frames", "1:5", "--lowpass", "none", "--json")
    outcome = lowdose("denoise", source, "-o", out, "--model", model_files["wcvd"], *arguments)
    assert outcome.code == 0, outcome.err
    (report,) = json.loads(outcome.out)["results"]
    assert (report["frames"], report["channels"]) == ([1, 5], [1])
    model = load(model_files["wcvd"], device="cpu")
    settings = Settings(["wcvd-0", "wcvd-1"].index(report["weight_set"]), NO_LOW_PASS, report["offset"])
    np.testing.assert_array_equal(np.load(out), model.denoise(stack[1:5, 1], settings=settings))


def test_folders_keep_names_and_trees(lowdose, tmp_path, model_files):
    tree = tmp_path / "in"
    (tree / "deep" / "er").mkdir(parents=True)
    for place in ("a.tif", "deep/b.npy", "deep/er/a.tif"):
        path = tree / place
        if path.suffix == ".npy":
            np.save(path, counts().astype(np.float32))
        else:
            tifffile.imwrite(path, counts().astype(np.float32))
    (tree / "notes.txt").write_text("not an image")
    out = tmp_path / "out"
    outcome = lowdose("denoise", tree, "-o", out, "--model", model_files["wcid"])
    assert outcome.code == 0, outcome.err
    made = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.suffix != ".json")
    assert made == ["a.tif", "deep/b.npy", "deep/er/a.tif"]


def test_globs_are_expanded_and_a_bad_file_stops_no_other(lowdose, tmp_path, model_files):
    for name in ("m1.npy", "m2.npy"):
        np.save(tmp_path / name, counts().astype(np.float32))
    np.save(tmp_path / "m3.npy", np.full(SHAPE, np.nan, np.float32))
    out = tmp_path / "out"
    outcome = lowdose("denoise", tmp_path / "m*.npy", "-o", out, "--model", model_files["wcid"], "--json")
    assert outcome.code == 2
    result = json.loads(outcome.out)
    assert len(result["results"]) == 2
    assert "m3.npy" in result["failures"][0]["input"]
    assert sorted(p.name for p in out.glob("*.npy")) == ["m1.npy", "m2.npy"]


def test_two_inputs_for_one_output_are_refused(lowdose, tmp_path, model_files):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "m.npy", counts().astype(np.float32))
    sources = (tmp_path / "a" / "m.npy", tmp_path / "b" / "m.npy")
    outcome = lowdose("denoise", *sources, "-o", tmp_path / "out", "--model", model_files["wcid"])
    assert outcome.code == 2
    assert "would both become" in outcome.err
    outcome = lowdose("denoise", *sources, "-o", tmp_path / "out.npy", "--model", model_files["wcid"])
    assert outcome.code == 2
    assert "give a folder" in outcome.err


def test_outputs_are_replaced_only_when_asked_and_inputs_never(lowdose, movie, model_files):
    out = movie.with_name("out.tif")
    out.write_bytes(b"precious")
    arguments = ("--model", model_files["wcid"])
    outcome = lowdose("denoise", movie, "-o", out, *arguments)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert out.read_bytes() == b"precious"
    assert lowdose("denoise", movie, "-o", out, "--overwrite", *arguments).code == 0
    assert tifffile.imread(out).shape == SHAPE
    before = movie.read_bytes()
    outcome = lowdose("denoise", movie, "-o", movie, "--overwrite", *arguments)
    assert outcome.code == 2
    assert "never overwritten" in outcome.err
    assert movie.read_bytes() == before


def test_a_stack_larger_than_the_cap_goes_through(tmp_path, model_files):
    """256 MB of frames under a cap of 60 MB; the process is watched from outside."""
    source, out = tmp_path / "large.npy", tmp_path / "out.npy"
    header = np.lib.format.open_memmap(source, "w+", np.float64, (32, 1024, 1024))
    header[::8, ::64, ::64] = 100.0
    del header
    script = (
        "import resource, sys; from pathlib import Path; from lowdose import *\n"
        "from lowdose.methods import *; from lowdose.pipeline import *\n"
        "source, out, model = sys.argv[1:]\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "job = Job(settings=Settings(0, 0.1, 0.0), max_bytes=60e6, dtype='float32')\n"
        "report = denoise_file(Path(source), Path(out), find_method(model, device='cpu'), job)\n"
        "print(report['latency']['n_tiles'], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1e3)\n"
    )
    command = [sys.executable, "-c", script, str(source), str(out), str(model_files["wcvd"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n_tiles, grown_mb = done.stdout.split()
    assert int(n_tiles) > 1
    # The cap, three frames of 8 MB in the file's type, ONNX Runtime itself, and Python's own growth.
    assert float(grown_mb) < 60 + 24 + 70
    assert np.load(out, mmap_mode="r").shape == (32, 1024, 1024)


def test_an_interrupted_run_leaves_nothing(tmp_path, model_files):
    source, out = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, counts((6, 32, 32)).astype(np.float32))

    def stop(stage, done):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_file(source, out, find_method(str(model_files["wcid"]), device="cpu"), Job(), stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy"]


def drifting_movie(path, step_px=(0.6, -1.3), n_frames=8):
    """Blobs that move with known steps, 40 counts at the peak; returns the shifts that bring them back."""
    y, x = np.mgrid[:80, :96].astype(float)
    random = np.random.default_rng(4)
    places = random.uniform(10, 70, (25, 2))
    steps = np.outer(np.arange(n_frames), step_px)
    frames = [
        10 + 40 * sum(np.exp(-((y - v - dy) ** 2 + (x - u - dx) ** 2) / 8) for v, u in places) for dy, dx in steps
    ]
    np.save(path, random.poisson(frames).astype(np.uint16))
    return -steps


def test_drift_is_undone_and_its_shifts_are_saved(lowdose, tmp_path, model_files):
    source, out = tmp_path / "moving.npy", tmp_path / "still.npy"
    shifts = drifting_movie(source)
    outcome = lowdose("denoise", source, "-o", out, "--model", model_files["wcvd"], "--drift", "--json")
    assert outcome.code == 0, outcome.err
    (report,) = json.loads(outcome.out)["results"]
    assert report["drift_unsure_frames"] == []
    found = load_shifts(tmp_path / "still.npy.drift.csv").shifts_px
    np.testing.assert_allclose(found, shifts, atol=0.1)
    rows, columns = slice(*report["valid_rows"]), slice(*report["valid_columns"])
    assert (rows, columns) == (slice(0, 75), slice(10, 96))
    still, moving = np.load(out)[:, rows, columns], np.load(source)[:, rows, columns]
    assert still.dtype == np.float32
    spread = [np.std(stack.mean(axis=0)) for stack in (still, moving)]
    assert spread[0] > 1.3 * spread[1]  # the mean over time is sharp where frames lie on each other
    again = lowdose("denoise", source, "-o", tmp_path / "other.npy", "--model", model_files["wcvd"], "--drift")
    assert again.code == 0
    assert "shifts in" in again.out
    (tmp_path / "other.npy").unlink()
    again = lowdose("denoise", source, "-o", tmp_path / "other.npy", "--model", model_files["wcvd"], "--drift")
    assert again.code == 2
    assert "other.npy.drift.csv exists" in again.err
