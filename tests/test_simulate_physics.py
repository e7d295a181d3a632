"""The parts of the simulator against slow references, textbook values and the look of real movies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lowdose.simulate import (
    hrtem_movie,
    stem_movie,
)
from lowdose.simulate.adatoms import graphene, hopping_path
from lowdose.simulate.crystal import fcc_particle
from lowdose.simulate.dynamics import occupancy_path
from lowdose.simulate.grid import grid_around
from lowdose.simulate.probe import ADF_MRAD, APERTURE_MRAD, BF_MRAD, adf_share, bf_loss, cross_section
from lowdose.simulate.wave import ATOMIC_NUMBERS, structure_factor, wavelength_angstrom


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
        hrtem_movie(seed, n_frames=1, height=200, width=200, pixel_size_angstrom=0.15).clean[0] for seed in range(8)
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
    for before, after in pairwise(path):
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
