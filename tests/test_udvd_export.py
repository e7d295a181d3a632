"""Model files of UDVD: the contract, any engine and the core give PyTorch's numbers, as a stream and whole."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from lowdose import LowdoseError, load
from lowdose.metrics import psnr
from lowdose.simulate import diffraction_scan, simulate
from lowdose_export import udvd_parity
from lowdose_export.udvd import export_udvd
from lowdose_train import udvd
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.scan_taps import SCAN_TAPS
from udvd_networks import TINY, TINY_WITH_FILTER, make_udvd_checkpoint


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(udvd.WIDTHS, "lite", TINY_WITH_FILTER)
    monkeypatch.setattr("lowdose_export.udvd.MEMORY_SIDES_PX", (64, 128))
    monkeypatch.setattr(udvd_parity, "SHAPES_PX", ((16, 20), (13, 10)))


@pytest.fixture
def exported(tmp_path):
    """Model file and network: exported("udvd")."""

    def make(method, neighbours="3x3"):
        checkpoint = make_udvd_checkpoint(tmp_path / "run", method, neighbours)
        export_udvd([checkpoint], tmp_path / "model.onnx")
        return tmp_path / "model.onnx", load_checkpoint(checkpoint)[0]

    return make


def test_the_file_of_movies_keeps_stage_1_as_state(exported):
    path, network = exported("udvd")
    model = onnx.load(path)
    metadata = json.loads(model.metadata_props[0].value)
    assert [value.name for value in model.graph.input] == ["frame_0", "frame_1", "frame_2", "state_0", "state_1"]
    assert [value.name for value in model.graph.output] == ["denoised", "state"]
    assert metadata["state"] == {"inputs": ["state_0", "state_1"], "output": "state", "channels": network.n_state}
    assert metadata["taps"] == {"axis": "time", "offsets": [0, 1, 2]}
    assert (metadata["boundary"], metadata["align_px"], metadata["min_size_px"]) == ("internal", 4, 1)
    assert metadata["margin_px"] == network.margin_px
    assert not {node.op_type for node in model.graph.node} & {"DFT"}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    layers = sum(len(part) for part in (TINY.outer, TINY.middle, TINY.inner, TINY.up_middle, TINY.up_outer))
    assert len(convolutions) == 2 * 4 * layers + 2 + 2  # stage 1 once, stage 2 once, merge, head, filter, its edge


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 16, 16), (7, 21, 18), (5, 1, 1)])
def test_a_stream_gives_the_numbers_of_the_five_frame_network(exported, shape):
    """Stage 1 once per frame; frames that fill no multiple of four; sequences shorter than the window."""
    path, network = exported("udvd")
    frames = np.random.default_rng(0).poisson(5, shape).astype(np.float32)
    with torch.no_grad():
        indices = np.clip(np.arange(shape[0])[:, None] + np.arange(-2, 3), 0, shape[0] - 1)
        wanted = network(torch.from_numpy(frames[indices]))[:, 0].numpy()
    model = load(path, device="cpu")
    settings = udvd_parity.Settings(0, udvd_parity.NO_LOW_PASS, 0.0)
    for tile in (0, 8):
        result = model.denoise(frames, settings=settings, tile=tile)
        np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("neighbours", list(SCAN_TAPS))
def test_every_position_of_a_scan_comes_back(exported, neighbours):
    path, network = exported("udvd-4d", neighbours)
    model = load(path, device="cpu")
    assert model.scan and model.metadata["method"] == "udvd-4d"
    assert model.metadata["taps"]["offsets"] == [list(offset) for offset in SCAN_TAPS[neighbours].offsets]
    scan = np.random.default_rng(0).poisson(2, (3, 4, 9, 10)).astype(np.uint8)
    settings = udvd_parity.Settings(0, udvd_parity.NO_LOW_PASS, 0.0)
    wanted = udvd_parity.torch_scan(network, scan.astype(np.float32), SCAN_TAPS[neighbours])
    np.testing.assert_allclose(model.denoise(scan, settings=settings), wanted, rtol=0, atol=1e-5)


def test_an_export_that_disagrees_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    checkpoint = make_udvd_checkpoint(tmp_path / "run", "udvd")
    honest = udvd_parity.torch_movie
    monkeypatch.setattr(udvd_parity, "torch_movie", lambda *given: 1.01 * honest(*given))
    with pytest.raises(LowdoseError, match=r"onnxruntime differs from PyTorch by .* tolerance is 1e-04"):
        export_udvd([checkpoint], tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_command_takes_the_writer_of_the_method(lowdose, tmp_path):
    checkpoint = make_udvd_checkpoint(tmp_path / "run", "udvd")
    outcome = lowdose("export", checkpoint, "-o", tmp_path / "model.onnx")
    assert outcome.code == 0, outcome.err
    assert "core, tiled agrees with PyTorch within" in outcome.out
    outcome = lowdose("export", checkpoint, checkpoint, "-o", tmp_path / "other.onnx")
    assert outcome.code == 2
    assert "holds one" in outcome.err


@pytest.mark.parametrize(("dose", "gain_db"), [(0.5, 15), (3.0, 14)])
def test_the_bundled_model_denoises_seeds_not_used_in_training(dose, gain_db):
    movie = simulate("hrtem", "counting", 31, n_frames=6, height=90, width=102, dose_per_pixel=dose)
    denoised = load("udvd-lite", device="cpu").denoise(movie.noisy)
    assert psnr(movie.clean, denoised) > psnr(movie.clean, movie.noisy) + gain_db


def test_the_bundled_scan_model_denoises_seeds_not_used_in_training():
    clean = 500 * diffraction_scan(32, scan_y=3, scan_x=4, height=126, width=129).clean
    noisy = np.random.default_rng(0).poisson(clean).astype(np.uint16)
    denoised = load("udvd-4d-lite", device="cpu").denoise(noisy)
    assert denoised.shape == noisy.shape
    assert psnr(clean, denoised) > psnr(clean, noisy) + 3
