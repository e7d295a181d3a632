"""Training of the blind-feature network on noisy movies or single frames, of one or several channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lowdose.errors import LowdoseError
from lowdose.sample import neighbour
from lowdose.wiener import BlindFilter, fit_bands, fit_movie
from lowdose.wiener.movie import N_BANDS
from lowdose_train import bfn_start
from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.bfn_data import (
    MOST_SCORED_TILES,
    SMALLEST_PX,
    Crops,
    TrainingFrames,
    learned_part,
    prepare_frames,
    window_moments,
)
from lowdose_train.bfn_last_layer import refit_last_layer
from lowdose_train.bfn_own_pixel import choose_own_pixel, noise_line
from lowdose_train.certainty import certain
from lowdose_train.data import Array, check_frames, read_channels
from lowdose_train.settings import Settings
from lowdose_train.task import Task
from lowdose_train.windows import below

STEPS_PER_EPOCH = 50
LEAST_VARIANCE = 0.05
"""Of a pixel's noise, in units of the frames' variance, where it weighs errors."""
N_START_BATCHES = 4
"""Batches on which the first features get their size."""
LEAST_SIZE = 1e-6
TOLD_PIXELS = 250e3
"""Pixels, times the share of their variance that the filter predicts: from so many on a network need not see its crops
turned. Measured: 0.7 dB better without on a movie with twice as many, 1 dB worse on an image with a fifth."""
AXES = "n_frames, n_channels, height, width"


class BfnTask(Task):
    """The network on noisy movies (n_frames, n_channels, height, width); one frame is enough.

    The closed-form filter is fitted to the same frames first; its choice of frames is the network's. It stays as it
    is: what learns are the features and the perceptron. A filter knows a little of the noise that it was fitted to, and
    looks better there than it is; so what is learned from a band of rows is learned with a filter that was fitted to
    the others.
    """

    network: BlindFeatureNetwork
    first_weights_count = True
    most_held_out = MOST_SCORED_TILES
    steps_per_epoch = STEPS_PER_EPOCH

    def __init__(self, settings: Settings, stacks: Mapping[str, Array], device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.names = list(stacks)
        self.data = [{"name": name, "shape": list(np.shape(frames))} for name, frames in stacks.items()]
        self.stacks = self.learned(stacks)
        shortest = min(min(frames.shape[2:]) for frames in self.stacks)
        if shortest < SMALLEST_PX:
            raise LowdoseError(f"frames of {shortest} pixels are too small: bfn learns from {SMALLEST_PX} or more")
        self.crop_px = settings.crop_for(shortest)
        self.filter = self.fit()
        self.network = network_of(self.filter, settings).to(device)
        self.frames: list[TrainingFrames] = []

    def learned(self, stacks: Mapping[str, Array]) -> list[Array]:
        """The frames to learn from, (n_frames, n_channels, height, width) each. Raises LowdoseError for other data."""
        for name, frames in stacks.items():
            check_frames(name, frames, AXES)
        if len({frames.shape[1] for frames in stacks.values()}) > 1:
            raise LowdoseError("the files have different numbers of channels; bfn learns from files of as many")
        return [learned_part(frames) for frames in stacks.values()]

    def fit(self) -> BlindFilter:
        """The closed-form filter of the normalised frames."""
        return fit_filter(self.common_part(), self.settings)

    def common_part(self) -> list[Array]:
        height, width = (min(frames.shape[axis] for frames in self.stacks) for axis in (2, 3))
        return [frames[..., :height, :width] for frames in self.stacks]

    def bands(self) -> list[tuple[slice, BlindFilter]]:
        """Rows, and a filter that was fitted to all others; all rows and the filter itself where they are few."""
        runs = [normalised_run(run) for run in self.common_part()]
        n_bands = min(N_BANDS, runs[0].shape[2] // self.crop_px)
        return fit_bands(runs, self.filter, n_bands, self.settings.blind_px)

    @staticmethod
    def read(path: Path, axes: str | None, channel: int | None, settings: Settings) -> Array:
        frames = read_channels(path, axes, settings.max_stack_mb)
        if channel is None:
            return frames
        if not 0 <= channel < frames.shape[1]:
            raise LowdoseError(
                f"{path} has {frames.shape[1]} channel(s), counted from 0; channel {channel} is not there"
            )
        return frames[:, channel : channel + 1]

    @staticmethod
    def network_for(settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
        n_channels, n_features, side = weights["features.vertical"].shape
        _, n_planes, linear_side, _ = weights["filter.weight"].shape
        return BlindFeatureNetwork(
            n_channels,
            n_planes // n_channels,
            linear_side_px=linear_side,
            side_px=side,
            n_features=n_features,
            n_hidden=weights["perceptron.b1"].shape[1],
            blind_px=settings.blind_px,
            pattern_px=pattern_px(weights["scan.level"]) if "scan.level" in weights else None,
        )

    def draw(self, generator: torch.Generator) -> None:
        bfn_start.draw(self.network, generator)
        set_filter(self.network, self.filter)

    @torch.no_grad()
    def begin_with(self, network: nn.Module) -> None:
        """Features and perceptron are taken over, for as many frames as the filter sees; it is that of these frames."""
        weights = network.state_dict()
        own = self.network.state_dict()
        mix = weights["features.mix"]
        missing = own["features.mix"].shape[-1] - mix.shape[-1]
        at_end = missing // 2
        of_frames = F.pad(mix[..., :-1], (at_end, at_end))  # less than none: cut off
        weights["features.mix"] = torch.cat([of_frames, mix[..., -1:]], -1)
        of_file = {name: value for name, value in own.items() if name.split(".")[0] in ("filter", "scan")}
        self.network.load_state_dict(weights | of_file)

    def prepare(self, generator: torch.Generator) -> None:
        set_filter(self.network, self.filter)  # fine-tuning: weights of a checkpoint, filter of these frames
        self.look()
        batches = [self.batch(generator) for _ in range(N_START_BATCHES)]
        if not self.network.perceptron.w3.any():
            self.scale_features(batches)
        self.set_unit(batches)
        self.refit(self.network)
        self.first_weights = copy.deepcopy(self.network.state_dict())

    def state(self) -> dict[str, Any]:
        return {"first_weights": self.first_weights}

    def restore(self, state: dict[str, Any]) -> None:
        self.first_weights = state["first_weights"]
        self.look()

    def look(self) -> None:
        """Normalise the frames, run the filter over them and choose what is held out, always the same for a seed."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        bands = self.bands()
        for stack in self.stacks:
            frames = np.asarray(stack, np.float32)
            taps = self.taps_of(len(frames))
            moments = self.moments(frames, taps)
            for rows, fitted in bands:
                set_filter(self.network, fitted)
                self.frames.append(
                    prepare_frames(
                        self.network,
                        frames,
                        taps,
                        moments,
                        tile_px=self.crop_px,
                        held_out=self.settings.held_out,
                        most_held_out=self.most_held_out,
                        weights=self.error_weights(frames),
                        generator=generator,
                        rows=rows,
                    )
                )
        set_filter(self.network, self.filter)
        if self.settings.noise == "counting":
            self.noise = [noise_line(self.frames, channel) for channel in range(self.network.n_channels)]

    def taps_of(self, n_frames: int) -> NDArray[np.int_]:
        """The numbers of the frames that the network sees for each, (n_frames, n_taps)."""
        reach = self.network.n_taps // 2
        return np.array([[neighbour(t, dt, n_frames) for dt in range(-reach, reach + 1)] for t in range(n_frames)])

    def moments(self, frames: Array, taps: NDArray[np.int_]) -> tuple[Tensor, Tensor]:
        return window_moments(frames, taps)

    def error_weights(self, frames: Array) -> Tensor:
        """(height, width): what the error of a pixel counts."""
        return torch.ones(frames.shape[2:])

    @torch.no_grad()
    def scale_features(self, batches: list[Crops]) -> None:
        """Give the first features and L, as the perceptron sees them, a mean square of one."""
        network = self.network
        squares = [network.features_of_crops(b.planes, b.linear, b.centre).square().mean(2) for b in batches]
        network.features.mix.div_(torch.stack(squares).mean(0).sqrt().clamp(min=LEAST_SIZE)[..., None])
        network.perceptron.w1[..., 0].div_(size_of_linear(batches)[:, None])

    @torch.no_grad()
    def set_unit(self, batches: list[Crops]) -> None:
        """Let the perceptron correct in units of the size of L; the network stays the same."""
        perceptron = self.network.perceptron
        unit = size_of_linear(batches)
        perceptron.w3.mul_((perceptron.unit / unit)[:, None])
        perceptron.b3.mul_(perceptron.unit / unit)
        perceptron.unit.copy_(unit)

    def batch(self, generator: torch.Generator) -> Crops:
        parts = []
        for _ in range(self.settings.batch_size):
            frames = self.frames[below(len(self.frames), generator)]
            n_frames, _, _, width = frames.frames.shape
            n_rows = frames.rows.stop - frames.rows.start
            t, y, x = (below(n, generator) for n in (n_frames, n_rows - self.crop_px + 1, width - self.crop_px + 1))
            parts.append(frames.crop(t, frames.rows.start + y, x, self.crop_px, self.network.reach_px))
        return Crops.of(parts).turned(self.network, generator, all_ways=self.turns_all_ways())

    @torch.no_grad()
    def refit(self, network: BlindFeatureNetwork) -> None:
        """The last layer in closed form, if that is better on the held-out tiles; none at all if nothing else is."""
        perceptron = network.perceptron
        before = perceptron.w3.clone(), perceptron.b3.clone()
        loss = self.held_out_loss(network)
        refit_last_layer(network, self.frames, self.crop_px, torch.Generator().manual_seed(self.settings.seed))
        if self.held_out_loss(network) < min(loss, 0.0):
            return
        for weight, value in zip((perceptron.w3, perceptron.b3), before, strict=True):
            weight.copy_(value if loss < 0 else torch.zeros_like(value))

    def turns_all_ways(self) -> bool:
        """Whether copies that are turned in all ways teach more than the directions in the specimen tell."""
        errors: list[float] = self.filter.report["prediction_error"]
        told: float = sum(max(0.0, 1 - error) for error in errors) * sum(frames[:, 0].size for frames in self.stacks)
        return told < TOLD_PIXELS

    def loss(self, network: nn.Module, batch: Crops) -> Tensor:
        """Weighted mean square of what the network predicts of the noisy pixels less those.

        For counting noise by the variance at the brightness that the filter, which is blind too, estimates: to first
        order the gradient of the likelihood, without its poles at pixels that are estimated dark.
        """
        assert isinstance(network, BlindFeatureNetwork)
        if self.settings.noise == "counting":
            variances = [line.at(estimate) for line, estimate in zip(self.noise, batch.result(None), strict=True)]
            batch = batch.weighted_by(torch.stack(variances).clamp(min=LEAST_VARIANCE))
        squares, weights = batch.squares(network)
        return squares.sum() / weights.sum().clamp(min=1e-12)

    def held_out_loss(self, network: nn.Module) -> float:
        """Less than the filter's by the share that is negative: 0 is the filter."""
        assert isinstance(network, BlindFeatureNetwork)
        return self.held_out_of(network) / self.held_out_of(None) - 1

    def held_out_of(self, network: BlindFeatureNetwork | None) -> float:
        """Weighted mean square over the held-out tiles, of the network or (None) of the filter."""
        squares, weights = self.held_out_squares(network)
        return float(squares.sum() / weights.sum())

    def held_out_squares(self, network: BlindFeatureNetwork | None) -> tuple[Tensor, Tensor]:
        """As `Crops.squares`, of the held-out tiles."""
        found = []
        for frames in self.held_out_frames():
            scored = frames.held_out[:MOST_SCORED_TILES]
            for first in range(0, len(scored), self.settings.batch_size):
                tiles = scored[first : first + self.settings.batch_size]
                parts = [frames.crop(*tile, self.crop_px, self.network.reach_px, held_out=True) for tile in tiles]
                found.append(Crops.of(parts).squares(network))
        squares, weights = (torch.cat(values).double() for values in zip(*found, strict=True))
        return squares, weights

    def held_out_frames(self) -> list[TrainingFrames]:
        return self.frames

    def finish(self, network: nn.Module) -> dict[str, Any]:
        """The last layer in closed form; the first weights instead, where the trained ones are not clearly better; the
        own-pixel step, for one file whose channels have each one noise."""
        assert isinstance(network, BlindFeatureNetwork)
        network.to(self.device)
        self.refit(network)
        first = copy.deepcopy(network)
        first.load_state_dict(self.first_weights)
        found: dict[str, Any] = {}
        better = self.held_out_squares(first)[0] - self.held_out_squares(network)[0]
        if certain(better) <= 0:
            network.load_state_dict(self.first_weights)
            found = {"epoch": 0, "step": 0}
        found["held_out"] = self.held_out_loss(network)
        if len(self.stacks) == 1:
            found["own_pixel"] = self.choose_own_pixel(network)
        network.cpu()
        return found

    def choose_own_pixel(self, network: BlindFeatureNetwork) -> list[dict[str, Any]]:
        """Set the network's own-pixel step; what was found for each channel."""
        return choose_own_pixel(network, self.frames, self.crop_px)

    def scores(self, network: nn.Module) -> list[dict[str, Any]]:
        """How much of the filter's mean squared error, noise included, is gone on the held-out tiles."""
        network = network.to(self.device)
        gain = -self.held_out_loss(network)
        network.cpu()
        return [{"name": ", ".join(self.names), "gain_over_filter": gain}]


def size_of_linear(batches: list[Crops]) -> Tensor:
    """Root mean square of L, (n_channels,)."""
    squares = torch.stack([batch.linear.square().mean((1, 2, 3)) for batch in batches])
    return squares.mean(0).sqrt().clamp(min=LEAST_SIZE)


def fit_filter(runs: Sequence[Array], settings: Settings) -> BlindFilter:
    """The closed-form filter of runs of frames (n_frames, n_channels, height, width), each normalised."""
    normalised = [normalised_run(run) for run in runs]
    level = np.zeros(runs[0].shape[1], np.float32)
    fitted = fit_movie(
        normalised, level, window_frames=settings.taps, largest_px=settings.linear_px, hidden_px=settings.blind_px
    )
    return fitted if settings.linear_px is None else padded(fitted, len(fitted.taps), settings.linear_px)


def padded(fitted: BlindFilter, n_taps: int, side_px: int) -> BlindFilter:
    """The same filter in a larger window; its weights are those inside a sequence."""
    inside = fitted.weights[len(fitted.weights) // 2][None]
    taps, border = (n_taps - len(fitted.taps)) // 2, side_px // 2 - fitted.radius_px
    weights = np.pad(inside, [(0, 0), (0, 0), (taps, taps), (0, 0), (border, border), (border, border)])
    return replace(fitted, weights=weights, taps=[(0, dt - n_taps // 2) for dt in range(n_taps)])


def normalised_run(run: Array) -> NDArray[np.float32]:
    frames, axes = np.asarray(run, np.float32), (0, 2, 3)
    level, std = frames.mean(axes, keepdims=True), frames.std(axes, keepdims=True)
    normalised: NDArray[np.float32] = (frames - level) / np.where(std > 0, std, 1)
    return normalised


def network_of(fitted: BlindFilter, settings: Settings) -> BlindFeatureNetwork:
    return BlindFeatureNetwork(
        fitted.n_channels,
        len(fitted.taps),
        linear_side_px=2 * fitted.radius_px + 1,
        side_px=settings.side_px,
        n_features=settings.n_features,
        n_hidden=settings.n_hidden,
        blind_px=settings.blind_px,
        pattern_px=pattern_px(fitted.level) if fitted.level.shape[1:] != (1, 1) else None,
    )


def pattern_px(level: Tensor | NDArray[np.float32]) -> tuple[int, int]:
    """Height and width of the patterns of a scan, from their level (1, height, width)."""
    _, height, width = level.shape
    return height, width


@torch.no_grad()
def set_filter(network: BlindFeatureNetwork, fitted: BlindFilter) -> None:
    """Put the weights of a fitted filter, those inside a sequence, into the network."""
    weights = torch.from_numpy(fitted.weights[len(fitted.weights) // 2])  # (out, taps, in, side, side)
    network.filter.weight.copy_(weights.flatten(1, 2))
    if network.scan is not None:
        scan = network.scan
        device = scan.level.device
        # Not copied into what is there: the level and scale of a bundled file are of one pixel.
        scan.level, scan.scale = (torch.from_numpy(plane).to(device) for plane in (fitted.level, fitted.scale))
        scan.taps = torch.tensor(fitted.taps, device=device)
