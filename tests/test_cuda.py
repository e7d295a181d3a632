"""NVIDIA GPUs against the CPU: the device "cuda", or LOWDOSE_TEST_DEVICE ("tensorrt", "rtx"), and engines.

Skipped where there is no such GPU with the packages for it.
"""

from __future__ import annotations

import importlib.util
import os
import threading

import numpy as np
import onnx
import pytest
import torch

from lowdose import LowdoseError, Settings, devices, load
from lowdose.bench.streams import NO_OP
from lowdose.model import NO_LOW_PASS, bundled_models
from lowdose_export.engine import build_engine, engine_key
from lowdose_export.engine_builder import known_targets
from lowdose_export.engine_graph import contract_of
from lowdose_export.half import to_half

DEVICE = os.environ.get("LOWDOSE_TEST_DEVICE", "cuda")
PROBLEM = devices.problem_with(DEVICE, devices.runtime_path())
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"{DEVICE}: {PROBLEM}")

DENOISERS = sorted(set(bundled_models()) - {"reucid"})
SIZES = [(64, 96), (75, 101)]
"""Whole frames that stay on the GPU; frames that some models fill up to their alignment."""
TOLERANCE = 2e-4
"""Of the output's range: both sum the same products in float32."""
HALF_TOLERANCE = 1e-2
CUTOFF = 1 / 7


def settings_of(model, weight_set=0):
    return Settings(weight_set, CUTOFF if model.has_choice else NO_LOW_PASS, 0.0)


def frames_for(model, size=SIZES[0], n=9, dtype=np.uint16, seed=0):
    """Counts that differ from frame to frame: (n, height, width), with channels, or a scan."""
    lead = (3, 4) if model.scan else (n,)
    channels = (len(model.channels),) if len(model.channels) > 1 else ()
    expected = 20 + 10 * np.sin(np.arange(size[1]) / 5)
    return np.random.default_rng(seed).poisson(expected, (*lead, *channels, *size)).astype(dtype)


def check_close(result, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * np.ptp(expected))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DENOISERS)
def test_every_model_gives_the_numbers_of_the_cpu(name, size):
    on_cpu, on_gpu = load(name, device="cpu"), load(name, device=DEVICE)
    frames = frames_for(on_cpu, size)
    check_close(
        on_gpu.denoise(frames, settings=settings_of(on_gpu)), on_cpu.denoise(frames, settings=settings_of(on_cpu))
    )


@pytest.mark.parametrize("name", ["wcid", "wcvd"])
def test_without_our_kernels_the_numbers_are_the_same(name):
    if DEVICE != "cuda":
        pytest.skip(f"there are no kernels for {DEVICE}")
    with_kernels, without = load(name, device=DEVICE), load(name, device=DEVICE, kernels=False)
    assert (with_kernels.kernels, without.kernels) == ("cuda", None)
    frames = frames_for(without)
    for settings in (Settings(3, CUTOFF, 0.0), Settings(1, NO_LOW_PASS, 0.0)):
        check_close(with_kernels.denoise(frames, settings=settings), without.denoise(frames, settings=settings))


@pytest.mark.parametrize("name", DENOISERS)
def test_half_precision_files(tmp_path, name):
    path = bundled_models()[name]
    model = onnx.load(path)
    onnx.save(to_half(model, contract_of(model, path)), tmp_path / "half.onnx")
    full, half = load(name, device="cpu"), load(tmp_path / "half.onnx", device=DEVICE)
    frames = frames_for(full)
    expected = full.denoise(frames, settings=settings_of(full))
    check_close(half.denoise(frames, settings=settings_of(half)), expected, HALF_TOLERANCE)


@pytest.mark.parametrize("name", ["wcid", "wcvd", "udvd-lite", "n2v-lite"])
def test_frame_2_is_not_frame_1(name):
    """A recorded CUDA graph must read each frame anew: every result is that of its own frames."""
    model = load(name, device=DEVICE)
    frames = frames_for(model, n=12)
    results = model.denoise(frames, settings=settings_of(model))
    expected = load(name, device="cpu").denoise(frames, settings=settings_of(model))
    for i in range(1, len(results)):
        assert np.abs(results[i] - results[i - 1]).max() > 0.01 * np.ptp(expected)
        check_close(results[i], expected[i])


def test_a_second_sequence_knows_nothing_of_the_first():
    model = load("udvd-lite", device=DEVICE)
    stream = model.stream(*SIZES[0], np.uint16, settings=settings_of(model))
    frames = frames_for(model)

    def results(sequence):
        return np.stack([r for f in sequence if (r := stream.push(f)) is not None] + stream.flush())

    first = results(frames)
    results(frames[::-1])
    np.testing.assert_array_equal(results(frames), first)


def test_settings_are_chosen_as_on_the_cpu():
    frames = frames_for(load("wcvd", device="cpu"), (80, 96))
    streams = [load("wcvd", device=device).stream(80, 96, np.uint16) for device in ("cpu", DEVICE)]
    results = [[r for f in frames if (r := stream.push(f)) is not None] for stream in streams]
    assert streams[0].settings == streams[1].settings
    check_close(np.stack(results[1]), np.stack(results[0]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_conversion_has_the_bits_of_the_cpu(dtype):
    frames = (np.random.default_rng(0).normal(100, 60, (4, 31, 45)).clip(0) * 1.7).astype(dtype)
    given = [np.asfortranarray(frames[0]), frames[1][:, ::-1], frames[2], frames[3]]
    results = []
    for device in ("cpu", DEVICE):
        stream = load(NO_OP, device=device).stream(31, 45, dtype, out_dtype=dtype, settings=Settings(0, 1.0, 0.3))
        results.append([stream.push(frame) for frame in given])
    for on_cpu, on_gpu in zip(*results, strict=True):
        assert on_gpu.dtype == dtype
        np.testing.assert_array_equal(on_gpu, on_cpu)


def test_frames_with_nan_are_refused_and_not_taken():
    model = load("wcid", device=DEVICE)
    frames = frames_for(model, dtype=np.float32)
    stream = model.stream(*SIZES[0], np.float32, settings=settings_of(model))
    before = stream.push(frames[0])
    broken = frames[1].copy()
    broken[5, 7] = np.nan
    broken[60, 1] = np.inf
    with pytest.raises(LowdoseError, match=r"pixel \(5, 7\) is NaN"):
        stream.push(broken)
    assert stream.stats["frames_in"] == 1
    np.testing.assert_array_equal(stream.push(frames[0]), before)


def test_tiles_give_the_same_frame():
    model = load("wcvd", device=DEVICE)
    frames = frames_for(model, (150, 170))
    whole = model.denoise(frames, settings=settings_of(model))
    check_close(model.denoise(frames, settings=settings_of(model), tile=64), whole)


@pytest.mark.parametrize("name", ["wcvd", "n2v-lite-dual"])
def test_arrays_of_pytorch_on_the_gpu_stay_there(name):
    model = load(name, device=DEVICE)
    frames = frames_for(model, dtype=np.float32)
    expected = model.denoise(frames, settings=settings_of(model))
    stream = model.stream(*SIZES[0], np.float32, settings=settings_of(model))
    given = torch.from_numpy(frames).to("cuda")
    copy = given.clone()
    results = [r for frame in given if (r := stream.push(frame)) is not None] + stream.flush()
    tensors = [torch.from_dlpack(result) for result in results]
    assert all(tensor.is_cuda for tensor in tensors)
    assert torch.equal(given, copy)
    np.testing.assert_array_equal(torch.stack(tensors).cpu().numpy(), expected)
    again = torch.from_dlpack(results[0])
    assert again.data_ptr() == tensors[0].data_ptr()
    del results, again
    np.testing.assert_array_equal(tensors[0].cpu().numpy(), expected[0])


def test_work_on_a_tensor_that_is_not_done_yet_is_waited_for():
    model = load(NO_OP, device=DEVICE)
    stream = model.stream(2048, 2048, np.float32, settings=Settings(0, 1.0, 0.0))
    frame = torch.zeros(2048, 2048, device="cuda")
    for i in range(20):
        for _ in range(50):
            frame += 1
        assert float(torch.from_dlpack(stream.push(frame)).min()) == 50 * (i + 1)


def test_wrong_arrays_on_the_gpu_are_refused():
    stream = load("wcid", device=DEVICE).stream(*SIZES[0], np.float32)
    with pytest.raises(LowdoseError, match="takes frames of 64x96 float32, given 64x95 float32"):
        stream.push(torch.zeros(64, 95, device="cuda"))
    with pytest.raises(LowdoseError, match="given 64x96 int32"):
        stream.push(torch.zeros(64, 96, dtype=torch.int32, device="cuda"))
    with pytest.raises(LowdoseError, match="make the array contiguous"):
        stream.push(torch.zeros(96, 64, device="cuda").T)
    with pytest.raises(LowdoseError, match="frames on a GPU need a model on that GPU"):
        load("wcid", device="cpu").stream(*SIZES[0], np.float32).push(torch.zeros(*SIZES[0], device="cuda"))


def test_arrays_of_cupy():
    cupy = pytest.importorskip("cupy")
    model = load("wcid", device=DEVICE)
    frames = frames_for(model)
    stream = model.stream(*SIZES[0], np.uint16, settings=settings_of(model))
    results = [cupy.asnumpy(cupy.from_dlpack(stream.push(cupy.asarray(frame)))) for frame in frames]
    np.testing.assert_array_equal(np.stack(results), model.denoise(frames, settings=settings_of(model)))


def test_two_streams_in_two_threads():
    model = load("wcvd", device=DEVICE)
    frames = [frames_for(model, n=40, seed=seed) for seed in range(2)]
    expected = [model.denoise(part, settings=settings_of(model)) for part in frames]
    streams = [model.stream(*SIZES[0], np.uint16, settings=settings_of(model)) for _ in frames]
    results = [[], []]

    def run(i):
        results[i] = [r for f in frames[i] if (r := streams[i].push(f)) is not None] + streams[i].flush()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(np.stack(result), wanted)


def test_memory_of_the_gpu_does_not_grow():
    model = load("wcvd", device=DEVICE)
    frames = frames_for(model)
    stream = model.stream(*SIZES[0], np.uint16, settings=settings_of(model))

    def push(n):
        for i in range(n):
            stream.push(frames[i % len(frames)])
        return torch.cuda.mem_get_info()[0]

    before = push(50)
    assert push(2000) >= before


def test_streams_give_their_memory_back():
    model = load("wcvd", device=DEVICE)

    def open_and_use():
        model.denoise(frames_for(model, (512, 512), n=4), settings=settings_of(model))
        return torch.cuda.mem_get_info()[0]

    free = [open_and_use() for _ in range(8)]
    assert free[-1] >= free[2]


def test_frames_and_results_in_memory_that_the_gpu_reads_itself():
    """As many results are kept as there is such memory for, and more: none is overwritten."""
    model = load("wcid", device=DEVICE)
    frames = frames_for(model, n=40)
    stream = model.stream(*SIZES[0], np.uint16, settings=settings_of(model))
    given = [stream.new_frame() for _ in range(5)]
    assert all(frame.shape == SIZES[0] and frame.dtype == np.uint16 for frame in given)
    results = []
    for i, frame in enumerate(frames):
        given[i % 5][:] = frame
        results.append(stream.push(given[i % 5]))
    del stream, given
    np.testing.assert_array_equal(np.stack(results), model.denoise(frames, settings=settings_of(model)))


def test_weights_are_replaced_between_two_frames():
    model = load("wcvd", device=DEVICE)
    frames = frames_for(model)
    stream = model.stream(*SIZES[0], np.uint16, settings=settings_of(model))
    results = [stream.push(frame) for frame in frames[:5]]
    stream.replace(load("wcvd", device=DEVICE), settings_of(model, weight_set=4))
    results += [stream.push(frame) for frame in frames[5:]] + stream.flush()
    old, new = (model.denoise(frames, settings=settings_of(model, weight_set=s)) for s in (0, 4))
    np.testing.assert_array_equal(np.stack(results[1:]), np.concatenate([old[:4], new[4:]]))


def test_a_model_on_another_device_does_not_take_over():
    model = load("wcvd", device=DEVICE)
    stream = model.stream(*SIZES[0], np.uint16, settings=settings_of(model))
    with pytest.raises(LowdoseError, match=f"this model is on the device 'cpu', the stream on '{DEVICE}'"):
        stream.replace(load("wcvd", device="cpu"), settings_of(model))


@pytest.mark.parametrize("name", ["wcid", "wcvd", "n2v-lite-dual", "udvd-4d-lite", "bfn"])
def test_batches(name):
    model = load(name, device=DEVICE)
    frames = frames_for(model)
    expected = model.denoise(frames, settings=settings_of(model))
    check_close(model.denoise(frames, settings=settings_of(model), batch=4), expected)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", DENOISERS)
def test_engines(tmp_path, name, precision, batch):
    capability = "{}.{}".format(*torch.cuda.get_device_capability())
    if importlib.util.find_spec("tensorrt_rtx") is None or capability not in known_targets():
        pytest.skip("TensorRT-RTX is not installed, or knows no such GPU")
    if batch > 1 and name in ("udvd-lite", "synthesis3d-lite"):
        pytest.skip("it has no batches")
    on_cpu = load(name, device="cpu")
    settings = settings_of(on_cpu)
    cutoff = settings.cutoff if on_cpu.has_choice else None
    key = engine_key(on_cpu.path, SIZES[0], batch=batch, precision=precision, targets=[capability], cutoff=cutoff)
    engine = load(build_engine(on_cpu.path, key, out=tmp_path / "m.engine"))
    frames = frames_for(on_cpu)
    expected = on_cpu.denoise(frames, settings=settings)
    tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
    check_close(engine.denoise(frames, settings=Settings(offset=0.0)), expected, tolerance)
