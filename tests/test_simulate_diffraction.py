"""Diffraction scans: electrons per pattern, disks where the lattice puts them, descan, rings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from lowdose.cli.main import lowdose
from lowdose.errors import LowdoseError
from lowdose.simulate import Scene, diffraction_scan, simulate
from lowdose.simulate.diffraction import Disks
from lowdose.simulate.film import Spots, draw_grain, draw_lattice, grain_map, smooth_field
from lowdose.simulate.wave import wavelength_angstrom

ONLY_BEAM = {"bragg_share": 0.0, "amorphous_share": 0.0, "diffuse_share": 0.0}


def small(seed: int, **settings: object) -> Scene:
    return diffraction_scan(seed, **{"scan_y": 3, "scan_x": 4, "height": 48, "width": 61, **settings})  # type: ignore[arg-type]


def test_same_seed_same_bits_other_seed_other_specimen() -> None:
    first, again, other = (small(seed) for seed in (4, 4, 5))
    assert np.array_equal(first.clean, again.clean)
    assert np.array_equal(first.drift_px, again.drift_px)
    assert first.parameters == again.parameters != other.parameters
    assert not np.array_equal(first.clean, other.clean)


def test_parameters_make_the_same_scan_again() -> None:
    movie = simulate("diffraction", "counting", 3, scan_y=2, scan_x=3, height=32, width=40, n_grains=2)
    again = simulate(**json.loads(json.dumps(movie.parameters)))
    assert np.array_equal(movie.noisy, again.noisy)
    assert np.array_equal(movie.clean, again.clean)


@pytest.mark.parametrize("scan", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (67, 40)])
def test_sizes_and_electrons_per_pattern(scan: tuple[int, int], shape: tuple[int, int]) -> None:
    for seed in range(3):
        scene = diffraction_scan(seed, scan_y=scan[0], scan_x=scan[1], height=shape[0], width=shape[1])
        assert scene.clean.shape == (*scan, *shape)
        assert scene.clean.dtype == np.float32
        assert scene.drift_px.shape == (*scan, 2)
        assert scene.clean.min() >= 0
        totals = scene.clean.sum(axis=(2, 3), dtype=np.float64)
        assert totals.mean() == pytest.approx(1, abs=1e-6)
        assert 0.6 < totals.min() <= totals.max() < 1.5


def test_counted_electrons_per_pattern() -> None:
    movie = simulate("diffraction", "counting", 9, scan_y=6, scan_x=7, height=48, width=48, dose_per_pixel=2200.0)
    counts = movie.noisy.sum(axis=(2, 3), dtype=np.int64)
    expected = movie.clean.sum(axis=(2, 3), dtype=np.float64)
    assert counts.mean() == pytest.approx(2200, abs=4.5 * np.sqrt(2200 / 42))
    assert (((counts - expected) ** 2) / expected).mean() == pytest.approx(1, abs=4.5 * np.sqrt(2 / 42))
    mean = movie.clean.astype(np.float64)
    excess = ((movie.noisy - mean) ** 2 - mean).sum()
    assert abs(excess) < 4.5 * np.sqrt((2 * mean**2 + mean).sum())


def test_seeds_cover_a_range() -> None:
    drawn = [diffraction_scan(seed, scan_y=1, scan_x=1, height=32, width=32).parameters for seed in range(24)]
    radius = np.array([p["semi_angle_mrad"] / p["pixel_size_mrad"] for p in drawn]) * 4
    assert radius.min() < 2.5
    assert radius.max() > 5
    assert 4 < sum(p["molecular"] for p in drawn) < 20
    assert len({p["n_grains"] for p in drawn}) > 4


def test_direct_beam_is_a_disk_that_follows_the_descan() -> None:
    scene = small(1, **ONLY_BEAM, pixel_size_mrad=0.5, semi_angle_mrad=2.6, descan_px=1.5)
    y, x = np.arange(48), np.arange(61)
    for pattern, shift in zip(scene.clean.reshape(-1, 48, 61), scene.drift_px.reshape(-1, 2), strict=True):
        total = pattern.sum()
        assert pattern.sum(axis=1) @ y / total + shift[0] == pytest.approx(24, abs=0.02)
        assert pattern.sum(axis=0) @ x / total + shift[1] == pytest.approx(30, abs=0.02)
        assert (pattern > 0.5 * pattern.max()).sum() == pytest.approx(np.pi * 5.2**2, rel=0.06)
        assert pattern[pattern > 0].size < 1.5 * np.pi * 5.2**2
    assert np.ptp(scene.drift_px.reshape(-1, 2), axis=0).min() > 0.3
    still = small(1, **ONLY_BEAM, descan_px=0.0)
    assert np.ptp(still.drift_px.reshape(-1, 2), axis=0).max() == 0


@pytest.mark.parametrize("molecular", [True, False])
def test_bragg_disks_hold_their_share_and_the_beam_loses_it(molecular: bool) -> None:
    settings = {"molecular": molecular, "descan_px": 0.0, "amorphous_share": 0.0, "diffuse_share": 0.0}
    shares = []
    for seed in range(6):
        scene = small(seed, **settings, bragg_share=0.4, height=96, width=96, scan_y=5, scan_x=5)
        p = scene.parameters
        middle = 48 - scene.drift_px[0, 0]
        y, x = (np.arange(96) - c for c in middle)
        beam = np.hypot(y[:, None], x[None, :]) < p["semi_angle_mrad"] / p["pixel_size_mrad"] + 1
        shares.append(1 - scene.clean[..., beam].sum() / scene.clean.sum())
    assert np.mean(shares) == pytest.approx(0.4, abs=0.08)
    assert np.ptp(shares) < 0.35


def test_diffuse_tail_and_rings_surround_the_beam() -> None:
    beam = small(2, **ONLY_BEAM, descan_px=0.0)
    tail = small(2, **{**ONLY_BEAM, "diffuse_share": 0.2}, descan_px=0.0)
    rings = small(2, **{**ONLY_BEAM, "amorphous_share": 0.2}, descan_px=0.0)
    outside = beam.clean[0, 0] == 0
    share = [scene.clean[0, 0][outside].sum() / scene.clean[0, 0].sum() for scene in (beam, tail, rings)]
    assert share[0] == 0
    assert 0.02 < share[1] < 0.2
    assert 0.05 < share[2] < 0.32
    # A ring has no direction.
    y, x = (np.arange(n) - c for n, c in zip((48, 61), np.array([24, 30]) - rings.drift_px[0, 0], strict=True))
    away = np.hypot(y[:, None], x[None, :])
    at = (away > 12.5) & (away < 13.5)
    assert rings.clean[0, 0][at].std() < 0.15 * rings.clean[0, 0][at].mean()


def test_intensity_varies_inside_disks_of_a_thick_film() -> None:
    settings = ONLY_BEAM | {"bragg_share": 0.4, "descan_px": 0.0, "bending_mrad": 0.0, "n_grains": 1}
    scene = small(3, **settings, thickness_angstrom=1500.0, pixel_size_mrad=0.8, semi_angle_mrad=4.0)
    pattern = scene.clean[0, 0] / scene.clean[0, 0].max()
    inner = np.hypot(*(np.mgrid[:48, :61] - (np.array([24, 30]) - scene.drift_px[0, 0])[:, None, None])) < 4
    assert np.ptp(pattern[inner]) > 0.05  # lines that the direct beam lacks


def test_intensity_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    spots = Spots(rng.normal(0, 0.3, (4, 2)), rng.normal(0, 0.01, 4), rng.random(4), rng.uniform(100, 500, 4))
    y, x = rng.normal(0, 0.01, (4, 3)), rng.normal(0, 0.01, (4, 5))
    got = spots.intensity(y, x)
    for n in range(4):
        for i in range(3):
            for j in range(5):
                s = spots.excitation[n] + spots.across[n, 0] * y[n, i] + spots.across[n, 1] * x[n, j]
                phase = np.pi * s * spots.thickness_angstrom[n]
                assert got[n, i, j] == pytest.approx(spots.strength[n] * (np.sin(phase) / phase) ** 2)


@pytest.mark.parametrize("molecular", [True, False])
def test_reflections_are_those_of_the_cell(molecular: bool) -> None:
    for seed in range(8):
        cell, lattice = draw_lattice(np.random.default_rng(seed), molecular, 0.8)
        hkl = lattice.vectors @ cell.T
        assert np.allclose(hkl, np.rint(hkl), atol=1e-9)
        g = np.linalg.norm(lattice.vectors, axis=1)
        assert 0 < g.min() <= g.max() <= 0.8
        index = {tuple(row): s for row, s in zip(np.rint(hkl).astype(int), lattice.strength, strict=True)}
        assert all(index[(-h, -k, -m)] == s for (h, k, m), s in index.items())
        odd = [(h + k + m) % 2 for h, k, m in index]
        mixed = [len({h % 2, k % 2, m % 2}) > 1 for h, k, m in index]
        # Primitive, body-centred or face-centred.
        assert (any(odd) and any(mixed)) or not any(odd) or not any(mixed)


def test_grain_is_a_rotated_lattice_near_the_ewald_sphere() -> None:
    rng = np.random.default_rng(3)
    cell, lattice = draw_lattice(rng, False, 1.0)
    wavelength = wavelength_angstrom(200e3)
    grain = draw_grain(rng, cell, lattice, 200.0, np.zeros(2), 0.0, wavelength)
    lengths = np.linalg.norm(lattice.vectors, axis=1)
    for (y, x), excitation in zip(grain.across, grain.excitation, strict=True):
        z = excitation + wavelength * np.array([y**2 + x**2]) / 2  # but for the small part of z itself
        assert np.abs(lengths - np.sqrt(y**2 + x**2 + z**2)).min() < 1e-3
    assert np.abs(grain.excitation).max() < 8 / 200
    tilted = draw_grain(np.random.default_rng(3), cell, lattice, 200.0, np.array([0.01, 0.0]), 0.0, wavelength)
    still = draw_grain(np.random.default_rng(3), cell, lattice, 200.0, np.zeros(2), 0.0, wavelength)
    before = {tuple(np.round(g, 9)): s for g, s in zip(still.across, still.excitation, strict=True)}
    n_common = 0
    for g, excitation in zip(tilted.across, tilted.excitation, strict=True):
        if tuple(np.round(g, 9)) in before:
            assert excitation - before[tuple(np.round(g, 9))] == pytest.approx(0.01 * g[0], abs=1e-9)
            n_common += 1
    assert n_common > 10


def test_grains_share_every_position() -> None:
    share = grain_map(np.random.default_rng(0), (9, 14), 5)
    assert share.shape == (9, 14, 5)
    assert np.allclose(share.sum(axis=-1), 1)
    assert share.max(axis=(0, 1)).min() < share.max()
    assert len(set(share.argmax(axis=-1).ravel())) > 1
    assert smooth_field(np.random.default_rng(0), (1, 1)).shape == (1, 1)
    spread = [smooth_field(np.random.default_rng(seed), (20, 20)).std() for seed in range(50)]
    assert 0.5 < np.mean(spread) < 1.5


def test_disks_at_the_border_lose_what_is_outside() -> None:
    at = np.array([[10.3, 12.8], [-0.5, 7.0], [40.0, 40.0]])
    disks = Disks(at, 3.0, 4)
    frame = disks.added(np.ones_like(disks.share), (20, 25))
    assert np.allclose(disks.share.sum(axis=(1, 2)), 1)
    y, x = np.mgrid[:20, :25]
    inside = np.clip(3.5 - np.hypot(y - 10.3, x - 12.8), 0, 1)
    half = np.clip(3.5 - np.hypot(y + 0.5, x - 7.0), 0, 1)
    assert np.allclose(frame, inside / inside.sum() + half / (2 * half.sum()), atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scan_y": 0}, "scan is 0x"),
        ({"height": 8}, "16x16"),
        ({"n_grains": 0}, "n_grains"),
        ({"bragg_share": 0.95}, "bragg_share"),
        ({"semi_angle_mrad": -1.0}, "semi_angle_mrad"),
        ({"n_frames": 3}, "unknown settings"),
        ({"seed": -2}, "seed"),
    ],
)
def test_settings_out_of_range_say_so(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(LowdoseError, match=words):
        simulate(**{"specimen": "diffraction", "detector": "counting", "seed": 0, **arguments})  # type: ignore[arg-type]


def test_command_writes_a_scan(tmp_path: Path) -> None:
    out = tmp_path / "d.tif"
    options = ["--scan", "3x5", "--size", "32x40", "--seed", "2", "--dose", "500"]
    result = CliRunner().invoke(lowdose, ["simulate", "diffraction", "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    movie = simulate("diffraction", "counting", 2, scan_y=3, scan_x=5, height=32, width=40, dose_per_pixel=500.0)
    assert np.array_equal(tifffile.imread(out), movie.noisy)
    assert np.array_equal(tifffile.imread(tmp_path / "d_clean.tif"), movie.clean)
    report = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert np.array(report["drift_px"]).shape == (3, 5, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.json", "d.tif", "d_clean.tif"]
    refused = CliRunner().invoke(lowdose, ["simulate", "hrtem", "-o", str(tmp_path / "h.tif"), "--scan", "3x5"])
    assert isinstance(refused.exception, LowdoseError)
