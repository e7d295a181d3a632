"""The compiled kernel of the blind-feature network: the numbers of the function in the model file, and blind."""

import numpy as np
import onnx
import onnxruntime
import pytest

import references
from blind_features_models import Sizes, model_of, own_shares, random_weights
from lowdose import NO_LOW_PASS, LowdoseError, Settings, _core, load

# float32 sums of up to some thousand products in another order; the share is of the output's range.
TOLERANCE = 1e-5
INSTRUCTION_SETS = ("portable", "sse4.2", "avx2", "avx512")
ORDINARY = Sizes()
OTHERS = [
    Sizes(1, 1, 1, (1, 1), (1, 1), 1, (1, 1)),
    Sizes(1, 1, 5, (3, 7), (1, 9), 1, (7, 3)),
    Sizes(3, 2, 8, (5, 5), (7, 5), 3, (32, 32)),
    Sizes(2, 3, 11, (9, 3), (3, 3), 1, (5, 17)),
    Sizes(9, 1, 3, (1, 3), (5, 1), 3, (9, 33)),
    Sizes(7, 1, 2, (21, 21), (21, 21), 1, (4, 8)),
]
SHAPES = [(1, 1), (1, 40), (40, 1), (3, 2), (7, 13), (31, 33), (49, 17), (50, 129), (97, 263)]


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def assert_close(result, expected):
    assert result.shape == expected.shape
    assert np.ptp(expected) > 0 or expected.size < 10  # a dead network would agree with anything
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def session(model, *, kernels=True, threads=2):
    """Plain ONNX Runtime, with our extension as its custom-op library."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the errors below are expected
    options.intra_op_num_threads = threads
    if kernels:
        options.register_custom_ops_library(_core.__file__)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(runner, frames):
    """frames: (n_taps, batch, C, height, width) -> (batch, C, height, width)."""
    (result,) = runner.run(None, {f"frame_{i}": frame for i, frame in enumerate(frames)})
    return result


def use(instructions, monkeypatch):
    monkeypatch.setenv("LOWDOSE_CPU", instructions)
    try:
        session(model_of(random_weights(OTHERS[0]), 1))
    except Exception as error:
        assert "on this processor it may be portable" in str(error)
        pytest.skip(str(error))


@pytest.mark.parametrize("sizes", [ORDINARY, *OTHERS], ids=str)
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_any_sizes_on_every_instruction_set(monkeypatch, instructions, sizes):
    use(instructions, monkeypatch)
    weights = random_weights(sizes)
    runner = session(model_of(weights, sizes.n_taps))
    for shape in [(1, 1), (14, 17), (55, 150)]:
        frames = noise((sizes.n_taps, 1, sizes.n_channels, *shape))
        assert_close(run(runner, frames)[0], references.blind_features(frames[:, 0], weights))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", [ORDINARY, OTHERS[2]], ids=str)
def test_kernel_and_inlined_graph_agree(shape, sizes):
    weights = random_weights(sizes)
    model = model_of(weights, sizes.n_taps)
    frames = noise((sizes.n_taps, 2, sizes.n_channels, *shape))
    by_kernel, by_graph = run(session(model), frames), run(session(model, kernels=False), frames)
    assert_close(by_kernel, by_graph)
    if np.prod(shape) > 1000:
        assert (by_kernel != by_graph).any()  # or the kernel was not used
    for item in range(2):
        assert_close(by_kernel[item], references.blind_features(frames[:, item], weights))


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_the_number_of_threads_changes_no_bit(monkeypatch, instructions):
    use(instructions, monkeypatch)
    model = model_of(random_weights(OTHERS[2]), 3)
    frames = noise((3, 1, 2, 211, 397))
    expected = run(session(model, threads=1), frames)
    for threads in (2, 3, 5):
        runner = session(model, threads=threads)
        for _ in range(3):
            np.testing.assert_array_equal(run(runner, frames), expected)


def test_a_pixel_gives_the_same_bits_wherever_it_lies():
    """Blocks, tiles and their ends compute alike."""
    sizes = Sizes(1, 1, 7, (3, 3), (5, 5))
    runner = session(model_of(random_weights(sizes), 1))
    frame = np.zeros((1, 1, 1, 150, 420), np.float32)
    patch = noise((40, 60))
    results = []
    for top, left in ((10, 10), (11, 30), (33, 107), (101, 350)):
        frame[:] = 0
        frame[..., top : top + 40, left : left + 60] = patch
        results.append(run(runner, frame)[..., top : top + 40, left : left + 60])
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_no_result_depends_on_its_own_pixel(kernels, n_channels):
    """Corners and edges included; with the shares that a feature holds directly and through the linear filter."""
    sizes = Sizes(3, n_channels, 6, (7, 5), (5, 9))
    weights = random_weights(sizes)
    for c in range(n_channels):
        weights["linear"][c, n_channels + c, 3, 2] = 0
    weights["own"] = own_shares(weights, 3)
    runner = session(model_of(weights, 3), kernels=kernels)
    frames = noise((3, 1, n_channels, 20, 22))
    before = run(runner, frames)
    others_changed = 0
    for c in range(n_channels):
        for y, x in [(0, 0), (0, 21), (19, 0), (19, 21), (0, 9), (1, 20), (18, 1), (10, 11)]:
            changed = frames.copy()
            changed[1, 0, c, y, x] += 10
            after = run(runner, changed)
            assert abs(after[0, c, y, x] - before[0, c, y, x]) < 2e-5
            others_changed = max(others_changed, np.abs(after - before).max())
    assert others_changed > 0.1


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_a_pixel_that_is_no_number_reaches_no_further_than_the_windows(monkeypatch, instructions, side):
    use(instructions, monkeypatch)
    runner = session(model_of(random_weights(Sizes(1, 1, 5, (side, side), (side, side))), 1))
    frame = noise((1, 1, 1, 61, 300))
    expected = run(runner, frame)
    frame[..., 30, 150] = np.nan
    result = run(runner, frame)
    reach = 2 * (side // 2)
    seen = np.zeros((61, 300), bool)
    seen[30 - reach : 31 + reach, 150 - reach : 151 + reach] = True
    np.testing.assert_array_equal(result[0, 0][~seen], expected[0, 0][~seen])


def test_without_a_feature_of_the_filters_result_no_margin_is_filtered():
    sizes = Sizes(3, 1, 6, (7, 5), (5, 9))
    weights = random_weights(sizes)
    weights["mix"][..., -1] = 0
    frames = noise((3, 1, 1, 63, 140))
    assert_close(run(session(model_of(weights, 3)), frames)[0], references.blind_features(frames[:, 0], weights))


def with_zeros_around(weights, more_taps, margin):
    """The same network for more_taps further frames at both ends, its linear filter's window larger by the margin."""
    c, before = len(weights["mix"]), [(0, 0)] * 2
    more, (y, x) = more_taps * c, margin
    mix = np.pad(weights["mix"][..., :-1], [*before, (more, more)])
    return weights | {
        "linear": np.pad(weights["linear"], [(0, 0), (more, more), (y, y), (x, x)]),
        "mix": np.concatenate([mix, weights["mix"][..., -1:]], axis=2),
    }


@pytest.mark.parametrize(
    ("sizes", "more_taps", "margin"),
    [
        (Sizes(7, 1, 24, (21, 21)), 3, (5, 5)),
        (OTHERS[0], 1, (2, 0)),
        (OTHERS[1], 2, (0, 1)),
        (OTHERS[2], 1, (3, 1)),
        (OTHERS[4], 2, (1, 8)),
    ],
    ids=str,
)
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_nothing_is_computed_for_weights_of_zero_around_the_others(monkeypatch, instructions, sizes, more_taps, margin):
    """No pixel that only they see comes in, which one that is no number would tell."""
    use(instructions, monkeypatch)
    weights = random_weights(sizes)
    n_taps = sizes.n_taps + 2 * more_taps
    larger = with_zeros_around(weights, more_taps, margin)
    runner, larger_runner = session(model_of(weights, sizes.n_taps)), session(model_of(larger, n_taps))
    for shape in [(1, 1), (45, 150)]:
        frames = noise((n_taps, 1, sizes.n_channels, *shape))
        inner = frames[more_taps : more_taps + sizes.n_taps]
        assert_close(run(larger_runner, frames)[0], references.blind_features(frames[:, 0], larger))
        frames[:more_taps] = frames[more_taps + sizes.n_taps :] = np.nan
        frames[n_taps // 2, ..., shape[0] // 2, shape[1] // 2] = np.nan
        np.testing.assert_array_equal(run(larger_runner, frames), run(runner, inner))


def no_linear_filter(weights):
    weights["linear"][:] = 0


def one_weight_beside_the_middle(weights):
    kept = weights["linear"][1, 2, 3, 1]
    weights["linear"][:] = 0
    weights["linear"][1, 2, 3, 1] = kept


def own_frame_by_own_pixels_alone(weights):
    weights["linear"][:, 2:4] = 0
    weights["mix"][..., 2:4] = 0


def each_channel_its_planes(weights):
    """Plane 0 is the first channel's, plane 1 nobody's, plane 4 the second's for its features, 5 for its filter."""
    weights["linear"][0, [1, 4, 5]] = weights["linear"][1, [0, 1, 4]] = 0
    weights["mix"][0][:, [1, 4, 5]] = weights["mix"][1][:, [0, 1, 5]] = 0


@pytest.mark.parametrize(
    "put_zeros",
    [no_linear_filter, one_weight_beside_the_middle, own_frame_by_own_pixels_alone, each_channel_its_planes],
)
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_weights_of_zero_in_any_place(monkeypatch, instructions, put_zeros):
    use(instructions, monkeypatch)
    weights = random_weights(Sizes(3, 2, 5, (5, 7), (3, 5), 3, (7, 3)))
    put_zeros(weights)
    frames = noise((3, 1, 2, 31, 150))
    assert_close(run(session(model_of(weights, 3)), frames)[0], references.blind_features(frames[:, 0], weights))


def test_weights_may_change_from_run_to_run():
    weights = random_weights(OTHERS[2])
    model = model_of(weights, 3)
    for value in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(value.name, value.data_type, value.dims))
    del model.graph.initializer[:]
    runner = session(model)
    frames = noise((3, 1, 2, 31, 40))
    fewer = weights | {"linear": np.zeros_like(weights["linear"]), "mix": weights["mix"].copy()}
    fewer["mix"][..., [0, 1, -1]] = 0
    for given in (weights, fewer, weights):
        (result,) = runner.run(None, given | {f"frame_{i}": frame for i, frame in enumerate(frames)})
        assert_close(result[0], references.blind_features(frames[:, 0], given))


def test_a_session_may_change_the_size_of_its_frames():
    model = model_of(random_weights(ORDINARY), 5)
    one = session(model)
    for shape in ((40, 29), (7, 400), (90, 8), (40, 29)):
        frames = noise((5, 1, 1, *shape))
        np.testing.assert_array_equal(run(one, frames), run(session(model), frames))
    assert run(one, noise((5, 0, 1, 4, 4))).shape == (0, 1, 4, 4)


def test_in_the_core_with_kernels_and_without(tmp_path):
    weights = random_weights(OTHERS[2])
    path = tmp_path / "bfn.onnx"
    onnx.save(model_of(weights, 3), path)
    stack = noise((6, 2, 61, 135))
    with_kernels, without = load(path, device="cpu"), load(path, device="cpu", kernels=False)
    assert with_kernels.kernels in INSTRUCTION_SETS
    assert without.kernels is None
    settings = Settings(0, NO_LOW_PASS, 0.0)
    results = with_kernels.denoise(stack, settings=settings, threads=2)
    assert_close(results, without.denoise(stack, settings=settings))
    np.testing.assert_array_equal(with_kernels.denoise(stack, settings=settings, threads=1), results)
    assert_close(results[3], references.blind_features(stack[2:5], weights))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("linear", (1, 5, 4, 15), "linear is 1x5x4x15; its sides must be odd"),
        ("linear", (1, 6, 15, 15), "linear is 1x6x15x15, not 1x5x15x15"),
        ("linear_bias", (2,), "linear_bias is 2, not 1"),
        ("mix", (1, 24, 5), "mix is 1x24x5, not 1x24x6"),
        ("vertical", (1, 24, 14), "vertical is 1x24x14; its sides must be odd"),
        ("horizontal", (1, 23, 15), "horizontal is 1x23x15, not 1x24x15"),
        ("own", (1, 24, 3, 1), "own is 1x24x3x1, not 1x24x1x1"),
        ("w1", (1, 32, 24), "w1 is 1x32x24, not 1x32x25"),
        ("b1", (1, 31), "b1 is 1x31, not 1x32"),
        ("w2", (1, 32, 31), "w2 is 1x32x31, not 1x32x32"),
        ("w3", (1, 32), "w3 is 1x32, not 1x89"),
        ("w3", (1, 1, 89), "w3 is 1x1x89, not 1x89"),
        ("b3", (), "b3 is a scalar, not 1"),
    ],
)
def test_weights_that_do_not_fit_are_errors(name, shape, message):
    model = model_of(random_weights(ORDINARY), 5)
    for i, weights in enumerate(model.graph.initializer):
        if weights.name == name:
            model.graph.initializer[i].CopyFrom(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    runner = session(model)
    with pytest.raises(Exception, match=f"BlindFeatures: {message}"):
        run(runner, noise((5, 1, 1, 16, 16)))


def test_frames_that_do_not_fit_are_errors():
    runner = session(model_of(random_weights(ORDINARY), 5))
    frames = {f"frame_{i}": noise((1, 1, 16, 16)) for i in range(5)}
    with pytest.raises(Exception, match="a frame is 1x1x16x15, not 1x1x16x16"):
        runner.run(None, frames | {"frame_2": noise((1, 1, 16, 15))})
    assert runner.run(None, frames)[0].shape == (1, 1, 16, 16)  # it still works


def test_an_unknown_instruction_set_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "bfn.onnx"
    onnx.save(model_of(random_weights(OTHERS[0]), 1), path)
    monkeypatch.setenv("LOWDOSE_CPU", "avx9000")
    with pytest.raises(LowdoseError, match=r"LOWDOSE_CPU is 'avx9000'.*portable"):
        load(path, device="cpu")
