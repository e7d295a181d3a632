"""The bundled blind-feature networks as a method: the linear filter is fitted to the frames, the rest is as trained."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose.errors import LowdoseError
from lowdose.methods.method import FrameStream, Options
from lowdose.methods.network import Network, PreparedNetwork
from lowdose.methods.wiener import sample_runs
from lowdose.model import Model, bundled_models, load
from lowdose.model_weights import Weights, read_weights, with_weights
from lowdose.source import FrameSource
from lowdose.wiener import BlindFilter, fit_movie

NAMES = ("bfn", "bfn-dual", "bfn-image")


class Bfn:
    """A bundled blind-feature network, one of NAMES; "bfn" takes bfn-dual or bfn-image where the frames ask for it."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.asked = name, device
        model = load(name, device=device)
        self.device, self.runtime = model.device, model.runtime

    def prepare(self, frames: FrameSource, options: Options) -> PreparedBfn:
        name = self.name_for(frames)
        path = bundled_models()[name]
        content = path.read_bytes()
        weights = read_weights(content)
        n_channels, n_planes, side, _ = weights["filter.weight"].shape
        if n_channels != frames.n_channels:
            plural = "channel" if frames.n_channels == 1 else "channels"
            raise LowdoseError(
                f"the data have {frames.n_channels} {plural}, {name} takes {n_channels}: choose one with --channel"
            )
        runs = sample_runs(frames)
        fitted = fit_movie(runs, window_frames=n_planes // n_channels, largest_px=side)
        stds = np.sqrt(np.mean([run.var(axis=(0, 2, 3), dtype=np.float64) for run in runs], axis=0))
        model = refitted(content, weights, fitted, stds, name, self.asked)
        return PreparedBfn(Network(model).prepare(frames, options), name, fitted)

    def name_for(self, frames: FrameSource) -> str:
        if frames.scan is not None:
            raise LowdoseError(f"{self.name} has no network for scans: lowdose calibrate --method bfn trains one")
        if self.name != "bfn":
            return self.name
        if frames.n_channels == 2:
            return "bfn-dual"
        reach = max(abs(tap) for tap in load("bfn", device="cpu").taps)
        return "bfn" if len(frames) > reach else "bfn-image"


@dataclass(frozen=True)
class PreparedBfn:
    """A bundled network with a filter fitted to the frames."""

    network: PreparedNetwork
    name: str
    fitted: BlindFilter

    @property
    def report(self) -> dict[str, Any]:
        return {**self.network.report, "bundled": self.name, **self.fitted.report}

    @property
    def summary(self) -> str:
        n, diameter, _ = self.fitted.report["window"]
        return f"{self.name}, its filter of {n} frames and {diameter} px fitted to the frames"

    @property
    def alone(self) -> bool:
        return self.network.alone

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        return self.network.stream(frames, out_dtype)


def refitted(
    content: bytes, weights: Weights, fitted: BlindFilter, stds: NDArray[np.float64], name: str, device: str
) -> Model:
    """The model with a filter fitted to frames of these standard deviations per channel, in place of its own."""
    linear = fitted.weights[len(fitted.weights) // 2]  # (out, taps, in, side, side)
    linear = linear * (stds / stds[:, None])[:, None, :, None, None].astype(np.float32)
    border = (weights["filter.weight"].shape[-1] - linear.shape[-1]) // 2
    linear = np.pad(linear, [(0, 0)] * 3 + [(border, border)] * 2)
    replaced = {
        "filter.weight": linear.reshape(weights["filter.weight"].shape),
        "own": own_share(weights, linear),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(with_weights(content, replaced))
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
