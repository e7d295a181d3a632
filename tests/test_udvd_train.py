"""Training of UDVD on noisy movies and scans, and on simulated ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lowdose.errors import LowdoseError
from lowdose_train import checkpoint, udvd
from lowdose_train.bundled_udvd import drawn, shuffled
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.cli import train as train_command
from lowdose_train.loop import train
from lowdose_train.run import Run
from lowdose_train.settings import Settings
from lowdose_train.udvd_scan_task import OWN, UdvdScanTask, noise_weights, scan_stack
from lowdose_train.udvd_simulated import SimulatedScanTask, SimulatedUdvdTask, add_noise
from lowdose_train.udvd_task import CLIP_FRAMES, UdvdTask, udvd_stack
from udvd_networks import TINY, TINY_WITH_FILTER

CPU = torch.device("cpu")
MOVIE = Settings(method="udvd", epochs=2, crop_px=24, batch_size=1, threads=1)
SCAN = Settings(method="udvd-4d", epochs=2, crop_px=16, batch_size=2, threads=1)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(udvd.WIDTHS, "lite", TINY_WITH_FILTER)


def movie(n_frames=8, seed=0, shape=(40, 44), mean=4.0):
    """Noisy counts of a smooth pattern that drifts, and the pattern."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    shift = 0.4 * np.arange(n_frames)[:, None, None]
    clean = mean * (1 + 0.8 * np.sin((x + shift) / 3.0) * np.sin(y / 3.5))
    return np.random.default_rng(seed).poisson(clean).astype(np.uint8), clean


def scan(scan_y=4, scan_x=5, seed=0):
    """Noisy counts of blurred disks of which some change with the position, and what was expected."""
    y, x = np.mgrid[:24, :28]
    disks = [np.exp(-((np.hypot(y - 12, x - cx) / 3.5) ** 2)) for cx in (6, 14, 22)]
    weights = np.linspace(0.5, 4, scan_y * scan_x)
    clean = np.stack([0.05 + disks[0] * w + 8 * disks[1] + disks[2] / w for w in weights])
    noisy = np.random.default_rng(seed).poisson(clean).astype(np.uint8)
    return noisy.reshape(scan_y, scan_x, 24, 28), clean.reshape(scan_y, scan_x, 24, 28)


CASES = [(MOVIE, movie), (SCAN, scan)]


def test_learns_to_denoise_a_movie_from_itself(tmp_path):
    frames, clean = movie()
    result = train(dataclasses.replace(MOVIE, epochs=3), {"movie": frames}, tmp_path / "run")
    stack = udvd_stack("movie", frames, MOVIE)
    with torch.no_grad():
        windows = torch.cat([stack.window(t) for t in range(len(frames))])
        denoised = result.network(windows)[:, 0].numpy() * stack.noise_std + stack.offset
    error, noise = (np.mean((frames_ - clean) ** 2) for frames_ in (denoised, frames))
    assert error < 0.1 * noise
    assert result.metrics["stacks"][0]["upsnr_db"] > 10


def test_learns_to_denoise_a_scan_from_itself(tmp_path):
    noisy, clean = scan()
    result = train(dataclasses.replace(SCAN, epochs=3), {"scan": noisy}, tmp_path / "run")
    stack = scan_stack("scan", noisy, SCAN)
    with torch.no_grad():
        windows = torch.cat([stack.window(p) for p in range(20)])
        denoised = result.network(windows)[:, 0].numpy() * stack.noise_std + stack.offset
    error, noise = (np.mean((patterns - clean.reshape(20, 24, 28)) ** 2) for patterns in (denoised, stack.frames))
    assert error < 0.3 * noise


@pytest.mark.parametrize(("settings", "data"), CASES)
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, settings, data):
    stacks = {"data": data()[0]}
    whole = train(settings, stacks, tmp_path / "whole")
    step = Run.train_step

    def interrupted(run):
        if run.step == 25:  # in the second epoch
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(settings, stacks, tmp_path / "parts")
    monkeypatch.undo()
    monkeypatch.setitem(udvd.WIDTHS, "lite", TINY_WITH_FILTER)
    train(settings, stacks, tmp_path / "parts", resume=True)
    last, other = (checkpoint.read(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    for name, weights in last["network"].items():
        assert torch.equal(weights, other["network"][name]), name
    assert whole.metrics["epoch"] >= 1


@pytest.mark.parametrize(("settings", "data"), CASES)
def test_fine_tuning_begins_with_the_weights_given_and_a_new_filter(tmp_path, settings, data):
    train(settings, {"a": data()[0]}, tmp_path / "first")
    best = tmp_path / "first" / "best.pt"
    gentle = dataclasses.replace(settings, epochs=1, learning_rate=1e-9)
    tuned = train(gentle, {"b": data(seed=1)[0]}, tmp_path / "second", start_from=best)
    first = load_checkpoint(best)[0].state_dict()
    for name, weights in tuned.network.state_dict().items():
        if name in ("head.weight", "filter.kernel"):
            assert not torch.equal(weights, first[name])
        else:
            torch.testing.assert_close(weights, first[name], rtol=1e-4, atol=1e-6)


def test_weights_of_another_width_are_refused(tmp_path, monkeypatch):
    train(dataclasses.replace(MOVIE, epochs=1), {"a": movie()[0]}, tmp_path / "first")
    monkeypatch.setitem(udvd.WIDTHS, "full", TINY)
    full = dataclasses.replace(MOVIE, width="full")
    with pytest.raises(LowdoseError, match="do not fit"):
        train(full, {"a": movie()[0]}, tmp_path / "second", start_from=tmp_path / "first" / "best.pt")


def test_training_begins_at_the_quality_of_the_filter():
    task = UdvdTask(MOVIE, {"movie": movie()[0]}, CPU)
    task.draw(torch.Generator().manual_seed(0))
    task.prepare(torch.Generator().manual_seed(0))
    with torch.no_grad():
        held_out = task.held_out_loss(task.network)
        noise = sum(float(w[:, 2].var()) for w in task.held_out) / len(task.held_out)
    assert held_out < 0.7 * noise
    assert not task.network.head.weight.any()


@pytest.mark.parametrize("n_frames", [1, 2, 5, 12])
def test_clips_are_consecutive_frames_and_held_out_ones_have_no_weight(n_frames):
    frames = np.arange(n_frames, dtype=np.float32)[:, None, None] + np.random.default_rng(0).random((n_frames, 24, 24))
    task = UdvdTask(MOVIE, {"movie": frames}, CPU)
    stack, generator = task.stacks[0], torch.Generator().manual_seed(0)
    for _ in range(10):
        clip, weight = (part[0] for part in task.batch(generator))
        assert clip.shape == (CLIP_FRAMES + 4, 24, 24) and weight.shape == (CLIP_FRAMES,)
        means = (clip.mean((1, 2)).numpy() * stack.noise_std + stack.offset).round(1) - 0.5
        numbers = np.rint(means).astype(int)
        steps = np.diff(numbers)
        assert set(steps.tolist()) <= {0, 1} or set(steps.tolist()) <= {0, -1}
        assert [bool(w) for w in weight] == [t in stack.targets for t in numbers[2:-2]]
        assert weight.any()


def test_scan_crops_are_triplets_of_one_place_in_neighbouring_patterns():
    patterns = 100 * np.arange(12)[:, None, None] + np.random.default_rng(0).random((12, 16, 16))
    task = UdvdScanTask(SCAN, {"scan": patterns.reshape(3, 4, 16, 16)}, CPU)
    stack, generator = task.stacks[0], torch.Generator().manual_seed(0)
    for _ in range(5):
        crops, weights = task.batch(generator)
        assert crops.shape == (2, 9, 16, 16) and weights.shape == (2, 1, 16, 16)
        numbers = ((crops.mean((2, 3)).numpy() * stack.noise_std + stack.offset) / 100).astype(int)
        for crop in numbers:
            assert crop[OWN] in stack.targets
            assert crop.tolist() == stack.taps[crop[OWN]].tolist()


def test_noise_weights_are_inverse_deviations_where_the_signal_stands_still():
    level = np.where(np.arange(40) < 20, 2.0, 50.0) * np.ones((40, 1))
    noisy = np.random.default_rng(0).poisson(np.broadcast_to(level, (12, 12, 40, 40)))
    weights = noise_weights(noisy)
    assert weights[20, 5] / weights[20, 35] == pytest.approx(5, rel=0.1)
    assert weights.mean() == pytest.approx(1)
    assert (noise_weights(noisy[:1, :1]) == 1).all()


@pytest.mark.parametrize("db", [0.0, 20.0])
def test_simulated_noise_has_the_strength_asked_for(monkeypatch, db):
    monkeypatch.setattr("lowdose_train.udvd_simulated.INPUT_PSNR_DB", (db, db))
    clean = torch.from_numpy(movie(20)[1].astype(np.float32))
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):  # all kinds
        noisy, wanted = add_noise(clean, float(np.ptp(clean.numpy())), generator)
        assert float((noisy - wanted).var()) == pytest.approx(1, rel=0.03)
        assert float(np.ptp(wanted.numpy())) == pytest.approx(10 ** (db / 20), rel=0.01)


@pytest.mark.parametrize(
    ("task_type", "settings", "data"), [(SimulatedUdvdTask, MOVIE, movie), (SimulatedScanTask, SCAN, scan)]
)
def test_simulated_training_learns_and_its_weights_can_be_refined(tmp_path, monkeypatch, task_type, settings, data):
    monkeypatch.setattr("lowdose_train.udvd_simulated.STEPS_PER_EPOCH", 30)
    monkeypatch.setattr("lowdose_train.udvd_simulated.N_HELD_OUT", 6)
    monkeypatch.setattr("lowdose_train.udvd_simulated.N_FILTER_EXAMPLES", 8)
    clean = data()[1]
    clean = clean / clean.sum((-2, -1), keepdims=True) if data is scan else clean
    scenes = {str(number): clean for number in range(10)}
    assert len(task_type(settings, scenes, CPU).scenes) == 9
    idle = train(
        dataclasses.replace(settings, epochs=1, learning_rate=1e-9), scenes, tmp_path / "idle", task_type=task_type
    )
    result = train(settings, scenes, tmp_path / "run", task_type=task_type)
    assert result.metrics["held_out"] < idle.metrics["held_out"]
    gentle = dataclasses.replace(settings, epochs=1, learning_rate=1e-6)
    tuned = train(gentle, {"noisy": data()[0]}, tmp_path / "tuned", start_from=tmp_path / "run" / "best.pt")
    assert tuned.metrics["held_out"] < 2


def test_the_order_of_bundled_scenes_repeats():
    scenes = {str(number): np.zeros((1, 1, 1), np.float32) for number in range(20)}
    assert list(shuffled(scenes)) == list(shuffled(scenes)) != list(scenes)
    assert sorted(shuffled(scenes)) == sorted(scenes)
    assert 0.1 <= drawn(3, (0.1, 0.3)) == drawn(3, (0.1, 0.3)) <= 0.3


@pytest.mark.parametrize(
    ("method", "data", "words"),
    [
        ("udvd", np.ones((5, 25, 25)), "all equal"),
        ("udvd", np.ones((2, 3, 16, 16)), "n_frames, height, width"),
        ("udvd-4d", np.ones((9, 16, 16)), "scan_y, scan_x"),
        ("udvd-4d", scan()[0][..., :12, :12], "--crop"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(tmp_path, method, data, words):
    settings = MOVIE if method == "udvd" else SCAN
    with pytest.raises(LowdoseError, match=words):
        train(settings, {"bad": data}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("blind_px", 2), ("neighbours", "ring"), ("width", "wide")])
def test_wrong_settings_are_errors(name, value):
    with pytest.raises(LowdoseError, match=name):
        Settings.from_mapping({"method": "udvd-4d", name: value})


def test_fine_tuning_begins_with_a_bundled_model_by_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.undo()  # the width of the bundled model
    np.save(tmp_path / "movie.npy", movie()[0])
    arguments = ["udvd", tmp_path / "movie.npy", "-o", tmp_path / "run", "--epochs", 1, "--crop", 16]
    train_command([str(a) for a in [*arguments, "--from", "udvd-lite"]], standalone_mode=False)
    assert "best epoch 1" in capsys.readouterr().out
    with pytest.raises(LowdoseError, match="nothing"):
        train_command([str(a) for a in [*arguments[:3], tmp_path / "new", "--from", "nothing"]], standalone_mode=False)


def test_the_published_width_takes_the_published_settings():
    for method in ("udvd", "udvd-4d"):
        full = Settings(method=method, width="full")
        assert (full.learning_rate, full.batch_size, full.epochs, full.crop_for(999)) == (1e-4, 1, 50, 256)
        assert Settings(method=method).crop_for(999) == 64


def test_command_trains_on_a_scan_file(tmp_path, capsys):
    np.save(tmp_path / "scan.npy", scan()[0])
    arguments = [
        "udvd-4d",
        tmp_path / "scan.npy",
        "--axes",
        "QRYX",
        "-o",
        tmp_path / "run",
        "--epochs",
        1,
        "--crop",
        16,
    ]
    train_command([str(a) for a in arguments], standalone_mode=False)
    assert "best epoch 1" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "best.pt")[1]["data"][0]["shape"] == [4, 5, 24, 28]
