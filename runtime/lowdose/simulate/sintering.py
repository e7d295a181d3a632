"""Metal particles that diffuse, ripen and coalesce on their support."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Particles = NDArray[np.void]
"""One record per particle, with the fields of ``PARTICLE``."""

PARTICLE = np.dtype(
    [
        ("yx", float, 2),  # angstrom from the centre of the frame, without drift
        ("volume", float),  # cubic angstrom
        # An ellipsoid: longer by exp(stretch) along the angle, thinner by exp(-stretch / 2) across and in depth.
        ("stretch", float),
        ("rest", float),  # the stretch that the shape relaxes to
        ("angle", float),
        ("mobility", float),
        ("upper", bool),  # which surface of the support it sits on
        ("tone", float),  # how strongly it scatters just now, in units of the flicker
    ]
)
SMALLEST_RADIUS_ANGSTROM = 2.5
# Frames in which the shape of a fresh pair rounds off.
RELAXATION_FRAMES = 8.0
# Particles keep their crystal orientation, and with it their contrast, for about so many frames.
TONE_FRAMES = 6.0


def radii(particles: Particles) -> Floats:
    """The radius of the sphere with each particle's volume, in angstrom."""
    return np.asarray(np.cbrt(particles["volume"] * 3 / (4 * np.pi)))


def volumes(radius: Floats) -> Floats:
    """The volume of spheres."""
    return np.asarray(radius**3 * (4 * np.pi / 3))


def sintering_path(
    rng: np.random.Generator,
    start: Particles,
    n_frames: int,
    sides_angstrom: Floats,
    diffusion_angstrom: float,
    ripening_rate: float,
) -> list[Particles]:
    """The particles of each frame, from ``start`` in frame 0; the field repeats every ``sides_angstrom``.

    ``diffusion_angstrom`` is the standard deviation of the step per frame and axis of a particle of mean size
    and mobility; smaller ones go faster. ``ripening_rate`` is the volume, in units of the mean one, that a
    particle of twice the mean radius gains per frame; what shrinks below 2.5 angstrom is gone. Particles
    on the same surface that touch become one, which starts elongated and rounds off.
    """
    particles = coalesced(start.copy())
    path = [particles]
    for _ in range(1, n_frames):
        particles = particles.copy()
        diffuse(rng, particles, sides_angstrom, diffusion_angstrom)
        particles = coalesced(ripened(particles, ripening_rate))
        path.append(particles)
    return path


def diffuse(rng: np.random.Generator, particles: Particles, sides_angstrom: Floats, step_angstrom: float) -> None:
    """Move, turn, round off and flicker, in place."""
    n = len(particles)
    if n == 0:
        return
    radius = radii(particles)
    step = step_angstrom * particles["mobility"] * radius.mean() / radius
    step *= np.where(rng.random(n) < 0.03, 5.0, 1.0)  # now and then one lets go
    moved = particles["yx"] + step[:, None] * rng.standard_normal((n, 2))
    particles["yx"] = (moved + sides_angstrom / 2) % sides_angstrom - sides_angstrom / 2
    particles["angle"] += 0.03 * rng.standard_normal(n)
    particles["stretch"] += (particles["rest"] - particles["stretch"]) / RELAXATION_FRAMES
    kept = np.exp(-1 / TONE_FRAMES)
    particles["tone"] = kept * particles["tone"] + np.sqrt(1 - kept**2) * rng.standard_normal(n)


def ripened(particles: Particles, rate: float) -> Particles:
    """Those that are left after one frame; the large grow by what the small lose."""
    if len(particles) == 0:
        return particles
    radius = radii(particles)
    particles["volume"] += rate * particles["volume"].mean() * (radius / radius.mean() - 1)
    return particles[particles["volume"] > volumes(np.array(SMALLEST_RADIUS_ANGSTROM))]


def coalesced(particles: Particles) -> Particles:
    """All pairs that touch made one; volume and centre of mass stay."""
    while len(particles) > 1:
        radius = radii(particles)
        apart = np.linalg.norm(particles["yx"][:, None] - particles["yx"][None], axis=2)
        meet = (apart < radius[:, None] + radius[None]) & (particles["upper"][:, None] == particles["upper"][None])
        pairs = np.argwhere(np.triu(meet, 1))
        if len(pairs) == 0:
            break
        a, b = pairs[0]
        along = particles["yx"][b] - particles["yx"][a]
        volume = particles["volume"][[a, b]]
        length = max((apart[a, b] + radius[a] + radius[b]) / 2, radius[a], radius[b])
        larger = a if volume[0] >= volume[1] else b
        one = particles[larger].copy()
        one["yx"] = volume @ particles["yx"][[a, b]] / volume.sum()
        one["volume"] = volume.sum()
        one["stretch"] = np.log(length / np.cbrt(volume.sum() * 3 / (4 * np.pi)))
        one["angle"] = np.arctan2(along[0], along[1])
        particles[larger] = one
        particles = np.delete(particles, b if larger == a else a)
    return particles
