"""Training of the blind-feature network: never to less than the filter, the same for a seed, of all kinds of data."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from lowdose import LowdoseError
from lowdose.simulate import diffraction_scan
from lowdose.source import ArraySource
from lowdose_train import checkpoint
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import Crops, frames_to_learn, learned_part
from lowdose_train.bfn_scan_task import BfnScanTask
from lowdose_train.bfn_simulated import SimulatedBfnTask
from lowdose_train.bfn_task import BfnTask, set_filter
from lowdose_train.loop import train
from lowdose_train.run import Run
from lowdose_train.settings import Settings

CPU = torch.device("cpu")
SHORT = Settings(method="bfn", epochs=2, batch_size=4, crop_px=16, n_features=6, n_hidden=8, side_px=7, threads=1)


def waves(n_frames=6, n_channels=1, side=32, noise=1.0, seed=0):
    """Squares of a moving wave, which no linear filter predicts well, under noise; and the truth."""
    t, c, y, x = np.ogrid[:n_frames, :n_channels, :side, :side]
    clean = 3.0 * (np.sin(2 * np.pi * (x + 0.4 * y - 0.7 * t + 3 * c) / 8) > 0.6)
    noisy = clean + noise * np.random.default_rng(seed).normal(size=clean.shape)
    return noisy.astype(np.float32), clean.astype(np.float32)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_training_passes_the_filter_on_the_truth(tmp_path, n_channels):
    noisy, clean = waves(10, n_channels, 48)
    settings = dataclasses.replace(SHORT, epochs=3, learning_rate=1e-2, taps=3)
    result = train(settings, {"movie": noisy}, tmp_path / "run")
    assert result.metrics["stacks"][0]["gain_over_filter"] > 0
    task = BfnTask(settings, {"movie": noisy}, CPU)
    set_filter(task.network, task.filter)
    task.look()
    frames = task.frames[0]
    crops = Crops.of([frames.crop(t, 0, x, 16, 3) for t in range(10) for x in (0, 16, 32)])
    truth = dataclasses.replace(frames, wanted=torch.from_numpy(clean))
    wanted = Crops.of([truth.crop(t, 0, x, 16, 3) for t in range(10) for x in (0, 16, 32)]).wanted
    by_filter, by_network = ((crops.result(n) - wanted).square().mean() for n in (None, result.network))
    assert by_network < 0.9 * by_filter


def test_the_filter_is_kept_where_training_only_harms(tmp_path, monkeypatch):
    step = Run.train_step

    def harmful(run):
        loss = step(run)
        with torch.no_grad():
            run.network.perceptron.b3 += 100.0
        return loss

    monkeypatch.setattr(Run, "train_step", harmful)
    # A single frame of noise: there is nothing to learn, and nothing is what is kept.
    result = train(SHORT, {"movie": (waves(n_frames=1)[0] - waves(n_frames=1)[1])}, tmp_path / "run")
    assert result.metrics["epoch"] == 0 and result.metrics["held_out"] == 0
    assert not result.network.perceptron.w3.any() and not result.network.perceptron.b3.any()
    best = checkpoint.read(tmp_path / "run" / "best.pt")
    assert best["metrics"]["epoch"] == 0


def test_before_the_first_step_the_last_layer_is_fitted():
    task = BfnTask(dataclasses.replace(SHORT, held_out=0.3), {"movie": waves()[0]}, CPU)
    generator = torch.Generator().manual_seed(0)
    task.draw(generator)
    assert not task.network.perceptron.w3.any()
    task.prepare(generator)
    with torch.no_grad():
        loss = task.held_out_loss(task.network)
        assert loss < -0.01
        task.network.perceptron.w3.add_(1.0)
        assert task.held_out_loss(task.network) > 0
        task.refit(task.network)
        assert task.held_out_loss(task.network) == pytest.approx(loss, abs=0.05)


def test_the_best_so_far_is_there_before_the_first_step(tmp_path, monkeypatch):
    def interrupted(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(SHORT, {"movie": waves()[0]}, tmp_path / "run")
    network, record = checkpoint.load_checkpoint(tmp_path / "run" / "best.pt")
    assert record["metrics"]["epoch"] == 0 and record["metrics"]["held_out"] <= 0
    assert isinstance(network, BlindFeatureNetwork)


def test_the_same_seed_gives_the_same_network(tmp_path):
    runs = [train(SHORT, {"movie": waves()[0]}, tmp_path / name).network for name in "ab"]
    for one, other in zip(*(run.state_dict().values() for run in runs), strict=True):
        assert torch.equal(one, other)
    other = train(dataclasses.replace(SHORT, seed=1), {"movie": waves()[0]}, tmp_path / "c").network
    assert not torch.equal(other.features.mix, runs[0].features.mix)


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    stacks = {"movie": waves()[0]}
    whole = train(SHORT, stacks, tmp_path / "whole")
    step = Run.train_step

    def interrupted(run):
        if run.step == 60:  # in the second epoch
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(SHORT, stacks, tmp_path / "parts")
    monkeypatch.undo()
    parts = train(SHORT, stacks, tmp_path / "parts", resume=True)
    for one, other in zip(*(run.network.state_dict().values() for run in (whole, parts)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("worse_by", [0.0, 5.0])
@torch.no_grad()
def test_trained_weights_must_be_clearly_better_than_the_first_ones(worse_by, monkeypatch):
    task = BfnTask(SHORT, {"movie": waves()[0]}, CPU)
    generator = torch.Generator().manual_seed(0)
    task.draw(generator)
    task.prepare(generator)
    monkeypatch.setattr(task, "refit", lambda network: None)
    trained = copy.deepcopy(task.network)
    trained.perceptron.b3 += worse_by
    found = task.finish(trained)
    assert found["step"] == 0 and found["held_out"] == pytest.approx(task.held_out_loss(task.network))
    assert torch.equal(trained.perceptron.b3, task.network.perceptron.b3)
    task.first_weights["perceptron.b3"] = task.network.perceptron.b3 + 5.0
    assert "step" not in task.finish(copy.deepcopy(task.network))


def test_held_out_tiles_are_no_targets():
    task = BfnTask(SHORT, {"movie": waves()[0]}, CPU)
    generator = torch.Generator().manual_seed(0)
    task.draw(generator)
    task.prepare(generator)
    (frames,) = task.frames
    assert len(frames.held_out) == 2  # a tenth of 24 tiles
    for t, y, x in frames.held_out:
        assert not frames.crop(t, y, x, 16, 3)[4].any()
        assert frames.crop(t, y, x, 16, 3, held_out=True)[4].all()
    for t, y, x in frames.held_out:  # a feature reaches 3 pixels
        around = frames.targets[t, max(0, y - 3) : y + 19, max(0, x - 3) : x + 19]
        assert not around.any() and frames.targets[t].sum() >= 32 * 32 - 2 * 22 * 22


def test_a_single_image_is_enough(tmp_path):
    result = train(SHORT, {"image": waves(n_frames=1)[0]}, tmp_path / "run")
    assert result.network.n_taps == 1


def test_a_scan_trains_with_its_neighbours(tmp_path):
    scene = diffraction_scan(0, scan_y=4, scan_x=5, height=32, width=40)
    scan = np.random.default_rng(0).poisson(scene.clean / scene.clean.mean()).astype(np.uint8)
    result = train(dataclasses.replace(SHORT, method="bfn-4d"), {"scan": scan}, tmp_path / "run")
    assert result.network.n_taps == 25 and result.network.scan.level.shape == (1, 32, 40)
    assert result.network.scan.taps.tolist()[12] == [0, 0]
    again, _ = checkpoint.load_checkpoint(tmp_path / "run" / "best.pt")
    assert torch.equal(again.scan.scale, result.network.scan.scale)
    with pytest.raises(LowdoseError, match="learns from one scan; given 2"):
        BfnScanTask(dataclasses.replace(SHORT, method="bfn-4d"), {"a": scan, "b": scan}, CPU)


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_fine_tuning_keeps_the_network_and_fits_the_filter_anew(tmp_path, taps):
    """Whatever number of frames the network began with."""
    train(dataclasses.replace(SHORT, taps=3, linear_px=9), {"movie": waves()[0]}, tmp_path / "first")
    settings = dataclasses.replace(SHORT, taps=taps, linear_px=5)
    task = BfnTask(settings, {"movie": waves(seed=1, noise=0.5)[0]}, CPU)
    Run(settings, task, print).start(tmp_path / "first" / "best.pt")
    first, _ = checkpoint.load_checkpoint(tmp_path / "first" / "best.pt")
    assert task.network.filter.weight.shape == (1, taps, 5, 5) and task.network.filter.weight.any()
    mix, of_first = (n.features.mix[..., :-1] for n in (task.network, first))
    inner = min(taps, 3)
    middle = [values[..., (n - inner) // 2 : (n + inner) // 2] for values, n in ((mix, taps), (of_first, 3))]
    torch.testing.assert_close(*middle)
    assert not mix[..., : max(0, taps - 3) // 2].any()
    torch.testing.assert_close(task.network.perceptron.w2, first.perceptron.w2)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_what_is_learned_from_rows_is_learned_with_a_filter_that_does_not_know_them(n_channels):
    noisy, _ = waves(n_channels=n_channels, side=64)
    task = BfnTask(dataclasses.replace(SHORT, taps=3, linear_px=5), {"movie": noisy}, CPU)
    generator = torch.Generator().manual_seed(0)
    task.draw(generator)
    task.prepare(generator)
    rows = [frames.rows for frames in task.frames]
    assert [(part.start, part.stop) for part in rows] == [(0, 16), (16, 32), (32, 48), (48, 64)]
    other = noisy.copy()
    other[:, :, rows[1]] = np.random.default_rng(5).normal(size=other[:, :, rows[1]].shape)
    changed = BfnTask(dataclasses.replace(SHORT, taps=3, linear_px=5), {"movie": other}, CPU)
    changed.draw(generator)
    changed.prepare(generator)
    # The same but for level and scale, which the changed rows move.
    differences = [float((a.centre - b.centre).abs().max()) for a, b in zip(task.frames, changed.frames, strict=True)]
    assert 2 * differences[1] < min(differences[0], *differences[2:])
    for frames in task.frames:
        part = frames.crop(2, frames.rows.start, 7, 16, 3)
        assert part[1].shape == (n_channels, 22, 22) and part[2].shape == (n_channels, 16, 16)
        assert all(frames.rows.start <= y <= frames.rows.stop - 16 for _, y, _ in frames.held_out)


@torch.no_grad()
def test_counting_noise_weighs_bright_pixels_less():
    expected = np.repeat([[4.0], [100.0]], 16, 0) * np.ones((1, 48))
    counts = np.random.default_rng(0).poisson(np.broadcast_to(expected, (6, 1, 32, 48))).astype(np.float32)
    settings = dataclasses.replace(SHORT, noise="counting", taps=3)
    task = BfnTask(settings, {"movie": counts}, CPU)
    generator = torch.Generator().manual_seed(0)
    task.draw(generator)
    task.prepare(generator)
    (line,) = task.noise
    scale, offset = float(task.frames[0].scale[2]), float(task.frames[0].offset[2])
    dark, bright = (float(line.at(torch.tensor((value - offset) / scale))) * scale**2 for value in (4.0, 100.0))
    assert bright == pytest.approx(100, rel=0.15) and dark == pytest.approx(4, abs=3)
    batch = task.batch(generator)
    errors = (batch.result(task.network) - batch.wanted).square() * batch.weights
    variances = line.at(batch.result(None)).clamp(min=0.05)
    weights = batch.weights / variances
    assert float(task.loss(task.network, batch)) == pytest.approx(float((errors / variances).sum() / weights.sum()))


def test_simulated_scenes_teach_without_noise_in_the_targets(tmp_path):
    scenes = {f"scene {i}": waves(n_frames=3, side=24, noise=0)[1] + 0.5 for i in range(10)}
    settings = dataclasses.replace(SHORT, taps=3, linear_px=5, epochs=4, learning_rate=1e-2)
    result = train(settings, scenes, tmp_path / "run", task_type=SimulatedBfnTask)
    assert result.metrics["held_out"] < -0.02


def test_of_large_files_the_middle_is_learned_from():
    frames = np.zeros((3, 1, 2000, 2500), np.uint8)
    assert learned_part(frames).shape == (3, 1, 1632, 1632)
    many = np.arange(300, dtype=np.uint16)[:, None, None, None] * np.ones((1, 1, 16, 16), np.uint16)
    assert learned_part(many)[[0, -1], 0, 0, 0].tolist() == [22, 277]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((4, 1, 8, 40), np.uint8), "frames of 8 pixels are too small"),
        (np.zeros((4, 40, 40), np.uint8), "n_frames, n_channels, height, width"),
        (np.ones((4, 1, 40, 40), np.uint8), "constant"),
    ],
)
def test_data_that_do_not_fit_are_refused(frames, words):
    with pytest.raises(LowdoseError, match=words):
        BfnTask(SHORT, {"movie": frames}, CPU)


def test_what_calibrate_reads_is_what_training_takes():
    scan = np.random.default_rng(0).poisson(2, (40, 3, 16, 20)).astype(np.uint8)
    assert np.array_equal(frames_to_learn(ArraySource(scan, n_channels=1, is_scan=True)), scan[4:36])
    movie = np.random.default_rng(0).poisson(2, (5, 2, 16, 20)).astype(np.uint8)
    assert np.array_equal(frames_to_learn(ArraySource(movie, n_channels=2, is_scan=False)), movie)
    single = movie[:, 0]
    assert np.array_equal(frames_to_learn(ArraySource(single, n_channels=1, is_scan=False)), single[:, None])
