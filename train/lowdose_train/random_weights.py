"""Random weights that a seed gives on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_normal(weights: Tensor, mean: float, std: float, generator: torch.Generator | None) -> Tensor:
    """Fill `weights`, of any shape and on any device, with normal numbers drawn on the CPU; returns them."""
    return weights.copy_(torch.empty(weights.shape, dtype=weights.dtype).normal_(mean, std, generator=generator))
