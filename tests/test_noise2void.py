"""Multi-channel Noise2Void: what training hides, that it learns, the model file, and what it must not invent."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch

from lowdose import LowdoseError, load
from lowdose_export.windowed import TOLERANCE, export_windowed
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.loop import train
from lowdose_train.noise2void import hidden_mse, hide, jittered_grid, noise2void_network
from lowdose_train.noise2void_task import Noise2VoidTask, moments
from lowdose_train.settings import Settings

SHORT = Settings(method="n2v", epochs=3, crop_px=48, batch_size=4, threads=1, precision="float32", averaging=0.95)
CPU = torch.device("cpu")


def movie(n_frames=8, seed=0, shape=(64, 72)):
    """A noisy lattice in two channels of different level and sign (n_frames, 2, height, width), and the truth."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    pattern = np.sin(2 * np.pi * x / 9) * np.sin(2 * np.pi * y / 11)
    clean = np.stack([100 + 20 * pattern, 5000 - 300 * pattern]).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 1, (n_frames, 2, *shape)) * np.array([20, 300])[:, None, None]
    return (clean + noise).astype(np.float32), np.broadcast_to(clean, (n_frames, 2, *shape))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run folder, its model file, and the differences that export found."""
    run = tmp_path_factory.mktemp("n2v") / "run"
    train(SHORT, {"movie": movie()[0]}, run)
    return run, run / "n2v.onnx", export_windowed([run / "best.pt"], run / "n2v.onnx")


@pytest.mark.parametrize(("pitch", "jitter"), [(24, 2), (4, 1), (3, 0)])
@pytest.mark.parametrize("shape", [(3, 48, 50), (1, 24, 25), (1, 1, 7)])
def test_the_grid_has_its_pitch_and_jitter(pitch, jitter, shape):
    generator = torch.Generator().manual_seed(0)
    share = np.mean([jittered_grid(shape, pitch, jitter, generator).float().mean() for _ in range(400)])
    assert share == pytest.approx(1 / pitch**2, rel=0.3)
    hidden = jittered_grid((1, 10 * pitch, 10 * pitch), pitch, jitter, generator)[0, 0]
    places = torch.nonzero(hidden) % pitch
    assert all(len(places[:, axis].unique()) <= 2 * jitter + 1 for axis in (0, 1))


def test_every_pixel_is_hidden_as_often():
    generator = torch.Generator().manual_seed(0)
    counts = sum(jittered_grid((50, 21, 26), 4, 1, generator).float().sum(0)[0] for _ in range(100))
    assert float(counts.std() / counts.mean()) < 0.1
    assert float(counts.min()) > 0.6 * float(counts.mean())


def test_what_is_hidden_cannot_be_seen():
    """Nothing that enters the network depends on any hidden pixel, neighbours on the grid included."""
    frames = torch.rand(2, 2, 20, 24, requires_grad=True)
    hidden = jittered_grid((2, 20, 24), 2, 1, torch.Generator().manual_seed(3))  # so dense that windows overlap
    hide(frames, hidden).square().sum().backward()
    assert not frames.grad[hidden.expand_as(frames)].any()
    assert frames.grad[~hidden.expand_as(frames)].all()


def test_a_hidden_pixel_becomes_the_mean_of_the_others_in_its_window():
    frames = torch.rand(1, 2, 9, 9)
    for y, x in ((4, 4), (0, 0), (8, 3)):
        hidden = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
        hidden[0, 0, y, x] = hidden[0, 0, 4, 5] = True
        result = hide(frames, hidden)
        for channel in range(2):
            values = [
                float(frames[0, channel, j, i])
                for j in range(max(0, y - 2), min(9, y + 3))
                for i in range(max(0, x - 2), min(9, x + 3))
                if (j, i) not in ((y, x), (4, 5))
            ]
            assert float(result[0, channel, y, x]) == pytest.approx(np.mean(values), rel=1e-5)
        untouched = ~hidden.expand_as(frames)
        assert torch.equal(result[untouched], frames[untouched])


def test_the_loss_counts_hidden_pixels_of_all_channels_alone():
    frames, denoised = torch.rand(2, 2, 3, 5, 7)
    hidden = torch.rand(2, 1, 5, 7) < 0.3
    chosen = hidden.expand(2, 3, 5, 7)
    expected = float((denoised[chosen] - frames[chosen]).square().mean())
    assert float(hidden_mse(denoised, frames, hidden)) == pytest.approx(expected, rel=1e-5)


def test_learns_from_the_noisy_frames_alone_and_gives_them_back_in_their_units(trained):
    frames, clean = movie()
    result = load(trained[1], device="cpu").denoise(frames)
    for channel, noise_std in enumerate((20, 300)):
        error = np.sqrt(np.mean((result[:, channel] - clean[:, channel]) ** 2))
        assert error < 0.6 * noise_std
        assert result[:, channel].mean() == pytest.approx(clean[0, channel].mean(), rel=0.01)


def test_engines_agree_at_two_sizes(trained):
    _, path, differences = trained
    assert set(differences) == {"onnxruntime", "core", "core, tiled"}
    assert all(0 <= value <= TOLERANCE for value in differences.values())
    model = load(path, device="cpu")
    assert model.channels == ["ADF", "BF"] and model.metadata["align_px"] == 8
    for shape in ((1, 1), (5, 3), (100, 90)):  # any size is taken
        assert np.isfinite(model.denoise(np.random.default_rng(0).random((1, 2, *shape), np.float32))).all()
    runner = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {"frame_0": movie(3, shape=(16, 24))[0]}
    feeds |= dict(zip(("offset", "scale"), moments(feeds["frame_0"]), strict=True))
    together = runner.run(None, {name: value.astype(np.float32) for name, value in feeds.items()})[0]
    np.testing.assert_allclose(together, model.denoise(feeds["frame_0"]), rtol=0, atol=1e-4 * np.ptp(together))


def test_follows_gain_and_offset_of_each_channel(trained):
    frames, _ = movie(2)
    model = load(trained[1], device="cpu")
    before = model.denoise(frames)
    gain, offset = (np.array(pair, np.float32)[:, None, None] for pair in ((3.0, 0.01), (50.0, -4.0)))
    after = model.denoise(frames * gain + offset)
    np.testing.assert_allclose(after, before * gain + offset, rtol=0, atol=1e-4 * np.ptp(after, axis=(0, 2, 3)).max())


def test_noise_gives_no_periodic_structure(trained):
    """In the mean spectrum of denoised noise nothing stands out at the grid's frequencies."""
    noise = np.random.default_rng(5).normal(100, 10, (24, 2, 96, 96)).astype(np.float32)
    assert peak_over_surroundings(load(trained[1], device="cpu").denoise(noise), 4) < 2
    y, x = np.mgrid[:96, :96]
    assert peak_over_surroundings(noise + 3 * ((y % 4 == 0) & (x % 4 == 0)), 4) > 2  # a grid would be seen


def peak_over_surroundings(frames, pitch):
    """Largest mean power at a multiple of 1 / pitch on both axes, over its neighbours' in its row or column.

    The larger of the two medians: the edges of the frame show as a line along each axis.
    """
    contrast = frames - frames.mean(axis=(2, 3), keepdims=True)
    power = (np.abs(np.fft.fft2(contrast)) ** 2).mean(axis=(0, 1))
    side = frames.shape[-1]
    around = np.array([-3, -2, -1, 1, 2, 3])
    worst = 0.0
    for ky in range(0, side, side // pitch):
        for kx in range(0, side, side // pitch):
            if (ky, kx) != (0, 0):
                beside, above = power[ky, (kx + around) % side], power[(ky + around) % side, kx]
                worst = max(worst, power[ky, kx] / max(np.median(beside), np.median(above)))
    return worst


def test_one_bright_pixel_does_not_spread_over_the_frame(trained):
    frames, _ = movie(1)
    model = load(trained[1], device="cpu")
    before = model.denoise(frames)[0, 0]
    frames[0, 0, 32, 36] += 200  # ten standard deviations of the noise
    change = np.abs(model.denoise(frames)[0, 0] - before)
    y, x = np.mgrid[:64, :72]
    away = np.hypot(y - 32, x - 36)
    assert change[away > 12].max() < 0.05 * 200
    assert change.max() < 200


def test_held_out_frames_are_no_targets_and_crops_are_normalised_frames():
    frames = movie(12)[0]
    task = Noise2VoidTask(SHORT, {"a": frames, "b": frames[:5]}, CPU)
    assert not set(task.targets) & set(task.held_out)
    assert len(task.targets) + len(task.held_out) == 17 and len(task.held_out) == 2
    crops, hidden = task.batch(torch.Generator().manual_seed(0))
    assert crops.shape == (4, 2, 48, 48) and hidden.shape == (4, 1, 48, 48)
    whole = task.normalised(1, 4)
    np.testing.assert_allclose(whole.mean(dim=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(whole.std(dim=(1, 2), correction=0), 0.2, rtol=1e-5)
    again = task.batch(torch.Generator().manual_seed(0))
    assert torch.equal(again[0], crops) and torch.equal(again[1], hidden)


def test_a_single_frame_and_a_constant_channel_can_be_trained_on():
    frames = movie(1)[0]
    frames[:, 1] = 7
    task = Noise2VoidTask(SHORT, {"one": frames}, CPU)
    assert task.targets == task.held_out == [(0, 0)]
    task.draw(torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert np.isfinite(task.held_out_loss(task.network))
        assert task.scores(task.network)[0]["umse_0"] is None


def test_an_interrupted_run_goes_on_and_transfer_begins_with_the_weights_given(tmp_path, trained):
    best = trained[0] / "best.pt"
    gentle = dataclasses.replace(SHORT, epochs=1, learning_rate=1e-9)
    tuned = train(gentle, {"other": movie(3, seed=1)[0]}, tmp_path / "tuned", start_from=best)
    for one, other in zip(load_checkpoint(best)[0].parameters(), tuned.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    with pytest.raises(LowdoseError, match="do not fit"):
        train(gentle, {"one channel": movie(3)[0][:, :1]}, tmp_path / "wrong", start_from=best)


def test_bad_data_are_refused(tmp_path):
    frames = movie(3)[0]
    with pytest.raises(LowdoseError, match="n_channels"):
        Noise2VoidTask(SHORT, {"m": frames[:, 0]}, CPU)
    with pytest.raises(LowdoseError, match=r"\[1, 2\] channels"):
        Noise2VoidTask(SHORT, {"m": frames, "n": frames[:, :1]}, CPU)
    with pytest.raises(LowdoseError, match="smaller than"):
        Noise2VoidTask(dataclasses.replace(SHORT, crop_px=None), {"m": frames[..., :7]}, CPU)
    np.save(tmp_path / "two.npy", frames)
    assert Noise2VoidTask.read(tmp_path / "two.npy", "TCYX", 1, SHORT).shape == (3, 1, 64, 72)
    with pytest.raises(LowdoseError, match="2 is not there"):
        Noise2VoidTask.read(tmp_path / "two.npy", "TCYX", 2, SHORT)


def test_full_width_runs_and_is_read_back(tmp_path):
    """One pass: it is too large to train here."""
    network = noise2void_network(1, "full")
    network.draw(torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 16, 32)).shape == (1, 1, 16, 32)
    assert network.margin_px == 139 and network.align_px == 16


def test_only_one_checkpoint_makes_a_model_file(trained, tmp_path):
    with pytest.raises(LowdoseError, match="holds one"):
        export_windowed([trained[0] / "best.pt"] * 2, tmp_path / "x.onnx")
    with pytest.raises(LowdoseError, match="--overwrite"):
        export_windowed([trained[0] / "best.pt"], trained[1])
