"""The simulator: same seed same bits, true drift, true noise, and specimens that look right in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from lowdose.cli.main import lowdose
from lowdose.errors import LowdoseError
from lowdose.simulate import (
    Scene,
    counting,
    hrtem_movie,
    linear_integration,
    poisson_gaussian,
    simulate,
    stem_movie,
)
from lowdose.simulate import hrtem as hrtem_module
from lowdose.simulate import stem as stem_module
from lowdose.simulate.adatoms import graphene, hopping_path
from lowdose.simulate.crystal import fcc_particle
from lowdose.simulate.dynamics import occupancy_path
from lowdose.simulate.grid import grid_around
from lowdose.simulate.probe import ADF_MRAD, APERTURE_MRAD, BF_MRAD, adf_share, bf_loss, cross_section
from lowdose.simulate.wave import ATOMIC_NUMBERS, structure_factor, wavelength_angstrom
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

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
        "height": 128,
        "width": 128,
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


@pytest.mark.parametrize("pixel_size", [0.07, 0.2])
def test_atom_spacing_follows_the_pixel_size(pixel_size: float) -> None:
    for element, lattice in (("Pt", 3.924), ("Co", 3.545)):
        scene = hrtem_movie(5, n_frames=1, element=element, support=False, pixel_size_angstrom=pixel_size)
        window = np.hanning(256)[:, None] * np.hanning(256)
        power = np.abs(np.fft.rfft2((scene.clean[0] - 1) * window)) ** 2
        fy, fx = np.fft.fftfreq(256, pixel_size), np.fft.rfftfreq(256, pixel_size)
        g = np.hypot(fy[:, None], fx[None, :])
        planes = np.array([np.sqrt(3), 2.0]) / lattice  # {111} and {200}
        near_planes = (np.abs(g[..., None] - planes) < 0.04).any(axis=2)
        power[(g < 0.3) | (g > 0.65)] = 0
        assert near_planes[np.unravel_index(power.argmax(), power.shape)]


def test_hrtem_looks_like_negative_cs_imaging() -> None:
    stacks = [
        hrtem_movie(seed, n_frames=1, height=200, width=200, pixel_size_angstrom=0.15).clean[0]
        for seed in range(8)
    ]
    contrasts = np.array([stack.std() for stack in stacks])
    assert 0.12 < contrasts.mean() < 0.28
    for stack in stacks:
        assert stack.max() - 1 > 1 - stack.min()  # white atoms
        blocks = stack[:192, :192].reshape(12, 16, 12, 16).std(axis=(1, 3))
        assert blocks.min() < 0.015  # vacuum is flat
        assert blocks.max() > 0.15


def test_positive_defocus_with_positive_cs_turns_atoms_dark() -> None:
    settings = {"n_frames": 1, "support": False, "focal_spread_angstrom": 20.0, "astigmatism_angstrom": 0.0}
    white = hrtem_movie(0, cs_micrometre=-10.0, defocus_angstrom=60.0, **settings).clean
    dark = hrtem_movie(0, cs_micrometre=10.0, defocus_angstrom=-60.0, **settings).clean
    skew = [np.mean((image - image.mean()) ** 3) / image.std() ** 3 for image in (white, dark)]
    assert skew[0] > 0.5
    assert skew[1] < 0.3


def test_stem_adatoms_are_bright_in_adf_and_dark_in_bf() -> None:
    scene = stem_movie(1, n_frames=1)
    adf, bf = scene.clean[0]
    bright = adf > 0.5 * adf.max()
    assert bf[bright].mean() < bf[~bright].mean() - 2 * bf.std()
    assert adf.max() / np.median(adf) > 10
    assert bf.std() / bf.mean() < 0.1 < adf.std() / adf.mean()


@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_graphene_has_its_bonds_and_layers(n_layers: int) -> None:
    carbon, n_atoms, sites = graphene(15.0, 0.4, n_layers)
    area = np.pi * 15.0**2
    assert n_atoms.sum() / area == pytest.approx(n_layers * 4 / (np.sqrt(3) * 2.46**2), rel=0.05)
    top = carbon[(n_atoms == n_layers) | (n_atoms == (n_layers + 1) // 2)]
    apart = np.linalg.norm(carbon[:, None] - carbon[None], axis=2)
    assert apart[apart > 0].min() == pytest.approx(2.46 / np.sqrt(3), abs=1e-9)
    assert len(top) >= n_atoms.sum() / n_layers * 0.9
    assert len(sites) / area == pytest.approx(6 * 2 / (np.sqrt(3) * 2.46**2), rel=0.05)


def test_adatoms_hop_leave_arrive_and_keep_their_distance() -> None:
    _, _, sites = graphene(30.0, 0.1, 1)
    path = hopping_path(np.random.default_rng(3), sites, 60, n_mean=50, hop_rate=0.3)
    numbers = np.array([len(taken) for taken in path])
    assert 20 < numbers.min() < numbers.max() < 80
    hops = arrivals = 0
    for before, after in zip(path[:-1], path[1:], strict=True):
        apart = np.linalg.norm(sites[after][:, None] - sites[after][None], axis=2)
        assert apart[apart > 0].min() >= 2.4
        for site in set(after) - set(before):
            nearest = np.linalg.norm(sites[before] - sites[site], axis=1).min()
            hops, arrivals = hops + (nearest < 3.0), arrivals + (nearest >= 3.0)
    assert 0.15 < hops / numbers[1:].sum() < 0.45
    assert arrivals > 5


def test_surface_columns_change_at_the_given_rate() -> None:
    particle = fcc_particle(np.random.default_rng(1), "Pt", 15.0, 15.0, supported=True)
    path = occupancy_path(np.random.default_rng(2), particle, 200, rate=0.06, hop_angstrom=6.0)
    assert np.array_equal(path[0], particle.n_atoms)
    assert not np.diff(path[:, ~particle.surface], axis=0).any()
    assert path.min() >= 0
    assert path.max() <= particle.n_atoms.max()
    changed = (np.diff(path, axis=0) != 0)[:, particle.surface].sum()
    held = (path[:-1, particle.surface] > 0).sum()
    # A hop changes two columns; a change that finds a column full or empties into one shows less.
    assert 0.04 < changed / held < 0.13


def test_scattering_into_the_adf_detector_grows_like_z_to_1_7() -> None:
    section = {element: cross_section(element, adf_share) for element in ("C", "Cu", "Au")}
    for heavy, light in (("Au", "C"), ("Au", "Cu"), ("Cu", "C")):
        ratio = ATOMIC_NUMBERS[heavy] / ATOMIC_NUMBERS[light]
        assert np.log(section[heavy] / section[light]) / np.log(ratio) == pytest.approx(1.7, abs=0.2)


def test_bf_loss_is_what_the_shifted_disc_leaves_of_the_detector() -> None:
    y, x = np.mgrid[-40:40.01:0.1, -40:40.01:0.1]
    beam, detector = np.hypot(y, x) <= APERTURE_MRAD, np.hypot(y, x) <= BF_MRAD
    for mrad in (0.0, 10.0, 17.0, 30.0, 45.0, 60.0):
        shifted = np.hypot(y, x - mrad) <= APERTURE_MRAD
        expected = (detector.sum() - (detector & shifted).sum()) / beam.sum()
        assert bf_loss(np.array([mrad]))[0] == pytest.approx(expected, abs=2e-3)
    assert list(adf_share(np.array([46.9, ADF_MRAD[0], 100.0, 169.1]))) == [0, 1, 1, 0]


def test_wavelengths() -> None:
    # Textbook values at 300 and 80 kV in angstrom.
    assert wavelength_angstrom(300e3) == pytest.approx(0.01969, abs=1e-5)
    assert wavelength_angstrom(80e3) == pytest.approx(0.04176, abs=1e-5)


def test_structure_factor_against_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(6, 0.3), np.fft.rfftfreq(10, 0.3)
    yx, weight = rng.uniform(-5, 5, (7, 2)), rng.integers(1, 9, 7)
    expected = np.zeros((6, 6), complex)
    for i, gy in enumerate(fy):
        for j, gx in enumerate(fx):
            for (y, x), w in zip(yx, weight, strict=True):
                expected[i, j] += w * np.exp(-2j * np.pi * (gy * y + gx * x))
    assert np.allclose(structure_factor(fy, fx, yx, weight), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (40, 23)])
@pytest.mark.parametrize("pixel", [0.05, 0.1, 0.25])
def test_grid_puts_a_blob_where_it_belongs(shape: tuple[int, int], pixel: float) -> None:
    grid = grid_around(*shape, pixel, coarsest_angstrom=0.25, margin_angstrom=5.0)
    at, sigma = np.array([0.31, -0.17]), 0.7
    g = np.hypot(grid.fy[:, None], grid.fx[None, :])
    blob = np.exp(-2 * (np.pi * sigma * g) ** 2) * 2 * np.pi * sigma**2 / grid.coarse_angstrom**2
    y, x = (pixel * (np.arange(n) - n // 2) for n in shape)
    expected = np.exp(-((y[:, None] - at[0]) ** 2 + (x[None, :] - at[1]) ** 2) / (2 * sigma**2))
    assert np.allclose(grid.frame(blob * grid.ramp(at)), expected, atol=1e-5)


# --- detectors


def chi(estimate: float, expected: float, standard_error: float) -> float:
    return abs(estimate - expected) / standard_error


@pytest.mark.parametrize("dose", [0.3, 2.0, 25.0])
@pytest.mark.parametrize("detector", ["counting", "poisson-gaussian", "linear"])
def test_detector_mean_and_variance(detector: str, dose: float) -> None:
    rng = np.random.default_rng(7)
    signal = np.full((300, 331), 1.2, np.float32)
    expected = 1.2 * dose
    if detector == "counting":
        mean, variance = expected, expected
        recorded = counting(signal, rng, dose_per_pixel=dose)
        assert recorded.dtype == np.uint8
    elif detector == "poisson-gaussian":
        mean, variance = 1000 + 40 * expected, 40**2 * expected / (1 - 0.3) + 1 / 12
        recorded = poisson_gaussian(
            signal, rng, dose_per_pixel=dose, gaussian_share=0.3, gain=40, offset=1000
        )
        assert recorded.dtype == np.uint16
    else:
        mean, variance = 90 + 20 * expected, 20**2 * expected * (1 + 0.5) + 8**2 + 1 / 12
        recorded = linear_integration(
            signal, rng, dose_per_pixel=dose, fano=0.5, gain=20, offset=90, read_noise=8
        )
        assert recorded.dtype == np.uint16
    values = recorded.astype(np.float64)
    kurtosis = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    assert chi(values.mean(), mean, np.sqrt(variance / values.size)) < 4.5
    assert chi(values.var(), variance, variance * np.sqrt((kurtosis - 1) / values.size)) < 4.5
    # White: neighbours know nothing of each other.
    centred = values - values.mean()
    assert abs((centred[1:] * centred[:-1]).mean()) < 4.5 * variance / np.sqrt(values.size)


def test_gaussian_share_and_energy_spread() -> None:
    signal = np.ones((200, 200))
    for share in (0.0, 0.5, 0.9):
        noisy = poisson_gaussian(
            signal, np.random.default_rng(1), dose_per_pixel=9, gaussian_share=share, offset=5000
        )
        assert noisy.var() == pytest.approx(40**2 * 9 / (1 - share), rel=0.05)
    for fano in (0.0, 1.0):
        noisy = linear_integration(
            signal, np.random.default_rng(1), dose_per_pixel=9, fano=fano, read_noise=0, offset=0
        )
        assert noisy.var() == pytest.approx(400 * 9 * (1 + fano), rel=0.05)
    assert (noisy[:] % 20 != 0).any()


def test_recorded_values_clip_and_never_wrap() -> None:
    signal = np.linspace(0, 2, 4001)[None, :]
    for detector in (poisson_gaussian, linear_integration):
        high = detector(signal, np.random.default_rng(0), dose_per_pixel=1e4, gain=40.0, offset=0.0)
        assert high.dtype == np.uint16
        assert (high[signal > 0.25] == 65535).all()
        low = detector(signal, np.random.default_rng(0), dose_per_pixel=0.2, gain=40.0, offset=0.0)
        assert low.min() == 0
        assert low.max() < 1000
    many = counting(signal, np.random.default_rng(0), dose_per_pixel=1e5)
    assert many.dtype == np.uint16
    assert (many[signal > 0.7] == 65535).all()
    some = counting(signal, np.random.default_rng(0), dose_per_pixel=200)
    assert some.dtype == np.uint16
    assert 300 < some.max() < 600


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
    movie = simulate(specimen, "linear", 3, **SMALL, drift_px_per_frame=0.7, read_noise=3.0)
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
    result = run(
        "stem", "-o", out, "--detector", "linear", "--size", "20x31", "--frames", "2", "--drift", "1"
    )
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
