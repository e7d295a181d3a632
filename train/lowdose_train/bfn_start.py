"""The first features of the blind-feature network: derivatives of Gaussians and waves of several scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lowdose_train.bfn import BlindFeatureNetwork
from lowdose_train.windows import below

SIGMAS_PX = (0.6, 1.0, 1.6, 2.6, 4.0)
FREQUENCIES = (0.12, 0.2, 0.3)
"""Of the waves, in cycles/pixel."""
SPANS_FRAMES = (0.01, 0.7, 1.5, 3.0)
"""Standard deviations along time, the own frame alone to many frames."""
SHARE_OF_OWN_CHANNEL = 0.65
SPREAD_OF_BIASES = 0.3


def kernels(length: int) -> Tensor:
    """(n_kernels, length), of unit norm: Gaussians, their first and second derivatives, waves under Gaussians."""
    x = torch.arange(length, dtype=torch.float32) - length // 2
    found = []
    for sigma in SIGMAS_PX:
        bell = torch.exp(-(x**2) / (2 * sigma**2))
        found += [bell, x * bell, (x**2 / sigma**2 - 1) * bell]
        for frequency in FREQUENCIES:
            if frequency * sigma > 0.25 and sigma <= length / 4:
                angle = 2 * math.pi * frequency * x
                found += [bell * angle.cos(), bell * angle.sin()]
    return torch.stack([kernel / kernel.norm() for kernel in found if kernel.norm() > 0])


def along_time(n_taps: int, kind: int, generator: torch.Generator) -> Tensor:
    """Weights of the taps: a bell around the own frame, or with `kind` 2 a change along time."""
    steps = torch.arange(n_taps, dtype=torch.float32) - n_taps // 2
    span = SPANS_FRAMES[below(len(SPANS_FRAMES), generator)] if kind < 2 else 1.5
    bell = torch.exp(-(steps**2) / (2 * span**2))
    return bell if kind < 2 or n_taps == 1 else bell * (steps + below(3, generator) / 2 - 0.5)


@torch.no_grad()
def draw(network: BlindFeatureNetwork, generator: torch.Generator) -> None:
    """First weights: every fourth feature looks at L, the others at the frames; the last layer is zero.

    So the network begins as the linear filter. The features' sizes and the filter are set later, from the data.
    """
    features, perceptron = network.features, network.perceptron
    n_channels, n_features, length = features.vertical.shape
    bank = kernels(length)
    for kernel in (features.vertical, features.horizontal):
        chosen = torch.randint(len(bank), (n_channels, n_features), generator=generator)
        kernel.copy_(bank[chosen])
    features.mix.zero_()
    for channel in range(n_channels):
        for feature in range(n_features):
            kind = feature % 4
            if kind == 3:
                features.mix[channel, feature, -1] = 1
                continue
            own = n_channels == 1 or float(torch.rand((), generator=generator)) < SHARE_OF_OWN_CHANNEL
            seen = channel if own else (channel + 1 + below(n_channels - 1, generator)) % n_channels
            features.mix[channel, feature, seen:-1:n_channels] = along_time(network.n_taps, kind, generator)
    for weight in (perceptron.w1, perceptron.w2):
        weight.copy_(torch.randn(weight.shape, generator=generator) * math.sqrt(2 / weight.shape[-1]))
    perceptron.b1.copy_(SPREAD_OF_BIASES * torch.randn(perceptron.b1.shape, generator=generator))
    for weight in (perceptron.b2, perceptron.w3, perceptron.b3):
        weight.zero_()
