"""The model file of a blind filter against a direct sum, in ONNX Runtime and in the core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.model import load
from lowdose.sample import neighbour
from lowdose.wiener import BlindFilter

# Largest difference as a share of the output's range: each engine adds some thousand products per pixel in its own
# order in float32.
TOLERANCE = 2e-5

Frames = NDArray[np.float32]


def is_scan(fitted: BlindFilter) -> bool:
    return any(dy for dy, _ in fitted.taps)


def check_wiener_parity(path: Path, fitted: BlindFilter) -> dict[str, float]:
    """Largest difference to a direct sum per engine, over sizes. Raises LowdoseError above TOLERANCE."""
    model = load(path, device="cpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst: dict[str, float] = {}
    for frames, windows in random_input(fitted):
        wanted = direct_sum(fitted, windows)
        feeds = {f"frame_{i}": windows[:, i] for i in range(len(fitted.taps))}
        if not model.scan:
            feeds["offset"] = windows.mean(axis=(1, 3, 4), dtype=np.float64).astype(np.float32)[..., None, None]
        results = {"onnxruntime": session.run(None, feeds)[0], "core": model.denoise(frames).reshape(wanted.shape)}
        if not model.scan:
            tiled = model.denoise(frames, tile=wanted.shape[-1] // 2)
            results["core, tiled"] = tiled.reshape(wanted.shape)
        for engine, result in results.items():
            difference = float(np.abs(result - wanted).max() / np.ptp(wanted))
            if not difference <= TOLERANCE:
                raise LowdoseError(
                    f"{engine} differs from a direct sum by {difference:.2e} of the output's range "
                    f"({wanted.shape[-2]}x{wanted.shape[-1]} px); the tolerance is {TOLERANCE:.0e}"
                )
            worst[engine] = max(worst.get(engine, 0.0), difference)
    return worst


def random_input(fitted: BlindFilter) -> Iterator[tuple[Frames, Frames]]:
    """Frames as the core takes them, and the windows of them, (n_frames, taps, n_channels, height, width)."""
    random = np.random.default_rng(0)
    reach_y, reach_x = (max(abs(tap[axis]) for tap in fitted.taps) for axis in (0, 1))
    least = fitted.radius_px + 1
    over_scan = is_scan(fitted)
    sizes = [fitted.level.shape[-2:]] if over_scan else [(3 * least, 3 * least), (least, 3 * least + 5)]
    n_y, n_x = (reach_y + 1, reach_x + 2) if over_scan else (1, reach_x + 2)
    for size in sizes:
        noise = random.standard_normal((n_y * n_x, fitted.n_channels, *size), dtype=np.float32)
        stack = fitted.level + fitted.scale * (noise + np.linspace(0, 3, size[1], dtype=np.float32))
        seen = [
            [neighbour(y, dy, n_y) * n_x + neighbour(x, dx, n_x) for dy, dx in fitted.taps]
            for y in range(n_y)
            for x in range(n_x)
        ]
        squeezed = stack[:, 0] if fitted.n_channels == 1 else stack
        yield squeezed.reshape(n_y, n_x, *size) if over_scan else squeezed, stack[np.array(seen)]


def direct_sum(fitted: BlindFilter, windows: Frames) -> NDArray[np.float64]:
    """What the model file should give for windows (n_frames, taps, n_channels, height, width)."""
    radius, (height, width) = fitted.radius_px, windows.shape[-2:]
    level = fitted.level if is_scan(fitted) else windows.mean(axis=(1, 3, 4), dtype=np.float64)[:, :, None, None]
    scale = fitted.scale.astype(np.float64)
    borders = ((0, 0), (0, 0), (0, 0), (radius, radius), (radius, radius))
    relative = np.pad((windows - np.expand_dims(level, -4)) / scale, borders, "reflect")
    weights = fitted.weights[len(fitted.weights) // 2].astype(np.float64)
    total = np.zeros((len(windows), *windows.shape[2:]))
    for dy, dx in np.ndindex(weights.shape[-2:]):
        total += np.einsum("okc,nkchw->nohw", weights[..., dy, dx], relative[..., dy : dy + height, dx : dx + width])
    summed: NDArray[np.float64] = level + scale * total
    return summed
