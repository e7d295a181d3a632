"""The three-direction synthesis: slices and their way back, training on clean movies, the model file."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch

from lowdose import LowdoseError, load
from lowdose_export.windowed import TOLERANCE, check_windowed_parity, export_windowed, windowed_model_of
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.loop import train
from lowdose_train.settings import Settings
from lowdose_train.synthesis import DIRECTIONS, WIDTHS, ThreeDirections, put_back, slices_along
from lowdose_train.synthesis_task import SynthesisTask, as_signal, noisy_and_clean

SHORT = Settings(
    method="synthesis3d", epochs=1, learning_rate=3e-3, crop_px=32, batch_size=1, threads=1, precision="float32"
)
CPU = torch.device("cpu")


def movie(n_frames=40, shape=(40, 48), seed=0):
    """Spots on a dark ground that wander slowly (n_frames, height, width)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    clean = np.full((n_frames, *shape), 0.1, np.float32)
    for _ in range(10):
        at = random.uniform(0, shape, 2) + np.cumsum(random.normal(0, 0.15, (n_frames, 2)), axis=0)
        distance = np.hypot(y - at[:, 0, None, None], x - at[:, 1, None, None])
        clean += np.exp(-((distance / random.uniform(2, 4)) ** 2)).astype(np.float32)
    return clean


def network(seed=0):
    made = ThreeDirections("lite")
    made.draw(torch.Generator().manual_seed(seed))
    for direction in DIRECTIONS:
        torch.nn.init.normal_(made.network(direction).head.weight, std=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run folder, its model file, and the differences that export found."""
    run = tmp_path_factory.mktemp("synthesis") / "run"
    train(SHORT, {f"movie {seed}": movie(seed=seed) for seed in range(3)}, run)
    return run, run / "synthesis3d.onnx", export_windowed([run / "best.pt"], run / "synthesis3d.onnx")


def test_slices_lie_as_their_names_say_and_find_their_way_back():
    block = torch.arange(2 * 4 * 5 * 7, dtype=torch.float32).view(2, 4, 5, 7)
    views = torch.stack([block, -block], dim=1)
    t, y, x = 2, 3, 6
    assert torch.equal(slices_along("xy", views)[1, t, 0], block[1, t])
    assert torch.equal(slices_along("xt", views)[1, y, 0], block[1, :, y])
    assert torch.equal(slices_along("yt", views)[1, x, 1], -block[1, :, :, x])
    for direction in DIRECTIONS:
        assert torch.equal(put_back(direction, slices_along(direction, views)[:, :, 0]), block)


def test_the_synthesis_is_the_mean_of_the_three_directions():
    made = network()
    block = torch.randn(1, 32, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        views = made.views(block)
        parts = [made.in_direction(direction, views) for direction in DIRECTIONS]
        torch.testing.assert_close(made(block), (parts[0] + parts[1] + parts[2]) / 3)
        for direction, part in zip(DIRECTIONS, parts, strict=True):  # slice by slice
            slices = slices_along(direction, views)[0]
            alone = torch.stack([made.denoise_slices(direction, one[None])[0] for one in slices])
            torch.testing.assert_close(put_back(direction, alone[None]), part, rtol=1e-4, atol=1e-5)


def test_no_output_pixel_sees_further_than_the_margin():
    made = network()
    side = 2 * made.margin_px + 8 + (-2 * made.margin_px) % 8
    block = torch.rand(1, 32, 8, side, generator=torch.Generator().manual_seed(0), requires_grad=True)
    at = side // 2 + 1
    made(block)[0, 16, 4, at].backward()
    seen = torch.nonzero(block.grad[0].abs().sum((0, 1)))[:, 0]
    assert at - made.margin_px <= int(seen.min()) and int(seen.max()) <= at + made.margin_px
    assert int(seen.max() - seen.min()) > made.margin_px


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_noise_has_the_dose_and_the_share_asked_for(share):
    signal = torch.from_numpy(as_signal("m", movie(64), 0.0))
    assert float(signal.mean()) == pytest.approx(1, rel=1e-5)
    noisy, clean = noisy_and_clean(signal, 3.0, share, torch.Generator().manual_seed(0))
    assert float(noisy.mean()) == pytest.approx(0, abs=1e-4)
    assert float(noisy.std()) == pytest.approx(0.2, rel=1e-3)
    scale = float(clean.std() / (3.0 * signal).std())  # from electrons to what the network sees
    variance = float((noisy - clean).var()) / scale**2
    assert variance == pytest.approx(3.0 / (1 - share), rel=0.02)


def test_a_movie_without_signal_is_refused_and_an_offset_taken_off():
    with pytest.raises(LowdoseError, match="zero_level"):
        as_signal("m", np.full((2, 8, 8), 100), 100.0)
    np.testing.assert_allclose(as_signal("m", movie() * 40 + 100, 100.0), as_signal("m", movie(), 0.0), atol=1e-4)


def test_short_movies_go_on_with_their_last_frame():
    task = SynthesisTask(SHORT, {"image": movie(1), "short": movie(5)}, CPU)
    generator = torch.Generator().manual_seed(0)
    assert (task.crop(0, generator).diff(dim=0) == 0).all()
    block = task.crop(1, generator)
    assert block.shape == (32, 32, 32)
    changes = int((block.diff(dim=0) != 0).any(dim=2).any(dim=1).sum())
    assert changes == 4


def test_crops_are_turned_parts_of_the_movie_and_held_out_movies_are_no_targets():
    movies = {str(seed): movie(33, (32, 32), seed) for seed in range(11)}
    task = SynthesisTask(SHORT, movies, CPU)
    assert len(task.held_out) == 1 and not set(task.held_out) & set(task.targets)
    crop = task.crop(2, torch.Generator().manual_seed(1)).numpy()
    signal = task.movies[2]
    turned = [np.flip(part, axes) for part in (signal[:32], signal[1:]) for axes in ALL_FLIPS]
    assert any(np.array_equal(crop, one) or np.array_equal(crop.swapaxes(1, 2), one) for one in turned)


ALL_FLIPS = [tuple(axis for axis in range(3) if number >> axis & 1) for number in range(8)]


def test_learns_to_denoise(trained):
    run, path, _ = trained
    record = load_checkpoint(run / "best.pt")[1]
    (score,) = record["metrics"]["stacks"]
    assert score["psnr_db"] > score["psnr_db_noisy"] + 6
    assert score["psnr_db_xy"] > score["psnr_db_noisy"] + 6
    clean = movie(seed=7)
    noisy = 100 + 40 * np.random.default_rng(0).poisson(8 * clean).astype(np.float32)
    result = load(path, device="cpu").denoise(noisy)
    assert result.shape == noisy.shape
    truth = 100 + 40 * 8 * clean
    assert np.mean((result - truth) ** 2) < 0.25 * np.mean((noisy - truth) ** 2)
    steps = np.abs(result.mean(axis=(1, 2)) - truth.mean(axis=(1, 2)))
    assert steps.max() < 0.05 * np.ptp(truth)  # no step in intensity where blocks meet


def test_engines_agree_at_two_sizes(trained):
    _, path, differences = trained
    assert set(differences) == {"onnxruntime", "core", "core, tiled"}
    assert all(0 <= value <= TOLERANCE for value in differences.values())
    model = load(path, device="cpu")
    assert model.metadata["block"] == {"n_frames": 32, "overlap": 8}
    for shape in ((1, 1, 1), (3, 5, 9), (33, 16, 8)):  # any number of frames and any size
        frames = np.random.default_rng(0).random(shape, np.float32)
        assert model.denoise(frames).shape == shape


def test_follows_gain_and_offset(trained):
    noisy = np.random.default_rng(0).poisson(3 * movie(32)).astype(np.float32)
    model = load(trained[1], device="cpu")
    before, after = model.denoise(noisy), model.denoise(40 * noisy + 1000)
    np.testing.assert_allclose(after, 40 * before + 1000, rtol=0, atol=1e-4 * np.ptp(after))


def test_fine_tuning_begins_with_the_weights_given_and_repeats(trained, tmp_path):
    gentle = dataclasses.replace(SHORT, learning_rate=1e-9, crop_px=16, budget_s=0.01)  # one step
    best = trained[0] / "best.pt"
    tuned = train(gentle, {"image": movie(1, (16, 16))}, tmp_path / "tuned", start_from=best)
    for one, other in zip(load_checkpoint(best)[0].parameters(), tuned.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    task = SynthesisTask(SHORT, {"m": movie()}, CPU)
    for one, other in zip(*(task.batch(torch.Generator().manual_seed(4)).values() for _ in range(2)), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_bad_data_are_refused():
    with pytest.raises(LowdoseError, match="n_frames, height, width"):
        SynthesisTask(SHORT, {"m": movie()[None]}, CPU)
    with pytest.raises(LowdoseError, match="smaller than"):
        SynthesisTask(dataclasses.replace(SHORT, crop_px=None), {"m": movie(shape=(7, 40))}, CPU)
    with pytest.raises(LowdoseError, match="lowest_dose"):
        Settings(method="synthesis3d", lowest_dose=2, highest_dose=1)
    with pytest.raises(LowdoseError, match="precision"):
        Settings(method="synthesis3d", precision="half")


def test_the_published_form_without_smoothed_channels_is_exported_too(monkeypatch, tmp_path):
    """ReLU, max pooling and transposed convolutions, as in "full" but small."""
    classic = dataclasses.replace(WIDTHS["full"], n_features=2, depth=2, n_frames=8, overlap=2)
    monkeypatch.setitem(WIDTHS, "classic", classic)
    made = ThreeDirections("classic")
    made.draw(torch.Generator().manual_seed(0))
    onnx.save(windowed_model_of(made.eval(), {"name": "random"}), tmp_path / "m.onnx")
    differences = check_windowed_parity(tmp_path / "m.onnx", made)
    assert all(0 <= value <= TOLERANCE for value in differences.values())
    metadata = load(tmp_path / "m.onnx", device="cpu").metadata
    assert metadata["align_px"] == 4 and metadata["margin_px"] == made.network("xy").margin_px
