"""Noisy stacks as training data: checks, scales, held-out frames and crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdose.errors import LowdoseError
from lowdose_train.blind_spot_task import blind_spot_stack
from lowdose_train.data import check_frames, read_channels, read_movie, read_scan
from lowdose_train.settings import DEFAULTS, Settings, read_settings
from lowdose_train.windows import Crops, held_out_windows, hold_out


def noisy(shape=(12, 20, 24), mean=3.0, seed=0):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.uint16)


def test_offset_and_noise_level_are_those_of_the_data():
    frames = np.random.default_rng(1).normal(500, 9, (10, 64, 65)).astype(np.float32)
    stack = blind_spot_stack("s", frames, Settings())
    assert stack.noise_std == pytest.approx(9, rel=0.02)
    assert stack.offset == pytest.approx(np.percentile(frames, 0.1), abs=2)
    scaled = stack.scaled(frames)
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.numpy() * stack.noise_std + stack.offset, frames, rtol=1e-5)


def test_counting_data_have_no_offset():
    assert blind_spot_stack("s", noisy(), Settings()).offset == 0


def test_noise_level_ignores_structure_that_stands_still():
    rows = 1000 * (np.arange(64) % 2)[:, None] + 1000 * (np.arange(64) % 2)[None, :]
    frames = rows + np.random.default_rng(1).normal(0, 4, (8, 64, 64))
    assert blind_spot_stack("s", frames, Settings()).noise_std == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("n_frames", [4, 5, 12, 61])
def test_held_out_frames_are_no_targets_and_the_ends_are_neither(n_frames):
    stack = blind_spot_stack("s", noisy((n_frames, 9, 9)), Settings())
    assert not set(stack.targets) & set(stack.held_out)
    assert sorted(stack.targets + stack.held_out) == list(range(1, n_frames - 1))
    assert 1 <= len(stack.held_out) <= 4


def test_single_images_hold_out_whole_images():
    settings = Settings(method="wcid")
    images = [blind_spot_stack(str(i), noisy((1, 16, 16), seed=i), settings) for i in range(12)]
    split = hold_out(images, 0.2)
    assert [len(stack.targets) + len(stack.held_out) for stack in split] == [1] * 12
    assert sum(len(stack.held_out) for stack in split) == 2
    assert len(held_out_windows(split)) == 2
    alone = hold_out(images[:1], 0.2)
    assert alone[0].targets == (0,) and len(held_out_windows(alone)) == 1


def test_crops_are_flipped_windows_of_target_frames_with_periodic_edges():
    frames = np.arange(6 * 9 * 10, dtype=np.float32).reshape(6, 9, 10)
    settings = Settings(crop_px=9, batch_size=1)
    stack = blind_spot_stack("s", frames, settings)
    crops = Crops([stack], settings, margin_px=3)
    generator = torch.Generator().manual_seed(0)
    wrapped = np.pad(frames, ((0, 0), (15, 15), (15, 15)), mode="wrap")
    for _ in range(20):
        batch = crops.batch(generator)
        assert batch.shape == (1, 3, 15, 15)
        window = np.rint(batch[0].numpy() * stack.noise_std + stack.offset)
        values = np.unique(window[1] // 90)
        assert len(values) == 1 and int(values[0]) in stack.targets
        first = int(values[0]) - 1
        found = False
        for turned in all_turns(window):
            for y, x in np.argwhere(wrapped[first, :-15, :-15] == turned[0, 0, 0]):
                found |= np.array_equal(wrapped[first : first + 3, y : y + 15, x : x + 15], turned)
        assert found


def all_turns(window):
    for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        yield np.flip(window, axes)
        yield np.flip(window, axes).transpose(0, 2, 1)


def test_crops_repeat_for_the_same_generator_state():
    stack = blind_spot_stack("s", noisy(), Settings())
    crops = Crops([stack], Settings(), margin_px=3)
    first = crops.batch(torch.Generator().manual_seed(4))
    assert torch.equal(first, crops.batch(torch.Generator().manual_seed(4)))
    assert not torch.equal(first, crops.batch(torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(
    ("frames", "settings", "words"),
    [
        (noisy((2, 16, 16)), Settings(), "wcid"),
        (noisy((5, 6, 16)), Settings(), "7 x 7"),
        (noisy((5, 16, 16)), Settings(crop_px=32), "--crop"),
        (noisy((5, 16, 16)).astype(complex), Settings(), "real numbers"),
        (noisy((16, 16)), Settings(), "n_frames, height, width"),
        (np.full((5, 16, 16), 7), Settings(), "all equal"),
        (np.where(np.arange(5)[:, None, None] == 3, np.nan, noisy((5, 16, 16))), Settings(), "frame 3"),
        (np.where(np.arange(5)[:, None, None] == 4, np.inf, noisy((5, 16, 16))), Settings(), "frame 4"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(frames, settings, words):
    with pytest.raises(LowdoseError, match=words):
        blind_spot_stack("movie.tif", frames, settings)


def test_reads_the_channel_asked_for_and_no_more_than_fits(tmp_path):
    frames = noisy((10, 2, 16, 18))
    np.save(tmp_path / "two.npy", frames)
    with pytest.raises(LowdoseError, match="--channel"):
        read_movie(tmp_path / "two.npy", "TCYX", None, 100)
    with pytest.raises(LowdoseError, match="channel 2"):
        read_movie(tmp_path / "two.npy", "TCYX", 2, 100)
    np.testing.assert_array_equal(read_movie(tmp_path / "two.npy", "TCYX", 1, 100), frames[:, 1])
    assert read_movie(tmp_path / "two.npy", "TCYX", 1, 4 * 16 * 18 * 2 / 1e6 + 1e-9).shape == (4, 16, 18)


def test_reads_all_channels_and_scans(tmp_path):
    patterns = noisy((4, 5, 6, 7))
    np.save(tmp_path / "four.npy", patterns)
    np.testing.assert_array_equal(read_channels(tmp_path / "four.npy", "TCYX", 100), patterns)
    np.testing.assert_array_equal(read_scan(tmp_path / "four.npy", "QRYX", 100), patterns)
    assert read_scan(tmp_path / "four.npy", "QRYX", 3 * 5 * 6 * 7 * 2 / 1e6 + 1e-9).shape == (3, 5, 6, 7)
    with pytest.raises(LowdoseError, match=r"scan_y, scan_x.*--axes"):
        read_scan(tmp_path / "four.npy", "TCYX", 100)


def test_frames_of_any_shape_are_checked():
    check_frames("scan", noisy((2, 3, 5, 7)), "scan_y, scan_x, height, width")
    with pytest.raises(LowdoseError, match="scan_y, scan_x"):
        check_frames("scan", noisy((3, 5, 7)), "scan_y, scan_x, height, width")
    with pytest.raises(LowdoseError, match="frame 1"):
        check_frames("scan", np.full((2, 1, 2, 2), [[[[0]]], [[[np.inf]]]]), "scan_y, scan_x, height, width")


def test_what_the_user_leaves_out_is_the_methods():
    for method, defaults in DEFAULTS.items():
        settings = Settings(method=method)
        assert (settings.learning_rate, settings.width) == (defaults.learning_rate, defaults.widths[0])
        assert settings.crop_for(10**6) == defaults.crop_px and settings.crop_for(9) == 9
    assert Settings(learning_rate=0.5).learning_rate == 0.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rates": 1e-3}, "learning_rates.*learning_rate"),
        ({"epochs": 1.5}, "epochs.*int"),
        ({"epochs": True}, "epochs"),
        ({"epochs": 0}, "above 0"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"budget_s": float("nan")}, "budget_s"),
        ({"method": "unet"}, "wcvd"),
        ({"width": "wide"}, "full"),
        ({"held_out": 1.0}, "less than 1"),
        ({"seed": None}, "seed"),
    ],
)
def test_wrong_settings_are_errors(values, words):
    with pytest.raises(LowdoseError, match=words):
        Settings.from_mapping(values)


def test_settings_files(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"epochs": 7, "budget_s": 3}')
    assert Settings.from_mapping(read_settings(path)) == Settings(epochs=7, budget_s=3)
    assert Settings.from_mapping(Settings(seed=4).to_mapping()) == Settings(seed=4)
    for text in ("[1]", "{", ""):
        path.write_text(text)
        with pytest.raises(LowdoseError, match=r"settings\.json"):
            read_settings(path)
