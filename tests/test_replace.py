"""Other weights for a running stream, between two frames: networks and fitted filters."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import lowdose
from lowdose.model import Settings
from lowdose.wiener import fit_movie, fit_scan
from tiny_models import tiny_model

N_FRAMES = 9
OLD, NEW = Settings(0, 0.2, 1.0), Settings(5, 0.3, 1.0)


def frames_of(*shape, seed=0):
    return np.random.default_rng(seed).poisson(4, shape).astype(np.uint16)


def results_of(stream, frames, at=None, replace=None):
    """All results; `replace` is called before frame `at` is pushed."""
    results = []
    for i, frame in enumerate(frames):
        if i == at:
            replace()
        results.append(stream.push(frame))
    return np.stack([result for result in results if result is not None] + stream.flush())


@pytest.mark.parametrize("at", [0, 1, 4, N_FRAMES - 1])
def test_bits_before_are_the_old_weights_and_bits_after_the_new_ones(at):
    model, other = lowdose.load("wcvd", device="cpu"), lowdose.load("wcvd", device="cpu")
    frames = frames_of(N_FRAMES, 33, 47)
    old, new = (results_of(model.stream(33, 47, "uint16", settings=s), frames) for s in (OLD, NEW))
    stream = model.stream(33, 47, "uint16", settings=OLD)
    mixed = results_of(stream, frames, at, lambda: stream.replace(other, NEW))
    first = max(0, at - stream.latency_frames)
    np.testing.assert_array_equal(mixed, np.concatenate([old[:first], new[first:]]))
    assert (old != new).any(axis=(1, 2)).all()
    assert stream.stats["replaced"] == 1
    assert stream.stats["frames_out"] == N_FRAMES
    assert stream.settings == Settings(5, pytest.approx(0.3), 1.0)


def test_another_thread_replaces_while_frames_are_pushed():
    model = lowdose.load("wcid", device="cpu")
    frames = frames_of(400, 24, 32)
    old, new = (results_of(model.stream(24, 32, "uint16", settings=s), frames) for s in (OLD, NEW))
    stream = model.stream(24, 32, "uint16", settings=OLD, threads=1)
    begun = threading.Event()

    def exchange():
        for settings in [NEW, OLD] * 10:
            stream.replace(model, settings)
            begun.set()

    thread = threading.Thread(target=exchange)
    results, n_replaced = [], []
    thread.start()
    begun.wait()
    for frame in frames:
        results.append(stream.push(frame))
        n_replaced.append(stream.stats["replaced"])
    thread.join()
    assert n_replaced[0] >= 1
    assert n_replaced == sorted(n_replaced)
    for result, *expected in zip(results, old, new, strict=True):
        assert any((result == bits).all() for bits in expected)


@pytest.mark.parametrize("at", [0, 2, 7, 11, 12])
def test_a_model_of_blocks_begins_a_block_with_the_next_result(tmp_path, at):
    taps = {"axis": "time", "offsets": [0, 1, 2, 3]}
    contract = dict(taps=taps, ends="repeat", block={"n_frames": 4, "overlap": 1}, n_outputs=4)
    body = "s = Sum(frame_0, frame_1, frame_2, frame_3) k = Constant<value = float {%s}>() n = Mul(s, k)"
    body += " denoised = Concat<axis = 1>(n, frame_1, n, frame_3)"
    models = [
        lowdose.load(tiny_model(tmp_path / f"{k}.onnx", body % k, **contract), device="cpu") for k in ("1.0", "3.0")
    ]
    frames = frames_of(13, 5, 7)
    old = models[0].denoise(frames)
    stream = models[0].stream(5, 7, "uint16")
    mixed = results_of(stream, frames, at, lambda: stream.replace(models[1]))
    first = max(0, at - stream.latency_frames)
    np.testing.assert_array_equal(mixed[:first], old[:first])
    np.testing.assert_array_equal(mixed[first:], models[1].denoise(frames[first:]))


def test_what_does_not_fit_is_refused_and_the_stream_goes_on(tmp_path):
    model = lowdose.load("wcvd", device="cpu")
    frames = frames_of(N_FRAMES, 20, 30)
    expected = results_of(model.stream(20, 30, "uint16", settings=OLD), frames)
    stream = model.stream(20, 30, "uint16", settings=OLD)
    fixed = dict(taps={"axis": "time", "offsets": [-1, 0, 1]}, ends="mirror", size_px=[8, 9], offset_rule="percentile")

    def refused():
        wrong_size = lowdose.load(
            tiny_model(tmp_path / "fixed.onnx", "denoised = Sum(frame_0, frame_1, frame_2)", **fixed), device="cpu"
        )
        for other, settings, word in [
            (lowdose.load("wcid", device="cpu"), NEW, "taps 0 in time, the stream has the taps -1, 0, 1 in time"),
            (lowdose.load("udvd-4d-lite", device="cpu"), None, "over the scan"),
            (model, None, "which of the model's 9 weight sets"),
            (model, Settings(weight_set=3), "low-pass cutoff"),
            (model, Settings(9, 0.2), "weight set 9"),
            (wrong_size, None, "8x9"),
        ]:
            with pytest.raises(lowdose.LowdoseError, match=word):
                stream.replace(other, settings)

    np.testing.assert_array_equal(results_of(stream, frames, 4, refused), expected)
    assert stream.stats["replaced"] == 0


def test_a_fitted_filter_takes_over_between_two_frames():
    frames = frames_of(N_FRAMES, 2, 24, 33)
    old = fit_movie([frames.astype(np.float32)], window_frames=3)
    new = fit_movie([frames_of(8, 2, 24, 33, seed=1).astype(np.float32)], level=old.level[:, 0, 0], window_frames=3)
    alone = [results_of(fitted.stream(24, 33, "uint16"), frames) for fitted in (old, new)]
    for at in range(N_FRAMES):
        stream = old.stream(24, 33, "uint16")
        mixed = results_of(stream, frames, at, lambda stream=stream: stream.replace(new))
        first = max(0, at - 1)
        np.testing.assert_array_equal(mixed, np.concatenate([alone[0][:first], alone[1][first:]]))
        assert stream.stats["replaced"] == 1


def test_a_filter_of_a_scan_takes_over():
    scan = frames_of(4, 5, 12, 11).astype(np.float32)
    old = fit_scan(scan)
    mean = old.level[0]
    new = fit_scan(scan[:, ::-1].copy(), mean)
    if (new.scale != old.scale).any():  # the noise of each pixel is that of the part that was fitted to
        new = type(new)(new.weights, new.taps, old.level, old.scale, new.report)
    patterns = scan.reshape(-1, 12, 11)
    alone = [results_of(fitted.stream(12, 11, "float32", scan=(4, 5)), patterns) for fitted in (old, new)]
    stream = old.stream(12, 11, "float32", scan=(4, 5))
    mixed = results_of(stream, patterns, 15, lambda: stream.replace(new))
    first = 15 - stream.latency_frames
    np.testing.assert_array_equal(mixed, np.concatenate([alone[0][:first], alone[1][first:]]))


def test_a_filter_that_does_not_fit_is_refused():
    frames = frames_of(N_FRAMES, 1, 24, 33).astype(np.float32)
    old = fit_movie([frames], window_frames=3)
    stream = old.stream(24, 33, "float32")
    with pytest.raises(lowdose.LowdoseError, match="taps"):
        stream.replace(fit_movie([frames], window_frames=1))
    with pytest.raises(lowdose.LowdoseError, match="another level"):
        stream.replace(fit_movie([frames + 1], window_frames=3))
    np.testing.assert_array_equal(
        results_of(stream, frames[:, 0]), results_of(old.stream(24, 33, "float32"), frames[:, 0])
    )
    assert stream.stats["replaced"] == 0
