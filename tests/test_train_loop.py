"""The training loop: it learns, stops, resumes bit for bit, keeps the best weights and revives dead branches."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from lowdose.errors import LowdoseError
from lowdose_train import checkpoint
from lowdose_train.blind_spot_task import BlindSpotTask, blind_spot_stack
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.loop import find_device, train
from lowdose_train.run import Run
from lowdose_train.settings import Settings

SHORT = Settings(epochs=4, crop_px=24, batch_size=2, threads=1)
CPU = torch.device("cpu")


def movie(n_frames=10, mean=4.0, seed=0):
    """Noisy counts of a smooth pattern that drifts, and the pattern."""
    y, x = np.mgrid[:40, :44]
    shift = 0.4 * np.arange(n_frames)[:, None, None]
    clean = mean * (1 + 0.8 * np.sin((x + shift) / 3.0) * np.sin(y / 3.5))
    return np.random.default_rng(seed).poisson(clean).astype(np.uint8), clean


def new_run(settings=SHORT, messages=None):
    task = BlindSpotTask(settings, {"movie": movie()[0]}, CPU)
    run = Run(settings, task, (messages if messages is not None else []).append)
    run.start(None)
    return run


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
def test_learns_to_denoise_from_the_noisy_movie_alone(tmp_path, method):
    frames, clean = movie()
    settings = dataclasses.replace(SHORT, method=method, epochs=10)
    result = train(settings, {"movie": frames}, tmp_path / "run")
    assert result.stopped_by == "epochs"
    n_taps = 3 if method == "wcvd" else 1
    stack = blind_spot_stack("movie", frames, settings)
    with torch.no_grad():
        denoised = np.stack([result.network(stack.window(t))[0, 0].numpy() for t in range(1, 9)])
    denoised = denoised * stack.noise_std + stack.offset
    noise = np.mean((frames[1:-1] - clean[1:-1]) ** 2)
    assert np.mean((denoised - clean[1:-1]) ** 2) < 0.15 * noise
    middle = result.network.branches[0].kernel[:, n_taps // 2, 1, 1]
    assert not middle.any()


def test_writes_a_run_that_can_be_read_without_trusting_it(tmp_path):
    result = train(SHORT, {"movie": movie()[0]}, tmp_path / "run")
    raw = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert {"method", "settings", "state_dict", "metrics", "seed", "commit", "data", "format_version"} == set(raw)
    network, meta = load_checkpoint(tmp_path / "run" / "best.pt")
    assert Settings.from_mapping(meta["settings"]) == SHORT
    assert meta["data"][0]["offset"] == 0 and meta["data"][0]["shape"] == [10, 40, 44]
    assert meta["metrics"]["stacks"][0]["umse"] is not None
    for mine, theirs in zip(network.parameters(), result.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert meta["metrics"]["held_out"] == min(line["held_out"] for line in lines)
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == SHORT.to_mapping()


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    stacks = {"movie": movie()[0]}
    whole = train(SHORT, stacks, tmp_path / "whole")
    step = Run.train_step
    budget = 53  # in the third epoch of 20 steps

    def interrupted(run):
        if run.step == budget:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(SHORT, stacks, tmp_path / "parts")
    monkeypatch.undo()
    parts = train(SHORT, stacks, tmp_path / "parts", resume=True)
    for one, other in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        assert torch.equal(one, other)
    last, other = (checkpoint.read(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    for name, weights in last["network"].items():
        assert torch.equal(weights, other["network"][name])
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


def test_resuming_with_other_settings_or_data_is_refused(tmp_path):
    train(SHORT, {"movie": movie()[0]}, tmp_path / "run")
    with pytest.raises(LowdoseError, match="learning_rate"):
        train(dataclasses.replace(SHORT, learning_rate=0.1), {"movie": movie()[0]}, tmp_path / "run", resume=True)
    with pytest.raises(LowdoseError, match="the data"):
        train(SHORT, {"other": movie()[0]}, tmp_path / "run", resume=True)
    with pytest.raises(LowdoseError, match="--resume"):
        train(SHORT, {"movie": movie()[0]}, tmp_path / "run")
    with pytest.raises(LowdoseError, match=r"settings\.json"):
        train(SHORT, {"movie": movie()[0]}, tmp_path / "nowhere", resume=True)


def test_later_training_does_not_change_the_best_weights():
    run = new_run()
    run.train_epoch(lambda: None)
    kept = {name: weights.clone() for name, weights in run.best_state.items()}
    run.best_metrics["held_out"] = 0.0  # nothing later is better
    run.train_epoch(lambda: None)
    assert run.best_metrics["epoch"] == 1
    for name, weights in run.best_contents()["state_dict"].items():
        assert torch.equal(weights, kept[name])
    assert not torch.equal(run.averaged.branches[0].head, kept["branches.0.head"])


def test_a_dead_branch_is_drawn_anew_and_reported():
    messages: list[str] = []
    run = new_run(messages=messages)
    run.train_epoch(lambda: None)
    assert messages == []
    dead, alive = run.network.each_branch()[1], run.network.each_branch()[2]
    with torch.no_grad():
        dead.head.copy_(-dead.head.abs())
        dead.mixing.copy_(torch.eye(3).expand(4, 3, 3))
        dead.kernel.abs_()
    frames = run.task.batch(torch.Generator().manual_seed(0))
    assert not run.network.branch_outputs(frames)[1].any()
    untouched = alive.kernel.detach().clone()
    run.mend()
    assert run.network.branch_outputs(frames)[1].any()
    assert len(messages) >= 1 and "branch 1" in messages[0]
    assert torch.equal(alive.kernel, untouched)
    assert dead.head not in run.optimiser.state and alive.head in run.optimiser.state
    assert torch.equal(run.averaged.each_branch()[1].kernel, dead.kernel)
    before = dead.kernel.detach().clone()
    run.train_step()
    assert not torch.equal(dead.kernel, before)
    torch.testing.assert_close(dead.kernel.detach(), before, rtol=0, atol=0.5 * float(before.abs().max()))


def test_stops_early_when_nothing_gets_better(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "held_out_loss", lambda run: 1.0 + run.epoch)
    settings = dataclasses.replace(SHORT, epochs=50, patience_epochs=3)
    result = train(settings, {"movie": movie()[0]}, tmp_path / "run")
    assert result.stopped_by == "patience"
    assert result.metrics["epoch"] == 1


def test_a_budget_ends_the_run_at_a_low_rate(tmp_path):
    settings = dataclasses.replace(SHORT, epochs=10**6, budget_s=0.6)
    result = train(settings, {"movie": movie()[0]}, tmp_path / "run")
    assert result.stopped_by == "budget"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["learning_rate"] < 0.5 * settings.learning_rate


def test_fine_tuning_begins_with_the_weights_given(tmp_path):
    train(SHORT, {"movie": movie()[0]}, tmp_path / "first")
    best = tmp_path / "first" / "best.pt"
    gentle = dataclasses.replace(SHORT, epochs=1, learning_rate=1e-9)
    tuned = train(gentle, {"movie": movie(seed=1)[0]}, tmp_path / "second", start_from=best)
    for one, other in zip(load_checkpoint(best)[0].parameters(), tuned.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    with pytest.raises(LowdoseError, match="wcid"):
        train(dataclasses.replace(SHORT, method="wcid"), {"m": movie()[0]}, tmp_path / "third", start_from=best)
    assert not (tmp_path / "third").exists()


def test_a_run_that_diverges_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "held_out_loss", lambda run: float("nan"))
    with pytest.raises(LowdoseError, match="--learning-rate"):
        train(SHORT, {"movie": movie()[0]}, tmp_path / "run")


def test_a_single_image_is_enough_for_wcid(tmp_path):
    settings = dataclasses.replace(SHORT, method="wcid", epochs=1)
    result = train(settings, {"image": movie(1)[0]}, tmp_path / "run")
    assert result.metrics["stacks"][0]["umse"] is None


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "tensorrt"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(LowdoseError, match=f"{name}.*available: cpu"):
        find_device(name)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with pytest.raises(LowdoseError, match=r"x\.pt"):
        load_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(LowdoseError, match=r"x\.pt"):
        load_checkpoint(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(LowdoseError, match="no lowdose checkpoint"):
        load_checkpoint(path)
    torch.save({"format_version": checkpoint.FORMAT_VERSION + 1}, path)
    with pytest.raises(LowdoseError, match="update lowdose"):
        load_checkpoint(path)
    checkpoint.save({"method": "wcvd", "state_dict": {}}, path)
    with pytest.raises(LowdoseError, match="do not fit"):
        load_checkpoint(path)


class TestCommand:
    """`lowdose train` through click."""

    def run(self, *arguments):
        from lowdose_train.cli import train as command

        return command.main([str(argument) for argument in arguments], standalone_mode=False)

    def test_trains_on_a_folder_and_resumes(self, tmp_path, capsys):
        folder = tmp_path / "movies"
        folder.mkdir()
        for seed in (0, 1):
            np.save(folder / f"{seed}.npy", movie(seed=seed)[0])
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({"batch_size": 2, "threads": 1}))
        out = tmp_path / "run"
        self.run("wcvd", folder, "-o", out, "--settings", settings, "--epochs", 1, "--crop", 16)
        printed = capsys.readouterr().out
        assert "upsnr_db" in printed and "best.pt" in printed
        meta = load_checkpoint(out / "best.pt")[1]
        assert len(meta["data"]) == 2
        assert meta["settings"]["crop_px"] == 16 and meta["settings"]["batch_size"] == 2
        self.run("wcvd", folder, "-o", out, "--resume")
        with pytest.raises(LowdoseError, match="epochs"):
            self.run("wcvd", folder, "-o", out, "--resume", "--epochs", 9)

    def test_ctrl_c_ends_with_130_and_says_how_to_go_on(self, tmp_path, capsys, monkeypatch):
        np.save(tmp_path / "m.npy", movie()[0])

        def interrupted(run):
            raise KeyboardInterrupt

        monkeypatch.setattr(Run, "train_step", interrupted)
        code = self.run("wcvd", tmp_path / "m.npy", "-o", tmp_path / "run", "--threads", 1, "--crop", 16)
        assert code == 130
        assert "--resume" in capsys.readouterr().err

    def test_nothing_is_written_for_data_that_do_not_fit(self, tmp_path):
        np.save(tmp_path / "two.npy", movie(2)[0])
        with pytest.raises(LowdoseError, match="wcid"):
            self.run("wcvd", tmp_path / "two.npy", "-o", tmp_path / "run")
        with pytest.raises(LowdoseError):
            self.run("wcvd", tmp_path / "missing.npy", "-o", tmp_path / "run")
        assert not (tmp_path / "run").exists()
