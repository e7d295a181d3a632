"""The own-pixel step of the blind-feature network, on frames of known noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lowdose_train.bfn_data import Crops
from lowdose_train.bfn_own_pixel import choose_own_pixel
from lowdose_train.bfn_task import BfnTask
from test_bfn_training import CPU, SHORT


class TestOwnPixel:
    """The own-pixel step on frames of known noise, whose blind estimate is the truth with a known error."""

    def frames_of(self, counts, **settings):
        task = BfnTask(dataclasses.replace(SHORT, taps=1, **{"held_out": 0.9} | settings), {"movie": counts}, CPU)
        generator = torch.Generator().manual_seed(0)
        task.draw(generator)
        task.prepare(generator)
        return task

    def test_gain_and_dark_level_are_found(self):
        expected = 20 + 15 * np.sin(np.arange(96) / 9)
        electrons = np.random.default_rng(0).poisson(np.broadcast_to(expected, (6, 1, 96, 96)))
        task = self.frames_of((100 + 7 * electrons).astype(np.float32))
        (found,) = choose_own_pixel(task.network, task.frames, task.crop_px)
        assert found["gain"] == pytest.approx(7, rel=0.1)
        assert found["dark_level"] == pytest.approx(100, abs=30)
        assert found["noise_variance"] == pytest.approx(49 * expected.mean(), rel=0.05)

    def test_the_step_lowers_the_error_where_there_is_one(self):
        """Detail that no neighbour tells of: the blind estimate misses it, the own pixel knows it."""
        random = np.random.default_rng(1)
        clean = 50 * np.sin(np.arange(96) / 7) + 10 * random.normal(size=(4, 1, 96, 96))
        noisy = (clean + 15 * random.normal(size=clean.shape)).astype(np.float32)
        task = self.frames_of(noisy)
        (found,) = choose_own_pixel(task.network, task.frames, task.crop_px)
        assert found["error_variance"] < 0.05 * 225  # detail that changes from pixel to pixel is noise for all it knows
        smooth = np.asarray([[np.convolve(row, [0.25, 0.5, 0.25], "same") for row in frame[0]] for frame in clean])
        smooth = np.asarray([np.apply_along_axis(np.convolve, 0, f, [0.25, 0.5, 0.25], "same") for f in smooth])
        noisy = (smooth[:, None] + 15 * random.normal(size=clean.shape)).astype(np.float32)
        task = self.frames_of(noisy)
        (found,) = choose_own_pixel(task.network, task.frames, task.crop_px)
        assert found["used"] and found["noise_variance"] == pytest.approx(225, rel=0.05)
        (frames,) = task.frames
        parts = [frames.crop(t, y, x, 16, 3) for t in range(4) for y in range(0, 96, 16) for x in range(0, 96, 16)]
        truth = dataclasses.replace(frames, wanted=torch.from_numpy(smooth[:, None].astype(np.float32)))
        wanted = Crops.of(
            [truth.crop(t, y, x, 16, 3) for t in range(4) for y in range(0, 96, 16) for x in range(0, 96, 16)]
        ).wanted
        crops = Crops.of(parts)
        with torch.no_grad():
            blind = crops.result(task.network)
            own = task.network.own_pixel(blind.transpose(0, 1), crops.wanted.transpose(0, 1)).transpose(0, 1)
        assert (own - wanted).square().mean() < 0.97 * (blind - wanted).square().mean()

    @pytest.mark.parametrize("seed", [2, 50, 67, 83, 87, 88])
    def test_an_error_that_few_tiles_exaggerate_is_not_believed(self, seed):
        """The held-out tiles of these images of few electrons tell three to five times the error that there is: a step
        of that length made the image worse by a third or more."""
        expected = np.broadcast_to(0.05 + 0.3 * (np.cos(2 * np.pi * np.arange(96) / 12) + 1), (1, 1, 96, 96))
        noisy = np.random.default_rng(seed).poisson(expected).astype(np.float32)
        task = self.frames_of(noisy, held_out=0.1, linear_px=7)
        (found,) = choose_own_pixel(task.network, task.frames, task.crop_px)
        frames = task.frames[0]
        planes, wanted = (
            (torch.from_numpy(np.array(each, np.float32)) - frames.offset[0]) / frames.scale[0]
            for each in (noisy, expected)
        )
        with torch.no_grad():
            blind = task.network(planes)
            own = task.network.own_pixel(blind, planes)
        error = (blind - wanted).square().mean()
        assert found["error_variance"] > 3 * error * frames.scale[0].square()
        assert (own - wanted).square().mean() < 1.02 * error

    def test_noise_that_neighbours_share_is_refused(self):
        noise = np.random.default_rng(2).normal(size=(4, 1, 97, 97))
        shared = noise[..., :-1, :-1] + noise[..., 1:, :-1] + noise[..., :-1, 1:] + noise[..., 1:, 1:]
        task = self.frames_of(shared.astype(np.float32))
        (found,) = choose_own_pixel(task.network, task.frames, task.crop_px)
        assert not found["used"] and not task.network.own_pixel.used
