"""The self-calibrating blind filter: covariances, solution, and the stream that applies it."""

import numpy as np
import pytest

from lowdose import LowdoseError
from lowdose.methods.method import Options
from lowdose.methods.wiener import Wiener
from lowdose.source import ArraySource
from lowdose.wiener import BlindFilter, FollowingStream, fit_bands, fit_movie, fit_scan, fit_without
from lowdose.wiener.blind_filter import stream_bytes
from lowdose.wiener.covariance import covariances
from lowdose.wiener.movie import diameter_px
from lowdose.wiener.predictor import disc, predict, window


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def waves(n_frames, height, width, seed=0, sigma=1.0):
    """A moving wave under white noise, (n_frames, 1, height, width), and the truth."""
    t, y, x = np.ogrid[:n_frames, :height, :width]
    truth = np.sin(2 * np.pi * (x + 0.4 * y - 0.7 * t) / 11.0).astype(np.float32)[:, None]
    return truth + sigma * noise(*truth.shape, seed=seed), truth


def pair_mean(frames, i, j, dt, dy, dx):
    """Mean product of channel i at (t, y, x) and channel j at (t + dt, y + dy, x + dx), zero outside the frame."""
    n, _, height, width = frames.shape
    products = [
        frames[t, i, y, x] * frames[t + dt, j, y + dy, x + dx]
        for t in range(max(0, -dt), min(n, n - dt))
        for y in range(max(0, -dy), min(height, height - dy))
        for x in range(max(0, -dx), min(width, width - dx))
    ]
    return np.sum(products) / (height * width * (n - abs(dt)))


@pytest.mark.parametrize("shape", [(4, 1, 9, 8), (3, 2, 7, 11), (1, 1, 5, 5)])
def test_covariances_are_means_over_pairs(shape):
    frames = noise(*shape) + 3
    level = np.full(shape[1], 2.5, np.float32)
    found = covariances([frames], level, shape[0] - 1, 4)
    centred = frames.astype(np.float64) - 2.5
    for i in range(shape[1]):
        for j in range(shape[1]):
            for dt in range(-(shape[0] - 1), shape[0]):
                for dy, dx in [(0, 0), (1, -2), (-4, 3), (4, 4), (0, -1)]:
                    value = found.values[i, j, dt + shape[0] - 1, dy + 4, dx + 4]
                    assert value == pytest.approx(pair_mean(centred, i, j, dt, dy, dx), abs=1e-5)
    assert found.n_values == shape[0] * shape[2] * shape[3]


def test_runs_add_up():
    first, second = noise(3, 1, 8, 8), noise(2, 1, 8, 8, seed=1)
    level = np.zeros(1, np.float32)
    both = covariances([first, second], level, 1, 2).values
    one, other = (covariances([run], level, 1, 2).values for run in (first, second))
    np.testing.assert_allclose(both[:, :, 1], (3 * one[:, :, 1] + 2 * other[:, :, 1]) / 5, atol=1e-6)
    np.testing.assert_allclose(both[:, :, 0], (2 * one[:, :, 0] + 1 * other[:, :, 0]) / 3, atol=1e-6)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_solution_is_that_of_least_squares(n_channels):
    """With many more pixels than weights the shrinkage is small, and both minimise the same error."""
    frames, _ = waves(8, 96, 96, sigma=0.5)
    frames = np.concatenate([frames, -0.5 * np.roll(frames, 2, axis=3)][:n_channels], axis=1)
    frames = frames + 0.3 * noise(*frames.shape, seed=3)
    level = np.zeros(n_channels, np.float32)
    moments = covariances([frames], level, 2, 4)
    offsets = window(range(-1, 2), 3, n_channels)
    found = predict(moments, 0, offsets)
    assert not (found.offsets == 0).all(axis=1).any()
    columns = [
        np.roll(frames[:, c], (-dt, -dy, -dx), axis=(0, 1, 2))[1:-1, 2:-2, 2:-2].ravel()
        for c, dt, dy, dx in found.offsets
    ]
    target = frames[1:-1, 0, 2:-2, 2:-2].ravel().astype(np.float64)
    expected, *_ = np.linalg.lstsq(np.stack(columns, 1).astype(np.float64), target, rcond=None)
    least = np.mean((target - np.stack(columns, 1) @ expected) ** 2)
    ours = np.mean((target - np.stack(columns, 1) @ found.weights) ** 2)
    assert ours == pytest.approx(least, rel=0.01)
    assert found.error == pytest.approx(least, rel=0.03)


def test_neighbours_of_white_noise_get_hardly_any_weight():
    """Pure noise in: the mean comes out, without peaks in the spectrum."""
    frames = 100 + noise(8, 1, 64, 64)
    fitted = fit_movie([frames])
    stream = fitted.stream(64, 64, np.float32)
    results = [out for frame in frames[:, 0] if (out := stream.push(frame)) is not None] + stream.flush()
    left = np.stack(results) - 100
    assert left.std() < 0.08  # of the noise's 1
    power = np.mean(np.abs(np.fft.rfft2(left - left.mean())) ** 2, axis=0)
    assert power.max() < 0.05 * 64 * 64  # the noise's spectrum is flat at 64 * 64


def reference(stack, fitted, scan=None):
    """What a filter is, pixel by pixel: frames (n, channels, h, w); mirrored borders, kernels of the ends."""
    n, n_channels, height, width = stack.shape
    r = fitted.radius_px
    level = np.broadcast_to(fitted.level, stack.shape[1:])
    scale = np.broadcast_to(fitted.scale, stack.shape[1:])
    modes = {"mode": "reflect"} if min(height, width) > r else {"mode": "symmetric"}
    normalised = np.pad((stack - level) / scale, ((0, 0), (0, 0), (r, r), (r, r)), **modes)
    reach = max(abs(dx) for _, dx in fitted.taps)
    out = np.zeros(stack.shape)
    for t in range(n):
        place = 0 if scan else reach
        if not scan and n > 2 * reach:
            place = t if t < reach else 2 * reach - (n - 1 - t) if t > n - 1 - reach else reach
        for k, (dy, dx) in enumerate(fitted.taps):
            if scan:
                (y, x), (n_y, n_x) = divmod(t, scan[1]), scan
                row = y + dy if 0 <= y + dy < n_y else y - dy
                column = x + dx if 0 <= x + dx < n_x else x - dx
                other = row * n_x + column
            else:
                other = t + dx if 0 <= t + dx < n else t - dx
            for c in range(n_channels):
                for d in range(n_channels):
                    for i in range(2 * r + 1):
                        for j in range(2 * r + 1):
                            part = normalised[other, d, i : i + height, j : j + width]
                            out[t, c] += fitted.weights[place, c, k, d, i, j] * part
    return out * scale + level


def random_filter(n_places, taps, n_channels, radius, frame=None):
    side = 2 * radius + 1
    weights = noise(n_places, n_channels, len(taps), n_channels, side, side)
    plane = (n_channels, *(frame or (1, 1)))
    return BlindFilter(weights, taps, noise(*plane, seed=1) + 5, 1 + noise(*plane, seed=2) ** 2, {})


@pytest.mark.parametrize("n_frames", [5, 6, 8])
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("frame", [(7, 11), (16, 13), (4, 4)])
def test_the_stream_is_the_filter_along_time(n_frames, n_channels, frame):
    taps = [(0, dt) for dt in range(-2, 3)]
    fitted = random_filter(5, taps, n_channels, 3)
    stack = noise(n_frames, n_channels, *frame, seed=4) + 5
    stream = fitted.stream(*frame, np.float32)
    assert stream.latency_frames == 2
    expected = reference(stack, fitted)
    for _ in range(2):  # a second sequence after the first
        frames = stack[:, 0] if n_channels == 1 else stack
        results = [out for f in frames if (out := stream.push(np.ascontiguousarray(f))) is not None] + stream.flush()
        np.testing.assert_allclose(np.reshape(results, stack.shape), expected, atol=2e-5 * np.ptp(expected), rtol=0)
    assert stream.stats["frames_out"] == 2 * n_frames


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (5, 6)])
def test_the_stream_is_the_filter_over_a_scan(shape):
    taps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-2, -1, 0, 1, 2)]
    fitted = random_filter(1, taps, 1, 2, (6, 7))
    scan = noise(shape[0] * shape[1], 1, 6, 7, seed=4) + 5
    stream = fitted.stream(6, 7, np.float32, scan=shape)
    results = [out for f in scan[:, 0] if (out := stream.push(f)) is not None] + stream.flush()
    if shape[1] > 3:  # the reference mirrors once; narrower scans take the nearest position
        expected = reference(scan, fitted, shape)
        np.testing.assert_allclose(results, expected[:, 0], atol=2e-5 * np.ptp(expected), rtol=0)
    assert len(results) == len(scan)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 12])
def test_a_pixel_does_not_see_itself(n_frames):
    frames, _ = waves(n_frames, 40, 33)
    fitted = fit_movie([frames])

    def run(stack):
        stream = fitted.stream(40, 33, np.float32)
        return [out for f in stack[:, 0] if (out := stream.push(f)) is not None] + stream.flush()

    before = run(frames)
    for t, y, x in {(0, 0, 0), (n_frames // 2, 17, 20), (n_frames - 1, 39, 32)}:
        changed = frames.copy()
        changed[t, 0, y, x] += 1000
        after = run(changed)
        assert abs(after[t][y, x] - before[t][y, x]) < 0.01  # of 1000: rounding of the transform
        assert np.abs(np.array(after) - before).max() > 1


@pytest.mark.parametrize("n_frames", [1, 2, 12])
def test_waves_under_noise_come_out(n_frames):
    frames, truth = waves(n_frames, 64, 80)
    fitted = fit_movie([frames])
    stream = fitted.stream(64, 80, np.float32)
    results = np.array([out for f in frames[:, 0] if (out := stream.push(f)) is not None] + stream.flush())
    error = np.mean((results - truth[:, 0]) ** 2)
    assert error < (0.12 if n_frames == 1 else 0.06)  # of the noise's 1


def test_a_channel_helps_the_other():
    frames, truth = waves(6, 48, 48, sigma=2.0)
    clear = truth + 0.1 * noise(*truth.shape, seed=5)
    fitted = fit_movie([np.concatenate([frames, clear], axis=1)])
    stream = fitted.stream(48, 48, np.float32)
    both = np.concatenate([frames, clear], axis=1)
    results = np.array([out for f in both if (out := stream.push(f)) is not None] + stream.flush())
    assert np.mean((results[:, 0] - truth[:, 0]) ** 2) < 0.05  # of the noise's 4: the other channel tells


@pytest.mark.parametrize("shape", [(1, 1, 3, 5), (2, 1, 1, 40), (3, 1, 2, 2)])
def test_tiny_frames_are_fitted(shape):
    frames = noise(*shape)
    fitted = fit_movie([frames])
    stream = fitted.stream(*shape[2:], np.float32)
    results = [out for f in frames[:, 0] if (out := stream.push(f)) is not None] + stream.flush()
    assert np.isfinite(results).all()
    assert len(results) == len(frames)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(LowdoseError, match="constant"):
        fit_movie([np.ones((4, 1, 16, 16), np.float32)])
    bad = noise(2, 1, 8, 8)
    bad[1, 0, 3, 3] = np.nan
    with pytest.raises(LowdoseError, match="NaN"):
        fit_movie([bad])
    with pytest.raises(LowdoseError, match=r"1x9 patterns of 16x16.*too small"):
        fit_scan(noise(1, 9, 16, 16))
    with pytest.raises(LowdoseError, match="constant"):
        fit_scan(np.ones((4, 4, 8, 8), np.float32))


def scan_of_disks(n_y=12, n_x=10, seed=0):
    """Counts of a bright and three weak disks whose intensities vary smoothly over the scan, and the truth."""
    y, x = np.mgrid[:24, :24]
    sy, sx = np.mgrid[:n_y, :n_x]
    truth = np.full((n_y, n_x, 24, 24), 0.02)
    for row, column, level in [(12, 12, 300.0), (5, 6, 3.0), (18, 7, 2.0), (6, 18, 1.0)]:
        disk = (y - row) ** 2 + (x - column) ** 2 <= 7
        change = 1 + 0.5 * np.sin(sy / 3 + row) * np.cos(sx / 4 + column)
        truth += level * change[..., None, None] * disk
    return np.random.default_rng(seed).poisson(truth).astype(np.float32), truth


def test_a_scan_with_a_bright_beam_is_denoised_in_its_weak_disks_too():
    scan, truth = scan_of_disks()
    fitted = fit_scan(scan)
    stream = fitted.stream(24, 24, np.float32, scan=scan.shape[:2])
    results = [out for f in scan.reshape(-1, 24, 24) if (out := stream.push(f)) is not None] + stream.flush()
    results = np.reshape(results, scan.shape)
    for rows, columns in [(slice(10, 15), slice(10, 15)), (slice(4, 7), slice(5, 8)), (slice(17, 20), slice(6, 9))]:
        before = np.mean((scan - truth)[..., rows, columns] ** 2)
        assert np.mean((results - truth)[..., rows, columns] ** 2) < 0.3 * before


def test_windows_stay_within_their_number_of_unknowns():
    assert len(disc(3)) == 9
    assert len(disc(1)) == 1
    for n_frames in (1, 3, 7, 13):
        for n_channels in (1, 2, 4):
            diameter = diameter_px(n_frames, n_channels, 21, 1250)
            assert diameter % 2 == 1
            assert 3 <= diameter <= 21
            assert diameter == 3 or len(window(range(n_frames), diameter, n_channels)) <= 1250


def test_a_following_stream_adapts_to_another_scene():
    """Fine waves turn into coarse ones: the filter of the fine ones is wrong for them."""
    fine, _ = waves(24, 48, 48)
    y, x = np.ogrid[:48, :48]
    truth = np.broadcast_to(2 * np.sin((x - 0.5 * y) / 12.0), (72, 48, 48)).astype(np.float32)
    coarse = truth + noise(72, 48, 48, seed=9)
    fitted = fit_movie([fine])
    fixed = fitted.stream(48, 48, np.float32)
    following = FollowingStream(fitted, 48, 48, np.float32, every_frames=12)
    results = {}
    for name, stream in (("fixed", fixed), ("following", following)):
        out = []
        for frame in coarse:
            out.append(stream.push(frame))
            if name == "following":
                following.wait()  # a camera waits longer than a fit takes
        results[name] = np.array([f for f in out if f is not None] + stream.flush())
    errors = {name: np.mean((result[48:] - truth[48:]) ** 2) for name, result in results.items()}
    assert len(results["following"]) == 72
    assert following.swaps[0] == 12
    assert errors["following"] < 0.3 * errors["fixed"]


def test_a_closed_shutter_leaves_the_weights_alone():
    fitted = fit_movie([waves(8, 32, 32)[0]])
    following = FollowingStream(fitted, 32, 32, np.uint8, every_frames=4, memory_frames=4)
    for _ in range(9):
        following.push(np.zeros((32, 32), np.uint8))
        following.wait()
    assert following.swaps == []


def test_a_memory_cap_narrows_the_window_and_too_small_a_cap_is_refused():
    frames, _ = waves(16, 96, 96, sigma=2.0)
    source = ArraySource(frames[:, 0])
    whole = Wiener().prepare(source, Options()).fitted.report["window"][0]
    assert whole > 3
    narrow = Wiener().prepare(source, Options(max_bytes=stream_bytes(3, 3, 1, 96, 96))).fitted.report["window"][0]
    assert narrow == 3
    with pytest.raises(LowdoseError, match="--max-mem"):
        Wiener().prepare(source, Options(max_bytes=1e5))
    with pytest.raises(LowdoseError, match="--max-mem"):
        Wiener().prepare(ArraySource(noise(6, 6, 16, 16), is_scan=True), Options(max_bytes=1e4))


@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_hidden_square_has_no_weights(n_channels):
    frames = np.random.default_rng(0).normal(size=(6, n_channels, 40, 40)).astype(np.float32)
    frames = frames + np.roll(frames, 1, axis=3)  # noise that neighbours along x share
    fitted = fit_movie([frames], hidden_px=3)
    n, middle = len(fitted.taps), fitted.radius_px
    square = slice(middle - 1, middle + 2)
    for channel in range(n_channels):
        assert not fitted.weights[:, channel, n // 2, channel, square, square].any()
    # What the filter sees tells nothing of the noise, so it predicts next to nothing; with the neighbours it would.
    assert fitted.report["prediction_error"][0] > 0.95 * 2
    assert fit_movie([frames]).report["prediction_error"][0] < 0.9 * 2


def test_a_hidden_square_in_patterns():
    scan = np.random.default_rng(0).poisson(5, (5, 5, 12, 12)).astype(np.float32)
    weights = fit_scan(scan, hidden_px=3).weights[0, 0, :, 0]
    assert not weights[12, 1:4, 1:4].any() and weights[12].any() and weights[11, 1:4, 1:4].all()


def test_a_single_frame_gets_the_wide_window_where_the_pattern_repeats():
    y, x = np.mgrid[:160, :160]
    crystal = np.exp(3 * (np.cos(2 * np.pi * x / 19.3) + np.cos(2 * np.pi * y / 23.1)))
    noise = np.random.default_rng(0).normal(0, 1, crystal.shape)
    noisy = (crystal / crystal.std() + noise).astype(np.float32)[None, None]
    assert fit_movie([noisy]).report["window"] == [1, 49, 49]
    assert fit_movie([noisy], largest_px=9).report["window"] == [1, 9, 9]
    assert fit_movie([noisy[..., :13, :20]]).radius_px <= 12
    spots = np.repeat(np.repeat(np.random.default_rng(1).normal(0, 1, (40, 40)), 4, 0), 4, 1)
    assert fit_movie([(spots + noise).astype(np.float32)[None, None]]).report["window"] == [1, 21, 21]


@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_filter_without_rows_knows_nothing_of_them(n_channels):
    frames = np.concatenate([waves(6, 40, 33, seed=c)[0] for c in range(n_channels)], axis=1)
    fitted = fit_movie([frames], window_frames=3, largest_px=7)
    rows = slice(11, 20)
    changed = frames.copy()
    changed[:, :, rows] = np.random.default_rng(8).normal(size=changed[:, :, rows].shape)
    without, other = (fit_without([array], rows, fitted) for array in (frames, changed))
    np.testing.assert_array_equal(without.weights, other.weights)
    assert without.weights.shape == (1, *fitted.weights.shape[1:]) and without.taps == fitted.taps
    inside = fitted.weights[1]
    assert 1e-3 < np.abs(without.weights[0] - inside).max() < 0.5 * np.abs(inside).max()
    everything = fit_without([frames], slice(0, 0), fitted)
    np.testing.assert_allclose(everything.weights[0], inside, atol=1e-6)


def test_pairs_that_touch_left_out_rows_do_not_count():
    frames = np.random.default_rng(0).normal(size=(3, 2, 20, 17)).astype(np.float32)
    rows = slice(6, 11)
    found = covariances([frames], np.zeros(2, np.float32), 1, 5, rows)
    kept = [y for y in range(20) if not 6 <= y < 11]
    for i, j, dt, dy, dx in [(0, 1, 0, 2, 3), (1, 1, 1, -4, 2), (0, 0, 1, 5, 0)]:
        pairs = [y for y in kept if y + dy in kept]
        products = [
            frames[t, i, y, x] * frames[t + dt, j, y + dy, x + dx]
            for t in range(3 - dt)
            for y in pairs
            for x in range(max(0, -dx), 17 - max(0, dx))
        ]
        filled = min(1.5, 15 / 20 * (20 - abs(dy)) / len(pairs))
        wanted = sum(products) * filled / (15 * 17 * (3 - dt))
        assert found.values[i, j, dt + 1, dy + 5, dx + 5] == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert found.n_values == 3 * 15 * 17


def test_bands_cover_all_rows_and_there_is_one_where_rows_are_few():
    frames, _ = waves(6, 43, 33)
    fitted = fit_movie([frames], window_frames=3, largest_px=7)
    bands = fit_bands([frames], fitted)
    assert [(rows.start, rows.stop) for rows, _ in bands] == [(0, 10), (10, 21), (21, 32), (32, 43)]
    for rows, each in bands:
        np.testing.assert_array_equal(each.weights, fit_without([frames], rows, fitted).weights)
    assert fit_bands([frames], fitted, 1) == [(slice(0, 43), fitted)]
    assert fit_bands([frames[:, :, :1]], fitted) == [(slice(0, 1), fitted)]
