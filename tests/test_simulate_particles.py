"""Particles on carbon: their volume, contrast, motion and truth, against values worked out by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from lowdose.cli.main import lowdose
from lowdose.errors import LowdoseError
from lowdose.simulate import Scene, particle_movie, simulate
from lowdose.simulate.carbon import carbon_thickness, grain
from lowdose.simulate.dynamics import wander
from lowdose.simulate.grid import grid_around
from lowdose.simulate.particles import add_metal
from lowdose.simulate.sintering import PARTICLE, coalesced, diffuse, radii, ripened, sintering_path, volumes

STILL = {
    "drift_px_per_frame": 0.0,
    "diffusion_px_per_frame": 0.0,
    "ripening_rate": 0.0,
    "focus_change": 0.0,
    "brightness_change": 0.0,
    "flicker": 0.0,
}
ONE_SURFACE = {"upper": True, "mobility": 1.0}


def some(radius: list[float], yx: list[list[float]], **fields: object) -> np.ndarray:
    particles = np.zeros(len(radius), PARTICLE)
    particles["yx"] = yx
    particles["volume"] = volumes(np.array(radius))
    for name, value in {**ONE_SURFACE, **fields}.items():
        particles[name] = value
    return particles


def small(seed: int, **settings: object) -> Scene:
    return particle_movie(seed, **{"n_frames": 3, "height": 40, "width": 53, **settings})  # type: ignore[arg-type]


# --- scenes


def test_same_seed_same_bits_other_seed_other_specimen() -> None:
    first, again, other = (small(seed) for seed in (4, 4, 5))
    assert np.array_equal(first.clean, again.clean)
    assert first.particles is not None
    assert np.array_equal(first.particles, again.particles)
    assert first.parameters == again.parameters != other.parameters
    assert not np.array_equal(first.clean, other.clean)


@pytest.mark.parametrize("detector", ["counting", "poisson-gaussian"])
def test_parameters_make_the_same_movie_again(detector: str) -> None:
    movie = simulate("particles", detector, 3, n_frames=2, height=20, width=33, radius_angstrom=9.0)
    again = simulate(**json.loads(json.dumps(movie.parameters)))
    assert np.array_equal(movie.noisy, again.noisy)
    assert np.array_equal(movie.clean, again.clean)


@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (101, 67)])
def test_sizes_and_range(shape: tuple[int, int]) -> None:
    for seed in range(4):
        scene = particle_movie(seed, n_frames=2, height=shape[0], width=shape[1])
        assert scene.clean.shape == (2, *shape)
        assert scene.clean.dtype == np.float32
        assert 0 <= scene.clean.min() < scene.clean.max() < 1.3
        assert scene.particles is not None
        frame, y, x, radius = scene.particles.T
        assert set(frame) <= {0, 1}
        assert ((y >= -0.5) & (y < shape[0] - 0.5) & (x >= -0.5) & (x < shape[1] - 0.5)).all()
        assert (radius * scene.pixel_size_angstrom >= 2.5).all()


def test_seeds_cover_a_range() -> None:
    scenes = [particle_movie(seed, n_frames=1, height=96, width=96) for seed in range(24)]
    drawn = {name: np.array([scene.parameters[name] for scene in scenes]) for name in scenes[0].parameters}
    assert 4 < drawn["bright_field"].sum() < 20
    assert np.ptp(np.log(drawn["pixel_size_angstrom"])) > 1
    in_view = [len(scene.particles) for scene in scenes if scene.particles is not None]
    assert len(in_view) == 24
    assert min(in_view) < 8
    assert max(in_view) > 25
    assert (drawn["drift_px_per_frame"] == 0).any()
    assert drawn["drift_px_per_frame"].max() > 0.3


def test_what_bright_field_lacks_is_in_dark_field() -> None:
    bright, dark = (small(7, bright_field=b, brightness_change=0.0).clean for b in (True, False))
    assert np.allclose(bright + dark, 1, atol=1e-5)
    assert np.ptp(bright) > 0.05


def test_drift_is_the_shift_onto_frame_0() -> None:
    settings = STILL | {"drift_px_per_frame": 1.0}
    scene = particle_movie(2, n_frames=4, height=110, width=97, n_particles=60, blur_px=1.2, **settings)
    fy, fx = (np.fft.fftfreq(n) for n in scene.clean.shape[1:])
    inside = (slice(20, -20), slice(20, -20))
    assert np.abs(scene.drift_px[1:]).max() > 0.5
    for frame, (dy, dx) in zip(scene.clean[1:], scene.drift_px[1:], strict=True):
        ramp = np.exp(-2j * np.pi * (fy[:, None] * dy + fx[None, :] * dx))
        aligned = np.fft.ifft2(np.fft.fft2(frame) * ramp).real
        assert np.std((aligned - scene.clean[0])[inside]) < 0.1 * np.std((frame - scene.clean[0])[inside])


def test_nothing_changes_when_nothing_moves() -> None:
    bare = small(1, n_particles=0, **STILL)
    assert np.abs(bare.clean - bare.clean[0]).max() < 1e-6
    # Particles turn and round off where they are.
    scene = small(1, **STILL)
    assert 0 < np.abs(scene.clean - scene.clean[0]).max() < 0.05 * np.ptp(scene.clean)


def test_truth_marks_what_is_bright() -> None:
    scene = particle_movie(
        11,
        n_frames=8,
        bright_field=False,
        n_particles=25,
        pixel_size_angstrom=3.0,
        blur_px=0.6,
        carbon_path_angstrom=5e4,
    )
    assert scene.particles is not None
    y_grid, x_grid = np.mgrid[:128, :128]
    clear = []
    for frame in range(8):
        here = scene.particles[scene.particles[:, 0] == frame]
        for _, y, x, radius in here:
            away = np.hypot(y_grid - y, x_grid - x)
            others = (np.hypot(here[:, 1] - y, here[:, 2] - x) < 3 * radius + 10).sum() > 1
            if not others and min(y, x, 127 - y, 127 - x) > 12:
                image = scene.clean[frame]
                clear.append(
                    image[away < max(1, 0.5 * radius)].mean()
                    > 1.5 * image[(away > radius + 3) & (away < radius + 6)].mean()
                )
    assert len(clear) > 20
    assert np.mean(clear) > 0.95


@pytest.mark.parametrize("name", ["brightness_change", "focus_change", "flicker"])
def test_slow_changes_change_frames(name: str) -> None:
    n_particles = 0 if name == "brightness_change" else 20
    scene = particle_movie(3, n_frames=30, height=48, width=48, n_particles=n_particles, **{**STILL, name: 0.05})
    change = np.abs(scene.clean - scene.clean[0]).max(axis=(1, 2))
    assert change[1:].min() > 0
    assert change.max() > 1e-3
    if name == "brightness_change":
        ratio = scene.clean / scene.clean[0].clip(1e-3)
        kept = scene.clean[0] > 1e-2
        assert np.allclose(ratio[:, kept].std(axis=1), 0, atol=1e-4)
        assert np.abs(np.diff(ratio[:, kept].mean(axis=1))).max() < 0.03


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pixel_size_angstrom": 0.1}, "0.5"),
        ({"n_particles": -1}, "n_particles"),
        ({"radius_angstrom": 1.0}, "radius_angstrom"),
        ({"drift_px_per_frame": -1.0}, "drift"),
        ({"blur_px": float("nan")}, "blur_px"),
        ({"n_frames": 0}, "frames"),
        ({"scan_y": 4}, "unknown settings"),
    ],
)
def test_settings_out_of_range_say_so(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(LowdoseError, match=words):
        simulate("particles", "counting", 0, **arguments)


# --- parts


@pytest.mark.parametrize("radius", [3.0, 7.7, 20.0])
@pytest.mark.parametrize("stretch", [0.0, 0.4, -0.3])
def test_projected_thickness_holds_the_volume(radius: float, stretch: float) -> None:
    grid = grid_around(30, 41, 2.5, 2.5, 40.0)
    paths = np.zeros(grid.shape)
    add_metal(paths, grid, some([radius], [[3.3, -8.1]], stretch=stretch, angle=0.7), 0.0, 10.0)
    volume = paths.sum() * 10.0 * 2.5**2
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    assert paths.max() * 10.0 <= 2 * radius * np.exp(-stretch / 2) * (1 + 1e-9)
    y, x = (np.arange(n) - n // 2 for n in grid.shape)
    assert (paths.sum(axis=1) @ y / paths.sum()) * 2.5 == pytest.approx(3.3, abs=0.1)
    assert (paths.sum(axis=0) @ x / paths.sum()) * 2.5 == pytest.approx(-8.1, abs=0.1)


def test_stretched_particles_lie_along_their_angle() -> None:
    grid = grid_around(41, 41, 2.0, 2.0, 10.0)
    paths = np.zeros(grid.shape)
    add_metal(paths, grid, some([15.0], [[0.0, 0.0]], stretch=0.5, angle=np.pi / 2), 0.0, 10.0)
    tall, wide = (paths.max(axis=axis) > 0 for axis in (1, 0))
    assert tall.sum() * 2.0 == pytest.approx(2 * 15 * np.exp(0.5), abs=4)
    assert wide.sum() * 2.0 == pytest.approx(2 * 15 * np.exp(-0.25), abs=4)


def test_particles_that_touch_become_one() -> None:
    pair = some([10.0, 6.0, 8.0], [[0.0, 0.0], [0.0, 12.0], [40.0, 0.0]])
    left = coalesced(pair.copy())
    assert len(left) == 2
    merged = left[np.argmax(left["volume"])]
    assert merged["volume"] == pytest.approx(volumes(np.array([10.0, 6.0])).sum())
    assert merged["yx"] == pytest.approx([0.0, 12.0 * 216 / 1216])
    assert np.cbrt(1216) * np.exp(merged["stretch"]) == pytest.approx((12 + 10 + 6) / 2)
    assert np.cos(merged["angle"]) == pytest.approx(1)
    pair["upper"] = [True, False, True]
    assert len(coalesced(pair)) == 3  # one above and one below the support only overlap in projection


def test_many_that_touch_become_one() -> None:
    row = some([5.0] * 6, [[0.0, 3.0 * k] for k in range(6)])
    left = coalesced(row)
    assert len(left) == 1
    assert left["volume"][0] == pytest.approx(6 * 4 / 3 * np.pi * 125)
    assert left["yx"][0] == pytest.approx([0.0, 7.5])


def test_large_particles_grow_by_what_small_ones_lose() -> None:
    start = some([6.0, 9.0, 15.0], [[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    grown = ripened(start.copy(), 0.02)
    assert grown["volume"].sum() == pytest.approx(start["volume"].sum())
    change = grown["volume"] - start["volume"]
    assert change[0] < change[1] < 0 < change[2]
    path = sintering_path(np.random.default_rng(0), start, 80, np.array([400.0, 400.0]), 0.0, 0.02)
    numbers = [len(particles) for particles in path]
    assert all(after <= before for before, after in pairwise(numbers))
    assert numbers[-1] < 3
    assert radii(path[-1]).max() > 15


def test_steps_have_the_given_spread_and_smaller_particles_are_faster() -> None:
    rng = np.random.default_rng(1)
    start = some([5.0] * 4000 + [15.0] * 4000, rng.uniform(-50, 50, (8000, 2)).tolist())
    moved = start.copy()
    diffuse(rng, moved, np.array([1e6, 1e6]), 0.5)
    step = moved["yx"] - start["yx"]
    usual = np.median(np.abs(step[:4000])), np.median(np.abs(step[4000:]))
    # The mean radius is 10, and the median of |x| is 0.674 standard deviations.
    assert usual[0] == pytest.approx(0.5 * 2 * 0.674, rel=0.06)
    assert usual[1] == pytest.approx(0.5 * 2 / 3 * 0.674, rel=0.06)


def test_path_starts_as_given_and_no_particles_are_no_problem() -> None:
    start = some([6.0], [[1.0, 2.0]])
    path = sintering_path(np.random.default_rng(0), start, 3, np.array([50.0, 50.0]), 1.0, 0.1)
    assert np.array_equal(path[0], start)
    assert [len(p) for p in sintering_path(np.random.default_rng(0), start[:0], 3, np.ones(2), 1.0, 0.1)] == [0, 0, 0]
    scene = small(0, n_particles=0)
    assert scene.particles is not None
    assert len(scene.particles) == 0


def test_carbon_spheres_have_their_thickness() -> None:
    grid = grid_around(64, 64, 4.0, 4.0, 10.0)
    bare = [carbon_thickness(np.random.default_rng(seed), grid, 0.0, 100.0, 0.5) for seed in range(6)]
    film = [carbon_thickness(np.random.default_rng(seed), grid, 50.0, 100.0, 0.0) for seed in range(6)]
    assert all(t.min() == 0 for t in bare)
    assert all(0 < t.min() < 60 for t in film)
    assert all(t[: grid.height, : grid.width].max() > 100 for t in film)  # one sphere reaches into the frame


def test_noises_have_unit_spread_and_their_width() -> None:
    grid = grid_around(300, 310, 2.0, 2.0, 0.0)
    noise = grain(np.random.default_rng(0), grid, 12.0)
    assert noise.mean() == pytest.approx(0, abs=1e-9)
    assert noise.std() == pytest.approx(1)
    next_to = (noise * np.roll(noise, 1, axis=0)).mean()
    far = (noise * np.roll(noise, 30, axis=0)).mean()
    assert abs(far) < 0.1 < 0.9 < next_to
    path = wander(np.random.default_rng(0), 40000, 20.0)
    assert path.std() == pytest.approx(1, rel=0.1)
    assert np.abs(np.diff(path)).max() < 0.6
    assert abs((path[100:] * path[:-100]).mean()) < 0.15
    assert wander(np.random.default_rng(0), 1, 20.0).shape == (1,)


# --- noise and command line


def test_counts_have_the_variance_of_poisson_and_gaussian_noise() -> None:
    movie = simulate("particles", "poisson-gaussian", 6, n_frames=6, height=64, width=64)
    error = movie.noisy - movie.clean.astype(np.float64)
    electrons = (movie.clean.astype(np.float64) - 1000) / 40
    expected = 40**2 * (electrons + electrons.mean() * 0.3 / 0.7) + 1 / 12
    assert (error**2 / expected).mean() == pytest.approx(1, abs=0.05)
    assert (error / np.sqrt(expected)).mean() == pytest.approx(0, abs=4.5 / np.sqrt(error.size))


def test_command_writes_a_table_of_the_particles(tmp_path: Path) -> None:
    out = tmp_path / "p.tif"
    size = ["--size", "33x47", "--frames", "3", "--seed", "5", "--detector", "poisson-gaussian"]
    result = CliRunner().invoke(lowdose, ["simulate", "particles", "-o", str(out), *size])
    assert result.exit_code == 0, result.output
    movie = simulate("particles", "poisson-gaussian", 5, n_frames=3, height=33, width=47)
    assert movie.particles is not None
    assert np.array_equal(tifffile.imread(out), movie.noisy)
    table = np.genfromtxt(tmp_path / "p_particles.csv", delimiter=",", names=True)
    assert table.dtype.names == ("frame", "y_px", "x_px", "radius_px")
    assert np.allclose(table["y_px"], movie.particles[:, 1], atol=1e-4)
    assert len(list(tmp_path.iterdir())) == 4
    refused = CliRunner().invoke(lowdose, ["simulate", "particles", "-o", str(out), *size])
    assert isinstance(refused.exception, LowdoseError)
