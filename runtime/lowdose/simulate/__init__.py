"""Seeded movies with ground truth: specimens, microscopes and detectors in NumPy."""

from lowdose.simulate.detectors import counting, linear_integration, poisson_gaussian
from lowdose.simulate.diffraction import diffraction_scan
from lowdose.simulate.haadf import haadf_movie
from lowdose.simulate.hrtem import hrtem_movie
from lowdose.simulate.movie import Movie, simulate
from lowdose.simulate.particles import particle_movie
from lowdose.simulate.scene import Scene
from lowdose.simulate.stem import stem_movie

__all__ = [
    "Movie",
    "Scene",
    "counting",
    "diffraction_scan",
    "haadf_movie",
    "hrtem_movie",
    "linear_integration",
    "particle_movie",
    "poisson_gaussian",
    "simulate",
    "stem_movie",
]
