"""Every kind of bad input: a clear message, exit code 2, nothing written."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import tifffile

MAIN = "from lowdose.cli.main import main; main()"


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.npy"
    np.save(path, np.random.default_rng(0).poisson(3, (4, 16, 18)).astype(np.uint8))
    return path


def listing(folder):
    return sorted((str(p.relative_to(folder)), p.stat().st_size) for p in folder.rglob("*"))


@pytest.fixture
def refuse(lowdose, tmp_path, model_files):
    """refuse(path, "words", ...) denoises `path` and expects the words, exit code 2 and an unchanged folder."""

    def check(source, *words, model="wcvd", arguments=(), out="out.tif"):
        before = listing(tmp_path)
        model_path = model_files.get(model, model)
        outcome = lowdose("denoise", source, "-o", tmp_path / out, "--model", model_path, *arguments)
        assert outcome.code == 2, outcome.err
        assert outcome.err.startswith("Error: ")
        for word in words:
            assert word in outcome.err
        assert listing(tmp_path) == before

    return check


def test_missing_file(refuse, tmp_path):
    refuse(tmp_path / "nothing.tif", "nothing.tif", "no such file")


def test_missing_file_for_a_new_folder(refuse, tmp_path):
    refuse(tmp_path / "nothing.tif", "no such file", out="new/folder/out.tif")


def test_glob_that_matches_nothing(refuse, tmp_path):
    refuse(tmp_path / "nothing*.tif", "nothing*.tif", "no such file")


def test_folder_without_images(refuse, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("text")
    refuse(tmp_path / "folder", "holds no file of a known format", out="out")


@pytest.mark.parametrize("name", ["text.tif", "text.npy", "text.mrc", "text.h5", "text.xyz"])
def test_not_an_image(refuse, tmp_path, name):
    (tmp_path / name).write_text("This is not an image. " * 100)
    refuse(tmp_path / name, name)


def test_empty_stack(refuse, tmp_path):
    np.save(tmp_path / "empty.npy", np.zeros((0, 16, 16), np.uint8))
    refuse(tmp_path / "empty.npy", "empty", "(0, 16, 16)")


def test_one_frame_for_wcvd(refuse, tmp_path):
    np.save(tmp_path / "one.npy", np.ones((16, 16), np.uint8))
    refuse(tmp_path / "one.npy", "at least 2 frames and was given 1", "--model wcid")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("frame", [0, 2, 7])
def test_nan_or_infinite_pixels(refuse, tmp_path, value, frame):
    stack = np.ones((8, 16, 16), np.float32)
    stack[frame, 3, 4] = value
    np.save(tmp_path / "bad.npy", stack)
    refuse(tmp_path / "bad.npy", "NaN")


def test_complex_data(refuse, tmp_path):
    np.save(tmp_path / "complex.npy", np.ones((4, 16, 16), np.complex64))
    refuse(tmp_path / "complex.npy", "complex", "modulus")


def test_frame_smaller_than_the_kernel(refuse, tmp_path):
    np.save(tmp_path / "small.npy", np.ones((4, 6, 16), np.uint8))
    refuse(tmp_path / "small.npy", "6x16", "at least 7x7")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_tiff(refuse, tmp_path, compression):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 99, (9, 64, 64), np.uint16), compression=compression)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuse(path, "cut.tif")


def test_wrong_number_of_channels(refuse, tmp_path):
    np.save(tmp_path / "two.npy", np.ones((4, 2, 16, 16), np.uint8))
    refuse(tmp_path / "two.npy", "2 channels", "--channel 0 to 1", arguments=("--axes", "TCYX"))
    refuse(tmp_path / "two.npy", "channel 2", arguments=("--axes", "TCYX", "--channel", "2"))


def test_axes_that_do_not_fit(refuse, good):
    refuse(good, "axes", "(4, 16, 18)", arguments=("--axes", "TCYX"))


def test_model_that_is_not_there(refuse, good):
    refuse(good, "no model 'wcvx'", "wcid, wcvd", model="wcvx")


def test_model_file_that_is_not_onnx(refuse, good, tmp_path):
    (tmp_path / "text.onnx").write_text("This is no model.")
    refuse(good, "text.onnx", "cannot open", model=tmp_path / "text.onnx")


def edited(model_files, path, edit):
    """A copy of a good model file with changed metadata; None: without any."""
    model = onnx.load(model_files["wcvd"])
    metadata = edit(json.loads(model.metadata_props[0].value))
    del model.metadata_props[:]
    if metadata is not None:
        onnx.helper.set_model_props(model, {"lowdose": metadata if isinstance(metadata, str) else json.dumps(metadata)})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: None, "without lowdose metadata"),
        (lambda m: m | {"spec": 2}, "spec 2"),
        (lambda m: "{not json", "not JSON"),
        (lambda m: {"spec": 1}, "lacks the entry 'method'"),
        (lambda m: m | {"boundary": "zeros"}, "boundary rule"),
        (lambda m: m | {"taps": {"axis": "time", "offsets": [0, 1]}}, "inputs"),
        (
            lambda m: m | {"taps": {"axis": "time", "offsets": [-2, -1, 0, 1, 2]}},
            "the graph's inputs are not those",
        ),
        (lambda m: m | {"margin_px": "three"}, "expected a number"),
    ],
)
def test_model_file_that_breaks_the_contract(refuse, good, tmp_path, model_files, edit, words):
    path = edited(model_files, tmp_path / "edited.onnx", edit)
    refuse(good, "edited.onnx", words, model=path)


def test_unwritable_output(refuse, good, tmp_path):
    (tmp_path / "file").write_text("a file where a folder is wanted")
    refuse(good, "file", out="file/out.tif")
    refuse(good, "cannot write .png", out="out.png")


def test_device_that_is_not_there(refuse, good):
    for device in ("cuda:99", "tensorrt:99", "rtx:99", "directml:99"):
        refuse(good, f"'{device}' is not available here: ", "Available: ", arguments=("--device", device))
    for device in ("gpu", "cpu:1", "cuda:", "rtx:one"):
        refuse(good, f"unknown device '{device}'", "directml[:N]", arguments=("--device", device))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--lowpass", "0.8"), "--lowpass 0.8"),
        (("--lowpass", "much"), "--lowpass much"),
        (("--frames", "1-2"), "--frames 1-2"),
        (("--frames", "9:12"), "no frame is left"),
        (("--tile", "-3"), "--tile -3"),
        (("--max-mem", "lots"), "--max-mem lots"),
        (("--max-mem", "1kB"), "--max-mem"),
    ],
)
def test_options_out_of_range(refuse, good, arguments, word):
    refuse(good, word, arguments=arguments)


def test_full_disk(tmp_path, model_files):
    """A limit on the size of files stands in for the full disk: the same kind of failed write."""
    source = tmp_path / "in.npy"
    np.save(source, np.ones((40, 64, 64), np.float32))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [
        sys.executable,
        "-c",
        MAIN,
        "denoise",
        source,
        "-o",
        tmp_path / "out.tif",
        "--model",
        model_files["wcid"],
    ]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Error: " in done.stderr
    assert "out.tif" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_stops_cleanly(tmp_path, model_files):
    source = tmp_path / "in.npy"
    np.save(source, np.ones((4000, 256, 256), np.uint8))
    command = [
        sys.executable,
        "-c",
        # A test run in the background of a shell hands on that Ctrl-C is ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + MAIN,
        "denoise",
        source,
        "-o",
        tmp_path / "out.tif",
        "--model",
        model_files["wcvd"],
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # until the unfinished output is there
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped" in err
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]
