"""The bundled blind-feature networks as a method: the linear filter is fitted to the frames, the rest is as trained."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose.errors import LowdoseError
from lowdose.methods.bfn_scan import SMALLEST, fit_to_scan
from lowdose.methods.method import FrameStream, Options
from lowdose.methods.network import Network, PreparedNetwork
from lowdose.methods.wiener import sample_runs, sample_scan
from lowdose.model import Model, bundled_models, load
from lowdose.model_weights import Weights, read_weights, with_weights
from lowdose.sample import middle
from lowdose.source import FrameSource
from lowdose.wiener import BlindFilter, fit_movie, fit_scan

NAMES = ("bfn", "bfn-4d", "bfn-dual", "bfn-image")
SAMPLE_FRAMES = 24
SAMPLE_PX = 256
MOST_STRENGTH = 1.25


class Bfn:
    """A bundled blind-feature network, one of NAMES; "bfn" takes another where the frames ask for it."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.asked = name, device
        model = load(name, device=device)
        self.device, self.runtime = model.device, model.runtime

    def prepare(self, frames: FrameSource, options: Options) -> PreparedBfn:
        name = self.name_for(frames)
        path = bundled_models()[name]
        content = path.read_bytes()
        weights = read_weights(content)
        if frames.scan is not None:
            return self.prepare_scan(frames, frames.scan, content, weights, options)
        n_channels, n_planes, side, _ = weights["filter.weight"].shape
        if n_channels != frames.n_channels:
            plural = "channel" if frames.n_channels == 1 else "channels"
            raise LowdoseError(
                f"the data have {frames.n_channels} {plural}, {name} takes {n_channels}: choose one with --channel"
            )
        runs = sample_runs(frames)
        fitted = fit_movie(runs, window_frames=n_planes // n_channels, largest_px=side)
        stds = np.sqrt(np.mean([run.var(axis=(0, 2, 3), dtype=np.float64) for run in runs], axis=0))
        replaced = filter_weights(weights, fitted, stds)
        strength = best_strength(content, replaced, sample_frames(frames))
        replaced |= with_strength(weights, strength)
        model = opened(with_weights(content, replaced), name, self.asked)
        return PreparedBfn(Network(model).prepare(frames, options), name, fitted, strength)

    def prepare_scan(
        self, frames: FrameSource, scan: tuple[int, int], content: bytes, weights: Weights, options: Options
    ) -> PreparedBfn:
        if min(scan) < SMALLEST:
            raise LowdoseError(
                f"a scan of {scan[0]}x{scan[1]} positions is too small for bfn-4d: it needs {SMALLEST}x{SMALLEST}"
            )
        block, mean = sample_scan(frames, scan)
        fitted = fit_scan(block, mean)
        linear = fitted.weights[0]
        replaced = {"filter.weight": linear[:, :, 0], "own": own_share(weights, linear)}
        replaced |= {"scan.level": fitted.level, "scan.scale": fitted.scale}
        content = with_weights(content, replaced)

        def with_this(strength: float) -> bytes:
            return with_weights(content, with_strength(weights, [strength]))

        found = fit_to_scan(fitted, block, lambda strength: opened(with_this(strength), "bfn-4d", "cpu"))
        model = opened(with_weights(with_this(found.strength), found.own_planes), "bfn-4d", self.asked)
        network = Network(model).prepare(frames, options)
        return PreparedBfn(network, "bfn-4d", fitted, [found.strength], found.own_pixel)

    def name_for(self, frames: FrameSource) -> str:
        if (frames.scan is not None) != (self.name == "bfn-4d") and self.name != "bfn":
            raise LowdoseError(f"{self.name} is not for {'movies' if frames.scan is None else 'scans'}: take bfn")
        if frames.scan is not None:
            return "bfn-4d"
        if self.name != "bfn":
            return self.name
        if frames.n_channels == 2:
            return "bfn-dual"
        reach = max(abs(tap) for tap in load("bfn", device="cpu").taps)
        return "bfn" if len(frames) > reach else "bfn-image"


@dataclass(frozen=True)
class PreparedBfn:
    """A bundled network with a filter fitted to the frames. strength: see `best_strength`."""

    network: PreparedNetwork
    name: str
    fitted: BlindFilter
    strength: list[float]
    own_pixel: dict[str, Any] | None = None

    @property
    def report(self) -> dict[str, Any]:
        own = {"own_pixel": [self.own_pixel]} if self.own_pixel else {}
        return {**self.network.report, "bundled": self.name, "strength": self.strength, **own, **self.fitted.report}

    @property
    def summary(self) -> str:
        n, diameter, _ = self.fitted.report["window"]
        strength = " and ".join(f"{value:.2f}" for value in self.strength)
        unit = "patterns" if self.own_pixel else "frames"
        text = f"{self.name} at strength {strength}, its filter of {n} {unit} and {diameter} px fitted to the {unit}"
        if not self.own_pixel or not self.own_pixel["used"]:
            return text
        return f"{text}; own pixels count up to {100 * max(self.own_pixel['share_by_brightness']):.0f} %"

    @property
    def alone(self) -> bool:
        return self.network.alone

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        return self.network.stream(frames, out_dtype)


def filter_weights(weights: Weights, fitted: BlindFilter, stds: NDArray[np.float64]) -> Weights:
    """What a filter changes in the file, fitted to frames of these standard deviations per channel."""
    linear = fitted.weights[len(fitted.weights) // 2]  # (out, taps, in, side, side)
    linear = linear * (stds / stds[:, None])[:, None, :, None, None].astype(np.float32)
    border = (weights["filter.weight"].shape[-1] - linear.shape[-1]) // 2
    linear = np.pad(linear, [(0, 0)] * 3 + [(border, border)] * 2)
    return {"filter.weight": linear.reshape(weights["filter.weight"].shape), "own": own_share(weights, linear)}


def with_strength(weights: Weights, strength: Sequence[float]) -> Weights:
    """The perceptron's last layer times a factor per channel."""
    factor = np.array(strength, np.float32)
    return {
        "perceptron.w3": weights["perceptron.w3"] * factor[:, None],
        "perceptron.b3": weights["perceptron.b3"] * factor,
    }


def best_strength(content: bytes, replaced: Weights, frames: NDArray[np.float32]) -> list[float]:
    """How far to go, per channel, from the filter's result to the network's: what predicts the noisy pixels best.

    0 is the filter alone: where the frames are unlike what the network was trained on, it does no harm. frames:
    (n_frames, n_channels, height, width).
    """
    nothing = with_strength(read_weights(content), [0.0] * frames.shape[1])
    stack = frames if frames.shape[1] > 1 else frames[:, 0]
    filtered, corrected = (
        opened(with_weights(content, replaced | more), "bfn", "cpu").denoise(stack).reshape(frames.shape)
        for more in (nothing, {})
    )
    change = (corrected - filtered).astype(np.float64)
    left = frames - filtered
    axes = (0, 2, 3)
    most = np.maximum(np.square(change).sum(axes), 1e-30)
    return [float(value) for value in np.clip((change * left).sum(axes) / most, 0, MOST_STRENGTH)]


def sample_frames(frames: FrameSource) -> NDArray[np.float32]:
    """The middle of the frames in the middle of a sequence, (n_frames, n_channels, height, width)."""
    n_frames = min(len(frames), SAMPLE_FRAMES)
    first = (len(frames) - n_frames) // 2
    taken = np.stack([np.asarray(middle(frames[first + i], SAMPLE_PX), np.float32) for i in range(n_frames)])
    return taken.reshape(n_frames, frames.n_channels, *taken.shape[-2:])


def opened(content: bytes, name: str, device: str) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(content)
        return load(path, device=device)


def own_share(weights: Weights, linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the features hold of the own pixel, (n_channels, n_features, 1, 1), with a filter (out, taps, in, ...).

    Directly, and through what the filter's result at the neighbours has seen of it.
    """
    mix, vertical, horizontal = (
        weights[f"features.{name}"].astype(np.float64) for name in ("mix", "vertical", "horizontal")
    )
    n_channels, n_taps = linear.shape[:2]
    r, reach = vertical.shape[-1] // 2, linear.shape[-1] // 2
    shares = np.zeros((*mix.shape[:2], 1, 1), np.float32)
    for c in range(n_channels):
        seen = np.zeros((2 * r + 1, 2 * r + 1))
        inner = min(r, reach)
        part, centre = slice(r - inner, r + inner + 1), slice(reach - inner, reach + inner + 1)
        seen[part, part] = linear[c, n_taps // 2, c, centre, centre][::-1, ::-1]
        direct = mix[c, :, n_taps // 2 * n_channels + c] * vertical[c, :, r] * horizontal[c, :, r]
        shares[c, :, 0, 0] = direct + mix[c, :, -1] * np.einsum("fy,yx,fx->f", vertical[c], seen, horizontal[c])
    return shares
