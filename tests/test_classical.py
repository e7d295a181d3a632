"""The classical filters as methods: streams against SciPy and scikit-image on whole stacks, and their strengths."""

import sys

import numpy as np
import pytest
import scipy.ndimage
import skimage.restoration

from lowdose import LowdoseError, Settings
from lowdose.methods import find_method
from lowdose.methods.classical import FILTERS, candidates
from lowdose.methods.classical.choice import best_sigmas, cosine_power, left_out_errors, noise_stds, sample
from lowdose.methods.classical.filters import TV_STEPS
from lowdose.methods.method import Options
from lowdose.source import ArraySource

ROUNDING = 1e-5  # of the output's range: sums of float32 in another order


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def waves(n_frames, height, width, sigma=1.0, seed=0):
    """A moving wave of a period of 12 px, and the same under white noise."""
    t, y, x = np.ogrid[:n_frames, :height, :width]
    truth = (np.sin(2 * np.pi * (x - 0.2 * t) / 12) * np.sin(2 * np.pi * y / 12)).astype(np.float32)
    return truth, truth + sigma * noise(n_frames, height, width, seed=seed)


def run(name, stack, *, out_dtype=np.float32, options=None, **layout):
    """The whole stack by the method's stream, and the stream."""
    source = ArraySource(stack, **layout)
    stream = find_method(name).prepare(source, options or Options()).stream(source, out_dtype)
    results = [out for frame in source if (out := stream.push(frame)) is not None]
    return np.array(results + stream.flush()).reshape(stack.shape), stream


@pytest.mark.parametrize("shape", [(5, 9, 14), (1, 7, 7), (2, 1, 1), (3, 1, 31)])
def test_gaussian_is_scipys_frame_by_frame(shape):
    stack = 100 + noise(*shape)
    expected = scipy.ndimage.gaussian_filter(stack, (0, 1.5, 1.5), mode="mirror")
    np.testing.assert_allclose(run("gaussian:1.5", stack)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 8, 9, 10, 23])
@pytest.mark.parametrize("sigma", [(1.0, 1.4), (2.1, 0.6)])
def test_gaussian3d_is_scipys_on_the_whole_stack(n_frames, sigma):
    stack = noise(n_frames, 7, 10)
    expected = scipy.ndimage.gaussian_filter(stack, (sigma[0], sigma[1], sigma[1]), mode="mirror")
    result, stream = run(f"gaussian3d:{sigma[0]},{sigma[1]}", stack)
    np.testing.assert_allclose(result, expected, atol=ROUNDING * np.ptp(expected))
    assert stream.latency_frames == int(4 * sigma[0] + 0.5)
    again = [out for frame in stack if (out := stream.push(frame)) is not None] + stream.flush()
    np.testing.assert_array_equal(again, result)  # a second sequence sees nothing of the first


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 3), (9, 4), (4, 11)])
def test_gaussian3d_is_scipys_over_a_whole_scan(shape):
    scan = noise(*shape, 5, 6)
    expected = scipy.ndimage.gaussian_filter(scan, (0.8, 0.8, 1.2, 1.2), mode="mirror")
    result, stream = run("gaussian3d:0.8,1.2", scan, is_scan=True)
    np.testing.assert_allclose(result, expected, atol=ROUNDING * np.ptp(expected))
    frames = scan.reshape(-1, 5, 6)
    for frame in frames:
        stream.push(frame)
    with pytest.raises(LowdoseError, match="positions is complete"):
        stream.push(frames[0])


@pytest.mark.parametrize("n_pushed", [1, 5, 22, 29, 30, 34, 54])
def test_a_scan_that_was_stopped_gives_back_what_came(n_pushed):
    scan = noise(9, 6, 3, 4)
    source = ArraySource(scan, is_scan=True)
    stream = find_method("gaussian3d:0.5,1").prepare(source, Options()).stream(source, np.float32)
    frames = list(source)[:n_pushed]
    results = [out for frame in frames if (out := stream.push(frame)) is not None] + stream.flush()
    rows = -(-n_pushed // 6)
    filled = np.array(frames + [frames[-1]] * (6 * rows - n_pushed)).reshape(rows, 6, 3, 4)
    expected = scipy.ndimage.gaussian_filter(filled, (0.5, 0.5, 1, 1), mode="mirror").reshape(-1, 3, 4)[:n_pushed]
    np.testing.assert_allclose(results, expected, atol=ROUNDING * np.ptp(expected))


def bilateral(image, value_sigma, sigma_px):
    """Pixel by pixel, over a disc of three sigma; borders mirrored."""
    reach = int(np.ceil(3 * sigma_px))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = np.exp(-(dy**2 + dx**2) / (2 * sigma_px**2)) * (dy**2 + dx**2 <= reach**2)
    padded = np.pad(image, reach, "reflect")
    out = np.empty(image.shape)
    for y, x in np.ndindex(image.shape):
        others = padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
        weights = near * np.exp(-((others - image[y, x]) ** 2) / (2 * value_sigma**2))
        out[y, x] = np.sum(weights * others) / np.sum(weights)
    return out


def test_the_filters_in_units_of_the_noise():
    """tv and nlm are scikit-image's."""
    truth, stack = waves(2, 33, 40, sigma=0.7)
    (std,) = noise_stds(sample(ArraySource(stack)))
    images = stack.astype(np.float64)
    expected = {
        "tv:1.2": [
            skimage.restoration.denoise_tv_chambolle(i, weight=1.2 * std, eps=0, max_num_iter=TV_STEPS) for i in images
        ],
        "nlm:0.7": [skimage.restoration.denoise_nl_means(i, 5, 7, h=0.7 * std, sigma=std) for i in images],
        "bilateral:5,1.2": [bilateral(i, 5 * std, 1.2) for i in images],
    }
    for name, frames in expected.items():
        result, _ = run(name, stack)
        np.testing.assert_allclose(result, frames, atol=1e-4 * np.ptp(frames), err_msg=name)
        assert np.mean((result - truth) ** 2) < 0.35 * 0.7**2, name


@pytest.mark.parametrize("name", FILTERS)
def test_gain_and_offset_do_not_matter(name):
    _, stack = waves(5, 24, 25, sigma=0.5)
    result, _ = run(name, stack)
    scaled, _ = run(name, 40 * stack + 1000)
    np.testing.assert_allclose((scaled - 1000) / 40, result, atol=1e-4 * np.ptp(result))


@pytest.mark.parametrize("name", FILTERS)
def test_channels_are_filtered_alone(name):
    _, first = waves(6, 20, 23, seed=1)
    _, second = waves(6, 20, 23, sigma=3.0, seed=2)
    strength = {kind: f"{kind}:{entry.example}" for kind, entry in FILTERS.items()}[name]
    both, stream = run(strength, np.stack([first, second], 1), n_channels=2)
    assert both.shape == (6, 2, 20, 23)
    for channel, stack in enumerate((first, second)):
        alone, _ = run(strength, stack)
        # Sums over frames are BLAS's, whose order depends on where a pixel lies in memory.
        np.testing.assert_allclose(both[:, channel], alone, rtol=0, atol=1e-6 * np.ptp(alone))
    assert stream.stats["frames_in"] == stream.stats["frames_out"] == stream.stats["total"]["count"] == 6
    assert 0 < stream.stats["total"]["p50_ms"] <= stream.stats["total"]["p99_ms"] <= stream.stats["total"]["max_ms"]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 2, 3), (3, 1, 17), (2, 5, 2)])
def test_tiny_and_constant_frames(name, shape):
    for stack in (noise(*shape), np.full(shape, 7.0, np.float32)):
        result, _ = run(name, stack)
        assert result.shape == shape
        assert (result >= stack.min() - 1e-5).all()
        assert (result <= stack.max() + 1e-5).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float64"])
def test_dtypes_in_and_out(dtype):
    counts = np.random.default_rng(0).poisson(50, (3, 12, 12)).astype(dtype)
    result, _ = run("gaussian3d:1,1", counts, out_dtype=dtype)
    assert result.dtype == dtype
    expected = scipy.ndimage.gaussian_filter(counts.astype(np.float64), 1, mode="mirror")
    np.testing.assert_allclose(result, expected, atol=1e-3 if dtype == "float64" else 0.5001)


@pytest.mark.parametrize("shape", [(16, 20, 21), (1, 32, 9), (2, 30, 1)])
def test_left_out_errors_are_those_of_cross_validation(shape):
    """Against the filtered frames, with borders repeated as the cosine transform has them."""
    _, stack = waves(*shape)
    outer, inner = [0.0, 0.7, 2.0], [0.5, 1.0, 3.0]
    errors = left_out_errors(cosine_power(stack[:, None, None]), outer, inner)
    for i, sigma_frames in enumerate(outer):
        for j, sigma_px in enumerate(inner):
            sigmas = (sigma_frames, sigma_px, sigma_px)
            smooth = scipy.ndimage.gaussian_filter(stack.astype(np.float64), sigmas, mode="reflect")
            own = [
                np.trace(scipy.ndimage.gaussian_filter1d(np.eye(n), s, mode="reflect")) / n if s else 1.0
                for n, s in zip(shape, sigmas, strict=True)
            ]
            expected = np.mean(((stack - smooth) / (1 - np.prod(own))) ** 2) / stack.var()
            assert errors[i, j] == pytest.approx(expected, rel=1e-4)


def test_more_noise_asks_for_wider_filters_near_the_best():
    chosen = []
    for sigma in (0.2, 1.0, 4.0):
        truth, stack = waves(12, 96, 96, sigma=sigma)
        frames, width = best_sigmas(stack[:, None, None], three_d=True)
        _, alone = best_sigmas(stack[:, None, None], three_d=False)
        chosen.append(alone)
        result, _ = run(f"gaussian:{alone}", stack)
        errors = {s: np.mean((run(f"gaussian:{s}", stack)[0] - truth) ** 2) for s in (0.5, 0.7, 1, 1.4, 2, 2.8, 4)}
        assert np.mean((result - truth) ** 2) < 1.3 * min(errors.values())
        result, _ = run(f"gaussian3d:{frames},{width}", stack)
        assert np.mean((result - truth) ** 2) < 1.1 * min(errors.values())
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("layout", ["movie", "frame", "scan"])
def test_the_noise_is_measured(layout):
    shape = {"movie": (8, 1, 1, 64, 64), "frame": (1, 1, 1, 64, 64), "scan": (6, 6, 1, 32, 32)}[layout]
    y, x = np.ogrid[: shape[3], : shape[4]]
    signal = 5 * np.sin(2 * np.pi * (x + y) / 24).astype(np.float32)
    assert noise_stds(signal + 0.8 * noise(*shape)) == pytest.approx([0.8], rel=0.05)


def test_candidates_bracket_the_default():
    _, stack = waves(10, 48, 48)
    for source, kinds in (
        (ArraySource(stack), set(FILTERS)),
        (ArraySource(stack[:1]), set(FILTERS) - {"gaussian3d"}),
        (ArraySource(stack.reshape(2, 5, 48, 48), is_scan=True), set(FILTERS)),
    ):
        methods = candidates(source)
        assert len({method.name for method in methods}) == len(methods)
        by_kind = {kind: [m.strength for m in methods if m.kind == kind] for kind in kinds}
        assert {method.kind for method in methods} == kinds
        for kind, strengths in by_kind.items():
            default = find_method(kind).prepare(source, Options()).strength
            assert 3 <= len(strengths) <= 5
            assert np.min(strengths, axis=0).tolist() <= list(default)
            assert np.max(strengths, axis=0).tolist() >= list(default)


def test_the_command_takes_them(tmp_path, lowdose):
    _, stack = waves(5, 20, 21)
    np.save(tmp_path / "in.npy", stack)
    outcome = lowdose("denoise", tmp_path / "in.npy", "-o", tmp_path / "out.npy", "--model", "gaussian3d:1,1.5")
    assert outcome.code == 0, outcome.err
    assert "gaussian3d:1,1.5, noise of standard deviation" in outcome.out
    expected = scipy.ndimage.gaussian_filter(stack, (1, 1.5, 1.5), mode="mirror")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=ROUNDING * np.ptp(expected))


@pytest.mark.parametrize("name", ["tv:", "tv:0", "tv:-1", "tv:1,2", "tv:nan", "tv:inf", "gaussian3d:2", "nlm:strong"])
def test_wrong_strengths_are_refused(name):
    with pytest.raises(LowdoseError, match=r"with its strength, such as"):
        find_method(name)


def test_bad_input_is_refused():
    stack = noise(4, 8, 8)
    source = ArraySource(stack)
    with pytest.raises(LowdoseError, match="runs on the CPU only"):
        find_method("tv", device="cuda")
    with pytest.raises(LowdoseError, match="takes no low-pass"):
        find_method("tv").prepare(source, Options(settings=Settings(cutoff=0.2)))
    with pytest.raises(LowdoseError, match=r"holds .* MB of frames"):
        run("gaussian3d:2,1", stack, options=Options(max_bytes=1000))
    stream = find_method("gaussian3d:2,1").prepare(source, Options()).stream(source, np.float32)
    for bad in (stack[0].astype(np.float64), stack[0, :7]):
        with pytest.raises(LowdoseError, match="the stream takes frames of 8x8 float32"):
            stream.push(bad)
    with pytest.raises(LowdoseError, match="NaN"):
        stream.push(np.full((8, 8), np.nan, np.float32))
    with pytest.raises(LowdoseError, match="NaN"):
        find_method("tv").prepare(ArraySource(np.full((1, 8, 8), np.inf)), Options())


@pytest.mark.parametrize(("name", "package"), [("gaussian", "scipy"), ("nlm", "skimage")])
def test_a_missing_package_names_the_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LowdoseError, match=rf"{package}.*pip install 'lowdose\[analysis\]'"):
        find_method(name)
