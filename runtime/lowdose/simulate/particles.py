"""Movie of metal nanoparticles on a carbon support in mass-thickness contrast, with its truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate.carbon import Floats, carbon_thickness, positions
from lowdose.simulate.dynamics import drift_path, wander
from lowdose.simulate.grid import Grid, grid_around
from lowdose.simulate.scene import Scene, check_ranges, checked, plain
from lowdose.simulate.sintering import PARTICLE, Particles, radii, sintering_path, volumes

PIXEL_SIZES_ANGSTROM = (0.5, 20.0)
RADII_ANGSTROM = (3.5, 30.0)
# Particles whose centre is this far outside still reach into the frame.
GUARD_ANGSTROM = 40.0
# The projected thickness of a small particle changes within a pixel, so it is averaged over this many squared.
SUBPIXELS = 3
SLOW_FRAMES = 20.0
RANGES = {
    "n_particles": (0, 500),
    "radius_angstrom": RADII_ANGSTROM,
    "diffusion_px_per_frame": (0, 10),
    "ripening_rate": (0, 0.5),
    "film_angstrom": (0, 2000),
    "sphere_angstrom": (20, 2000),
    "carbon_path_angstrom": (100, 1e5),
    "metal_path_angstrom": (10, 1e5),
    "blur_px": (0, 10),
    "focus_change": (0, 0.5),
    "brightness_change": (0, 0.2),
    "flicker": (0, 0.5),
}


def particle_movie(
    seed: int,
    *,
    n_frames: int = 64,
    height: int = 128,
    width: int = 128,
    pixel_size_angstrom: float | None = None,
    bright_field: bool | None = None,
    n_particles: int | None = None,
    radius_angstrom: float | None = None,
    drift_px_per_frame: float | None = None,
    diffusion_px_per_frame: float | None = None,
    ripening_rate: float | None = None,
    film_angstrom: float | None = None,
    sphere_angstrom: float | None = None,
    carbon_path_angstrom: float | None = None,
    metal_path_angstrom: float | None = None,
    blur_px: float | None = None,
    focus_change: float | None = None,
    brightness_change: float | None = None,
    flicker: float | None = None,
) -> Scene:
    """About ``n_particles`` in view, of median radius ``radius_angstrom``, on carbon spheres and a film.

    The particles diffuse, ripen and coalesce (see ``sintering``) and drift with the support. With the mean free
    paths of carbon and metal, the share exp(-sum of thickness / path) of the beam passes: that is
    the image in bright field; the rest is the image in dark field, where vacuum is 0. Scattering
    varies by ``flicker`` as crystals turn. Blur (standard deviation) and brightness wander slowly by the
    relative ``focus_change`` and ``brightness_change``. Fresnel fringes are not simulated. Settings that are None are
    drawn from the seed.

    Returns a Scene with ``clean`` (n_frames, height, width) float32 and ``particles``.
    Raises LowdoseError for settings out of range.
    """
    settings = checked(locals(), PIXEL_SIZES_ANGSTROM)
    check_ranges(settings, RANGES)
    rng = np.random.default_rng([seed, 1])
    drawn = draw(rng)
    settings |= plain({name: value for name, value in drawn.items() if settings[name] is None})
    pixel, radius = settings["pixel_size_angstrom"], settings["radius_angstrom"]
    frame_angstrom2 = height * width * pixel**2
    # Where there is no room for many there are a few: most would merge at once.
    room = 0.15 * frame_angstrom2 / (np.pi * radius**2)
    wanted = int(np.clip(np.exp(rng.uniform(np.log(5), np.log(60))), 3, max(3.0, room)))
    if settings["n_particles"] is None:
        settings["n_particles"] = wanted

    position = drift_path(rng, n_frames, settings["drift_px_per_frame"]) * pixel
    margin = GUARD_ANGSTROM + float(np.abs(position).max())
    grid = grid_around(height, width, pixel, pixel, margin)
    carbon = carbon_thickness(
        rng, grid, settings["film_angstrom"], settings["sphere_angstrom"], coverage=rng.uniform(0.3, 1.2)
    )
    n_field = int(rng.poisson(settings["n_particles"] * np.prod(grid.sides_angstrom) / frame_angstrom2))
    start = scattered(rng, grid, carbon, max(1, n_field) if settings["n_particles"] else 0, radius)
    path = sintering_path(
        rng,
        start,
        n_frames,
        grid.sides_angstrom,
        settings["diffusion_px_per_frame"] * pixel,
        settings["ripening_rate"],
    )
    clean = imaged(rng, grid, carbon, path, position, settings)
    return Scene(clean, 0 - position / pixel, pixel, settings, in_view(grid, path, position))


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Values for all settings but the number of particles."""
    metal_path = rng.uniform(80, 300)
    return {
        "pixel_size_angstrom": float(np.exp(rng.uniform(np.log(1.5), np.log(6)))),
        "bright_field": bool(rng.random() < 0.5),
        "radius_angstrom": rng.uniform(5, 12),
        "drift_px_per_frame": rng.choice([0.0, rng.uniform(0, 0.2), rng.uniform(0.1, 0.8)]),
        "diffusion_px_per_frame": rng.choice([rng.uniform(0, 0.1), rng.uniform(0.05, 0.6)]),
        "ripening_rate": rng.choice([0.0, rng.uniform(0, 0.03)]),
        "film_angstrom": rng.choice([0.0, rng.uniform(20, 300)]),
        "sphere_angstrom": rng.uniform(80, 300),
        "carbon_path_angstrom": metal_path * rng.uniform(7, 20),
        "metal_path_angstrom": metal_path,
        "blur_px": rng.uniform(0.5, 1.4),
        "focus_change": rng.uniform(0, 0.25),
        "brightness_change": rng.choice([0.0, rng.uniform(0, 0.05)]),
        "flicker": rng.choice([0.0, rng.uniform(0, 0.2)]),
    }


def scattered(rng: np.random.Generator, grid: Grid, carbon: Floats, n: int, radius_angstrom: float) -> Particles:
    """``n`` particles on the carbon, lognormal in radius; those that would overlap another are left out."""
    particles = np.zeros(n, PARTICLE)
    low, high = RADII_ANGSTROM
    radius = np.clip(radius_angstrom * np.exp(rng.uniform(0.2, 0.45) * rng.standard_normal(n)), low, high)
    # A pixel is as likely a place as another where there is carbon of 2 nm or more.
    likely = np.cumsum(np.minimum(carbon, 20).ravel())
    places = np.searchsorted(likely, rng.uniform(0, likely[-1], n), "right")
    y, x = positions(grid)
    rows, columns = np.unravel_index(places, carbon.shape)
    yx = np.stack([y[rows], x[columns]], axis=1) + rng.uniform(-0.5, 0.5, (n, 2)) * grid.coarse_angstrom
    particles["yx"] = yx
    particles["volume"] = volumes(radius)
    particles["rest"] = 0.08 * rng.standard_normal(n)
    particles["stretch"] = particles["rest"] + 0.3 * (rng.random(n) < 0.2) * rng.random(n)
    particles["angle"] = rng.uniform(0, np.pi, n)
    particles["mobility"] = np.where(rng.random(n) < 0.3, 0.1, np.exp(0.5 * rng.standard_normal(n)))
    particles["upper"] = rng.random(n) < 0.5
    particles["tone"] = rng.standard_normal(n)
    kept: list[int] = []
    for new in range(n):
        apart = np.linalg.norm(yx[kept] - yx[new], axis=1)
        near = (apart < radius[kept] + radius[new]) & (particles["upper"][kept] == particles["upper"][new])
        if not near.any():
            kept.append(new)
    return particles[kept]


def imaged(
    rng: np.random.Generator,
    grid: Grid,
    carbon: Floats,
    path: list[Particles],
    position: Floats,
    settings: dict[str, Any],
) -> NDArray[np.float32]:
    """The movie (n_frames, height, width) of the particles on the carbon, both moved by ``position`` (n_frames, 2)."""
    n_frames = len(path)
    blur = settings["blur_px"] * np.exp(settings["focus_change"] * wander(rng, n_frames, SLOW_FRAMES))
    brightness = np.exp(settings["brightness_change"] * wander(rng, n_frames, SLOW_FRAMES))
    at_corner = np.fft.rfft2(carbon / settings["carbon_path_angstrom"]) * grid.ramp(np.zeros(2)).conj()
    g2 = grid.fy[:, None] ** 2 + grid.fx[None, :] ** 2
    clean = np.empty((n_frames, grid.height, grid.width), np.float32)
    for frame, particles in enumerate(path):
        paths = np.maximum(np.fft.irfft2(at_corner * grid.ramp(position[frame]), grid.shape), 0)
        shown = particles.copy()
        shown["yx"] += position[frame]
        add_metal(paths, grid, shown, settings["flicker"], settings["metal_path_angstrom"])
        image = np.exp(-paths) if settings["bright_field"] else -np.expm1(-paths)
        sharpness = np.exp(-2 * (np.pi * blur[frame] * grid.pixel_angstrom) ** 2 * g2)
        clean[frame] = brightness[frame] * grid.frame(np.fft.rfft2(image) * sharpness)
    return np.maximum(clean, 0)


def add_metal(paths: Floats, grid: Grid, particles: Particles, flicker: float, metal_path_angstrom: float) -> None:
    """Add each particle's thickness in mean free paths to ``paths`` (the field), in place."""
    pixel = grid.pixel_angstrom
    sub = (np.arange(SUBPIXELS) + 0.5) / SUBPIXELS - 0.5
    for one, radius in zip(particles, radii(particles), strict=True):
        long, short = radius * np.exp(one["stretch"]), radius * np.exp(-one["stretch"] / 2)
        reach = int(max(long, short) / pixel) + 2
        centre = one["yx"] / pixel + np.array(grid.shape) // 2  # in field pixels
        rows, columns = (np.arange(-reach, reach + 1) + round(float(c)) for c in centre)
        y, x = ((p[:, None] + sub).ravel() - c for p, c in zip((rows, columns), centre, strict=True))
        sin, cos = np.sin(one["angle"]), np.cos(one["angle"])
        along = (y[:, None] * sin + x[None, :] * cos) * (pixel / long)
        across = (y[:, None] * cos - x[None, :] * sin) * (pixel / short)
        thickness = 2 * short * np.sqrt(np.maximum(1 - along**2 - across**2, 0))
        side = len(rows)
        thickness = thickness.reshape(side, SUBPIXELS, side, SUBPIXELS).mean(axis=(1, 3))
        strength = max(0.2, 1 + flicker * one["tone"]) / metal_path_angstrom
        paths[np.ix_(rows % grid.shape[0], columns % grid.shape[1])] += thickness * strength


def in_view(grid: Grid, path: list[Particles], position: Floats) -> Floats:
    """Frame, y, x and radius in pixels (n, 4) of all particles with their centre in the frame."""
    rows = []
    sides = np.array([grid.height, grid.width])
    for frame, particles in enumerate(path):
        yx = (particles["yx"] + position[frame]) / grid.pixel_angstrom + sides // 2
        inside = ((yx >= -0.5) & (yx < sides - 0.5)).all(axis=1)
        yx, radius = yx[inside], radii(particles)[inside] / grid.pixel_angstrom
        rows.append(np.column_stack([np.full(len(yx), float(frame)), yx, radius]))
    return np.concatenate(rows)
