"""The bundled blind-feature networks as a method: linear filter and last layer are fitted to the frames, the rest is as
trained."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from lowdose.errors import LowdoseError
from lowdose.methods.bfn_scan import SMALLEST, fit_last_layer_of_scan, fit_own_pixel
from lowdose.methods.blind_features import seen_by_last_layer
from lowdose.methods.last_layer import LastLayer, Moments, fit_last_layer
from lowdose.methods.method import FrameStream, Options
from lowdose.methods.network import Network, PreparedNetwork
from lowdose.methods.wiener import sample_runs, sample_scan
from lowdose.model import Model, bundled_models, load
from lowdose.model_weights import Weights, read_weights, with_weights
from lowdose.sample import neighbour
from lowdose.source import FrameSource
from lowdose.wiener import BlindFilter, fit_bands, fit_movie, fit_scan

NAMES = ("bfn", "bfn-4d", "bfn-dual", "bfn-image")
SHORTEST_MOVIE = 7
"""Frames: the networks for movies see six on both sides."""
MOST_PIXELS = 1.2e6
"""That the last layer is fitted to."""
PARTS_OF_BAND = 4
"""For cross-validation."""

Frames = NDArray[np.float32]


class Bfn:
    """A bundled blind-feature network, one of NAMES; "bfn" takes another where the frames ask for it."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.asked = name, device
        model = load(name, device=device)
        self.device, self.runtime = model.device, model.runtime

    def prepare(self, frames: FrameSource, options: Options) -> PreparedBfn:
        name = self.name_for(frames)
        content = bundled_models()[name].read_bytes()
        weights = read_weights(content)
        n_channels, n_planes = weights["filter.weight"].shape[:2]
        if n_channels != frames.n_channels:
            plural = "channel" if frames.n_channels == 1 else "channels"
            raise LowdoseError(
                f"the data have {frames.n_channels} {plural}, {name} takes {n_channels}: choose one with --channel"
            )
        if frames.scan is not None:
            return self.prepare_scan(frames, frames.scan, content, options)
        shortest = n_planes // n_channels // 2 + 1
        if len(frames) < shortest:
            raise LowdoseError(
                f"{name} needs {shortest} frames and was given {len(frames)}: lowdose calibrate --method bfn makes a "
                "network for so few"
            )
        runs = sample_runs(frames)
        fitted = fit_movie(runs, max_frames=n_planes // n_channels)
        with threadpool_limits(options.threads):
            last_layers = fit_last_layers(weights, runs, fitted)
        replaced = filter_weights(weights, fitted, deviations(runs)) | with_last_layers(last_layers)
        model = opened(with_weights(content, replaced), name, self.asked)
        return PreparedBfn(Network(model).prepare(frames, options), name, fitted, last_layers)

    def prepare_scan(self, frames: FrameSource, scan: tuple[int, int], content: bytes, options: Options) -> PreparedBfn:
        if min(scan) < SMALLEST:
            raise LowdoseError(
                f"a scan of {scan[0]}x{scan[1]} positions is too small for bfn-4d: it needs {SMALLEST}x{SMALLEST}"
            )
        block, mean = sample_scan(frames, scan)
        fitted = fit_scan(block, mean)
        linear, weights = fitted.weights[0], read_weights(content)
        replaced: Weights = {"filter.weight": linear[:, :, 0], "own": own_share(weights, linear)}
        with threadpool_limits(options.threads):
            last_layer = fit_last_layer_of_scan(weights | replaced, last_layers_of(weights)[0], fitted, block)
        replaced |= with_last_layers([last_layer])
        replaced |= {"scan.level": fitted.level, "scan.scale": fitted.scale}
        content = with_weights(content, replaced)
        own, found = fit_own_pixel(fitted, block, opened(content, "bfn-4d", "cpu"))
        model = opened(with_weights(content, own), "bfn-4d", self.asked)
        return PreparedBfn(Network(model).prepare(frames, options), "bfn-4d", fitted, [last_layer], found)

    def name_for(self, frames: FrameSource) -> str:
        if (frames.scan is not None) != (self.name == "bfn-4d") and self.name != "bfn":
            raise LowdoseError(f"{self.name} is not for {'movies' if frames.scan is None else 'scans'}: take bfn")
        if self.name != "bfn":
            return self.name
        return "bfn-4d" if frames.scan is not None else bundled_name(frames) or self.name


def bundled_name(frames: FrameSource) -> str | None:
    """The bundled network for such frames; None where there is none."""
    if frames.scan is not None:
        return "bfn-4d" if min(frames.scan) >= SMALLEST else None
    if frames.n_channels > 2:
        return None
    if frames.n_channels == 2:
        return "bfn-dual"
    return "bfn" if len(frames) >= SHORTEST_MOVIE else "bfn-image"


@dataclass(frozen=True)
class PreparedBfn:
    """A bundled network with filter and, per channel, last layer fitted to the frames; over a scan the own-pixel step
    too."""

    network: PreparedNetwork
    name: str
    fitted: BlindFilter
    last_layers: list[LastLayer]
    own_pixel: dict[str, Any] | None = None

    @property
    def report(self) -> dict[str, Any]:
        gains = [layer.gain for layer in self.last_layers]
        penalties = [layer.penalty for layer in self.last_layers]
        found = {"bundled": self.name, "gain_over_filter": gains, "penalty": penalties}
        if self.own_pixel:
            found["own_pixel"] = [self.own_pixel]
        return {**self.network.report, **found, **self.fitted.report}

    @property
    def summary(self) -> str:
        n, diameter, _ = self.fitted.report["window"]
        gain = " and ".join(f"{100 * layer.gain:.2f}" for layer in self.last_layers)
        unit = "patterns" if self.own_pixel else "frames"
        text = (
            f"{self.name}, its filter of {n} {unit} and {diameter} px and its last layer fitted to the {unit}; "
            f"{gain} % below the filter's error, noise included"
        )
        if not self.own_pixel or not self.own_pixel["used"]:
            return text
        return f"{text}; own pixels count up to {100 * max(self.own_pixel['share_by_brightness']):.0f} %"

    @property
    def alone(self) -> bool:
        return self.network.alone

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        return self.network.stream(frames, out_dtype)


def fit_last_layers(weights: Weights, runs: Sequence[Frames], fitted: BlindFilter) -> list[LastLayer]:
    """The last layer of each channel, fitted to bands of the frames with filters that do not know these.

    runs: as `fit_movie` takes them, fitted: what it gave. A filter knows a little of the noise that it was fitted to;
    on such rows the layer would learn to follow it.
    """
    height, width = runs[0].shape[2:]
    stds = deviations(runs)
    bands = [(rows, weights | filter_weights(weights, each, stds)) for rows, each in fit_bands(runs, fitted)]
    places = [(run, t) for run in runs for t in range(len(run))]
    n = min(max(len(bands), int(MOST_PIXELS * len(bands) / (height * width))), len(bands) * len(places))
    parts: list[list[Moments]] = [[] for _ in stds]
    for i in range(n):
        run, t = places[i * len(places) // n]
        rows, of_rows = bands[i % len(bands)]
        for channel, moments in enumerate(moments_of_band(of_rows, run, t, rows)):
            parts[channel] += moments
    trained = last_layers_of(weights)
    return [fit_last_layer(moments, layer) for moments, layer in zip(parts, trained, strict=True)]


def moments_of_band(weights: Weights, run: Frames, t: int, rows: slice) -> list[list[Moments]]:
    """Per channel the moments of PARTS_OF_BAND parts of rows of frame t of a run."""
    n_channels, n_planes = weights["filter.weight"].shape[:2]
    reach = n_planes // n_channels // 2
    window = run[[neighbour(t, dt, len(run)) for dt in range(-reach, reach + 1)]]
    offset = window.mean(axis=(0, 2, 3), dtype=np.float64)
    std = window.std(axis=(0, 2, 3), dtype=np.float64)
    scale = np.where(std > 0, std, 1)
    planes = ((window - offset[:, None, None]) / scale[:, None, None]).astype(np.float32)
    seen, filtered = seen_by_last_layer(weights, planes.reshape(-1, *planes.shape[2:]), rows)
    left = planes[reach, :, rows].reshape(n_channels, -1) - filtered
    width = run.shape[-1]
    order = np.arange(left.shape[1]).reshape(-1, width)
    parts = [part.ravel() for part in np.array_split(order, PARTS_OF_BAND, axis=1) if part.size]
    with_one = np.concatenate([seen, np.ones_like(seen[:, :1])], axis=1)
    return [[Moments.of(with_one[c][:, part], left[c][part]) for part in parts] for c in range(n_channels)]


def deviations(runs: Sequence[Frames]) -> NDArray[np.float64]:
    stds: NDArray[np.float64] = np.sqrt(np.mean([run.var(axis=(0, 2, 3), dtype=np.float64) for run in runs], axis=0))
    return stds


def last_layers_of(weights: Weights) -> NDArray[np.float64]:
    """(n_channels, n): the weights of the last layer and its bias."""
    w3, b3 = weights["perceptron.w3"], weights["perceptron.b3"]
    return np.concatenate([w3, b3[:, None]], axis=1).astype(np.float64)


def with_last_layers(layers: Sequence[LastLayer]) -> Weights:
    weights = np.stack([layer.weights for layer in layers]).astype(np.float32)
    return {"perceptron.w3": weights[:, :-1], "perceptron.b3": weights[:, -1]}


def filter_weights(weights: Weights, fitted: BlindFilter, stds: NDArray[np.float64]) -> Weights:
    """What a filter changes in the file, fitted to frames of these standard deviations per channel."""
    linear = fitted.weights[len(fitted.weights) // 2]  # (out, taps, in, side, side)
    linear = linear * (stds / stds[:, None])[:, None, :, None, None].astype(np.float32)
    n_channels, n_planes, side, _ = weights["filter.weight"].shape
    taps, border = (n_planes // n_channels - linear.shape[1]) // 2, (side - linear.shape[-1]) // 2
    linear = np.pad(linear, [(0, 0), (taps, taps), (0, 0), (border, border), (border, border)])
    return {"filter.weight": linear.reshape(weights["filter.weight"].shape), "own": own_share(weights, linear)}


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
