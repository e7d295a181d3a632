"""The last step of an export: PyTorch, ONNX Runtime and the compiled core must give the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.model import NO_LOW_PASS, Settings, load
from lowdose.sample import neighbour
from lowdose_train.blind_spot import BlindSpotNetwork

# Largest difference as a share of the output's range. Each engine sums some 400 products per pixel in its
# own order in float32 (epsilon 6e-8); ten times less was seen.
TOLERANCE = 1e-5

SHAPES = ((4, 64, 64), (5, 37, 90))  # (n_frames, height, width)
CUTOFFS = (NO_LOW_PASS, 1 / 7)

Stack = NDArray[np.float32]


def torch_low_pass(frames: torch.Tensor, cutoff: float) -> torch.Tensor:
    """The disc |frequency| <= cutoff (cycles/pixel) of frames (..., height, width), by FFT."""
    if cutoff >= NO_LOW_PASS:
        return frames
    height, width = frames.shape[-2:]
    inside = disc(height, width, cutoff).to(frames.device)
    filtered: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(frames) * inside, s=(height, width))
    return filtered


def disc(height: int, width: int, cutoff: float) -> torch.Tensor:
    """Which coefficients of rfft2 the low-pass keeps, (height, width // 2 + 1), bool."""
    limit = torch.tensor(cutoff, dtype=torch.float32)
    # In float32 like the other engines: a frequency on the rim must be in or out for all of them.
    y = torch.fft.fftfreq(height, 1 / height) / height
    x = torch.fft.rfftfreq(width, 1 / width) / width
    inside: torch.Tensor = y[:, None] ** 2 + x**2 <= limit**2
    return inside


def windows(stack: Stack, n_taps: int) -> Stack:
    """(n_frames, n_taps, height, width): what the network sees for each frame, ends mirrored."""
    reach = n_taps // 2
    indices = [[neighbour(i, tap, len(stack)) for tap in range(-reach, reach + 1)] for i in range(len(stack))]
    seen: Stack = stack[np.array(indices)]
    return seen


@torch.no_grad()
def run_torch(network: BlindSpotNetwork, stack: Stack, n_taps: int, cutoff: float) -> Stack:
    output = network(torch.from_numpy(windows(stack, n_taps)))[:, 0]
    result: Stack = torch_low_pass(output, cutoff).numpy()
    return result


def run_onnxruntime(session: Any, stack: Stack, n_taps: int, weight_set: int, cutoff: float) -> Stack:
    """Plain ONNX Runtime: it knows no kernel of ours and inlines the functions. Frames are the batch."""
    seen = windows(stack, n_taps)
    feeds: dict[str, Any] = {f"frame_{tap}": seen[:, tap, None] for tap in range(n_taps)}
    feeds["weight_set"] = np.array(weight_set, np.int64)
    feeds["cutoff"] = np.array(cutoff, np.float32)
    result: Stack = session.run(None, feeds)[0][:, 0]
    return result


def random_stack(shape: tuple[int, int, int]) -> Stack:
    """Counts of two electrons per pixel on a slope, so that the output has a range to compare with."""
    random = np.random.default_rng(shape[1])
    expected = 2 + np.sin(np.arange(shape[1])[:, None] / 5) + np.linspace(0, 3, shape[2])
    return random.poisson(np.broadcast_to(expected, shape)).astype(np.float32)


def largest_differences(path: Path, networks: Sequence[BlindSpotNetwork]) -> Iterator[tuple[str, dict[str, float]]]:
    """Per case the largest difference to PyTorch, as a share of the output's range."""
    model = load(path, device="cpu")
    n_taps = len(model.taps)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for weight_set, network in enumerate(networks):
        for shape in SHAPES:
            stack = random_stack(shape)
            for cutoff in CUTOFFS:
                wanted = run_torch(network, stack, n_taps, cutoff)
                scale = np.ptp(wanted)
                plain = run_onnxruntime(session, stack, n_taps, weight_set, cutoff)
                settings = Settings(weight_set, cutoff, 0.0)
                whole = model.denoise(stack, settings=settings)
                tiled = model.denoise(stack, settings=settings, tile=24)
                results = {"onnxruntime": plain, "core": whole, "core, tiled": tiled}
                case = f"weight set {weight_set}, {shape[1]}x{shape[2]}, cutoff {cutoff:.3f}"
                yield case, {name: float(np.abs(got - wanted).max() / scale) for name, got in results.items()}


def check_parity(path: Path, networks: Sequence[BlindSpotNetwork]) -> dict[str, float]:
    """Largest difference per engine over all cases. Raises LowdoseError above TOLERANCE."""
    worst: dict[str, float] = {}
    for case, differences in largest_differences(path, networks):
        for engine, difference in differences.items():
            if not difference <= TOLERANCE:
                raise LowdoseError(
                    f"{engine} differs from PyTorch by {difference:.2e} of the output's range ({case}); "
                    f"the tolerance is {TOLERANCE:.0e}"
                )
            worst[engine] = max(worst.get(engine, 0.0), difference)
    return worst
