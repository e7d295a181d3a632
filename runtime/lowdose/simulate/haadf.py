"""HAADF-STEM images of crystals, with their truth: atom columns whose brightness follows the atomic number.

The signal is incoherent: each column scatters electrons into the detector in proportion to its atoms, seen through
the probe and the source. A share of it is spread out by the beam in a thick specimen and by thermal motion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.simulate.dynamics import drift_path
from lowdose.simulate.grid import Grid, grid_around
from lowdose.simulate.lattices import MATERIALS, Material, atom_columns
from lowdose.simulate.scene import Scene, checked
from lowdose.simulate.wave import BOHR_ANGSTROM, REST_ENERGY_EV, structure_factor, wavelength_angstrom

ENERGY_EV = 200e3
HAADF_MRAD = (70.0, 160.0)
COARSEST_PIXEL_ANGSTROM = 0.25
GUARD_ANGSTROM = 10.0
# Read noise of the detector, as a share of the brightest pixel.
READ_NOISE = 0.05

Floats = NDArray[np.float64]


def haadf_movie(
    seed: int,
    *,
    n_frames: int = 1,
    height: int = 256,
    width: int = 256,
    pixel_size_angstrom: float = 0.17,
    material: str | None = None,
    thickness_angstrom: float | None = None,
    source_angstrom: float | None = None,
    defects: bool = True,
    drift_px_per_frame: float = 0.0,
) -> Scene:
    """A crystal along one of its main zone axes, 200 kV, HAADF 70-160 mrad, slightly bent by the scan.

    ``defects``: with a chance each, the crystal ends inside the image or is a particle, has a grain boundary,
    vacancies and foreign atoms, uneven thickness, an amorphous layer. ``source_angstrom`` is the standard deviation
    of probe and source together. Settings that are None are drawn from the seed, as are zone axis and rotation.

    Returns a Scene whose ``clean`` is (n_frames, height, width) float32, in fractions of the incident beam.
    Raises LowdoseError for an unknown material or settings out of range.
    """
    settings = checked(locals())
    rng = np.random.default_rng([seed, 4])
    drawn = {
        "material": str(rng.choice(list(MATERIALS))),
        "thickness_angstrom": float(np.exp(rng.uniform(np.log(30.0), np.log(250.0)))),
        "source_angstrom": float(rng.uniform(0.3, 0.55)),
    }
    settings |= {name: value for name, value in drawn.items() if settings[name] is None}
    if settings["material"] not in MATERIALS:
        raise LowdoseError(f"there is no material '{settings['material']}' here; known: {', '.join(MATERIALS)}")
    for name in ("thickness_angstrom", "source_angstrom"):
        if not 0 < settings[name] < np.inf:
            raise LowdoseError(f"{name} is {settings[name]}; expected a positive number")

    position = drift_path(rng, n_frames, drift_px_per_frame) * pixel_size_angstrom
    margin = GUARD_ANGSTROM + float(np.abs(position).max())
    grid = grid_around(height, width, pixel_size_angstrom, COARSEST_PIXEL_ANGSTROM, margin)
    yx, scattering = specimen(rng, grid, MATERIALS[settings["material"]], defects)
    blur = spread(rng, grid, settings["source_angstrom"])
    spectrum = structure_factor(grid.fy, grid.fx, yx, scattering * settings["thickness_angstrom"]) * blur
    clean = np.empty((n_frames, height, width), np.float32)
    for frame, shift in enumerate(position):
        scattered = np.maximum(grid.frame(spectrum * grid.ramp(shift)), 0)
        clean[frame] = -np.expm1(-scattered)  # a thick specimen scatters no more than there is
    return Scene(clean, 0 - position / pixel_size_angstrom, pixel_size_angstrom, settings)


def specimen(rng: np.random.Generator, grid: Grid, material: Material, defects: bool) -> tuple[Floats, Floats]:
    """Scatterers (y, x) in angstrom (n, 2), and their cross-sections in A^2 per angstrom of thickness (n,)."""
    reach = 0.5 * float(np.hypot(*grid.sides_angstrom))
    field = min(grid.height, grid.width) * grid.pixel_angstrom

    def has(chance: float) -> bool:
        return bool(defects and rng.random() < chance)

    yx, scattering = grain(rng, material, reach)
    if has(0.25):  # grain boundary
        other_yx, other = grain(rng, material, reach)
        normal, place = random_line(rng, field)
        one_side, other_side = yx @ normal > place, other_yx @ normal <= place
        yx = np.concatenate([yx[one_side], other_yx[other_side]])
        scattering = np.concatenate([scattering[one_side], other[other_side]])
    if has(0.25):  # uneven thickness
        wave = rng.standard_normal(2) / field
        scattering = scattering * (1 + rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * (yx @ wave + rng.random())))
    if has(0.25):  # a wedge that ends in vacuum
        normal, place = random_line(rng, field)
        scattering = scattering * np.clip((yx @ normal - place) / (field * rng.uniform(0.01, 1.0)), 0, 1)
    elif has(0.15):  # a particle
        centre, radius = rng.uniform(-0.15, 0.15, 2) * field, rng.uniform(0.25, 0.45) * field
        depth = 1 - (np.hypot(*(yx - centre).T) / radius) ** 2
        scattering = scattering * np.sqrt(np.maximum(depth, 0))
    if has(0.4):  # vacancies and foreign atoms
        changed = rng.random(len(yx)) < rng.uniform(0.002, 0.03)
        scattering = np.where(changed, scattering * rng.uniform(0.0, 2.0, len(yx)), scattering)
    if has(0.3):  # an amorphous layer, light atoms gathered to keep them few
        layer = rng.uniform(-0.5, 0.5, (1500, 2)) * grid.sides_angstrom
        strength = rng.uniform(0.02, 0.3) * scattering.sum() / len(layer)
        yx = np.concatenate([yx, layer])
        scattering = np.concatenate([scattering, strength * rng.random(len(layer))])
    yx = bent(rng, yx, field)
    inside = grid.holds(yx) & (scattering > 0)
    return yx[inside], scattering[inside]


def grain(rng: np.random.Generator, material: Material, reach: float) -> tuple[Floats, Floats]:
    """The atoms of a crystal along a random zone axis, in a random rotation: as `specimen` gives them."""
    zone = material.zones[rng.integers(len(material.zones))]
    yx, number, per_angstrom = atom_columns(material, zone, reach)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shifted = yx @ turn + rng.uniform(-2.0, 2.0, 2)
    return shifted, per_angstrom * cross_section(number)


def cross_section(atomic_number: Floats) -> Floats:
    """Area in A^2 that scatters into the HAADF detector: screened Rutherford scattering (Thomas-Fermi radius)."""
    wavelength = wavelength_angstrom(ENERGY_EV)
    mrad = np.linspace(*HAADF_MRAD, 200)
    q2 = (2e-3 * np.pi * mrad / wavelength) ** 2
    screening = (0.885 * BOHR_ANGSTROM / np.cbrt(atomic_number[:, None])) ** -2
    amplitude = 2 * atomic_number[:, None] * (1 + ENERGY_EV / REST_ENERGY_EV) / (BOHR_ANGSTROM * (q2 + screening))
    rings = 2 * np.pi * (1e-3 * mrad) * (1e-3 * (mrad[1] - mrad[0]))
    area: Floats = amplitude**2 @ rings
    return area


def random_line(rng: np.random.Generator, field_angstrom: float) -> tuple[Floats, float]:
    """A line near the centre: its unit normal (2,) and its distance from the centre in angstrom."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)]), float(rng.uniform(-0.25, 0.25) * field_angstrom)


def bent(rng: np.random.Generator, yx: Floats, field_angstrom: float) -> Floats:
    """Positions as a scan with wrong angles and steps, and slow drift during the image, shows them."""
    straight = yx @ (np.eye(2) + 0.02 * rng.standard_normal((2, 2)))
    slow = rng.uniform(0.0, 0.4) * np.sin(
        np.pi * yx[:, :1] / field_angstrom * rng.uniform(0.5, 3.0) + rng.uniform(0, 6)
    )
    return np.asarray(straight + slow * rng.uniform(-1, 1, 2))


def spread(rng: np.random.Generator, grid: Grid, source_angstrom: float) -> Floats:
    """Spectrum of what one scatterer looks like: a sharp peak on a broad foot, in 1/A^2 per coarse pixel."""
    g2 = grid.fy[:, None] ** 2 + grid.fx[None, :] ** 2
    foot, wider = rng.uniform(0.05, 0.5), rng.uniform(2.0, 5.0)
    peak, broad = (np.exp(-2 * (np.pi * sigma) ** 2 * g2) for sigma in (source_angstrom, wider * source_angstrom))
    return np.asarray(((1 - foot) * peak + foot * broad) / grid.coarse_angstrom**2)


def scanned(
    clean: NDArray[np.floating], rng: np.random.Generator, *, dose_per_area: float, pixel_size_angstrom: float
) -> NDArray[np.float32]:
    """What the detector records, in the units of ``clean`` (fractions of the beam), float32.

    ``dose_per_area`` in e/A^2 gives the Poisson noise; the read noise is Gaussian, 5 % of the largest ``clean``.
    Raises LowdoseError for a dose that is not positive.
    """
    if not 0 < dose_per_area < np.inf:
        raise LowdoseError(f"the dose is {dose_per_area} e/A^2; it must be positive")
    dose_per_pixel = dose_per_area * pixel_size_angstrom**2
    counted = rng.poisson(np.asarray(clean, np.float64) * dose_per_pixel) / dose_per_pixel
    read = READ_NOISE * float(clean.max()) * rng.standard_normal(clean.shape)
    return np.asarray(counted + read, np.float32)
