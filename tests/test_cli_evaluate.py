"""`lowdose evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from lowdose.cli.evaluate import evaluate
from lowdose.errors import LowdoseError
from lowdose.metrics import evaluate as reference


@pytest.fixture
def movie(tmp_path: Path) -> dict[str, Any]:
    """Six frames as arrays, and as files under the same names with `_file`."""
    rng = np.random.default_rng(1)
    clean = rng.random((6, 20, 17)).astype(np.float32)
    arrays = {
        "clean": clean,
        "denoised": (4 * clean + 3 + 0.1 * rng.standard_normal(clean.shape)).astype(np.float32),
        "noisy": rng.poisson(4 * clean + 3).astype(np.uint8),
    }
    for name, array in arrays.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack", metadata={"axes": "TYX"})
    return arrays | {f"{name}_file": str(tmp_path / f"{name}.tif") for name in arrays} | {"folder": tmp_path}


def run(*arguments: str) -> str:
    return CliRunner().invoke(evaluate, list(arguments), catch_exceptions=False).stdout


UNITS = ("--clean-scale", "4", "--clean-offset", "3")


def test_json_is_one_object_with_the_metrics_of_the_module(movie: dict[str, Any]) -> None:
    files = movie["clean_file"], movie["denoised_file"]
    printed = json.loads(run(*files, "--noisy", movie["noisy_file"], *UNITS, "--json"))
    truth = movie["clean"].astype(float) * 4 + 3
    assert printed == pytest.approx(reference(truth, movie["denoised"], movie["noisy"]))


def test_frames_and_border_choose_what_is_compared(movie: dict[str, Any]) -> None:
    chosen = movie["folder"] / "chosen.npy"
    np.save(chosen, movie["denoised"][1:-1])
    truth = movie["clean"].astype(float) * 4 + 3
    inner = (slice(1, -1), slice(3, -3), slice(3, -3))
    expected = reference(truth[inner], movie["denoised"][inner], movie["noisy"][inner])
    for denoised in (movie["denoised_file"], str(chosen)):
        options = ("--noisy", movie["noisy_file"], *UNITS, "--frames", "1:-1", "--border", "3", "--json")
        assert json.loads(run(movie["clean_file"], denoised, *options)) == pytest.approx(expected)


def test_channels_are_scored_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    clean, denoised = rng.random((2, 3, 2, 9, 11)).astype(np.float32) * np.array([1, 50]).reshape(2, 1, 1)
    paths = [str(tmp_path / name) for name in ("clean.tif", "denoised.tif")]
    for path, array in zip(paths, (clean, denoised), strict=True):
        tifffile.imwrite(path, array, imagej=False, photometric="minisblack", metadata={"axes": "TCYX"})
    channels = json.loads(run(*paths, "--json"))["channels"]
    for index in range(2):
        expected = reference(clean[:, index].astype(float), denoised[:, index])
        assert channels[index] == pytest.approx(expected)
    assert "channel 1, 3 frames" in run(*paths)


def test_the_table_names_every_metric_and_what_is_not_defined(movie: dict[str, Any]) -> None:
    printed = run(movie["clean_file"], movie["denoised_file"], "--noisy", movie["noisy_file"], *UNITS)
    for label in ("PSNR (dB)", "SSIM", "NRMSE", "IEF", "uMSE", "uPSNR (dB)", "6 frames"):
        assert label in printed
    printed = run(movie["clean_file"], movie["denoised_file"], "--border", "8")
    assert "SSIM               not defined" in printed


def test_infinite_values_are_null_in_json(movie: dict[str, Any]) -> None:
    printed = run(movie["clean_file"], movie["clean_file"], "--json")
    assert "Infinity" not in printed
    assert json.loads(printed)["psnr"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--border", "9"), "--border 9"),
        (("--border", "-1"), "--border -1"),
        (("--frames", "4:2"), "none of the 6 frames"),
        (("--frames", "a:b"), "--frames a:b"),
        (("--clean-scale", "nan"), "finite"),
        (("--noisy", "missing.tif"), "missing.tif"),
    ],
)
def test_bad_options_are_named(movie: dict[str, Any], options: tuple[str, ...], message: str) -> None:
    with pytest.raises(LowdoseError, match=message):
        run(movie["clean_file"], movie["denoised_file"], *options)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((5, 20, 17)), "has 5 frames; expected 6"),
        (np.zeros((6, 20, 18)), "20 x 17.*20 x 18"),
        (np.full((6, 20, 17), np.nan), "NaN"),
    ],
)
def test_files_that_do_not_fit_are_named(movie: dict[str, Any], other: np.ndarray, message: str) -> None:
    path = movie["folder"] / "other.npy"
    np.save(path, other)
    with pytest.raises(LowdoseError, match=message):
        run(movie["clean_file"], str(path))
