"""HAADF images: crystals with the right columns, the right brightness, and the noise that was asked for."""

import numpy as np
import pytest

from lowdose.errors import LowdoseError
from lowdose.simulate.haadf import cross_section, haadf_movie, scanned
from lowdose.simulate.lattices import MATERIALS, atom_columns

SHAPES = [(16, 16), (17, 31), (101, 67)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(8))
def test_images_are_fractions_of_the_beam(shape, seed):
    scene = haadf_movie(seed, height=shape[0], width=shape[1])
    assert scene.clean.shape == (1, *shape)
    assert scene.clean.dtype == np.float32
    assert scene.clean.min() >= 0
    assert 1e-4 < scene.clean.max() < 1


def test_same_seed_same_bits_other_seed_other_specimen():
    first, again, other = (haadf_movie(seed, height=64, width=48) for seed in (4, 4, 5))
    assert np.array_equal(first.clean, again.clean)
    assert first.parameters == again.parameters
    assert first.parameters["source_angstrom"] != other.parameters["source_angstrom"]


def test_a_drifting_movie_shows_the_same_crystal():
    scene = haadf_movie(2, n_frames=3, height=96, width=80, drift_px_per_frame=3.0, defects=False)
    whole = np.rint(scene.drift_px[2]).astype(int)
    moved = np.roll(scene.clean[2], whole, (0, 1))[12:-12, 12:-12]
    still = scene.clean[0][12:-12, 12:-12]
    assert np.corrcoef(moved.ravel(), still.ravel())[0, 1] > 0.97
    assert np.corrcoef(scene.clean[2][12:-12, 12:-12].ravel(), still.ravel())[0, 1] < 0.9


@pytest.mark.parametrize("name", list(MATERIALS))
def test_columns_hold_as_many_atoms_as_the_cell_says(name):
    material = MATERIALS[name]
    cell = abs(np.linalg.det(material.cell))
    for zone in material.zones:
        yx, number, per_angstrom = atom_columns(material, zone, 40.0)
        for kind, sites in material.atoms:
            density = per_angstrom[number == kind].sum() / (np.pi * 40.0**2)  # atoms per cubic angstrom
            assert density == pytest.approx(len(sites) / cell, rel=0.04)  # the rim cuts cells
        assert np.hypot(*yx.T).max() <= 40


def nearest_pair(name, zone):
    yx, _, _ = atom_columns(MATERIALS[name], zone, 12.0)
    distance = np.linalg.norm(yx[:, None] - yx[None], axis=2)
    return distance[distance > 0.05].min()  # sites of one column lie on each other


@pytest.mark.parametrize(
    ("name", "zone", "wanted"),
    [
        ("Au", (1, 0, 0), 4.078 / 2),
        ("Au", (1, 1, 0), 4.078 * np.sqrt(3 / 8)),
        ("Fe", (1, 0, 0), 2.866 / np.sqrt(2)),
        ("Ge", (1, 1, 0), 5.658 / 4),  # the dumbbell
        ("BaTiO3", (1, 0, 0), 4.005 / 2),  # metal and oxygen
        ("Co", (0, 0, 1), 2.507 / np.sqrt(3)),
    ],
)
def test_neighbouring_columns_are_as_far_apart_as_in_the_crystal(name, zone, wanted):
    assert nearest_pair(name, zone) == pytest.approx(wanted, rel=1e-6)


def test_brightness_follows_the_atomic_number():
    light, heavy = cross_section(np.array([14.0, 79.0]))
    assert np.log(heavy / light) / np.log(79 / 14) == pytest.approx(1.85, abs=0.15)
    assert light == pytest.approx(7e-4, rel=0.3)  # Rutherford, 70 to 160 mrad at 200 kV


def test_the_noise_is_that_of_the_dose_and_the_detector():
    clean = np.full((1, 300, 300), 0.02)
    noisy = scanned(clean, np.random.default_rng(0), dose_per_area=1000.0, pixel_size_angstrom=0.2)
    electrons = 0.02 * 1000 * 0.04
    assert noisy.dtype == np.float32
    assert noisy.mean(dtype=float) == pytest.approx(0.02, rel=0.02)
    assert noisy.var(dtype=float) == pytest.approx(0.02**2 * (1 / electrons + 0.05**2), rel=0.03)


@pytest.mark.parametrize(
    "settings",
    [{"material": "Xx"}, {"thickness_angstrom": 0.0}, {"source_angstrom": -1.0}, {"height": 3}, {"n_frames": 0}],
)
def test_impossible_scenes_are_refused(settings):
    with pytest.raises(LowdoseError):
        haadf_movie(0, **settings)


def test_a_dose_must_be_positive():
    with pytest.raises(LowdoseError, match="positive"):
        scanned(np.ones((4, 4)), np.random.default_rng(0), dose_per_area=0.0, pixel_size_angstrom=0.2)
