"""The blind-feature network over 4D-STEM scans: its own-pixel step, and the training of the bundled network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lowdose.simulate import diffraction_scan
from lowdose.wiener.own_pixel import N_CLASSES, counted_electrons, errors_to_noise, weighted_line
from lowdose_train import checkpoint
from lowdose_train.bfn_scan_task import BfnScanTask
from lowdose_train.bfn_simulated_scan import SimulatedScanTask
from lowdose_train.loop import train
from lowdose_train.run import Run
from lowdose_train.settings import Settings

CPU = torch.device("cpu")
SHORT = Settings(
    method="bfn-4d", epochs=2, batch_size=4, crop_px=16, n_features=6, n_hidden=8, side_px=7, threads=1, held_out=0.3
)


def expected(electrons, seed=8, scan_y=7, scan_x=8, height=64, width=71):
    """Electrons per pixel of a simulated scan, `electrons` on average."""
    clean = diffraction_scan(seed, scan_y=scan_y, scan_x=scan_x, height=height, width=width).clean
    return clean * (electrons / clean.mean())


@torch.no_grad()
def own_pixel(scan, truth):
    """The step before any training, what was found, and the mean squared errors without and with it."""
    task = BfnScanTask(SHORT, {"scan": scan}, CPU)
    generator = torch.Generator().manual_seed(0)
    task.draw(generator)
    task.prepare(generator)
    (found,) = task.finish(task.network)["own_pixel"]
    (frames,) = task.frames
    blind = torch.cat([task.network(frames.frames[taps].transpose(0, 1)) for taps in frames.taps])
    with_own = task.network.own_pixel(blind, frames.frames)
    level, scale = task.fitted.level, task.fitted.scale
    results = [(planes[:, 0].numpy() * scale + level).reshape(truth.shape) for planes in (blind, with_own)]
    return found, [float(np.square(result - truth).mean()) for result in results]


@pytest.mark.parametrize("electrons", [0.05, 0.5, 3.0])
def test_counted_electrons_are_told_and_their_own_pixel_helps(electrons):
    truth = expected(electrons)
    scan = np.random.default_rng(0).poisson(truth).astype(np.uint16)
    found, (blind, with_own) = own_pixel(scan, truth)
    assert found["electrons"] and found["used"]
    assert with_own < 0.95 * blind
    assert found["noise_variance"] == pytest.approx(electrons, rel=0.25)  # that of the held-out tiles
    assert len(found["share_by_brightness"]) == N_CLASSES and max(found["share_by_brightness"]) < 1


def test_gain_and_read_noise_are_found_without_whole_numbers():
    truth = expected(0.05)  # at more, detail that the filter alone leaves counts as noise
    random = np.random.default_rng(1)
    scan = (7 * random.poisson(truth) + 2 * random.normal(size=truth.shape)).astype(np.float32)
    found, (blind, with_own) = own_pixel(scan, 7 * truth)
    assert not found["electrons"]
    assert found["gain"] == pytest.approx(7, rel=0.15)
    assert found["read_noise"] == pytest.approx(2, rel=0.1)
    assert with_own < 1.02 * blind


def test_noise_that_neighbours_share_does_no_harm():
    truth = expected(0.2)
    counts = np.random.default_rng(2).poisson(truth)
    shared = (counts + np.roll(counts, 1, axis=3) + np.roll(counts, 1, axis=2)).astype(np.uint16)
    _, (blind, with_own) = own_pixel(shared, 3 * truth)
    assert with_own < 1.02 * blind


def test_where_the_filter_knows_all_there_is_no_step():
    truth = np.full((9, 10, 40, 40), 2.0, np.float32)
    found, (blind, with_own) = own_pixel(np.random.default_rng(3).poisson(truth).astype(np.uint8), truth)
    assert with_own < 1.01 * blind
    assert max(found["share_by_brightness"]) < 0.1


def test_what_is_no_count_of_electrons():
    counts = np.random.default_rng(4).poisson(expected(0.1)).astype(np.float32)
    assert counted_electrons(counts)
    for other in (3 * counts, counts + 0.5, counts - 1, 0 * counts, counts + 100):
        assert not counted_electrons(other)


class TestErrors:
    def errors(self, ratios, noises, n_pixels):
        random = np.random.default_rng(5)
        pairs = zip(ratios, noises, n_pixels, strict=True)
        return [noise * ((1 + ratio) * random.chisquare(1, n) - 1) for (ratio, noise, n) in pairs]

    def test_alike_classes_share_what_is_known_of_all(self):
        noises = [0.1, 1.0, 10.0]
        scatter = np.tile([-3.0, 3.0], 200)
        found = errors_to_noise([noise * (0.05 + scatter) for noise in noises], noises, 0.0)
        assert not found.any()  # 0.05, known to 3 / 20 / sqrt(3)
        found = errors_to_noise([noise * (0.05 + scatter / 3) for noise in noises], noises, 0.0)
        assert found == pytest.approx([0.05] * 3)
        assert len(set(found)) == 1

    def test_another_class_has_its_own(self):
        noises = [0.1, 1.0, 10.0]
        found = errors_to_noise(self.errors([0.0, 0.0, 2.0], noises, [40000, 10000, 2000]), noises, 0.0)
        assert found[0] < 0.02 and found[2] == pytest.approx(2, rel=0.2)

    def test_what_the_noise_is_not_known_to_is_no_error(self):
        noises = [1.0, 1.0]
        errors = self.errors([0.04, 0.04], noises, [90000, 90000])
        assert errors_to_noise(errors, noises, 0.0).all()
        assert not errors_to_noise(errors, noises, 0.06).any()
        assert not errors_to_noise([np.zeros(0), np.zeros(1)], noises, 0.0).any()


@pytest.mark.parametrize(("gain", "constant"), [(2.0, 3.0), (1.0, -1.0), (-0.5, 4.0)])
def test_a_line_of_noise_has_no_number_below_nothing(gain, constant):
    x = np.array([1.0, 2.0, 5.0])
    line = weighted_line(x, constant + gain * x, np.array([3.0, 1.0, 2.0]))
    assert line.gain >= 0 and line.constant >= 0
    if min(gain, constant) > 0:
        assert (line.gain, line.constant) == pytest.approx((gain, constant))


def simulated(tmp_path, **changes):
    scenes = {f"scan {seed}": expected(1.0, seed % 3, 4 + seed % 3, 5, 24 + seed % 5, 30) for seed in range(20)}
    settings = dataclasses.replace(SHORT, epochs=4, learning_rate=3e-3, **changes)
    return train(settings, scenes, tmp_path / "run", task_type=SimulatedScanTask), settings


def test_simulated_scans_of_many_sizes_teach_a_network_for_any(tmp_path):
    result, settings = simulated(tmp_path)
    assert result.metrics["held_out"] < 0
    network, _ = checkpoint.load_checkpoint(tmp_path / "run" / "best.pt")
    assert network.scan.any_size and network.scan.taps.shape == (25, 2)
    assert network.filter.weight.sum() == pytest.approx(1)
    assert not network.filter.weight[0, 12, 2, 2] and not network.own_pixel.used
    # A user's scan takes the place of what it was trained on.
    scan = np.random.default_rng(0).poisson(expected(1.0, 40, 5, 5, 20, 33)).astype(np.uint8)
    run = Run(settings, BfnScanTask(settings, {"scan": scan}, CPU), print)
    run.start(tmp_path / "run" / "best.pt")
    assert run.network.scan.level.shape == (1, 20, 33)
    assert torch.equal(run.network.features.mix, network.features.mix)
    run.task.finish(run.network)
    assert run.network.own_pixel.values.shape == (1, 3, 20, 33)
