"""Checkpoints of Noise2Void or the three-direction synthesis -> one checked model file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose.model import load
from lowdose_export.blind_spot import weight_set
from lowdose_export.checked import write_checked
from lowdose_export.model_file import check_out
from lowdose_export.noise2void import noise2void_contract, noise2void_model
from lowdose_export.synthesis import synthesis_contract, synthesis_model
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.synthesis import SCALE_STDS, ThreeDirections
from lowdose_train.unet import UNet, padded

# Largest difference as a share of the output's range. Each engine adds some thousands of products per pixel and layer
# in its own order in float32; a hundred times less was seen.
TOLERANCE = 1e-4
SHAPE_TO_FILL_UP_PX = (37, 90)
"""Height and width of frames that are no multiple of any alignment."""
MEMORY_SIDES_PX = (256, 512)
BLOCK_MEMORY_SIDES_PX = (64, 128)

Frames = NDArray[np.float32]


def export_windowed(checkpoints: Sequence[Path], out: Path, *, overwrite: bool = False) -> dict[str, float]:
    """Write the model file of one checkpoint, and compare PyTorch, ONNX Runtime and the core, whole and in tiles.

    Returns the largest difference to PyTorch per engine, as a share of the output's range. Raises LowdoseError, and
    leaves nothing under `out`, for more than one checkpoint, for an existing file without `overwrite`, and when an
    engine disagrees with PyTorch.
    """
    check_out(out, overwrite)
    if len(checkpoints) != 1:
        raise LowdoseError(f"{len(checkpoints)} checkpoints; a model file of this method holds one")
    network, record = load_checkpoint(checkpoints[0])
    assert isinstance(network, UNet | ThreeDirections)
    model = windowed_model_of(network, weight_set(checkpoints[0], record))
    sides_px = BLOCK_MEMORY_SIDES_PX if isinstance(network, ThreeDirections) else MEMORY_SIDES_PX
    return write_checked(model, out, lambda path: check_windowed_parity(path, network), memory_sides_px=sides_px)


def windowed_model_of(network: UNet | ThreeDirections, trained_on: dict[str, Any]) -> onnx.ModelProto:
    """The model of a network; how much memory it takes is not known yet."""
    rest = {"weight_sets": [trained_on], "lowdose_version": __version__, "bytes_per_px": 1.0}
    if isinstance(network, ThreeDirections):
        return synthesis_model(network, synthesis_contract(network) | rest)
    return noise2void_model(network, noise2void_contract(network) | rest)


def check_windowed_parity(path: Path, network: UNet | ThreeDirections) -> dict[str, float]:
    """Largest difference per engine over all shapes. Raises LowdoseError above TOLERANCE."""
    model = load(path, device="cpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst: dict[str, float] = {}
    step = network.align_px
    tile = 4 * step
    long = 2 * step * math.ceil(network.margin_px / step) + 2 * tile  # so wide that no tile sees all of it
    for shape in ((2 * step, long), SHAPE_TO_FILL_UP_PX):
        frames = random_frames((len(model.taps), len(model.channels), *shape))
        wanted = run_torch(network, frames)
        stack = frames[:, 0] if len(model.channels) == 1 else frames
        results = {
            "onnxruntime": run_onnxruntime(session, frames, network.align_px),
            "core": model.denoise(stack).reshape(wanted.shape),
            "core, tiled": model.denoise(stack, tile=tile).reshape(wanted.shape),
        }
        for engine, result in results.items():
            difference = float(np.abs(result - wanted).max() / np.ptp(wanted))
            if not difference <= TOLERANCE:
                raise LowdoseError(
                    f"{engine} differs from PyTorch by {difference:.2e} of the output's range "
                    f"({shape[0]}x{shape[1]} px); the tolerance is {TOLERANCE:.0e}"
                )
            worst[engine] = max(worst.get(engine, 0.0), difference)
    return worst


def random_frames(shape: tuple[int, int, int, int]) -> Frames:
    """Counts of a few electrons on a slope (n_frames, n_channels, height, width), channels on different levels."""
    random = np.random.default_rng(shape[2])
    expected = 2 + np.sin(np.arange(shape[2])[:, None] / 5) + np.linspace(0, 3, shape[3])
    levels = np.arange(1, shape[1] + 1, dtype=np.float32)[:, None, None]
    counts = random.poisson(np.broadcast_to(expected, shape))
    return np.asarray(100 * levels + 10 * levels * counts.astype(np.float32))


def window_moments(frames: Frames) -> tuple[Frames, Frames]:
    """What the core gives as `offset` and `scale`, (1, n_channels, 1, 1), for all the frames of a window."""
    mean = frames.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    std = frames.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    return mean.astype(np.float32), (SCALE_STDS * std).astype(np.float32)


@torch.no_grad()
def run_torch(network: UNet | ThreeDirections, frames: Frames) -> Frames:
    """Denoise one window (n_frames, n_channels, height, width), filled up to the alignment by mirroring."""
    height, width = frames.shape[2:]
    offset, scale = window_moments(frames)
    seen = padded(torch.from_numpy((frames - offset) / scale), network.align_px)
    denoised = network(seen.transpose(0, 1))[0][:, None] if isinstance(network, ThreeDirections) else network(seen)
    result: Frames = denoised[:, :, :height, :width].numpy() * scale + offset
    return result


def run_onnxruntime(session: Any, frames: Frames, align_px: int) -> Frames:
    """Plain ONNX Runtime, given what the core would give it."""
    height, width = frames.shape[2:]
    offset, scale = window_moments(frames)
    filled = padded(torch.from_numpy(frames), align_px).numpy()
    feeds = {f"frame_{i}": frame[None] for i, frame in enumerate(filled)} | {"offset": offset, "scale": scale}
    denoised: Frames = session.run(None, feeds)[0].reshape(filled.shape)
    return denoised[:, :, :height, :width]
