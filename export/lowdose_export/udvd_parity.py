"""PyTorch, ONNX Runtime and the compiled core on the same movie or scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Settings, load
from lowdose_train.mirror import mirrored
from lowdose_train.scan_taps import SCAN_TAPS, ScanTaps
from lowdose_train.udvd import ALIGN_PX, MovieUdvd, Udvd

# Largest difference as a share of the output's range. Each engine adds some thousands of products per pixel and layer
# in its own order in float32; ten times less was seen.
TOLERANCE = 1e-4
SHAPES_PX = ((64, 96), (37, 90))
"""Heights and widths compared: one that the network takes as it is, one that the core has to fill up."""
TILE_PX = 16
N_FRAMES = 6
SCAN = (3, 5)

Frames = NDArray[np.float32]


def check_udvd_parity(path: Path, network: Udvd) -> dict[str, float]:
    """Largest difference per engine over all shapes. Raises LowdoseError above TOLERANCE."""
    model = load(path, device="cpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst: dict[str, float] = {}
    settings = Settings(0, NO_LOW_PASS, 0.0)
    for shape in SHAPES_PX:
        if isinstance(network, MovieUdvd):
            frames = random_frames((N_FRAMES, *shape))
            wanted = torch_movie(network, frames)
            plain = onnxruntime_movie(session, frames, network.n_state)
        else:
            taps = taps_named(model.metadata["taps"]["offsets"])
            frames = random_frames((*SCAN, *shape))
            wanted = torch_scan(network, frames, taps)
            plain = onnxruntime_scan(session, frames, taps)
        results = {
            "onnxruntime": plain,
            "core": model.denoise(frames, settings=settings),
            "core, tiled": model.denoise(frames, settings=settings, tile=TILE_PX),
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


def random_frames(shape: tuple[int, ...]) -> Frames:
    """Counts of a few electrons per pixel on a slope (..., height, width)."""
    random = np.random.default_rng(shape[-1])
    expected = 2 + np.sin(np.arange(shape[-2])[:, None] / 5) + np.linspace(0, 3, shape[-1])
    return random.poisson(np.broadcast_to(expected, shape)).astype(np.float32)


def aligned(frames: Frames) -> Frames:
    """Mirrored at the bottom and right up to multiples of ALIGN_PX, as the core does."""
    height, width = (mirrored(np.arange(size + -size % ALIGN_PX), size) for size in frames.shape[-2:])
    filled: Frames = frames[..., height[:, None], width]
    return filled


@torch.no_grad()
def torch_movie(network: MovieUdvd, frames: Frames) -> Frames:
    """All frames of a movie (n_frames, height, width) at once, its ends repeated."""
    seen = np.concatenate([frames[:1], frames[:1], frames, frames[-1:], frames[-1:]])
    denoised: Frames = network(torch.from_numpy(seen)[None])[0].numpy()
    return denoised


def onnxruntime_movie(session: Any, frames: Frames, n_state: int) -> Frames:
    """Step by step as the core runs it: two steps before the first frame fill the states."""
    n_frames, height, width = frames.shape
    filled = aligned(frames)
    states = [np.zeros((1, n_state, *filled.shape[1:]), np.float32)] * 2
    results = []
    for step in range(-2, n_frames):
        window = filled[np.clip(np.arange(step, step + 3), 0, n_frames - 1)]
        feeds = {f"frame_{i}": frame[None, None] for i, frame in enumerate(window)}
        denoised, state = session.run(["denoised", "state"], feeds | {"state_0": states[0], "state_1": states[1]})
        states = [states[1], state]
        results.append(denoised[0, 0, :height, :width])
    return np.stack(results[2:])


def taps_named(offsets: Sequence[Sequence[int]]) -> ScanTaps:
    """The taps that have these offsets."""
    wanted = tuple((dy, dx) for dy, dx in offsets)
    return next(taps for taps in SCAN_TAPS.values() if taps.offsets == wanted)


@torch.no_grad()
def torch_scan(network: Udvd, scan: Frames, taps: ScanTaps) -> Frames:
    scan_y, scan_x, height, width = scan.shape
    seen = scan.reshape(-1, height, width)[taps.positions(scan_y, scan_x)]
    denoised: Frames = network(torch.from_numpy(seen)).numpy()
    return denoised.reshape(scan.shape)


def onnxruntime_scan(session: Any, scan: Frames, taps: ScanTaps) -> Frames:
    """All positions as one batch."""
    scan_y, scan_x, height, width = scan.shape
    seen = aligned(scan).reshape(scan_y * scan_x, 1, *aligned(scan).shape[2:])[taps.positions(scan_y, scan_x)]
    # Of the nine places in the triplets, the first at which each offset stands.
    feeds = {f"frame_{tap}": seen[:, taps.triplets.index(tap)] for tap in range(len(taps.offsets))}
    denoised: Frames = session.run(["denoised"], feeds)[0][:, 0, :height, :width]
    return denoised.reshape(scan.shape)
