"""Model files of the blind-feature network: every engine's numbers, `lowdose calibrate`, other filters in files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lowdose import LowdoseError, load
from lowdose.methods.bfn import own_share
from lowdose.model_weights import read_weights, with_weights
from lowdose.tensorrt_rtx import Messages
from lowdose_export import bfn, engine_builder
from lowdose_export.bfn_parity import TOLERANCE, check_bfn_parity
from lowdose_export.engine_graph import engine_graph
from lowdose_export.half import to_half
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.checkpoint import load_checkpoint
from test_bfn import random_network
from test_bfn_training import waves

SIZES = [(1, 1, 1), (1, 5, 1), (2, 3, 1), (1, 3, 3), (3, 1, 1)]
SCAN_SIZE = (12, 9)
LOWDOSE = [sys.executable, "-c", "from lowdose.cli.main import main; main()"]


def contract(network):
    channels = [f"c{i}" for i in range(network.n_channels)]
    return bfn.bfn_contract(network, channels) | {
        "weight_sets": [{"name": "random"}],
        "bytes_per_px": 100.0,
        "lowdose_version": "test",
    }


def written(path, network):
    onnx.save(bfn.bfn_model(network, contract(network)), path)
    return path


@torch.no_grad()
def scan_network():
    """For patterns of SCAN_SIZE and their eight neighbours."""
    network = random_network(1, 9)
    of_scan = BlindFeatureNetwork(1, 9, linear_side_px=9, side_px=7, n_features=5, n_hidden=8, pattern_px=SCAN_SIZE)
    of_scan.load_state_dict(network.state_dict(), strict=False)
    of_scan.own_pixel.values = torch.zeros(1, 3, *SCAN_SIZE)
    generator = torch.Generator().manual_seed(3)
    of_scan.scan.level.uniform_(1, 2, generator=generator)
    of_scan.scan.scale.uniform_(0.5, 1, generator=generator)
    of_scan.scan.taps.copy_(torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2)))
    return of_scan


@pytest.mark.parametrize("own_pixel", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@torch.no_grad()
def test_engines_agree_with_pytorch(tmp_path, sizes, own_pixel):
    network = random_network(*sizes)
    if own_pixel:
        network.own_pixel.values.copy_(torch.tensor([0.3, 0.5, 0.2])[:, None, None])
    path = written(tmp_path / "m.onnx", network)
    differences = check_bfn_parity(path, network)
    assert set(differences) == {"onnxruntime", "core", "core, tiled"}
    assert max(differences.values()) < TOLERANCE


def test_engines_agree_over_a_scan(tmp_path):
    network = scan_network()
    path = written(tmp_path / "m.onnx", network)
    assert max(check_bfn_parity(path, network).values()) < TOLERANCE
    assert load(path, device="cpu").metadata["size_px"] == list(SCAN_SIZE)
    with torch.no_grad():
        network.own_pixel.values.uniform_(0.1, 1, generator=torch.Generator().manual_seed(4))
    assert max(check_bfn_parity(written(path, network), network).values()) < TOLERANCE
    blind = scan_network()
    with pytest.raises(LowdoseError, match="differs from PyTorch"):
        check_bfn_parity(path, blind)


def test_a_network_for_patterns_of_any_size_takes_the_planes_of_a_scan(tmp_path):
    """What the runtime does with the bundled network: its planes, of one pixel, make way for those of a scan."""
    whole, bundled = scan_network(), scan_network()
    bundled.scan.level, bundled.scan.scale = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    bundled.own_pixel.values = torch.zeros(1, 3, 1, 1)
    path = written(tmp_path / "m.onnx", bundled)
    assert max(check_bfn_parity(path, bundled).values()) < TOLERANCE
    assert "size_px" not in load(path, device="cpu").metadata
    planes = {"scan.level": whole.scan.level.numpy(), "scan.scale": whole.scan.scale.numpy()}
    path.write_bytes(with_weights(path.read_bytes(), planes))
    assert max(check_bfn_parity(path, whole).values()) < TOLERANCE
    with torch.no_grad():
        whole.own_pixel.values.uniform_(0.1, 1, generator=torch.Generator().manual_seed(4))
    own = dict(zip(bfn.OWN_PIXEL, whole.own_pixel.values.transpose(0, 1).numpy(), strict=True))
    path.write_bytes(with_weights(path.read_bytes(), own))
    assert max(check_bfn_parity(path, whole).values()) < TOLERANCE


@torch.no_grad()
def test_a_wrong_file_is_noticed(tmp_path):
    network = random_network()
    path = written(tmp_path / "m.onnx", network)
    network.features.mix[0, 0, 0] += 0.1
    with pytest.raises(LowdoseError, match="differs from PyTorch"):
        check_bfn_parity(path, network)


@torch.no_grad()
def test_the_file_is_blind_too(tmp_path):
    network = random_network(2, 3)
    model = load(written(tmp_path / "m.onnx", network), device="cpu")
    frames = np.random.default_rng(0).normal(size=(4, 2, 20, 26)).astype(np.float32)
    plain = model.denoise(frames)
    for y, x in ((0, 0), (10, 13), (19, 25), (0, 12)):
        changed = frames.copy()
        # Two pixels, so that mean and standard deviation of the frame, by which it is normalised, stay.
        changed[1, 0, y, x], changed[1, 0, 5, 5] = frames[1, 0, 5, 5], frames[1, 0, y, x]
        result = model.denoise(changed)
        apart = max(abs(y - 5), abs(x - 5)) > network.margin_px
        if apart:
            assert abs(result[1, 0, y, x] - plain[1, 0, y, x]) < 1e-5
        assert np.abs(result - plain).max() > 1e-3


def test_constant_frames_and_one_pixel_pass(tmp_path):
    model = load(written(tmp_path / "m.onnx", random_network()), device="cpu")
    for shape in ((4, 1, 1), (4, 1, 9), (4, 30, 2)):
        assert np.isfinite(model.denoise(np.full(shape, 7.0, np.float32))).all()


def test_another_filter_in_the_bytes_of_a_file(tmp_path):
    """What the runtime writes without onnx is what an export of the other network writes."""
    network, other = random_network(2, 3), random_network(2, 3)
    with torch.no_grad():
        other.filter.weight.copy_(random_network(2, 3, seed=5).filter.weight)
    content = written(tmp_path / "m.onnx", network).read_bytes()
    weights = read_weights(content)
    named = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(content).graph.initializer}
    assert {name for name, value in named.items() if value.dtype == np.float32} == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, named[name])
    linear = other.filter.weight.numpy().reshape(2, 3, 2, 9, 9)
    own = own_share(weights, linear)
    np.testing.assert_allclose(own, other.own().detach().numpy(), atol=1e-6)
    (tmp_path / "other.onnx").write_bytes(
        with_weights(content, {"filter.weight": linear.reshape(2, 6, 9, 9), "own": own})
    )
    assert max(check_bfn_parity(tmp_path / "other.onnx", other).values()) < TOLERANCE
    with pytest.raises(LowdoseError, match="holds no weights nothing"):
        with_weights(content, {"nothing": own})
    with pytest.raises(LowdoseError, match="damaged or cut short"):
        read_weights(content[:-100])


def test_a_file_of_a_scan_can_be_trained_on_from(tmp_path):
    network = scan_network()
    again, record = load_checkpoint(written(tmp_path / "m.onnx", network))
    assert record["method"] == "bfn-4d"
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name])


def test_a_file_can_be_trained_on_from(tmp_path):
    network = random_network(1, 3)
    with torch.no_grad():
        network.perceptron.unit.fill_(0.25)
    again, record = load_checkpoint(written(tmp_path / "m.onnx", network))
    assert record["method"] == "bfn" and again.perceptron.unit.tolist() == [1.0]
    planes = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(planes), network(planes))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (37, 50)])
def test_graphs_for_engines_keep_the_numbers(tmp_path, size, half):
    network = random_network(2, 3)
    path = written(tmp_path / "m.onnx", network)
    fixed = engine_graph(path, size, half=half)
    assert [opset.domain for opset in fixed.opset_import] == [""] and not fixed.functions
    frames = np.random.default_rng(0).poisson(5, (3, 1, 2, *size)).astype(np.float32)
    feeds = {f"frame_{i}": frame for i, frame in enumerate(frames)}
    feeds["offset"] = frames.mean(axis=(0, 3, 4), dtype=np.float64).astype(np.float32)[..., None, None]
    feeds["scale"] = frames.std(axis=(0, 3, 4), dtype=np.float64).astype(np.float32)[..., None, None]
    wanted, result = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for model in (str(path), fixed.SerializeToString())
    )
    np.testing.assert_allclose(result, wanted, rtol=0, atol=(1e-2 if half else 2e-5) * np.ptp(wanted))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("sizes", SIZES[1:4])
def test_tensorrt_rtx_builds_engines(tmp_path, sizes, half):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    path = written(tmp_path / "m.onnx", random_network(*sizes))
    assert engine_builder.build_plan(engine_graph(path, (64, 96), half=half), ["8.9"])


def test_tensorrt_rtx_parses_the_files_themselves(tmp_path):
    package = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    for name, network in (("movie", random_network(2, 3)), ("scan", scan_network())):
        content = written(tmp_path / f"{name}.onnx", network).read_bytes()
        messages = Messages(package)
        graph = package.Builder(messages.logger).create_network(0)
        assert package.OnnxParser(graph, messages.logger).parse(content), messages.texts


def test_half_precision_keeps_its_own_normalisation(tmp_path):
    network = random_network(1, 3)
    path = written(tmp_path / "m.onnx", network)
    model = onnx.load(path)
    half = to_half(model, contract(network))
    assert not half.functions
    onnx.save(half, tmp_path / "half.onnx")
    frames = 30000 + 100 * np.random.default_rng(0).normal(size=(4, 24, 30)).astype(np.float32)
    full, rounded = (load(p, device="cpu").denoise(frames) for p in (path, tmp_path / "half.onnx"))
    np.testing.assert_allclose(rounded, full, rtol=0, atol=1e-2 * np.ptp(full))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A noisy file, and the model file that `lowdose calibrate` made of it."""
    folder = tmp_path_factory.mktemp("calibrated")
    noisy, _ = waves(n_frames=6, side=48)
    np.save(folder / "movie.npy", np.round(100 + 20 * noisy[:, 0]).astype(np.uint16))
    command = ["calibrate", "movie.npy", "-o", "m.onnx", "--method", "bfn", "--budget", "4s", "--threads", "1"]
    run = subprocess.run([*LOWDOSE, *command], cwd=folder, capture_output=True, text=True, check=True)
    return folder, run.stdout


def test_calibrate_writes_a_model_that_denoises(calibrated):
    folder, said = calibrated
    assert "agrees with PyTorch" in said and "of the filter's error" in said
    model = load(folder / "m.onnx", device="cpu")
    entry = model.metadata["weight_sets"][0]
    assert model.metadata["method"] == "bfn" and entry["data"][0]["name"] == "movie.npy"
    assert entry["settings"]["budget_s"] == 4.0
    noisy = np.load(folder / "movie.npy")
    clean = 100 + 20 * waves(n_frames=6, side=48)[1][:, 0]
    assert np.square(model.denoise(noisy) - clean).mean() < 0.5 * np.square(noisy - clean).mean()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "bfn", "--budget", "soon"], "a budget is a time such as 60s or 5min, not 'soon'"),
        (["--method", "bfn", "--budget", "0s"], "a budget is a time"),
        (["--budget", "60s"], "wiener needs none of --budget"),
        (["--from", "m.onnx"], "wiener needs none of --from"),
    ],
)
def test_options_that_make_no_sense_are_refused(calibrated, options, words):
    folder, _ = calibrated
    command = [*LOWDOSE, "calibrate", "movie.npy", "-o", "x.onnx", *options]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode != 0 and words in run.stderr
    assert not (folder / "x.onnx").exists()


def test_calibration_begins_from_a_model(calibrated):
    folder, _ = calibrated
    command = ["calibrate", "movie.npy", "-o", "again.onnx", "--method", "bfn", "--budget", "1s", "--from", "m.onnx"]
    subprocess.run([*LOWDOSE, *command], cwd=folder, capture_output=True, check=True)
    first, again = (load(folder / name, device="cpu").metadata for name in ("m.onnx", "again.onnx"))
    assert first["taps"] == again["taps"] and first["margin_px"] == again["margin_px"]
