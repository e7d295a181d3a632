"""The compiled kernels: the same numbers as the functions in the model file, for every shape, processor and thread."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import lowdose
import references
from lowdose import NO_LOW_PASS, LowdoseError, Settings, _core, load
from lowdose_export.graph import build_model, contract
from lowdose_train.blind_spot import BlindSpotNetwork
from model_files import weights_of

# float32 sums of some 400 products in another order; the share is of the output's range.
TOLERANCE = 1e-5
INSTRUCTION_SETS = ("portable", "sse4.2", "avx2", "avx512")
PUBLISHED = (3, (3, 5, 7), 3, 4)  # n_taps, kernel sizes, n_features, n_mixing
OTHERS = [(1, (3, 5, 7), 3, 4), (3, (7, 3), 4, 2), (5, (1, 9), 5, 0), (1, (5,), 1, 1), (3, (11, 3, 5, 13), 7, 3)]


FILTERED = Settings(1, 1 / 7, 0.0)


def settings(weight_set):
    return Settings(weight_set, NO_LOW_PASS, 0.0)


def random_networks(architecture):
    """Two networks whose features take both signs."""
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(BlindSpotNetwork(*architecture))
        with torch.no_grad():
            for weights in networks[-1].parameters():
                weights.add_(torch.randn_like(weights), alpha=0.3)
    return networks


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A function that makes a model file of an architecture that takes frames of any size."""
    folder = tmp_path_factory.mktemp("kernels")

    def make(architecture):
        path = folder / f"{architecture}.onnx"
        if not path.exists():
            networks = random_networks(architecture)
            metadata = contract("wcvd", networks, [{"name": "0"}, {"name": "1"}])
            onnx.save(build_model(networks, metadata | {"min_size_px": 1, "bytes_per_px": 100.0}), path)
        return path

    return make


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def assert_close(result, expected):
    assert np.ptp(expected) > 0 or expected.size < 10  # a dead network would agree with anything
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * max(np.abs(expected).max(), 1e-6))


def expected_frames(architecture, weight_set, stack, taps):
    branches, shares = weights_of(random_networks(architecture)[weight_set])
    return np.stack(
        [references.blind_spot(references.window(stack, t, taps), branches, shares) for t in range(len(stack))]
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (7, 7), (13, 5), (31, 33), (2, 97), (37, 3)])
@pytest.mark.parametrize("weight_set", [0, 1])
def test_small_and_narrow_frames_repeat_periodically(model_file, shape, weight_set):
    model = load(model_file(PUBLISHED), device="cpu")
    stack = noise((2, *shape))
    expected = expected_frames(PUBLISHED, weight_set, stack, model.taps)
    assert_close(model.denoise(stack, settings=settings(weight_set)), expected)


@pytest.mark.parametrize("architecture", OTHERS)
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_any_number_of_frames_features_layers_and_branches(model_file, monkeypatch, architecture, instructions):
    model = load_with(instructions, model_file(architecture), monkeypatch)
    stack = noise((3, 14, 17))
    expected = expected_frames(architecture, 1, stack, model.taps)
    assert_close(model.denoise(stack, settings=settings(1)), expected)


@pytest.mark.parametrize("shape", [(7, 7), (8, 64), (65, 127), (61, 257), (67, 400), (128, 192)])
@pytest.mark.parametrize("architecture", [PUBLISHED, OTHERS[0]])
@pytest.mark.parametrize("weight_set", [0, 1])
def test_kernel_and_inlined_graph_agree(model_file, shape, architecture, weight_set):
    path = model_file(architecture)
    with_kernels, without = load(path, device="cpu"), load(path, device="cpu", kernels=False)
    assert with_kernels.kernels in INSTRUCTION_SETS
    assert with_kernels.runtime.endswith(f"with {with_kernels.kernels} kernels")
    assert without.kernels is None
    stack = noise((3, *shape))
    for cutoff in (NO_LOW_PASS, 0.2):
        chosen = Settings(weight_set, cutoff, 0.0)
        assert_close(with_kernels.denoise(stack, settings=chosen), without.denoise(stack, settings=chosen))


def load_with(instructions, path, monkeypatch):
    monkeypatch.setenv("LOWDOSE_CPU", instructions)
    try:
        return load(path, device="cpu")
    except LowdoseError as error:
        assert "on this processor it may be portable" in str(error)
        pytest.skip(str(error))


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_every_instruction_set_gives_the_same_numbers(model_file, monkeypatch, instructions):
    path = model_file(PUBLISHED)
    inlined = load(path, device="cpu", kernels=False)
    model = load_with(instructions, path, monkeypatch)
    assert model.kernels == instructions
    for shape in ((7, 7), (33, 30), (66, 311), (35, 384)):
        stack = noise((3, *shape))
        for chosen in (settings(0), FILTERED):
            one_thread = model.denoise(stack, settings=chosen, threads=1)
            assert_close(one_thread, inlined.denoise(stack, settings=chosen))
            np.testing.assert_array_equal(model.denoise(stack, settings=chosen, threads=3), one_thread)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_number_of_threads_changes_no_bit(model_file, threads):
    model = load(model_file(PUBLISHED), device="cpu")
    stack = noise((3, 211, 97))
    for chosen in (settings(0), FILTERED):
        expected = model.denoise(stack, settings=chosen, threads=1)
        for _ in range(3):
            np.testing.assert_array_equal(model.denoise(stack, settings=chosen, threads=threads), expected)


def test_a_pixel_gives_the_same_numbers_wherever_it_lies(model_file):
    model = load(model_file(PUBLISHED), device="cpu")
    stack = noise((3, 72, 230))
    expected = model.denoise(stack, settings=settings(0))
    for shift in ((0, 1), (4, 0), (32, 100)):  # rows are computed four at a time
        shifted = model.denoise(np.roll(stack, shift, (1, 2)), settings=settings(0))
        np.testing.assert_array_equal(shifted, np.roll(expected, shift, (1, 2)))
    for shift in ((1, 0), (2, 5), (33, 100)):
        shifted = model.denoise(np.roll(stack, shift, (1, 2)), settings=settings(0))
        assert_close(shifted, np.roll(expected, shift, (1, 2)))


def relative_errors(weight_set, stack):
    """Largest error of the compiled kernel and of direct float32 sums on a bundled network, of the output's range."""
    path = Path(lowdose.__file__).parent / "models" / "wcvd.onnx"
    weights = {i.name: onnx.numpy_helper.to_array(i)[weight_set] for i in onnx.load(path).graph.initializer if i.dims}
    branches = [[weights[f"{part}_{size}"] for part in ("kernel", "mixing", "head")] for size in (3, 5, 7)]
    exact, direct = (
        references.blind_spot_frame(stack, branches, weights["branch_weights"], dtype)
        for dtype in (np.float64, np.float32)
    )
    result = load(path, device="cpu").denoise(stack, settings=settings(weight_set))[1]
    return [np.abs(frame - exact).max() / np.ptp(exact) for frame in (result, direct)]


@pytest.mark.parametrize("mean", [0.3, 3, 20, 1000, 60000])
@pytest.mark.parametrize("lattice", [False, True])
@pytest.mark.parametrize("weight_set", range(9))
def test_trained_networks_err_no_more_than_direct_sums(mean, lattice, weight_set):
    """On flat frames and on a lattice of half the mean's contrast; the level is far above the range of the former."""
    y, x = np.mgrid[:40, :66]
    scene = 1 + 0.5 * lattice * np.sin(2 * np.pi * x / 11) * np.sin(2 * np.pi * y / 10)
    stack = np.random.default_rng(weight_set).poisson(mean * scene, (3, 40, 66)).astype(np.float32)
    ours, direct = relative_errors(weight_set, stack)
    assert ours <= max(2 * direct, TOLERANCE / 5)


@pytest.mark.parametrize("wrong", ["avx9000", "AVX2", "sse4.2 "])
def test_an_unknown_instruction_set_is_refused(model_file, monkeypatch, wrong):
    monkeypatch.setenv("LOWDOSE_CPU", wrong)
    with pytest.raises(LowdoseError, match=f"LOWDOSE_CPU is '{wrong}'.*portable"):
        load(model_file(PUBLISHED), device="cpu")
    assert load(model_file(PUBLISHED), device="cpu", kernels=False).kernels is None


def session(model, kernels=True):
    """Plain ONNX Runtime, with our extension as its custom-op library."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the errors below are expected
    options.intra_op_num_threads = 2
    if kernels:
        options.register_custom_ops_library(_core.__file__)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_of(frames, weight_set=0):
    feeds = {f"frame_{tap}": np.ascontiguousarray(frame) for tap, frame in enumerate(frames)}
    return feeds | {"weight_set": np.array(weight_set, np.int64), "cutoff": np.array(1, np.float32)}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches(model_file, batch):
    model = onnx.load(model_file(PUBLISHED))
    frames = noise((3, batch, 1, 40, 29))
    (result,) = session(model).run(None, feeds_of(frames, 1))
    (expected,) = session(model, kernels=False).run(None, feeds_of(frames, 1))
    assert result.shape == expected.shape == (batch, 1, 40, 29)
    assert_close(result, expected)
    assert (result != expected).any()  # or the kernel was not used
    (negative,) = session(model).run(None, feeds_of(frames, -1))  # counts from the end, as in the functions
    np.testing.assert_array_equal(negative, result)


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_with_the_low_pass(model_file, batch):
    model = onnx.load(model_file(PUBLISHED))
    frames = noise((3, batch, 1, 37, 60))
    feeds = feeds_of(frames) | {"cutoff": np.array(0.1, np.float32)}
    (result,) = session(model).run(None, feeds)
    assert_close(result, session(model, kernels=False).run(None, feeds)[0])
    (whole,) = session(model).run(None, feeds_of(frames))
    for item in range(batch):
        np.testing.assert_allclose(
            result[item, 0], references.low_pass(whole[item, 0], 0.1), atol=TOLERANCE * np.ptp(whole[item])
        )


def test_a_session_may_change_the_size_of_its_frames(model_file):
    model = onnx.load(model_file(PUBLISHED))
    one = session(model)
    for shape in ((40, 29), (7, 400), (90, 8), (40, 29)):
        frames = noise((3, 1, 1, *shape))
        np.testing.assert_array_equal(one.run(None, feeds_of(frames))[0], session(model).run(None, feeds_of(frames))[0])


def test_inputs_that_do_not_fit_are_errors(model_file):
    runner = session(onnx.load(model_file(PUBLISHED)))
    frames = noise((3, 1, 1, 16, 16))
    for weight_set in (2, -3):
        with pytest.raises(Exception, match=f"weight set {weight_set} of 2 does not exist"):
            runner.run(None, feeds_of(frames, weight_set))
    with pytest.raises(Exception, match="a frame is 1x1x16x15, not 1x1x16x16"):
        runner.run(None, feeds_of(frames) | {"frame_2": frames[2, :, :, :, 1:]})
    for cutoff in (0, -0.1, np.nan):
        with pytest.raises(Exception, match="cutoff must be a float32 scalar above 0"):
            runner.run(None, feeds_of(frames) | {"cutoff": np.array(cutoff, np.float32)})
    assert runner.run(None, feeds_of(frames))[0].shape == (1, 1, 16, 16)  # it still works


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("kernel_5", (2, 3, 3, 4, 4), "kernel is 2x3x3x4x4; its sides must be odd"),
        ("kernel_5", (2, 3, 3, 5, 3), "kernel is 2x3x3x5x3, not 2x3x3x3x3"),
        ("kernel_7", (2, 3, 2, 7, 7), "kernel is 2x3x2x7x7, not 2x3x3x7x7"),
        ("mixing_3", (2, 4, 3), "a mixing matrix 2x4x3"),
        ("mixing_5", (2, 4, 3, 2), "mixing matrix is 2x4x3x2, not 2x4x3x3"),
        ("head_7", (2, 4), "head is 2x4, not 2x3"),
        ("branch_weights", (2, 4), "branch_weights is 2x4, not 2x3"),
        ("head_3", (1, 1, 1, 1, 1, 1), "6 dimensions"),
    ],
)
def test_weights_that_do_not_fit_are_errors(model_file, name, shape, message):
    model = onnx.load(model_file(PUBLISHED))
    for i, weights in enumerate(model.graph.initializer):
        if weights.name == name:
            model.graph.initializer[i].CopyFrom(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    with pytest.raises(Exception, match=message):
        session(model).run(None, feeds_of(noise((3, 1, 1, 16, 16))))
