"""Every bundled denoiser on a device against PyTorch on the CPU in float32."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from benchmarks.gpu_engine import engine_file
from numpy.typing import NDArray

from lowdose.bench.compare import Question
from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Model, Settings, bundled_models, load
from lowdose_export import bfn_parity, parity
from lowdose_export.engine_graph import contract_of
from lowdose_export.half import to_half
from lowdose_export.peers import torch_network
from lowdose_export.udvd_parity import taps_named, torch_movie, torch_scan
from lowdose_export.windowed import run_torch
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.blind_spot import BlindSpotNetwork
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.synthesis import ThreeDirections
from lowdose_train.udvd import MovieUdvd, Udvd
from lowdose_train.unet import UNet

ENGINE = "TensorRT-RTX engine"
SIDES_PX = (64, 96)
CUTOFF = 1 / 7
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest difference as a share of the output's range."""

Frames = NDArray[np.float32]


def correctness(device: str, precision: str) -> Iterator[tuple[str, float | str]]:
    """Per model the largest difference to PyTorch, as a share of the range, or the reason why it does not run.

    device: one of `lowdose devices`, or ENGINE.
    """
    for name in sorted(set(bundled_models()) - {"reucid"}):
        try:
            yield name, difference(load(name, device="cpu"), device, precision)
        except LowdoseError as error:
            yield name, str(error)


def difference(model: Model, device: str, precision: str) -> float:
    frames, expected = case(model)
    with tempfile.TemporaryDirectory() as folder:
        if device == ENGINE:
            size = (frames.shape[-2], frames.shape[-1])
            cutoff = CUTOFF if model.has_choice else None
            opened = load(engine_file(model.path, size, precision, cutoff))
        else:
            opened = load(file_in(precision, model.path, Path(folder)), device=device)
        settings = Settings(0, CUTOFF if model.has_choice else NO_LOW_PASS, 0.0)
        result = opened.denoise(frames, settings=settings)
    return float(np.abs(result - expected).max() / np.ptp(expected))


def file_in(precision: str, path: Path, folder: Path) -> Path:
    """The model file itself for "fp32", for "fp16" one in half precision, which is written to `folder`."""
    if precision == "fp32":
        return path
    model = onnx.load(path)
    half = to_half(model, contract_of(model, path))
    half.metadata_props[0].value = json.dumps(json.loads(half.metadata_props[0].value) | {"precision": precision})
    onnx.save(half, folder / f"{path.stem}-{precision}.onnx")
    return folder / f"{path.stem}-{precision}.onnx"


def random_input(model: Model) -> Frames:
    """Counts on a slope: as many frames as the model sees at once, of several channels or over a scan."""
    lead = (3, 4) if model.scan else (max(len(model.taps), 4),)
    channels = (len(model.channels),) if len(model.channels) > 1 else ()
    expected = 5 * (2 + np.sin(np.arange(SIDES_PX[0])[:, None] / 5) + np.linspace(0, 1, SIDES_PX[1]))
    shape = (*lead, *channels, *SIDES_PX)
    return np.random.default_rng(0).poisson(np.broadcast_to(expected, shape)).astype(np.float32)


def case(model: Model) -> tuple[Frames, Frames]:
    """Frames, and what PyTorch makes of them."""
    frames = random_input(model)
    if model.has_choice:
        question = Question(model, frames[: len(model.taps), None], Settings(0, CUTOFF, 0.0), 0)
        blind_spot = torch_network(question)
        assert isinstance(blind_spot, BlindSpotNetwork)
        return frames, parity.run_torch(blind_spot, frames, len(model.taps), CUTOFF)
    network = load_checkpoint(model.path)[0]
    if isinstance(network, BlindFeatureNetwork):
        frames, windows = next(bfn_parity.random_input(network))
        moments = bfn_parity.window_moments(windows)
        return frames, bfn_parity.run_torch(network, windows, *moments).reshape(frames.shape)
    if isinstance(network, MovieUdvd):
        return frames, torch_movie(network, frames)
    if isinstance(network, Udvd):
        return frames, torch_scan(network, frames, taps_named(model.metadata["taps"]["offsets"]))
    assert isinstance(network, UNet | ThreeDirections)
    if isinstance(network, ThreeDirections):
        return frames, run_torch(network, frames[:, None])[:, 0]
    stack = frames if len(model.channels) > 1 else frames[:, None]
    with torch.no_grad():
        results = np.concatenate([run_torch(network, frame[None]) for frame in stack])
    return frames, results.reshape(frames.shape)
