"""Nanobeam 4D-STEM scan of a polycrystalline film, with its truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.simulate.film import Film, Floats, Spots, smooth_field
from lowdose.simulate.scene import Scene, check_ranges, checked_frame, plain
from lowdose.simulate.wave import wavelength_angstrom

# A disk smaller than a pixel still lights the nearest one.
SMALLEST_RADIUS_PX = 0.75
RANGES = {
    "energy_kev": (30, 1000),
    "pixel_size_mrad": (0.001, 10),
    "semi_angle_mrad": (0.001, 100),
    "n_grains": (1, 1000),
    "thickness_angstrom": (10, 5000),
    "tilt_mrad": (0, 200),
    "bending_mrad": (0, 200),
    "descan_px": (0, 20),
    "bragg_share": (0, 0.8),
    "amorphous_share": (0, 0.4),
    "diffuse_share": (0, 0.4),
    "step_angstrom": (0.1, 1e5),
}


def diffraction_scan(
    seed: int,
    *,
    scan_y: int = 16,
    scan_x: int = 16,
    height: int = 128,
    width: int = 128,
    molecular: bool | None = None,
    energy_kev: float | None = None,
    pixel_size_mrad: float | None = None,
    semi_angle_mrad: float | None = None,
    n_grains: int | None = None,
    thickness_angstrom: float | None = None,
    tilt_mrad: float | None = None,
    bending_mrad: float | None = None,
    descan_px: float | None = None,
    bragg_share: float | None = None,
    amorphous_share: float | None = None,
    diffuse_share: float | None = None,
    step_angstrom: float | None = None,
) -> Scene:
    """Direct beam and Bragg disks of a film of ``n_grains`` with one lattice, ``molecular`` or inorganic.

    Intensities are kinematic: a random structure factor and the shape factor of the local thickness at
    the excitation error, which varies over each disk; what the disks gain, the direct beam loses. Grains have
    rotation, tilt (about ``tilt_mrad``) and thickness of their own and overlap at their borders; the film is
    bent by about ``bending_mrad``. The pattern moves over the scan by about ``descan_px`` and is a little
    elliptical. About ``bragg_share`` of the electrons is in the disks, the given shares in the amorphous rings
    and in the diffuse tail (plasmons, phonons) around every disk. Settings that are None are drawn from the seed.

    Returns a Scene with ``clean`` (scan_y, scan_x, height, width) float32: expected electrons per pixel
    where a pattern has one on average over the scan; thick places scatter more out of view.
    Raises LowdoseError for settings out of range.
    """
    settings = checked_frame(locals())
    check_ranges(settings, RANGES)
    if min(scan_y, scan_x) < 1:
        raise LowdoseError(f"the scan is {scan_y}x{scan_x}; it needs at least 1x1 positions")
    rng = np.random.default_rng([seed, 1])
    drawn = draw(rng, min(height, width), settings)
    settings |= plain({name: value for name, value in drawn.items() if settings[name] is None})
    wavelength = wavelength_angstrom(settings["energy_kev"] * 1e3)
    corner = float(np.hypot(height, width)) / 2 * settings["pixel_size_mrad"] * 1e-3 / wavelength
    film = Film(rng, settings, wavelength, g_max=corner)
    camera = Camera(rng, settings, wavelength)
    clean = np.empty((scan_y, scan_x, height, width), np.float32)
    for y, x in np.ndindex(scan_y, scan_x):
        pattern = camera.pattern(film.spots(y, x), film.amorphous[y, x], camera.centre[y, x])
        clean[y, x] = film.passed[y, x] * pattern
    clean *= scan_y * scan_x / clean.sum(dtype=np.float64)
    middle = np.array([height // 2, width // 2])
    return Scene(clean, middle - camera.centre, settings["step_angstrom"], settings)


def draw(rng: np.random.Generator, side_px: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values for all settings; those that depend on each other follow the given ones."""

    def given(name: str, value: Any) -> Any:
        return value if settings[name] is None else settings[name]

    molecular = given("molecular", bool(rng.random() < 0.5))
    energy_kev = given("energy_kev", float(rng.choice([60, 80, 120, 200, 300])))
    # Where the pattern ends, in 1/angstrom: large cells have their reflections near the beam.
    edge = rng.uniform(0.5, 1.1) if molecular else rng.uniform(0.9, 1.9)
    wavelength = wavelength_angstrom(energy_kev * 1e3)
    # The radius of a disk in units of the distance to the next one: nanobeams keep them apart.
    radius = rng.uniform(0.12, 0.65)
    return {
        "molecular": molecular,
        "energy_kev": energy_kev,
        "pixel_size_mrad": 2e3 * edge * wavelength / side_px,
        "semi_angle_mrad": 1e3 * radius * wavelength / (10.0 if molecular else 4.0),
        "n_grains": int(rng.integers(1, 9)),
        "thickness_angstrom": rng.uniform(100, 700),
        "tilt_mrad": rng.uniform(2, 20),
        "bending_mrad": rng.uniform(0, 8),
        "descan_px": rng.uniform(0, 1.5) * side_px / 128,
        "bragg_share": rng.uniform(0.1, 0.6),
        "amorphous_share": rng.choice([0.0, rng.uniform(0, 0.15)]),
        "diffuse_share": rng.uniform(0.02, 0.25),
        "step_angstrom": rng.uniform(10, 200),
    }


class Camera:
    """From the reflections at a position of the scan to its diffraction pattern."""

    def __init__(self, rng: np.random.Generator, settings: Mapping[str, Any], wavelength: float) -> None:
        self._shape = settings["height"], settings["width"]
        shape = settings["scan_y"], settings["scan_x"]
        self._radian_per_px = 1e-3 * settings["pixel_size_mrad"]
        self._radius_px = max(SMALLEST_RADIUS_PX, settings["semi_angle_mrad"] / settings["pixel_size_mrad"])
        self._diffuse = settings["diffuse_share"]
        angle, ellipticity = rng.uniform(0, np.pi), rng.uniform(0, 0.015)
        axis = np.array([np.sin(angle), np.cos(angle)])
        stretch = np.eye(2) + ellipticity * (2 * np.outer(axis, axis) - np.eye(2))
        self._px_per_g = stretch * wavelength / self._radian_per_px
        side_px = min(self._shape)
        moved = settings["descan_px"] * np.stack([smooth_field(rng, shape) for _ in range(2)], axis=-1)
        self.centre = np.array(self._shape) // 2 + side_px / 128 * rng.uniform(-2, 2, 2) + moved
        """Where the direct beam falls (scan_y, scan_x, 2), in pixels."""

        y, x = (np.fft.fftfreq(n, 1 / n) for n in self._shape)
        away = np.hypot(y[:, None], x[None, :])
        width_px = side_px / 128 * rng.uniform(1.0, 4.0)
        tail = (away < side_px / 2) / (away**2 + width_px**2)
        self._tail = np.fft.rfft2(tail / tail.sum())
        # First and second ring of an amorphous film, with the broad foot that they stand on.
        first = rng.uniform(0.2, 0.5) * float(self._px_per_g[0, 0])
        self._rings = [
            (rng.uniform(0.5, 1.0), first, rng.uniform(0.1, 0.25) * first),
            (rng.uniform(0.1, 0.4), rng.uniform(1.6, 1.9) * first, rng.uniform(0.15, 0.3) * first),
            (rng.uniform(0.1, 0.6), 0.0, rng.uniform(0.8, 1.5) * first),
        ]

    def pattern(self, spots: Spots, amorphous: float, centre: Floats) -> Floats:
        """Electrons per pixel (height, width) for one electron, some of which may miss the detector."""
        at = centre + spots.across @ self._px_per_g.T  # (n, 2)
        reach = int(np.ceil(self._radius_px)) + 1
        disk = Disks(np.concatenate([centre[None], at]), self._radius_px, reach)
        tilt_y, tilt_x = disk.y * self._radian_per_px, disk.x * self._radian_per_px  # (1 + n, side)
        scattered = spots.intensity(tilt_y[1:], tilt_x[1:])
        direct = spots.intensity(tilt_y[:1], tilt_x[:1]).sum(axis=0, keepdims=True)
        # Together they are one beam: strong reflections take from the direct one and from each other.
        total = 1 + direct.mean(where=disk.share[:1] > 0)
        intensity = np.concatenate([1 / (1 + direct), scattered / total])
        sharp = disk.added(intensity, self._shape)
        spread = np.fft.irfft2(np.fft.rfft2(sharp) * self._tail, self._shape)
        crystal = (1 - self._diffuse) * sharp + self._diffuse * np.maximum(spread, 0)
        pattern: Floats = (1 - amorphous) * crystal + amorphous * self._amorphous(centre)
        return pattern

    def _amorphous(self, centre: Floats) -> Floats:
        y, x = (np.arange(n) - c for n, c in zip(self._shape, centre, strict=True))
        away = np.hypot(y[:, None], x[None, :])
        rings = np.zeros(self._shape)
        for high, at, width in self._rings:
            rings += high * np.exp(-0.5 * ((away - at) / width) ** 2)
        return np.asarray(rings / rings.sum())


class Disks:
    """Disks of one radius around the positions ``at`` (n, 2), each in a small box of pixels.

    ``y`` and ``x`` (n, side) are the distances of the box's pixels from the centre; ``share`` (n, side, side) is each
    pixel's part of the disk, 1 in sum.
    """

    def __init__(self, at: Floats, radius_px: float, reach: int) -> None:
        box = np.arange(-reach, reach + 1)
        self._first = np.rint(at).astype(int)
        rows = self._first[:, :, None] + box  # (n, 2, side)
        self.y, self.x = rows[:, 0] - at[:, :1], rows[:, 1] - at[:, 1:]
        self._rows = rows
        away = np.sqrt(self.y[:, :, None] ** 2 + self.x[:, None, :] ** 2)
        covered = np.clip(radius_px + 0.5 - away, 0, 1)  # the edge falls within one pixel
        self.share = covered / covered.sum(axis=(1, 2), keepdims=True)

    def added(self, intensity: Floats, shape: tuple[int, int]) -> NDArray[np.float64]:
        """All disks with ``intensity`` (n, side, side) in one frame of ``shape``; what falls outside is lost."""
        rows, columns = self._rows[:, 0, :, None], self._rows[:, 1, None, :]
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        flat = (rows * shape[1] + columns)[inside]
        frame = np.bincount(flat, (self.share * intensity)[inside], shape[0] * shape[1])
        return np.asarray(frame.reshape(shape))
