"""The model file of a blind-feature network against PyTorch, in ONNX Runtime and in the core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.model import load
from lowdose.sample import neighbour
from lowdose_train.bfn import BlindFeatureNetwork

# Largest difference as a share of the output's range: each engine adds some thousand products per pixel in its own
# order in float32, and in a last layer that was fitted in closed form large ones cancel. Half of this was seen.
TOLERANCE = 5e-5
SIZES = ((64, 64), (37, 90), (9, 23))
N_TILES = 2

Frames = NDArray[np.float32]


def check_bfn_parity(path: Path, network: BlindFeatureNetwork) -> dict[str, float]:
    """Largest difference to PyTorch per engine, over sizes. Raises LowdoseError above TOLERANCE."""
    model = load(path, device="cpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst: dict[str, float] = {}
    for frames, windows in random_input(network):
        offset, scale = window_moments(windows)
        wanted = run_torch(network, windows, offset, scale)
        feeds = {f"frame_{i}": windows[:, i] for i in range(network.n_taps)}
        if network.scan is None:
            feeds |= {"offset": offset, "scale": scale}
        results = {"onnxruntime": session.run(None, feeds)[0], "core": model.denoise(frames).reshape(wanted.shape)}
        if network.scan is None:
            results["core, tiled"] = model.denoise(frames, tile=max(8, frames.shape[-1] // N_TILES)).reshape(
                wanted.shape
            )
        for engine, result in results.items():
            difference = float(np.abs(result - wanted).max() / np.ptp(wanted))
            if not difference <= TOLERANCE:
                raise LowdoseError(
                    f"{engine} differs from PyTorch by {difference:.2e} of the output's range "
                    f"({wanted.shape[-2]}x{wanted.shape[-1]} px); the tolerance is {TOLERANCE:.0e}"
                )
            worst[engine] = max(worst.get(engine, 0.0), difference)
    return worst


def random_input(network: BlindFeatureNetwork) -> Iterator[tuple[Frames, Frames]]:
    """Frames as the core takes them, and the windows of them, (n_frames, n_taps, n_channels, height, width)."""
    random, scan = np.random.default_rng(0), network.scan
    taps = [(0, dt - network.n_taps // 2) for dt in range(network.n_taps)] if scan is None else scan.taps.tolist()
    reach_y, reach_x = (max(abs(tap[axis]) for tap in taps) for axis in (0, 1))
    n_y, n_x = (1, reach_x + 2) if scan is None else (reach_y + 1, reach_x + 2)
    sizes = SIZES if scan is None or scan.any_size else [tuple(scan.level.shape[1:])]
    for height, width in sizes:
        expected = 2 + np.sin(np.arange(height)[:, None] / 5) + np.linspace(0, 3, width)
        shape = (n_y * n_x, network.n_channels, height, width)
        stack = random.poisson(np.broadcast_to(expected, shape)).astype(np.float32)
        if scan is not None:
            stack = scan.level.numpy() + scan.scale.numpy() * (stack - stack.mean())
        seen = [
            [neighbour(y, dy, n_y) * n_x + neighbour(x, dx, n_x) for dy, dx in taps]
            for y in range(n_y)
            for x in range(n_x)
        ]
        frames = stack[:, 0] if network.n_channels == 1 else stack
        yield frames if scan is None else frames.reshape(n_y, n_x, height, width), stack[np.array(seen)]


def window_moments(windows: Frames) -> tuple[Frames, Frames]:
    """What the core gives as `offset` and `scale`, (n_frames, n_channels, 1, 1), for windows."""
    mean = windows.mean(axis=(1, 3, 4), dtype=np.float64)[..., None, None]
    std = windows.std(axis=(1, 3, 4), dtype=np.float64)[..., None, None]
    return mean.astype(np.float32), std.astype(np.float32)


@torch.no_grad()
def run_torch(network: BlindFeatureNetwork, windows: Frames, offset: Frames, scale: Frames) -> Frames:
    if network.scan is not None:
        offset, scale = (plane[None].numpy() for plane in (network.scan.level, network.scan.scale))
    planes = torch.from_numpy((windows - offset[:, None]) / scale[:, None]).flatten(1, 2)
    own = planes[:, network.own_planes]
    denoised = network.own_pixel(network(planes), own).numpy()
    result: Frames = denoised * scale + offset
    return result
