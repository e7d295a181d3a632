"""The bundled blind-feature networks, whose linear filter is fitted to the frames that they denoise."""

from __future__ import annotations

import numpy as np
import pytest

from lowdose import LowdoseError, load
from lowdose.methods import find_method
from lowdose.methods.auto import Auto
from lowdose.methods.bfn import NAMES
from lowdose.methods.method import Options
from lowdose.metrics import psnr
from lowdose.simulate import haadf_movie, hrtem_movie, stem_movie
from lowdose.source import ArraySource
from lowdose_train.bundled_unets import at_input_psnr
from lowdose_train.checkpoint import load_checkpoint, starting_point


@pytest.mark.parametrize("name", NAMES)
def test_the_card_belongs_to_the_file_and_no_test_seed_was_trained_on(name):
    model = load(name, device="cpu")
    card = model.path.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    (entry,) = model.metadata["weight_sets"]
    seeds = {int(stack["name"].split("seed ")[1].split(",")[0]) for stack in entry["data"]}
    assert min(seeds) >= 1000 and max(seeds) < 2000
    assert model.path.stat().st_size < 3e5


@pytest.mark.parametrize("name", NAMES)
def test_training_begins_from_the_bundled_weights_by_name(name):
    network, record = load_checkpoint(starting_point(name))
    metadata = load(name, device="cpu").metadata
    assert record["method"] == metadata["method"] and network.n_taps == len(metadata["taps"]["offsets"])


def scene(name, seed=2000):
    """A clean movie (n_frames, n_channels, height, width) that was not trained on."""
    if name == "bfn":
        return hrtem_movie(seed, n_frames=10, height=96, width=112, pixel_size_angstrom=0.12).clean[:, None]
    if name == "bfn-dual":
        return stem_movie(seed, n_frames=8, height=96, width=96, pixel_size_angstrom=0.18).clean
    return haadf_movie(seed, height=128, width=120, pixel_size_angstrom=0.15).clean[:, None]


def recorded(name, level_db=15.0):
    """Noisy frames as users have them, and what was expected of them."""
    clean = scene(name)
    rng = np.random.default_rng(7)
    pairs = [at_input_psnr(clean[:, channel], rng, level_db, 0.5) for channel in range(clean.shape[1])]
    noisy, truth = (np.stack(parts, axis=1) for parts in zip(*pairs, strict=True))
    return noisy, truth


def denoised(method, noisy):
    n_channels = noisy.shape[1]
    frames = ArraySource(noisy if n_channels > 1 else noisy[:, 0], n_channels=n_channels, is_scan=False)
    prepared = method.prepare(frames, Options(threads=1))
    stream = prepared.stream(frames, np.float32)
    results = [out for frame in frames if (out := stream.push(frame)) is not None] + stream.flush()
    return np.reshape(results, noisy.shape), prepared


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bfn-4d"])
def test_untouched_it_passes_the_filter_on_scenes_of_its_kind(name):
    noisy, truth = recorded(name)
    by_bfn, prepared = denoised(find_method("bfn", device="cpu"), noisy)
    assert prepared.report["bundled"] == name and name in prepared.summary
    by_wiener, _ = denoised(find_method("wiener", device="cpu"), noisy)
    for channel in range(noisy.shape[1]):
        gained = psnr(truth[:, channel], by_bfn[:, channel]) - psnr(truth[:, channel], by_wiener[:, channel])
        assert gained > 0.3


def test_the_filter_is_that_of_the_frames():
    """Frames turned by a right angle give the result turned, but for what the network makes of directions."""
    noisy, _ = recorded("bfn")
    upright, one = denoised(find_method("bfn", device="cpu"), noisy)
    turned, other = denoised(find_method("bfn", device="cpu"), np.ascontiguousarray(noisy.swapaxes(2, 3)))
    weights = [prepared.fitted.weights for prepared in (one, other)]
    np.testing.assert_allclose(weights[0], weights[1].swapaxes(-1, -2), atol=1e-4)
    assert np.square(upright - turned.swapaxes(2, 3)).mean() < 0.05 * upright.var()


def test_frames_that_it_has_no_network_for():
    noise = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    with pytest.raises(LowdoseError, match="the data have 3 channels, bfn takes 1"):
        denoised(find_method("bfn", device="cpu"), noise)
    scan = ArraySource(noise[:, 0].reshape(2, 2, 32, 32), n_channels=1, is_scan=True)
    with pytest.raises(LowdoseError, match="bfn-image is not for scans: take bfn"):
        find_method("bfn-image", device="cpu").prepare(scan, Options())
    with pytest.raises(LowdoseError, match="bfn-4d is not for movies: take bfn"):
        denoised(find_method("bfn-4d", device="cpu"), noise[:, :1])


def test_short_movies_get_the_network_for_images():
    noisy, _ = recorded("bfn")
    _, prepared = denoised(find_method("bfn", device="cpu"), noisy[:3])
    assert prepared.report["bundled"] == "bfn-image" and prepared.alone


def test_too_few_frames_of_two_channels_are_refused_at_once():
    noisy, _ = recorded("bfn-dual")
    frames = ArraySource(noisy[:6], n_channels=2, is_scan=False)
    with pytest.raises(LowdoseError, match="bfn-dual needs 7 frames and was given 6: lowdose calibrate"):
        find_method("bfn", device="cpu").prepare(frames, Options())


def test_auto_tries_it():
    noisy, _ = recorded("bfn")
    prepared = Auto("cpu").prepare(ArraySource(noisy[:, 0], n_channels=1, is_scan=False), Options(threads=1))
    tried = {entry["model"]: entry for entry in prepared.report["tried"]}
    assert tried["bfn"]["risk"] is not None and tried["bfn"]["risk"] < tried["wiener"]["risk"]
    assert "bfn-image" not in tried
