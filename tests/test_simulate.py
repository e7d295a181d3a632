"""The simulator: same seed same bits, true drift, real change, and the command that writes movies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from lowdose.cli.main import lowdose
from lowdose.errors import LowdoseError
from lowdose.simulate import (
    Scene,
    hrtem_movie,
    simulate,
    stem_movie,
)
from lowdose.simulate import hrtem as hrtem_module
from lowdose.simulate import stem as stem_module

SHAPES = [(16, 16), (17, 31), (101, 67), (64, 16)]
SMALL = {"n_frames": 3, "height": 48, "width": 41}


def small_scene(specimen: str, seed: int, **settings: object) -> Scene:
    make = {"hrtem": hrtem_movie, "stem": stem_movie}[specimen]
    return make(seed, **{**SMALL, **settings})  # type: ignore[arg-type]


def fourier_shift(frame: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    fy, fx = (np.fft.fftfreq(n) for n in frame.shape)
    ramp = np.exp(-2j * np.pi * (fy[:, None] * shift[0] + fx[None, :] * shift[1]))
    return np.fft.ifft2(np.fft.fft2(frame) * ramp).real


# --- scenes


@pytest.mark.parametrize("specimen", ["hrtem", "stem"])
def test_same_seed_same_bits_other_seed_other_specimen(specimen: str) -> None:
    first, again, other = (small_scene(specimen, seed) for seed in (4, 4, 5))
    assert np.array_equal(first.clean, again.clean)
    assert np.array_equal(first.drift_px, again.drift_px)
    assert first.parameters == again.parameters
    assert np.abs(first.clean[0] - other.clean[0]).max() > 0.01 * np.ptp(first.clean)
    assert np.abs(first.drift_px - other.drift_px).max() > 0.1
    assert first.parameters["defocus_angstrom"] != other.parameters["defocus_angstrom"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("support", [True, False])
def test_hrtem_sizes(shape: tuple[int, int], support: bool) -> None:
    scene = hrtem_movie(3, n_frames=2, height=shape[0], width=shape[1], support=support)
    assert scene.clean.shape == (2, *shape)
    assert scene.clean.dtype == np.float32
    assert scene.clean.mean(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert scene.clean.min() >= 0
    assert scene.clean.std() > 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_stem_sizes(shape: tuple[int, int]) -> None:
    scene = stem_movie(3, n_frames=2, height=shape[0], width=shape[1])
    assert scene.clean.shape == (2, 2, *shape)
    assert scene.clean.dtype == np.float32
    assert scene.clean.min() >= 0
    assert scene.clean.max() < 1
    assert (scene.clean.std(axis=(2, 3)) > 0).all()


@pytest.mark.parametrize("seed", range(12))
def test_tiny_fields_are_never_empty(seed: int) -> None:
    scene = hrtem_movie(seed, n_frames=2, height=16, width=19, pixel_size_angstrom=0.2, radius_angstrom=5.0)
    assert scene.clean.std() > 0.01


@pytest.mark.parametrize("pixel_size", [0.05, 0.1, 0.23])
@pytest.mark.parametrize("specimen", ["hrtem", "stem"])
def test_drift_is_the_shift_onto_frame_0(specimen: str, pixel_size: float) -> None:
    still = {"change_rate": 0.0} if specimen == "hrtem" else {"adatoms_per_nm2": 0.0}
    scene = small_scene(
        specimen,
        1,
        n_frames=4,
        height=120,
        width=97,
        pixel_size_angstrom=pixel_size,
        drift_px_per_frame=1.0,
        **still,
    )
    assert np.array_equal(scene.drift_px[0], [0, 0])
    frames = scene.clean if specimen == "hrtem" else scene.clean[:, 0]
    window = np.hanning(80)[:, None] * np.hanning(57)
    for frame, drift in zip(frames[1:], scene.drift_px[1:], strict=True):
        aligned = fourier_shift(frame, drift)
        # The frame is not periodic, so its Fourier shift rings near the border.
        inside = (slice(20, -20), slice(20, -20))
        error = np.std((aligned - frames[0])[inside])
        assert error < 0.1 * np.std((frame - frames[0])[inside])
        assert error < 0.1 * np.std((fourier_shift(frame, -drift) - frames[0])[inside])
        centred = [(f[inside] - f[inside].mean()) * window for f in (frames[0], aligned)]
        rest, *_ = phase_cross_correlation(*centred, upsample_factor=50, normalization=None)
        assert np.abs(rest).max() <= 0.04


def test_drift_rate_and_jitter() -> None:
    steps = []
    for seed in range(8):
        scene = hrtem_movie(seed, n_frames=20, height=16, width=16, drift_px_per_frame=0.4)
        steps.append(np.linalg.norm(np.diff(scene.drift_px, axis=0), axis=1))
    assert 0.3 < np.mean(steps) < 0.55
    assert np.std(steps, axis=1).min() > 0.02
    assert not hrtem_movie(0, **SMALL, drift_px_per_frame=0).drift_px.any()


@pytest.mark.parametrize("specimen", ["hrtem", "stem"])
def test_structure_changes_beyond_drift(specimen: str) -> None:
    name = {"hrtem": "change_rate", "stem": "hop_rate"}[specimen]
    size = {
        "n_frames": 12,
        "height": 200,
        "width": 200,
        "pixel_size_angstrom": 0.2,
        "drift_px_per_frame": 0.0,
    }
    moving = small_scene(specimen, 2, **size).clean
    change = np.abs(moving[-1] - moving[0])
    assert change.max() > 0.2 * np.ptp(moving[0])
    # Most of the specimen stays: the change is at the surface.
    assert np.median(change) < 0.02 * np.ptp(moving[0])
    steps = np.abs(np.diff(moving, axis=0)).max(axis=(1, 2) if specimen == "hrtem" else (1, 2, 3))
    assert np.mean(steps > 0.02 * np.ptp(moving[0])) > 0.7
    if specimen == "hrtem":
        still = small_scene(specimen, 2, **{name: 0.0}, **size).clean
        assert np.abs(still - still[0]).max() < 1e-5


@pytest.mark.parametrize("seed", [0, 6, 7])
def test_frames_do_not_depend_on_the_field_around_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def scenes() -> list[NDArray[np.float32]]:
        return [
            hrtem_movie(seed, n_frames=1, height=81, width=100).clean[0],
            stem_movie(seed, n_frames=1, height=81, width=100, adatoms_per_nm2=0.0).clean[0],
        ]

    narrow = scenes()
    monkeypatch.setattr(hrtem_module, "GUARD_ANGSTROM", 14.0)
    monkeypatch.setattr(stem_module, "GUARD_ANGSTROM", 14.0)
    # What wraps around the field, or is cut at its edge, must stay outside of the frame.
    for frame, reference in zip(narrow, scenes(), strict=True):
        assert np.abs(frame - reference).max() < 0.03 * np.ptp(reference)


# --- movies


@pytest.mark.parametrize("specimen", ["hrtem", "stem"])
@pytest.mark.parametrize("detector", ["counting", "poisson-gaussian", "linear"])
def test_movie_truth_is_the_expectation_of_the_noise(specimen: str, detector: str) -> None:
    movie = simulate(specimen, detector, 8, **SMALL, dose_per_pixel=30.0)
    assert movie.noisy.shape == movie.clean.shape
    assert movie.clean.dtype == np.float32
    error = movie.noisy - movie.clean.astype(np.float64)
    axes = (0, *range(error.ndim - 2, error.ndim))  # per channel
    standard_error = error.std(axis=axes) / np.sqrt(error.size / error[0, ..., 0, 0].size)
    assert (np.abs(error.mean(axis=axes)) < 4.5 * standard_error).all()


@pytest.mark.parametrize("specimen", ["hrtem", "stem"])
def test_parameters_make_the_same_movie_again(specimen: str) -> None:
    movie = simulate(specimen, "linear", np.int64(3), **SMALL, drift_px_per_frame=0.7, read_noise=np.float32(3))
    again = simulate(**json.loads(json.dumps(movie.parameters)))
    assert np.array_equal(movie.noisy, again.noisy)
    assert np.array_equal(movie.clean, again.clean)
    other = simulate(**{**movie.parameters, "seed": 4})
    assert not np.array_equal(movie.noisy, other.noisy)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"specimen": "tem"}, "hrtem, stem"),
        ({"detector": "ccd"}, "counting"),
        ({"hop_rate": 0.1}, "hop_rate"),
        ({"gain": 2.0}, "gain"),
        ({"element": "Xx"}, "Pt"),
        ({"seed": -1}, "seed"),
        ({"n_frames": 0}, "frames"),
        ({"width": 15}, "16x16"),
        ({"pixel_size_angstrom": 0.5}, "0.3"),
        ({"drift_px_per_frame": float("nan")}, "drift"),
        ({"change_rate": 1.5}, "change_rate"),
        ({"radius_angstrom": 500.0}, "radius"),
        ({"dose_per_pixel": 0.0}, "dose"),
        ({"specimen": "stem", "n_layers": 0}, "layers"),
        ({"specimen": "stem", "adatoms_per_nm2": 99.0}, "adatoms"),
        ({"specimen": "stem", "element": "C"}, "Au"),
        ({"detector": "poisson-gaussian", "gaussian_share": 1.0}, "share"),
        ({"detector": "linear", "fano": -0.1}, "fano"),
    ],
)
def test_settings_out_of_range_say_so(arguments: dict[str, object], words: str) -> None:
    settings = {"specimen": "hrtem", "detector": "counting", "seed": 0, **SMALL, **arguments}
    with pytest.raises(LowdoseError, match=words):
        simulate(**settings)  # type: ignore[arg-type]


# --- command line


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(lowdose, ["simulate", *map(str, arguments)])


def test_command_writes_noisy_truth_and_parameters(tmp_path: Path) -> None:
    out = tmp_path / "m.tif"
    size = ("--size", "33x47", "--frames", "3", "--seed", "5", "--pixel-size", "0.15")
    result = run("hrtem", "-o", out, *size, "--dose", "4", "--element", "Pd", "--no-support")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    movie = simulate(
        "hrtem",
        "counting",
        5,
        n_frames=3,
        height=33,
        width=47,
        pixel_size_angstrom=0.15,
        element="Pd",
        support=False,
        dose_per_pixel=4.0,
    )
    assert np.array_equal(tifffile.imread(out), movie.noisy)
    assert np.array_equal(tifffile.imread(tmp_path / "m_clean.tif"), movie.clean)
    assert report.items() >= movie.parameters.items()
    assert np.allclose(report["drift_px"], movie.drift_px, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "m.tif", "m_clean.tif"]


def test_command_writes_two_channels(tmp_path: Path) -> None:
    out = tmp_path / "s.tif"
    result = run("stem", "-o", out, "--detector", "linear", "--size", "20x31", "--frames", "2", "--drift", "1")
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(out) as file:
        assert file.series[0].axes == "TCYX"
        assert file.series[0].shape == (2, 2, 20, 31)
        assert file.series[0].dtype == np.uint16


@pytest.mark.parametrize("existing", ["m.tif", "m_clean.tif", "m.json"])
def test_command_overwrites_only_when_asked(tmp_path: Path, existing: str) -> None:
    arguments = ("hrtem", "-o", tmp_path / "m.tif", "--size", "16x16", "--frames", "2")
    (tmp_path / existing).write_bytes(b"precious")
    refused = run(*arguments)
    assert isinstance(refused.exception, LowdoseError)
    assert "--overwrite" in str(refused.exception)
    assert [p.name for p in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_bytes() == b"precious"
    assert run(*arguments, "--overwrite").exit_code == 0
    assert tifffile.imread(tmp_path / "m.tif").shape == (2, 16, 16)


@pytest.mark.parametrize(
    "arguments",
    [
        ("hrtem", "-o", "m.png"),
        ("stem", "-o", "m.tif", "--no-support"),
        ("hrtem", "-o", "m.tif", "--size", "16"),
        ("hrtem", "-o", "m.tif", "--size", "8x8"),
        ("hrtem", "-o", "m.tif", "--detector", "ccd"),
        ("hrtem", "-o", "m.tif", "--dose", "-1"),
        ("hrtem", "-o", "nowhere/m.tif", "--size", "16x16", "--frames", "2"),
    ],
)
def test_command_refuses_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments).exit_code != 0
    assert list(tmp_path.iterdir()) == []
