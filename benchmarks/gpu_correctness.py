"""Every bundled denoiser on a device against PyTorch on the CPU in float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from lowdose.bench.compare import Question
from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Model, Settings, bundled_models, load
from lowdose_export import parity
from lowdose_export.peers import torch_network
from lowdose_export.udvd_parity import taps_named, torch_movie, torch_scan
from lowdose_export.windowed import run_torch
from lowdose_train.blind_spot import BlindSpotNetwork
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.synthesis import ThreeDirections
from lowdose_train.udvd import MovieUdvd, Udvd
from lowdose_train.unet import UNet

SIDES_PX = (64, 96)
CUTOFF = 1 / 7
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest difference as a share of the output's range."""

Frames = NDArray[np.float32]


def correctness(device: str, names: tuple[str, ...] = ()) -> Iterator[tuple[str, float | str]]:
    """Per model the largest difference to PyTorch, as a share of the range, or the reason why it does not run."""
    for name in names or sorted(set(bundled_models()) - {"reucid"}):
        try:
            yield name, difference(load(name, device=device))
        except LowdoseError as error:
            yield name, str(error)


def difference(model: Model) -> float:
    frames = random_input(model)
    settings = Settings(0, CUTOFF if model.has_choice else NO_LOW_PASS, 0.0)
    expected, result = in_torch(model, frames), model.denoise(frames, settings=settings)
    return float(np.abs(result - expected).max() / np.ptp(expected))


def random_input(model: Model) -> Frames:
    """Counts on a slope: as many frames as the model sees at once, of several channels or over a scan."""
    lead = (3, 4) if model.scan else (max(len(model.taps), 4),)
    channels = (len(model.channels),) if len(model.channels) > 1 else ()
    expected = 5 * (2 + np.sin(np.arange(SIDES_PX[0])[:, None] / 5) + np.linspace(0, 1, SIDES_PX[1]))
    shape = (*lead, *channels, *SIDES_PX)
    return np.random.default_rng(0).poisson(np.broadcast_to(expected, shape)).astype(np.float32)


def in_torch(model: Model, frames: Frames) -> Frames:
    if model.has_choice:
        question = Question(model, frames[: len(model.taps), None], Settings(0, CUTOFF, 0.0), 0)
        blind_spot = torch_network(question)
        assert isinstance(blind_spot, BlindSpotNetwork)
        return parity.run_torch(blind_spot, frames, len(model.taps), CUTOFF)
    network = load_checkpoint(model.path)[0]
    if isinstance(network, MovieUdvd):
        return torch_movie(network, frames)
    if isinstance(network, Udvd):
        return torch_scan(network, frames, taps_named(model.metadata["taps"]["offsets"]))
    assert isinstance(network, UNet | ThreeDirections)
    if isinstance(network, ThreeDirections):
        return run_torch(network, frames[:, None])[:, 0]
    stack = frames if len(model.channels) > 1 else frames[:, None]
    with torch.no_grad():
        results = np.concatenate([run_torch(network, frame[None]) for frame in stack])
    return results.reshape(frames.shape)
