"""The models that come with lowdose, as a user meets them."""

import numpy as np
import pytest

from lowdose import NO_LOW_PASS, Settings, load
from lowdose.metrics import psnr
from lowdose.model import bundled_models
from lowdose.simulate import simulate
from lowdose_train.bundled import CONDITIONS


@pytest.mark.parametrize("name", ["wcvd", "wcid"])
def test_the_card_names_every_weight_set(name):
    model = load(name, device="cpu")
    card = model.path.with_suffix(".md").read_text(encoding="utf-8")
    for entry in model.metadata["weight_sets"]:
        assert entry["name"] in card
        assert all("Pt" in stack["name"] for stack in entry["data"])


def test_every_bundled_file_has_a_card():
    for path in bundled_models().values():
        assert path.with_suffix(".md").is_file()


@pytest.mark.parametrize(
    ("detector", "settings", "gain_db"),
    [
        ("counting", {"dose_per_pixel": 0.3, "pixel_size_angstrom": 0.07}, 20),
        ("counting", {"dose_per_pixel": 2.0, "pixel_size_angstrom": 0.12}, 15),
        ("linear", {"dose_per_pixel": 20.0, "pixel_size_angstrom": 0.2}, 9),
        ("poisson-gaussian", {"dose_per_pixel": 10.0, "pixel_size_angstrom": 0.12}, 11),
    ],
)
def test_they_denoise_seeds_not_used_in_training(detector, settings, gain_db):
    movie = simulate("hrtem", detector, 31, n_frames=6, height=160, width=200, **settings)
    before = psnr(movie.clean, movie.noisy)
    assert psnr(movie.clean, load("wcvd", device="cpu").denoise(movie.noisy)) > before + gain_db
    assert psnr(movie.clean, load("wcid", device="cpu").denoise(movie.noisy)) > before + gain_db - 4


@pytest.mark.parametrize("name", ["wcvd", "wcid"])
def test_no_weight_set_has_a_dead_branch_or_sees_the_pixel(name):
    model = load(name, device="cpu")
    doses = {condition.name: condition.dose_per_pixel for condition in CONDITIONS}
    for weight_set, entry in enumerate(model.metadata["weight_sets"]):
        stack = np.random.default_rng(0).poisson(doses[entry["name"]], (3, 90, 90)).astype(np.float32)
        changed = stack.copy()
        changed[1, 20, 20] += 100
        settings = Settings(weight_set, NO_LOW_PASS, 0.0)
        before, after = model.denoise(stack, settings=settings), model.denoise(changed, settings=settings)
        assert abs(after[1, 20, 20] - before[1, 20, 20]) <= 1e-6 * 100  # float32 sums that cancel
        assert before.mean() == pytest.approx(stack.mean(), rel=0.06)  # a flat field stays near its level
