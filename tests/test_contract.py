"""What the core does around a network, by the model file's contract: taps, ends, channels, state, blocks, tiles."""

import numpy as np
import pytest

import references
from lowdose import LowdoseError, load
from tiny_models import tiny_model

WEIGHTS = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def numbers(*shape):
    return np.random.default_rng(len(shape)).integers(1, 10, shape).astype(np.float32)


def weighted_sum(n):
    """Lines for the sum of 10^i frame_i: which frame came by which tap can be read off the digits."""
    lines = [f"w{i} = Constant <value = float {{{WEIGHTS[i]}}}> () p{i} = Mul (frame_{i}, w{i})" for i in range(n)]
    return "\n".join(lines) + f"\ndenoised = Sum ({', '.join(f'p{i}' for i in range(n))})"


@pytest.mark.parametrize("offsets", [[0], [-1, 0, 1], [-2, -1, 0, 1, 2], [0, 1, 2], [-3, -2, 0]])
@pytest.mark.parametrize("ends", ["mirror", "repeat"])
def test_taps_along_time(tmp_path, offsets, ends):
    path = tiny_model(
        tmp_path / "m.onnx", weighted_sum(len(offsets)), taps={"axis": "time", "offsets": offsets}, ends=ends
    )
    model = load(path, device="cpu")
    for n_frames in (4, 5, 9):
        stack = numbers(n_frames, 3, 5)
        expected = []
        for t in range(n_frames):
            if ends == "mirror":
                frames = references.window(stack, t, offsets)
            else:
                frames = [stack[min(max(t + tap, 0), n_frames - 1)] for tap in offsets]
            expected.append(sum(w * f for w, f in zip(WEIGHTS, frames, strict=False)))
        np.testing.assert_array_equal(model.denoise(stack), expected)


def test_repeating_the_end_takes_a_single_frame(tmp_path):
    path = tiny_model(tmp_path / "m.onnx", weighted_sum(3), taps={"axis": "time", "offsets": [-1, 0, 1]})
    np.testing.assert_array_equal(load(path, device="cpu").denoise(np.full((1, 2, 3), 3.0)), np.full((1, 2, 3), 333.0))


CROSS = [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]]
LINE = [[0, 0], [0, -2], [0, -1], [0, 1], [0, 2]]


def scan_reference(scan, offsets, ends):
    n_y, n_x = scan.shape[:2]

    def pick(at, step, n):
        for index in (at + step,) if ends == "repeat" else (at + step, at - step):
            if 0 <= index < n:
                return index
        ordered = sorted(range(n), key=lambda i: abs(i - at - step))
        return ordered[0] if ends == "repeat" else next(i for i in ordered if i != at)

    out = np.zeros_like(scan)
    for y in range(n_y):
        for x in range(n_x):
            for weight, (dy, dx) in zip(WEIGHTS, offsets, strict=True):
                out[y, x] += weight * scan[pick(y, dy, n_y), pick(x, dx, n_x)]
    return out


@pytest.mark.parametrize("ends", ["mirror", "repeat"])
@pytest.mark.parametrize("offsets", [CROSS, LINE])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3), (5, 7), (4, 3)])
def test_taps_over_a_scan_give_every_position_back(tmp_path, offsets, shape, ends):
    path = tiny_model(tmp_path / "m.onnx", weighted_sum(5), taps={"axis": "scan", "offsets": offsets}, ends=ends)
    model = load(path, device="cpu")
    scan = numbers(*shape, 3, 2)
    np.testing.assert_array_equal(model.denoise(scan), scan_reference(scan, offsets, ends))
    stream = model.stream(3, 2, scan=shape)
    for _ in range(2):  # a second scan after the first
        early = [out for frame in scan.reshape(-1, 3, 2) if (out := stream.push(frame)) is not None]
        assert len(early) == shape[0] * shape[1] - stream.latency_frames
        with pytest.raises(LowdoseError, match="positions is complete"):
            stream.push(scan[0, 0])
        results = np.array(early + stream.flush())
        np.testing.assert_array_equal(results.reshape(scan.shape), scan_reference(scan, offsets, ends))


def test_a_scan_that_was_stopped_gives_back_what_came(tmp_path):
    path = tiny_model(tmp_path / "m.onnx", weighted_sum(5), taps={"axis": "scan", "offsets": CROSS}, ends="mirror")
    scan = numbers(4, 5, 2, 2)
    stream = load(path, device="cpu").stream(2, 2, scan=(4, 5))
    n_pushed = 13  # two rows and three positions
    results = [out for frame in scan.reshape(-1, 2, 2)[:n_pushed] if (out := stream.push(frame)) is not None]
    results += stream.flush()
    assert len(results) == n_pushed
    whole = scan_reference(scan, CROSS, "mirror").reshape(-1, 2, 2)
    np.testing.assert_array_equal(results[: n_pushed - 6], whole[: n_pushed - 6])  # their neighbours had come


def test_bad_scan_shapes_are_refused(tmp_path):
    scan_model = load(
        tiny_model(tmp_path / "s.onnx", weighted_sum(5), taps={"axis": "scan", "offsets": CROSS}, ends="mirror"),
        device="cpu",
    )
    with pytest.raises(LowdoseError, match=r"say how many positions"):
        scan_model.stream(8, 8)
    with pytest.raises(LowdoseError, match=r"scan of 1x5 positions is too small.*2x2"):
        scan_model.stream(8, 8, scan=(1, 5))
    with pytest.raises(LowdoseError, match=r"\(scan_y, scan_x, height, width\), given shape \(3, 8, 8\)"):
        scan_model.denoise(numbers(3, 8, 8))
    movie_model = load(tiny_model(tmp_path / "t.onnx", weighted_sum(1)), device="cpu")
    with pytest.raises(LowdoseError, match=r"takes no scan shape"):
        movie_model.stream(8, 8, scan=(2, 2))


@pytest.mark.parametrize("scale_stds", [5.0, None])
@pytest.mark.parametrize("tile", [0, 4])
def test_channels_are_normalised_by_the_whole_window(tmp_path, scale_stds, tile):
    """denoised = 2 (frame_1 - offset) / scale: the mean and deviations that the core gave can be read off."""
    divide = "denoised = Div (twice, scale)" if scale_stds else "denoised = Identity (twice)"
    path = tiny_model(
        tmp_path / "m.onnx",
        f"contrast = Sub (frame_1, offset) twice = Add (contrast, contrast) {divide}",
        taps={"axis": "time", "offsets": [-1, 0, 1]},
        channels=["ADF", "BF"],
        normalisation={"rule": "window", "scale_stds": scale_stds},
    )
    stack = numbers(4, 2, 9, 7) * np.array([1, 30], np.float32)[:, None, None] + np.float32(50)
    result = load(path, device="cpu").denoise(stack, tile=tile)
    for t in range(4):
        window = stack[[max(t - 1, 0), t, min(t + 1, 3)]].astype(np.float64)
        mean = window.mean(axis=(0, 2, 3), keepdims=True)[0]
        expected = 2 * (stack[t] - mean)
        if scale_stds:
            expected = expected / (5 * window.std(axis=(0, 2, 3), keepdims=True)[0])
        np.testing.assert_allclose(result[t], expected, atol=1e-5 * np.ptp(expected))


def test_a_constant_frame_is_not_divided_by_zero(tmp_path):
    path = tiny_model(
        tmp_path / "m.onnx",
        "contrast = Sub (frame_0, offset) share = Div (contrast, scale) denoised = Add (share, offset)",
        normalisation={"rule": "window", "scale_stds": 5.0},
    )
    np.testing.assert_array_equal(load(path, device="cpu").denoise(np.full((2, 4, 4), 7.0)), np.full((2, 4, 4), 7.0))


STATE = {"inputs": ["state_0", "state_1"], "output": "state", "channels": 1}


@pytest.mark.parametrize("tile", [0, 4])
@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 5, 11])
def test_state_carries_the_first_stage_from_step_to_step(tmp_path, n_frames, tile):
    """Stage 1: the maximum of a triplet; stage 2: digits of three of its results, as a five-frame network has."""
    path = tiny_model(
        tmp_path / "m.onnx",
        """state = Max (frame_0, frame_1, frame_2)
        ten = Constant <value = float {10.0}> () hundred = Constant <value = float {100.0}> ()
        middle = Mul (state_1, ten) newest = Mul (state, hundred) denoised = Sum (state_0, middle, newest)""",
        taps={"axis": "time", "offsets": [0, 1, 2]},
        state=STATE,
    )
    model = load(path, device="cpu")
    stack = numbers(n_frames, 5, 9)
    padded = [stack[min(max(t, 0), n_frames - 1)] for t in range(-2, n_frames + 2)]
    triplets = [np.max(padded[i : i + 3], axis=0) for i in range(n_frames + 2)]
    expected = [triplets[t] + 10 * triplets[t + 1] + 100 * triplets[t + 2] for t in range(n_frames)]
    np.testing.assert_array_equal(model.denoise(stack, tile=tile), expected)
    stream = model.stream(5, 9, tile=tile)
    assert stream.latency_frames == 2
    for _ in range(2):  # the second sequence must not see the states of the first
        results = [out for frame in stack if (out := stream.push(frame)) is not None] + stream.flush()
        np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize("n_frames", [1, 3, 4, 5, 6, 7, 9, 12, 13])
@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_blocks_are_blended_over_their_overlap(tmp_path, n_frames, overlap):
    """The tiny network adds 100 times the block's maximum, so that blocks differ and the blending shows."""
    path = tiny_model(
        tmp_path / "m.onnx",
        """block = Concat <axis = 1> (frame_0, frame_1, frame_2, frame_3)
        axes = Constant <value = int64[3] {1, 2, 3}> () most = ReduceMax <keepdims = 1> (block, axes)
        hundred = Constant <value = float {100.0}> () level = Mul (most, hundred) denoised = Add (block, level)""",
        n_outputs=4,
        taps={"axis": "time", "offsets": [0, 1, 2, 3]},
        block={"n_frames": 4, "overlap": overlap},
    )
    model = load(path, device="cpu")
    stack = numbers(n_frames, 2, 3) + np.arange(n_frames, dtype=np.float32)[:, None, None]

    starts = [0]  # of the blocks; the last one ends with the sequence
    while starts[-1] + 4 < n_frames:
        starts.append(min(starts[-1] + 4 - overlap, n_frames - 4))
    expected = np.zeros_like(stack)
    for number, start in enumerate(starts):
        frames = stack[[min(start + i, n_frames - 1) for i in range(4)]]
        block = frames + 100 * frames.max()
        for t in range(start, min(start + 4, n_frames)):
            begin = starts[number - 1] + 4 - overlap if number else 0
            share = min(1.0, (t - begin + 1) / (overlap + 1)) if number else 1.0
            if t >= begin:
                expected[t] += share * (block[t - start] - expected[t])
    np.testing.assert_allclose(model.denoise(stack), expected, rtol=1e-6)
    stream = model.stream(2, 3)
    assert stream.latency_frames == 3
    results = [out for frame in stack if (out := stream.push(frame)) is not None]
    assert len(results) == max(0, n_frames - 3)
    np.testing.assert_allclose(results + stream.flush(), expected, rtol=1e-6)


# A network with a pooling grid of 4 px, zero padding and a reach of 1 + 4 px.
POOLED = """fine_kernel = Constant <value = float[1,1,3,3] {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}> ()
    fine = Conv <pads = [1, 1, 1, 1]> (frame_0, fine_kernel)
    pooled = MaxPool <kernel_shape = [4, 4], strides = [4, 4]> (fine)
    coarse = Conv <pads = [1, 1, 1, 1]> (pooled, fine_kernel)
    scales = Constant <value = float[4] {1.0, 1.0, 4.0, 4.0}> ()
    back = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
        (coarse, , scales)
    denoised = Add (fine, back)"""


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 3), (23, 37), (64, 33), (100, 90)])
def test_aligned_tiles_equal_the_whole_frame_and_any_size_is_taken(tmp_path, shape):
    path = tiny_model(tmp_path / "m.onnx", POOLED, margin_px=9, align_px=4)
    model = load(path, device="cpu")
    stack = numbers(2, *shape)
    whole = model.denoise(stack)
    height, width = (-(-length // 4) * 4 for length in shape)
    mode = "reflect" if min(shape) > 3 else "symmetric"
    if mode == "reflect":
        padded = np.pad(stack, ((0, 0), (0, height - shape[0]), (0, width - shape[1])), mode)
        np.testing.assert_array_equal(whole, model.denoise(padded)[:, : shape[0], : shape[1]])
    for tile in (1, 4, 7, 16, 48):
        np.testing.assert_allclose(model.denoise(stack, tile=tile), whole, rtol=1e-6)
    assert model.stream(*shape, tile=4).n_tiles == (height // 4) * (width // 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taps": {"axis": "depth", "offsets": [0]}}, "taps must lie along"),
        ({"taps": {"axis": "time", "offsets": [1]}}, "must hold that of the frame itself"),
        ({"ends": "periodic"}, "must be mirror or repeat"),
        ({"boundary": "zero"}, "periodic or internal"),
        ({"channels": []}, "out of range"),
        ({"offset_rule": "percentile", "channels": ["a", "b"]}, "percentile offset is for one channel"),
        ({"offset_rule": "median"}, "offset rule"),
        ({"low_pass": {"shape": "disc"}}, "a bank or a low-pass needs"),
        ({"normalisation": {"rule": "frame", "scale_stds": 1}}, "rule of normalisation"),
        ({"block": {"n_frames": 2, "overlap": 0}}, "a block needs"),
        ({"state": STATE, "ends": "mirror"}, "state needs"),
        ({"kind": "classifier", "method": "reucid"}, r"is a classifier \(reucid\), not a denoiser"),
    ],
)
def test_contracts_that_cannot_be_kept_are_refused(tmp_path, change, message):
    taps = change.get("taps", {"axis": "time", "offsets": [0]})
    body = "denoised = Identity (frame_0)"
    if "state" in change:
        body += " state = Add (state_0, state_1)"
    path = tiny_model(tmp_path / "m.onnx", body, **({"taps": taps} | change))
    with pytest.raises(LowdoseError, match=message):
        load(path, device="cpu")
