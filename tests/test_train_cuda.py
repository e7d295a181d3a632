"""Every method trains on a GPU, where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdose_train.bundled_udvd import scan_scenes
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.loop import train
from lowdose_train.settings import METHODS, Settings
from lowdose_train.udvd_simulated import SimulatedScanTask, SimulatedUdvdTask

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU")


def stack_for(method):
    random = np.random.default_rng(0)
    if method in ("udvd-4d", "bfn-4d"):
        return random.poisson(4.0, (3, 4, 32, 36)).astype(np.uint8)
    if method == "n2v":
        return random.poisson(4.0, (6, 2, 64, 68)).astype(np.float32)
    if method == "bfn":
        return random.poisson(4.0, (8, 2, 40, 44)).astype(np.uint8)
    if method == "synthesis3d":
        return random.uniform(0, 1, (40, 40, 44)).astype(np.float32)
    return random.poisson(4.0, (8, 40, 44)).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_on_cuda(tmp_path, method):
    settings = Settings(method=method, epochs=2, crop_px=32, batch_size=1, device="cuda")
    result = train(settings, {"noise": stack_for(method)}, tmp_path)
    assert np.isfinite(result.metrics["held_out"])
    network, record = load_checkpoint(tmp_path / "best.pt")
    assert record["settings"]["device"] == "cuda"
    assert all(weights.device.type == "cpu" for weights in network.parameters())


@pytest.mark.parametrize(("method", "task_type"), [("udvd", SimulatedUdvdTask), ("udvd-4d", SimulatedScanTask)])
def test_bundled_training_on_cuda(tmp_path, monkeypatch, method, task_type):
    monkeypatch.setattr("lowdose_train.udvd_simulated.STEPS_PER_EPOCH", 3)
    monkeypatch.setattr("lowdose_train.bundled_udvd.N_SCANS", 2)
    scenes = scan_scenes() if method == "udvd-4d" else {"ramp": np.full((8, 64, 64), 5.0) + np.arange(64)}
    settings = Settings(method=method, epochs=2, crop_px=32, batch_size=2, device="cuda")
    assert np.isfinite(train(settings, scenes, tmp_path, task_type=task_type).metrics["held_out"])


def test_a_seed_draws_the_same_weights_on_every_device(tmp_path):
    settings = Settings(method="udvd")
    drawn = []
    for device in ("cpu", "cuda"):
        task = SimulatedUdvdTask(settings, {"ramp": np.full((8, 64, 64), 5.0) + np.arange(64)}, torch.device(device))
        task.draw(torch.Generator().manual_seed(7))
        drawn.append([weights.detach().cpu() for weights in task.network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
