"""The training loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def blind_mse(denoised: Tensor, frames: Tensor, margin_px: int = 0) -> Tensor:
    """Mean squared difference between the denoised and the noisy centre frame (Lee et al., Noise2Self).

    A blind network cannot see the noise of the pixel it is compared with, so on frames that were
    no training targets this is its true mean squared error plus the noise variance, without bias.
    Never taken after a low-pass: a low-pass mixes neighbouring outputs, which have seen the pixel.

    `denoised` is (batch, 1, height, width), `frames` (batch, n_taps, height, width). `margin_px` pixels
    along each side are left out, where a crop was padded with its own far side.
    """
    centre = frames.shape[1] // 2
    target = frames[:, centre : centre + 1]
    inside = slice(margin_px, -margin_px or None)
    return F.mse_loss(denoised[..., inside, inside], target[..., inside, inside])
