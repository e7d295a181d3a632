"""The bundled Noise2Void and synthesis models, as a user meets them."""

from __future__ import annotations

import numpy as np
import pytest

from lowdose import load
from lowdose.metrics import psnr
from lowdose.simulate import hrtem_movie, particle_movie, stem_movie
from lowdose_train.bundled_unets import at_input_psnr
from lowdose_train.checkpoint import load_checkpoint, starting_point

NAMES = ("n2v-lite", "n2v-lite-dual", "synthesis3d-lite")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_belongs_to_the_file_and_no_test_seed_was_trained_on(name):
    model = load(name, device="cpu")
    card = model.path.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    (entry,) = model.metadata["weight_sets"]
    seeds = {int(stack["name"].split("seed ")[1].split(",")[0]) for stack in entry["data"]}
    assert min(seeds) >= 1000 and max(seeds) < 2000
    assert model.path.stat().st_size < 16e6


@pytest.mark.parametrize("name", NAMES)
def test_training_begins_from_the_bundled_weights_by_name(name):
    record = load_checkpoint(starting_point(name))[1]
    (entry,) = load(name, device="cpu").metadata["weight_sets"]
    assert all(record[key] == entry[key] for key in ("seed", "commit", "data", "metrics"))


def scene(name, seed):
    """A clean movie (n_frames, n_channels, height, width)."""
    if name == "synthesis3d-lite":
        return particle_movie(seed, n_frames=40, height=72, width=88).clean[:, None]
    if name == "n2v-lite":
        return hrtem_movie(seed, n_frames=3, height=100, width=116, pixel_size_angstrom=0.12).clean[:, None]
    return stem_movie(seed, n_frames=3, height=100, width=116, pixel_size_angstrom=0.22).clean


@pytest.mark.parametrize(("name", "gain_db"), [("n2v-lite", 10), ("n2v-lite-dual", 12), ("synthesis3d-lite", 16)])
def test_they_denoise_seeds_not_used_in_training_in_the_units_of_the_input(name, gain_db):
    clean = scene(name, 31)
    random = np.random.default_rng(0)
    pairs = [at_input_psnr(clean[:, channel], random, 10.0, 0.3) for channel in range(clean.shape[1])]
    noisy, truth = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
    model = load(name, device="cpu")
    stack = noisy if len(model.channels) > 1 else noisy[:, 0]
    result = model.denoise(stack).reshape(noisy.shape)
    for channel in range(noisy.shape[1]):
        span = np.ptp(truth[:, channel])
        assert psnr(truth[:, channel], noisy[:, channel]) == pytest.approx(10, abs=0.5)
        assert psnr(truth[:, channel], result[:, channel]) > 10 + gain_db
        level = result[:, channel].mean(axis=(1, 2)) - noisy[:, channel].mean(axis=(1, 2))
        assert np.abs(level).max() < 0.03 * span  # frame by frame: no flicker
