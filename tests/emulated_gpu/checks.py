"""Engines on the emulated GPU against the same model on the CPU. For ../test_emulated_gpu.py, in another process."""

import ctypes
import gc
import threading

import numpy as np
import pytest
import tensorrt_rtx

from lowdose import LowdoseError, Settings, load
from lowdose.engine_file import Engine, EngineKey, write_engine
from lowdose.model import NO_LOW_PASS, bundled_models
from lowdose.source import ArraySource
from lowdose_export.engine import engine_key
from lowdose_export.engine_graph import contract_of, engine_graph

SIZE = (40, 48)
NAMES = sorted(set(bundled_models()) - {"reucid"})
CUTOFF = float(np.float32(1 / 7))
TOLERANCE = 1e-4
"""Of the output's range: the low-pass by matrix products, the networks without our kernels."""


@pytest.fixture
def engine_file(tmp_path):
    """Builds the engine file of a bundled model and its settings; what changes a field of the key stands behind."""
    import onnx

    def build(name, *, size=SIZE, batch=1, weight_set=0, plan=None, **changes):
        path = bundled_models()[name]
        metadata = contract_of(onnx.load(path), path)
        cutoff = CUTOFF if metadata["low_pass"] else None
        key = engine_key(path, size, batch=batch, targets=["8.9"], weight_set=weight_set, cutoff=cutoff)
        graph = engine_graph(path, size, batch=batch, weight_set=weight_set, cutoff=cutoff)
        file = tmp_path / f"{name}-{batch}.engine"
        fields = {**key.__dict__, **changes}
        write_engine(file, Engine(EngineKey(**fields), metadata, plan or graph.SerializeToString()))
        return file

    return build


@pytest.fixture(autouse=True)
def kernels_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LOWDOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def frames_for(model, n=11, size=SIZE, dtype=np.uint16):
    lead = (3, 4) if model.scan else (max(n, 34 if model.metadata.get("block") else 0),)
    channels = (len(model.channels),) if len(model.channels) > 1 else ()
    expected = 20 + 10 * np.sin(np.arange(size[1]) / 5)
    return np.random.default_rng(0).poisson(expected, (*lead, *channels, *size)).astype(dtype)


def settings_of(model, weight_set=0):
    return Settings(weight_set, CUTOFF if model.has_choice else NO_LOW_PASS, 0.0)


def check_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.ptp(expected))


def bytes_in_use():
    driver = ctypes.CDLL("libcuda.so.1")
    driver.emulated_bytes_in_use.restype = ctypes.c_size_t
    return driver.emulated_bytes_in_use()


@pytest.mark.parametrize("name", NAMES)
def test_every_model_gives_the_numbers_of_the_cpu(engine_file, name, monkeypatch):
    on_cpu = load(name, device="cpu")
    frames = frames_for(on_cpu)
    expected = on_cpu.denoise(frames, settings=settings_of(on_cpu))
    monkeypatch.setenv("LOWDOSE_ONNXRUNTIME", "nowhere")  # it is not in the path
    model = load(engine_file(name), device="rtx")
    assert (model.device, model.runtime, model.kernels) == ("rtx", f"TensorRT-RTX {tensorrt_rtx.__version__}", None)
    check_close(model.denoise(frames, settings=Settings(offset=0.0)), expected)


@pytest.mark.parametrize("name", ["wcvd", "n2v-lite-dual", "udvd-4d-lite", "bfn"])
def test_batches(engine_file, name):
    model = load(engine_file(name, batch=4))
    on_cpu = load(name, device="cpu")
    frames = frames_for(on_cpu)
    check_close(
        model.denoise(frames), on_cpu.denoise(frames, settings=Settings(0, CUTOFF if on_cpu.has_choice else None))
    )
    with pytest.raises(LowdoseError, match="built for batches of 4, not for batches of 2"):
        model.denoise(frames, batch=2)


def test_frames_that_are_no_multiple_of_the_alignment(engine_file):
    """They are filled up on the CPU and cross the bus for every run."""
    size = (37, 45)
    model, on_cpu = load(engine_file("n2v-lite", size=size)), load("n2v-lite", device="cpu")
    frames = frames_for(on_cpu, size=size)
    check_close(model.denoise(frames), on_cpu.denoise(frames))


def test_settings_are_those_of_the_engine(engine_file):
    model, on_cpu = load(engine_file("wcvd", weight_set=3)), load("wcvd", device="cpu")
    frames = frames_for(on_cpu)
    stream = model.stream(*SIZE, np.uint16)
    found = [result for frame in frames if (result := stream.push(frame)) is not None] + stream.flush()
    assert (stream.settings.weight_set, stream.settings.cutoff) == (3, CUTOFF)
    assert stream.settings.offset > 0  # chosen
    check_close(found, on_cpu.denoise(frames, settings=stream.settings))
    assert model.settings_for(ArraySource(frames), Settings()).weight_set == 3
    for settings, words in [(Settings(weight_set=1), "weight_set 3, given 1"), (Settings(cutoff=0.3), "given 0.3")]:
        with pytest.raises(LowdoseError, match=words):
            model.denoise(frames, settings=settings)


def test_other_sizes_and_tiles_are_refused(engine_file):
    model = load(engine_file("wcvd"))
    with pytest.raises(LowdoseError, match="built for frames of 40x48 pixels, given 48x40"):
        model.stream(48, 40)
    with pytest.raises(LowdoseError, match="built for whole frames, not for tiles"):
        model.stream(*SIZE, tile=24)


class OnGpu:
    """An array as one of a library that speaks DLPack gives it on the GPU: the emulated one reads the CPU's memory."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, stream):
        assert stream
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return (2, 0)


def pixels_of(result):
    """A copy of a result on the GPU, read as such a library does."""

    class Tensor(ctypes.Structure):
        _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("n_dimensions", ctypes.c_int32)]

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = result.__dlpack__()
    tensor = Tensor.from_address(pointer(capsule, b"dltensor"))
    assert (*tensor.device, tensor.n_dimensions) == (2, 0, len(result.shape))
    assert result.dtype == "float32"
    return np.ctypeslib.as_array(ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_float)), result.shape).copy()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["wcvd", "n2v-lite-dual"])
def test_frames_on_the_gpu_stay_there(engine_file, name, batch):
    model = load(engine_file(name, batch=batch))
    frames = frames_for(model, 7, dtype=np.float32)
    expected = model.denoise(frames)
    stream = model.stream(
        *SIZE, settings=model.settings_for(ArraySource(frames, n_channels=len(model.channels)), Settings())
    )
    found = [result for frame in frames if (result := stream.push(OnGpu(frame))) is not None] + stream.flush()
    np.testing.assert_array_equal([pixels_of(result) for result in found], expected)


def test_a_result_on_the_gpu_is_a_frame_for_the_next_stream(engine_file):
    first, second = load(engine_file("wcid")), load(engine_file("n2v-lite"))
    frame = frames_for(first, dtype=np.float32)[0]
    streams = [model.stream(*SIZE, settings=Settings(offset=0.0)) for model in (first, second)]
    expected = streams[1].push(streams[0].push(frame))
    np.testing.assert_array_equal(pixels_of(streams[1].push(streams[0].push(OnGpu(frame)))), expected)


def test_frames_and_results_in_memory_that_the_gpu_reads_itself(engine_file):
    model = load(engine_file("wcid"))
    stream = model.stream(*SIZE, np.uint16, settings=Settings(offset=0.0))
    frame = stream.new_frame()
    frame[:] = frames_for(model)[0]
    np.testing.assert_array_equal(stream.push(frame), stream.push(frame.copy()))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_every_type_of_pixel(engine_file, dtype):
    model, on_cpu = load(engine_file("wcid")), load("wcid", device="cpu")
    frames = frames_for(on_cpu, dtype=dtype)
    settings = Settings(0, CUTOFF, 2.5)
    found = model.denoise(frames[:, ::-1], settings=settings, out_dtype=dtype)
    expected = on_cpu.denoise(frames[:, ::-1], settings=settings, out_dtype=dtype)
    assert found.dtype == dtype
    assert np.abs(found.astype(float) - expected.astype(float)).max() <= (1 if np.dtype(dtype).kind in "ui" else 1e-3)


def test_a_frame_with_nan_is_refused_and_not_taken(engine_file):
    model = load(engine_file("wcid"))
    stream = model.stream(*SIZE, settings=Settings(offset=0.0))
    frame = frames_for(model, dtype=np.float32)[0]
    expected = stream.push(frame)
    broken = frame.copy()
    broken[5, 7] = np.nan
    with pytest.raises(LowdoseError, match=r"pixel \(5, 7\) is NaN"):
        stream.push(broken)
    np.testing.assert_array_equal(stream.push(frame), expected)
    assert stream.stats["frames_in"] == 2


def test_a_second_sequence_knows_nothing_of_the_first(engine_file):
    model = load(engine_file("udvd-lite"))
    frames = frames_for(model)
    stream = model.stream(*SIZE, np.uint16, settings=Settings(offset=0.0))

    def results(sequence):
        return [result for frame in sequence if (result := stream.push(frame)) is not None] + stream.flush()

    first = results(frames)
    results(frames[::-1])
    np.testing.assert_array_equal(results(frames), first)


def test_weights_are_replaced_between_two_frames(engine_file, tmp_path):
    first = load(engine_file("wcvd", weight_set=1))
    other = tmp_path / "other.engine"
    engine_file("wcvd", weight_set=4).rename(other)
    second = load(other)
    frames = frames_for(first)
    stream = first.stream(*SIZE, np.uint16, settings=Settings(offset=0.0))
    found = [stream.push(frame) for frame in frames[:5]]
    stream.replace(second)
    found += [stream.push(frame) for frame in frames[5:]]
    before, after = (model.denoise(frames, settings=Settings(offset=0.0)) for model in (first, second))
    np.testing.assert_array_equal(found[1:5], before[:4])
    np.testing.assert_array_equal(found[5:], after[4:-1])
    assert (stream.stats["replaced"], stream.settings.weight_set) == (1, 4)
    with pytest.raises(LowdoseError, match="is on the device 'cpu'"):
        stream.replace(load("wcvd", device="cpu"), Settings(1, CUTOFF))


def test_streams_of_two_threads(engine_file):
    model = load(engine_file("wcvd"))
    frames = frames_for(model, 24)
    expected = model.denoise(frames)
    found = {}

    def work(index):
        found[index] = model.denoise(frames)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        np.testing.assert_array_equal(found[index], expected)


def test_memory_of_the_gpu_is_given_back(engine_file):
    model = load(engine_file("udvd-lite"))
    gc.collect()
    before = bytes_in_use()
    stream = model.stream(*SIZE, np.uint16)
    frames = frames_for(model, 200)
    for frame in frames[:10]:
        stream.push(frame)
    taken = bytes_in_use()
    assert taken > before
    for frame in frames:
        stream.push(frame)
    assert bytes_in_use() == taken
    del stream
    gc.collect()
    assert bytes_in_use() == before


def test_what_is_compiled_for_the_gpu_is_kept(engine_file, kernels_folder):
    file = engine_file("wcid")

    def n_compiled():
        before = tensorrt_rtx.Context.n_compiled
        load(file).stream(*SIZE)
        return tensorrt_rtx.Context.n_compiled - before

    assert [n_compiled() for _ in range(3)] == [1, 0, 0]
    (kept,) = kernels_folder.glob("*-rtx.kernels")
    kept.write_bytes(b"of another driver")
    assert [n_compiled() for _ in range(2)] == [1, 0]
    kept.unlink()
    kernels_folder.rmdir()
    kernels_folder.write_bytes(b"")  # a folder that cannot be had
    assert n_compiled() == 1


def test_an_engine_for_other_gpus_or_another_version_is_refused(engine_file):
    with pytest.raises(LowdoseError, match=r"compute capability 7.5, 12.0 and this one has 8.9"):
        load(engine_file("wcid", targets=("7.5", "12.0")))
    with pytest.raises(LowdoseError, match=r"built by TensorRT-RTX 9 and TensorRT-RTX 0.0.1 is installed"):
        load(engine_file("wcid", builder="TensorRT-RTX 9"))
    with pytest.raises(LowdoseError, match=r"cannot read the engine .*: Magic tag does not match"):
        load(engine_file("wcid", plan=b"not a plan"))
    file = engine_file("wcid", plan=engine_graph(bundled_models()["wcvd"], SIZE).SerializeToString())
    with pytest.raises(LowdoseError, match=r"has the tensors .*'frame_2'\], expected .*'frame_0'\]"):
        load(file).stream(*SIZE, settings=Settings(offset=0.0))
    with pytest.raises(LowdoseError, match="GPU 7: an error of the emulated GPU"):
        load(engine_file("wcid"), device="rtx:7")
