"""Counting of phantom and missing particles in benchmarks/particles.py."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.particles import count_particles


def scene(places, radius=3.0, contrast=1.0):
    """Two frames of disks on a slope, and their particles (frame, y, x, radius)."""
    y, x = np.mgrid[:60, :70]
    frame = 0.02 * x
    for at_y, at_x in places:
        frame = frame + contrast / (1 + np.exp(3 * (np.hypot(y - at_y, x - at_x) - radius)))
    rows = [[t, at_y, at_x, radius] for t in range(2) for at_y, at_x in places]
    return np.stack([frame, frame]), np.array(rows, float).reshape(-1, 4)


PLACES = [(12, 12), (30, 40), (45, 20), (20, 58)]


@pytest.mark.parametrize("dark", [False, True])
def test_the_truth_has_no_phantom_and_misses_nothing(dark):
    clean, truth = scene(PLACES)
    sign = -1 if dark else 1
    counts = count_particles(sign * clean, sign * clean, truth, dark=dark)
    assert (counts.n_true, counts.phantom, counts.missing) == (8, 0, 0)


def test_a_lost_and_an_invented_particle_are_counted_once_per_frame():
    clean, truth = scene(PLACES)
    other, _ = scene([*PLACES[:3], (50, 55)])
    counts = count_particles(clean, other, truth)
    assert (counts.n_true, counts.phantom, counts.missing) == (8, 2, 2)
    other[1] = clean[1]
    counts = count_particles(clean, other, truth)
    assert (counts.phantom, counts.missing) == (1, 1)


def test_small_particles_and_those_at_the_edge_need_not_be_found():
    clean, truth = scene([*PLACES, (1, 30)])
    assert count_particles(clean, clean, truth).n_true == 8
    truth[truth[:, 1] == 12, 3] = 1.0
    assert count_particles(clean, 0 * clean, truth).missing == 6


def test_a_weak_spot_of_the_support_is_no_phantom():
    clean, truth = scene(PLACES)
    grain, _ = scene([(50, 55)], contrast=0.2)
    supported = clean + grain
    assert count_particles(supported, clean + 1.5 * grain, truth).phantom == 0
    assert count_particles(clean, clean + 1.5 * grain, truth).phantom == 2
