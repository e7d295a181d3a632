"""Dual-channel STEM movie of heavy adatoms hopping on graphene, with its truth."""

from __future__ import annotations

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.simulate.adatoms import graphene, hopping_path
from lowdose.simulate.crystal import FCC_METALS
from lowdose.simulate.dynamics import drift_path
from lowdose.simulate.grid import grid_around
from lowdose.simulate.probe import BF_SHARE, Aberrations, Probe
from lowdose.simulate.scene import Scene, checked
from lowdose.simulate.wave import structure_factor

# The aperture passes nothing beyond 1.53 / angstrom.
PROBE_PIXEL_ANGSTROM = 0.25
GUARD_ANGSTROM = 6.0
MOST_LAYERS = 10
CHANNELS = ("ADF", "BF")
MOST_ADATOMS_PER_NM2 = 10.0


def stem_movie(
    seed: int,
    *,
    n_frames: int = 24,
    height: int = 256,
    width: int = 256,
    pixel_size_angstrom: float = 0.2,
    element: str = "Au",
    n_layers: int = 4,
    adatoms_per_nm2: float = 2.5,
    hop_rate: float = 0.3,
    drift_px_per_frame: float = 0.4,
    source_angstrom: float | None = None,
    defocus_angstrom: float | None = None,
    astigmatism_angstrom: float | None = None,
    coma_angstrom: float | None = None,
    cs_micrometre: float | None = None,
) -> Scene:
    """Adatoms of a heavy ``element`` on ``n_layers`` of graphene, 80 kV, 32 mrad, ADF and BF.

    Each adatom hops with a rate of its own around ``hop_rate`` per frame; a few leave and arrive. The
    probe has residual aberrations and a Gaussian source (standard deviation ``source_angstrom``).
    Settings that are None are drawn from the seed, as are rotation and places.

    Returns a Scene whose ``clean`` is (n_frames, 2, height, width) float32, channel 0 ADF (47-169
    mrad) and 1 BF (0-19 mrad), in fractions of the incident beam.
    Raises LowdoseError for an unknown element or settings out of range.
    """
    settings = checked(locals())
    if element not in FCC_METALS:
        raise LowdoseError(f"there is no adatom '{element}' here; known: {', '.join(FCC_METALS)}")
    if not 1 <= n_layers <= MOST_LAYERS:
        raise LowdoseError(f"the number of graphene layers is {n_layers}; expected 1 to {MOST_LAYERS}")
    if not 0 <= adatoms_per_nm2 <= MOST_ADATOMS_PER_NM2:
        raise LowdoseError(f"{adatoms_per_nm2} adatoms per nm2; expected 0 to {MOST_ADATOMS_PER_NM2}")
    rng = np.random.default_rng([seed, 1])
    drawn = {
        "source_angstrom": rng.uniform(0.28, 0.36),
        "defocus_angstrom": rng.uniform(-14.0, -2.0),
        "astigmatism_angstrom": rng.uniform(0.0, 8.0),
        "coma_angstrom": rng.uniform(0.0, 80.0),
        "cs_micrometre": rng.uniform(-0.3, 0.3),
    }
    settings |= {name: value for name, value in drawn.items() if settings[name] is None}

    position = drift_path(rng, n_frames, drift_px_per_frame) * pixel_size_angstrom
    margin = GUARD_ANGSTROM + float(np.abs(position).max())
    grid = grid_around(height, width, pixel_size_angstrom, PROBE_PIXEL_ANGSTROM, margin)
    reach = float(np.hypot(*grid.sides_angstrom)) / 2
    carbon, n_carbon, sites = graphene(reach, rng.uniform(0, 2 * np.pi), n_layers)
    inside = grid.holds(carbon)
    carbon, n_carbon, sites = carbon[inside], n_carbon[inside], sites[grid.holds(sites)]
    n_mean = adatoms_per_nm2 * float(np.prod(grid.sides_angstrom)) / 100
    path = hopping_path(rng, sites, n_frames, n_mean, hop_rate)

    azimuths = rng.uniform(0, 2 * np.pi, 2)
    aberrations = Aberrations(
        settings["defocus_angstrom"],
        settings["astigmatism_angstrom"],
        azimuths[0],
        settings["coma_angstrom"],
        azimuths[1],
        settings["cs_micrometre"] * 1e4,
    )
    probe = Probe(grid, aberrations, settings["source_angstrom"])
    support = probe.transfer("C") * structure_factor(grid.fy, grid.fx, carbon, n_carbon)
    adatom = probe.transfer(element)
    clean = np.empty((n_frames, 2, height, width), np.float32)
    for frame, taken in enumerate(path):
        atoms = structure_factor(grid.fy, grid.fx, sites[taken], np.ones(len(taken)))
        spectra = (support + adatom * atoms) * grid.ramp(position[frame])
        for channel, background in enumerate((0.0, BF_SHARE)):
            clean[frame, channel] = np.maximum(background + grid.frame(spectra[channel]), 0)
    return Scene(clean, 0 - position / pixel_size_angstrom, pixel_size_angstrom, settings)
