"""What changes from frame to frame: the drift of the specimen and the atoms at its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdose.simulate.crystal import Columns


def drift_path(rng: np.random.Generator, n_frames: int, step_px: float) -> NDArray[np.float64]:
    """Position (n_frames, 2) of the specimen in pixels (y, x), zero in frame 0, about ``step_px`` per frame.

    The heading turns slowly and every step has jitter of its own.
    """
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(0.25 * rng.standard_normal(n_frames - 1))
    speed = step_px * rng.uniform(0.75, 1.25)
    steps = speed * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    steps += 0.35 * step_px * rng.standard_normal(steps.shape)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def occupancy_path(
    rng: np.random.Generator, columns: Columns, n_frames: int, rate: float, hop_angstrom: float
) -> NDArray[np.int64]:
    """Number of atoms (n_frames, n_columns) in each column of a particle with a living surface.

    In each frame every surface column that holds atoms changes with probability ``rate``: atoms hop
    to a surface column within ``hop_angstrom``, leave, or arrive. Empty columns wait for atoms that hop;
    a full one drops what it cannot hold.
    """
    n_places = columns.depth.shape[1]
    taken = columns.n_atoms.copy()
    surface = np.flatnonzero(columns.surface)
    limit = min(n_places, int(taken.max(initial=0)))
    path = np.empty((n_frames, len(taken)), np.int64)
    for frame in range(n_frames):
        held = surface[taken[surface] > 0] if frame else surface[:0]
        for site in held[rng.random(len(held)) < rate]:
            n_moved = int(rng.integers(1, max(2, limit // 2 + 1)))
            fate = rng.choice(["hop", "leave", "arrive"], p=[0.7, 0.15, 0.15])
            if fate == "arrive":
                taken[site] = min(limit, taken[site] + n_moved)
                continue
            n_moved = min(n_moved, int(taken[site]))
            taken[site] -= n_moved
            if fate == "hop":
                distance = np.linalg.norm(columns.yx[surface] - columns.yx[site], axis=1)
                # The column itself is among the goals, so there always is one.
                goal = rng.choice(surface[(distance <= hop_angstrom) & (taken[surface] < limit)])
                taken[goal] = min(limit, taken[goal] + n_moved)
        path[frame] = taken
    return path


def wander(rng: np.random.Generator, n_frames: int, frames: float) -> NDArray[np.float64]:
    """A smooth random path (n_frames,) of mean 0 and standard deviation 1 that forgets itself within ``frames``."""
    reach = int(3 * frames) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * 2 / frames) ** 2)
    noise = rng.standard_normal(n_frames + 2 * reach)
    return np.asarray(np.convolve(noise, kernel / np.linalg.norm(kernel), "valid"))
