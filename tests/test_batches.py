"""Batches give the results of one frame at a time, in order, as many as frames went in."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from lowdose import LowdoseError, Settings, load
from lowdose.model import NO_LOW_PASS, bundled_models

WITHOUT_BATCHES = {"udvd-lite": "results of one frame", "synthesis3d-lite": "blocks of frames"}
WITH_BATCHES = sorted(set(bundled_models()) - {"reucid"} - set(WITHOUT_BATCHES))
SIZE = (40, 56)
TOLERANCE = 2e-6
"""Of the output's range: ONNX Runtime may sum in another order for another shape."""


def settings_of(model):
    return Settings(1, 1 / 7, 0.5) if model.has_choice else Settings(0, NO_LOW_PASS, 0.0)


def frames_for(model, n=17, size=SIZE):
    """Counts that differ from frame to frame, with channels, or a scan of 4 rows and 5 columns."""
    lead = (4, 5) if model.scan else (n,)
    channels = (len(model.channels),) if len(model.channels) > 1 else ()
    expected = 20 + 10 * np.sin(np.arange(size[1]) / 5)
    return np.random.default_rng(0).poisson(expected, (*lead, *channels, *size)).astype(np.uint16)


def results(stream, frames):
    given = [result for frame in frames if (result := stream.push(frame)) is not None]
    return given + stream.flush()


def check_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.ptp(expected))


@pytest.mark.parametrize("size", [SIZE, (37, 43)])
@pytest.mark.parametrize("batch", [2, 5, 64])
@pytest.mark.parametrize("name", WITH_BATCHES)
def test_results_are_those_of_one_at_a_time(name, batch, size):
    model = load(name, device="cpu")
    frames = frames_for(model, size=size)
    expected = model.denoise(frames, settings=settings_of(model))
    check_same(model.denoise(frames, settings=settings_of(model), batch=batch), expected)


@pytest.mark.parametrize("n_frames", [2, 3, 4, 5, 8, 9])
def test_results_come_one_per_push_once_the_first_batch_is_full(n_frames):
    model, batch = load("wcvd", device="cpu"), 4
    stream = model.stream(*SIZE, np.uint16, settings=settings_of(model), batch=batch)
    assert stream.latency_frames == 1 + batch - 1
    frames = frames_for(model, n_frames)
    at_once = [stream.push(frame) is not None for frame in frames]
    assert at_once == [i >= stream.latency_frames for i in range(n_frames)]
    assert len(stream.flush()) == n_frames - sum(at_once)
    stats = stream.stats
    assert (stats["frames_in"], stats["frames_out"]) == (n_frames, n_frames)
    assert stats["network"]["count"] == -(-n_frames // batch)


def test_a_second_sequence_and_a_reset_know_nothing_of_the_first():
    model = load("wcvd", device="cpu")
    stream = model.stream(*SIZE, np.uint16, settings=settings_of(model), batch=3)
    frames = frames_for(model, 8)
    expected = results(stream, frames)
    results(stream, frames[::-1])
    np.testing.assert_array_equal(results(stream, frames), expected)
    for frame in frames[:6]:  # results of its last batch are left behind
        stream.push(frame)
    stream.reset()
    np.testing.assert_array_equal(results(stream, frames), expected)


def test_tiles_of_batches():
    model = load("wcvd", device="cpu")
    frames = frames_for(model, 7, (75, 101))
    expected = model.denoise(frames, settings=settings_of(model))
    for limits in ({"tile": 40}, {"max_bytes": 3e6}):
        stream = model.stream(75, 101, np.uint16, settings=settings_of(model), batch=3, **limits)
        assert stream.n_tiles > 1
        np.testing.assert_allclose(results(stream, frames), expected, rtol=0, atol=1e-5 * np.ptp(expected))


def test_a_batch_counts_in_the_memory_cap():
    model = load("wcvd", device="cpu")
    n_tiles = [
        model.stream(256, 256, settings=settings_of(model), batch=batch, max_bytes=50e6).n_tiles for batch in (1, 16)
    ]
    assert n_tiles[0] == 1 < n_tiles[1]


def test_settings_are_chosen_when_the_first_batch_is_full():
    model = load("wcvd", device="cpu")
    frames = frames_for(model, 9)
    stream = model.stream(*SIZE, np.uint16, batch=4)
    found = results(stream, frames)
    assert stream.settings.complete
    check_same(found, model.denoise(frames, settings=stream.settings))


def test_a_frame_that_is_refused_leaves_the_batch_as_it_was():
    model = load("wcid", device="cpu")
    frames = frames_for(model, 6).astype(np.float32)
    stream = model.stream(*SIZE, settings=settings_of(model), batch=4)
    broken = frames[0].copy()
    broken[3, 5] = np.nan
    found = []
    for frame in frames:
        with pytest.raises(LowdoseError, match=r"pixel \(3, 5\)"):
            stream.push(broken)
        if (result := stream.push(frame)) is not None:
            found.append(result)
    check_same(found + stream.flush(), model.denoise(frames, settings=settings_of(model)))


def test_other_weights_take_over_with_the_next_batch():
    model = load("wcvd", device="cpu")
    frames = frames_for(model, 12)
    first, second = Settings(1, 1 / 7, 0.0), Settings(5, 1 / 7, 0.0)
    stream = model.stream(*SIZE, np.uint16, settings=first, batch=4)
    given = [stream.push(frame) for frame in frames[:6]]  # results of frames 0 and 1; 2 and 3 are denoised
    stream.replace(model, second)
    given += [stream.push(frame) for frame in frames[6:]]
    found = [result for result in given if result is not None] + stream.flush()
    before, after = (model.denoise(frames, settings=settings) for settings in (first, second))
    check_same(found, np.concatenate([before[:4], after[4:]]))


@pytest.mark.parametrize("name", WITHOUT_BATCHES)
def test_models_without_batches_say_so(name):
    model = load(name, device="cpu")
    with pytest.raises(LowdoseError, match=WITHOUT_BATCHES[name]):
        model.stream(64, 64, batch=2)


@pytest.mark.parametrize("batch", [0, -3])
def test_a_batch_of_nothing_is_refused(batch):
    with pytest.raises(LowdoseError, match="1 or more frames"):
        load("wcid", device="cpu").stream(*SIZE, batch=batch)


def test_command(lowdose, tmp_path):
    tifffile.imwrite(tmp_path / "movie.tif", frames_for(load("wcvd", device="cpu"), 9), photometric="minisblack")
    outputs = []
    for batch in (1, 4):
        out = tmp_path / f"{batch}.tif"
        arguments = ("--model", "wcvd", "--dtype", "float32", "--batch", str(batch), "--json")
        done = lowdose("denoise", tmp_path / "movie.tif", "-o", out, *arguments)
        assert done.code == 0, done.err
        assert json.loads(done.out)["results"][0]["latency"]["network"]["count"] == -(-9 // batch)
        outputs.append(tifffile.imread(out))
    check_same(outputs[1], outputs[0])
    out = lowdose("denoise", tmp_path / "movie.tif", "-o", tmp_path / "3.tif", "--model", "wcvd", "--batch", "4").out
    assert "ms per frame (mean)" in out
