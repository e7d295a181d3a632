"""The small commands, and what the command line does around all of them."""

import json
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from lowdose import __version__
from lowdose.cli import main as entry

COMMANDS = {"bench", "demo", "denoise", "devices", "evaluate", "export", "info", "models", "simulate", "train"}


def test_demo_denoises_a_simulated_movie(lowdose, tmp_path):
    out = tmp_path / "demo"
    outcome = lowdose("demo", "-o", out)
    assert outcome.code == 0, outcome.err
    before, after = (float(word.split()[0]) for word in outcome.out.split("PSNR ")[1].split(" -> "))
    assert after > before + 15
    assert "ms per frame" in outcome.out
    noisy, denoised, truth = (tifffile.imread(out / f"{name}.tif") for name in ("noisy", "denoised", "truth"))
    assert noisy.shape == denoised.shape == truth.shape == (20, 256, 256)
    with Image.open(out / "comparison.png") as picture:
        assert picture.size[0] > 4 * 256
        assert picture.size[1] > 2 * 256
        assert picture.getextrema() == (0, 255)
    outcome = lowdose("demo", "-o", out)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err


def test_info_of_an_image_and_of_a_model(lowdose, tmp_path, model_files):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint16), imagej=True, metadata={"axes": "TYX"})
    facts = json.loads(lowdose("info", path, "--json").out)
    assert (facts["axes"], facts["shape"], facts["dtype"]) == ("TYX", [3, 8, 9], "uint16")
    assert facts["made_by_lowdose"] is None
    assert "uint16" in lowdose("info", path).out
    facts = json.loads(lowdose("info", model_files["wcvd"], "--json").out)
    assert facts["method"] == "wcvd"
    assert len(facts["sha256"]) == 64
    assert "wcvd-0" in lowdose("info", model_files["wcvd"]).out
    assert lowdose("info", tmp_path / "none.tif").code == 2


def test_models_lists_the_bundled_ones(lowdose):
    facts = json.loads(lowdose("models", "--json").out)
    assert {"wcid", "wcvd"} <= set(facts)
    assert facts["wcvd"]["latency_frames"] == 1
    text = lowdose("models").out
    assert all(name in text for name in facts)


def test_help_names_every_command(lowdose):
    outcome = lowdose("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert command in outcome.out
        assert lowdose(command, "--help").code == 0


def test_version_and_usage_errors(lowdose):
    assert __version__ in lowdose("--version").out
    outcome = lowdose("denoise")
    assert outcome.code == 2
    assert "Usage" in outcome.err
    assert lowdose("nonsense").code == 2


def test_a_missing_package_names_the_extra(lowdose, monkeypatch):
    monkeypatch.setitem(sys.modules, "lowdose_train.cli", None)  # as if its import failed
    outcome = lowdose("train", "wcvd", "movie.tif", "-o", "run")
    assert outcome.code == 2
    assert "pip install 'lowdose[train]'" in outcome.err
    assert lowdose("--help").code == 0


def test_onnx_runtime_that_is_not_there(lowdose, monkeypatch, tmp_path):
    monkeypatch.setenv("LOWDOSE_ONNXRUNTIME", str(tmp_path / "libonnxruntime.so"))
    outcome = lowdose("models")
    assert outcome.code == 2
    assert "cannot load ONNX Runtime" in outcome.err
    (tmp_path / "other.so").write_bytes(b"no library")
    monkeypatch.setenv("LOWDOSE_ONNXRUNTIME", str(tmp_path / "other.so"))
    assert lowdose("devices").code == 2
    monkeypatch.delenv("LOWDOSE_ONNXRUNTIME")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = lowdose("devices")
    assert outcome.code == 2
    assert "pip install 'lowdose[cpu]'" in outcome.err


def test_an_unexpected_error_is_not_hidden(lowdose, monkeypatch):
    """Only errors that a user can put right become one line; a bug keeps its traceback."""

    def broken(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(entry.lowdose, "main", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        lowdose("models")
