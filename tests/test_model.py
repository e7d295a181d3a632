"""Opened models: what comes out, frame by frame and as a stack."""

import numpy as np
import pytest

import references
from lowdose import NO_LOW_PASS, LowdoseError, Settings, load
from model_files import random_network, weights_of

# float32 sums of some 400 products against double precision; the share is of the output's range.
TOLERANCE = 1e-5
PLAIN = Settings(weight_set=0, cutoff=NO_LOW_PASS, offset=0.0)
FILTERED = Settings(weight_set=0, cutoff=1 / 7, offset=0.0)


def counts(shape, seed=0, mean=3.0):
    slope = mean * (0.5 + np.arange(shape[-1]) / shape[-1])
    return np.random.default_rng(seed).poisson(np.broadcast_to(slope, shape)).astype(np.float32)


def assert_close(result, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * max(np.ptp(expected), 1e-6))


@pytest.mark.parametrize("shape", [(4, 7, 7), (3, 9, 23), (2, 13, 8)])
@pytest.mark.parametrize("method", ["wcvd", "wcid"])
@pytest.mark.parametrize("weight_set", [0, 1])
def test_output_is_the_published_network(model_files, method, shape, weight_set):
    model = load(model_files[method], device="cpu")
    stack = counts(shape)
    branches, shares = weights_of(random_network(method, weight_set))
    expected = [
        references.blind_spot(references.window(stack, t, model.taps), branches, shares) for t in range(len(stack))
    ]
    assert_close(model.denoise(stack, settings=Settings(weight_set, NO_LOW_PASS, 0.0)), np.array(expected))
    filtered = [references.low_pass(frame, 1 / 7) for frame in expected]
    assert_close(model.denoise(stack, settings=Settings(weight_set, 1 / 7, 0.0)), np.array(filtered))


@pytest.mark.parametrize("method", ["wcvd", "wcid"])
def test_a_pixel_does_not_see_itself(model_files, method):
    model = load(model_files[method], device="cpu")
    stack = counts((5, 24, 31))
    for t, y, x in [(0, 0, 0), (2, 11, 17), (4, 23, 30), (1, 0, 15)]:
        changed = stack.copy()
        changed[t, y, x] += 1000
        before, after = model.denoise(stack, settings=PLAIN), model.denoise(changed, settings=PLAIN)
        assert abs(after[t, y, x] - before[t, y, x]) <= 1e-6 * 1000  # float32 sums that cancel
        assert np.abs(after - before).max() > 1  # its neighbours do see it


@pytest.mark.parametrize("settings", [PLAIN, FILTERED])
def test_seven_times_the_signal_gives_seven_times_the_output(model_files, settings):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((4, 32, 27))
    assert_close(model.denoise(7 * stack, settings=settings), 7 * model.denoise(stack, settings=settings))


@pytest.mark.parametrize("tile", [1, 5, 16, 37, 64])
@pytest.mark.parametrize("settings", [PLAIN, FILTERED])
def test_tiles_leave_no_seam(model_files, tile, settings):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((3, 61, 83))
    whole = model.denoise(stack, settings=settings)
    assert_close(model.denoise(stack, settings=settings, tile=tile), whole)


def test_a_memory_cap_makes_tiles_and_too_small_a_cap_is_refused(model_files):
    model = load(model_files["wcvd"], device="cpu")
    held = 5 * 4 * 600 * 500
    assert model.stream(600, 500, max_bytes=0).n_tiles == 1
    assert model.stream(600, 500, max_bytes=1e9).n_tiles == 1
    one_run = model.metadata["bytes_per_px"] * 600 * 500
    assert model.stream(600, 500, max_bytes=held + one_run).n_tiles == 1
    assert model.stream(600, 500, max_bytes=held + one_run / 2).n_tiles > 1
    with pytest.raises(LowdoseError, match=r"600x500.*--max-mem"):
        model.stream(600, 500, max_bytes=held + 1e3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_every_pixel_type_gives_the_same_numbers(model_files, dtype):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((4, 20, 19), mean=40)
    expected = model.denoise(stack, settings=PLAIN)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(model.denoise(stack.astype(dtype), settings=PLAIN), expected)
    big_endian = stack.astype(np.dtype(dtype).newbyteorder(">"))
    np.testing.assert_array_equal(model.denoise(big_endian, settings=PLAIN), expected)
    kept = model.denoise(stack.astype(dtype), settings=PLAIN, out_dtype=dtype)
    assert kept.dtype == dtype
    if kept.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        np.testing.assert_array_equal(kept, np.clip(np.rint(expected), limits.min, limits.max).astype(dtype))


def test_frames_may_be_views_with_any_strides(model_files):
    model = load(model_files["wcid"], device="cpu")
    large = counts((1, 40, 50))[0].astype(np.uint16)
    for view in (large[5:25, 10:40], large[::2, 3:33], large[:20, ::-1][:, :30], large.T[:20, :30]):
        stream = model.stream(*view.shape, np.uint16, settings=PLAIN)
        np.testing.assert_array_equal(stream.push(view), model.denoise(view.copy(), settings=PLAIN))


@pytest.mark.parametrize("n_frames", [2, 3, 4, 9])
def test_a_stream_gives_what_denoise_gives_one_frame_later(model_files, n_frames):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((n_frames, 16, 18))
    stream = model.stream(16, 18, settings=PLAIN)
    assert stream.latency_frames == 1
    results = []
    for t, frame in enumerate(stack):
        out = stream.push(frame)
        assert (out is None) == (t == 0)
        results += [] if out is None else [out]
    results += stream.flush()
    np.testing.assert_array_equal(np.stack(results), model.denoise(stack, settings=PLAIN))
    stats = stream.stats
    assert stats["frames_in"] == stats["frames_out"] == stats["total"]["count"] == n_frames
    assert 0 < stats["total"]["p50_ms"] <= stats["total"]["p99_ms"] <= stats["total"]["max_ms"]


def test_flush_and_reset_begin_anew(model_files):
    model = load(model_files["wcvd"], device="cpu")
    first, second = counts((3, 16, 18), 1), counts((4, 16, 18), 2)
    stream = model.stream(16, 18, settings=PLAIN)
    for prepare in (lambda: stream.flush(), lambda: stream.reset()):
        for frame in first:
            stream.push(frame)
        prepare()
        results = [out for frame in second if (out := stream.push(frame)) is not None] + stream.flush()
        np.testing.assert_array_equal(np.stack(results), model.denoise(second, settings=PLAIN))
    assert stream.flush() == []


def test_a_frame_that_is_refused_is_not_taken(model_files):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((4, 16, 18))
    bad = stack[2].copy()
    bad[3, 5] = np.nan
    stream = model.stream(16, 18, settings=PLAIN)
    results = [stream.push(frame) for frame in stack[:2]]
    with pytest.raises(LowdoseError, match=r"pixel \(3, 5\) is NaN"):
        stream.push(bad)
    with pytest.raises(LowdoseError, match="16x18 float32, given 16x17"):
        stream.push(stack[2][:, :-1])
    with pytest.raises(LowdoseError, match="given 16x18 uint8"):
        stream.push(stack[2].astype(np.uint8))
    results += [stream.push(frame) for frame in stack[2:]] + stream.flush()
    np.testing.assert_array_equal(np.stack(results[1:]), model.denoise(stack, settings=PLAIN))


def test_one_frame_needs_a_single_frame_model(model_files):
    frame = counts((1, 16, 18))
    video = load(model_files["wcvd"], device="cpu")
    with pytest.raises(LowdoseError, match=r"at least 2 frames and was given 1.*wcid"):
        video.denoise(frame)
    stream = video.stream(16, 18, settings=PLAIN)
    assert stream.push(frame[0]) is None
    with pytest.raises(LowdoseError, match=r"at least 2 frames and was given 1.*wcid"):
        stream.flush()
    assert stream.flush() == []  # the sequence has ended all the same
    single = load(model_files["wcid"], device="cpu")
    assert single.denoise(frame[0], settings=PLAIN).shape == (16, 18)
    assert single.stream(16, 18).latency_frames == 0


def test_bad_arrays_are_refused(model_files):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((3, 16, 18))
    with pytest.raises(LowdoseError, match=r"too small for wcvd.*7x7"):
        model.denoise(stack[:, :6, :])
    with pytest.raises(LowdoseError, match=r"given shape \(3, 1, 16, 18\)"):
        model.denoise(stack[:, None])
    with pytest.raises(LowdoseError, match=r"given shape \(0, 16, 18\)"):
        model.denoise(stack[:0])
    with pytest.raises(LowdoseError, match="complex"):
        model.denoise(stack.astype(np.complex64))
    with pytest.raises(LowdoseError, match="int64 is not supported"):
        model.denoise(stack.astype(np.int64))
    stack[1, 2, 3] = np.inf
    for settings in (PLAIN, None):
        with pytest.raises(LowdoseError, match="NaN"):
            model.denoise(stack, settings=settings)


def test_bad_settings_are_refused(model_files):
    model = load(model_files["wcvd"], device="cpu")
    with pytest.raises(LowdoseError, match="weight set 2 does not exist"):
        model.stream(16, 16, settings=Settings(weight_set=2))
    with pytest.raises(LowdoseError, match="cutoff must be above 0"):
        model.stream(16, 16, settings=Settings(cutoff=0.0))
    with pytest.raises(LowdoseError, match="tile side"):
        model.stream(16, 16, tile=-1)


def test_threads_do_not_change_the_result(model_files):
    model = load(model_files["wcvd"], device="cpu")
    stack = counts((3, 65, 70))
    one = model.denoise(stack, settings=FILTERED, threads=1)
    assert_close(model.denoise(stack, settings=FILTERED, threads=3), one, 1e-6)
