"""The weight-centric blind-spot denoisers WCVD (three frames in) and WCID (one frame in).

Lee, Li, Yang, Zakharov, Qu, "Machine Learning Pipeline for Denoising Low Signal-To-Noise Ratio and
Out-of-Distribution Transmission Electron Microscopy Datasets". This file holds only the network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose_train.random_weights import draw_normal

LEAKY_SLOPE = 0.1
METHOD_TAPS = {"wcvd": 3, "wcid": 1}
"""Frames that each method sees: WCVD the frame before, the frame itself and the frame after."""


class Branch(nn.Module):
    """Weights of one branch: a blind convolution, then a bias-free perceptron at each pixel.

    `kernel` is (n_features, n_taps, K, K): a 3-D kernel that spans exactly the taps is a 2-D
    convolution whose input channels are the taps. `mixing` is (n_mixing, n_features, n_features),
    indexed [layer, out, in]; `head` is (n_features,).
    """

    blind_mask: Tensor

    def __init__(self, n_taps: int, kernel_size: int, n_features: int, n_mixing: int) -> None:
        super().__init__()
        mask = torch.ones(1, n_taps, kernel_size, kernel_size)
        mask[0, n_taps // 2, kernel_size // 2, kernel_size // 2] = 0.0
        self.register_buffer("blind_mask", mask, persistent=False)
        self.kernel = nn.Parameter(torch.empty(n_features, n_taps, kernel_size, kernel_size))
        self.mixing = nn.Parameter(torch.empty(n_mixing, n_features, n_features))
        self.head = nn.Parameter(torch.empty(n_features))
        self.redraw()

    @torch.no_grad()
    def redraw(self, generator: torch.Generator | None = None) -> None:
        """New random weights around a local mean.

        Every feature starts as the mean of the neighbourhood plus noise and every mixing layer as
        the identity plus noise, so the branch passes positive data on and the first step already
        denoises. With the usual zero-mean weights about one network in four has a dead branch.
        """
        n_features, n_taps, size, _ = self.kernel.shape
        n_seen = n_taps * size * size - 1
        draw_normal(self.kernel, 1.0, n_seen**0.5, generator).div_(n_seen).mul_(self.blind_mask)
        draw_normal(self.mixing, 0.0, 0.3 / n_features**0.5, generator).add_(
            torch.eye(n_features, device=self.mixing.device)
        )
        draw_normal(self.head, 1.0, 0.3, generator).div_(n_features)

    def blind_kernel(self, size: int) -> Tensor:
        """The kernel with its centre tap at zero whatever is stored, zero-padded to size x size."""
        border = (size - self.kernel.shape[-1]) // 2
        return F.pad(self.kernel * self.blind_mask, (border, border, border, border))


class BlindSpotNetwork(nn.Module):
    """Estimate each pixel of the centre frame from its neighbours in space and time, itself left out.

    A branch per kernel size: blind convolution, `n_mixing` 1x1 convolutions each with LeakyReLU, a 1x1
    convolution to one channel, ReLU; then a sum weighted by the softmax of `branch_logits`.
    Bias-free, so f(a x) = a f(x) for a > 0 and no normalisation is needed. Space is padded
    periodically. 867 parameters with three taps, 369 with one (the zero centre taps counted).
    """

    def __init__(
        self,
        n_taps: int = 3,
        kernel_sizes: tuple[int, ...] = (3, 5, 7),
        n_features: int = 3,
        n_mixing: int = 4,
    ) -> None:
        super().__init__()
        self.n_mixing = n_mixing
        self.reach_px = max(kernel_sizes) // 2
        self.branches = nn.ModuleList(Branch(n_taps, size, n_features, n_mixing) for size in kernel_sizes)
        self.branch_logits = nn.Parameter(torch.zeros(len(kernel_sizes)))

    def each_branch(self) -> list[Branch]:
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def branch_outputs(self, frames: Tensor) -> Tensor:
        """Frames (batch, n_taps, height, width) -> (n_branches, batch, height, width), nowhere below zero.

        All branches go through together, as one convolution and as block-diagonal matrix products (which
        the 1x1 convolutions are): with so few channels that is several times quicker in PyTorch.
        """
        batch, _, height, width = frames.shape
        reach = self.reach_px
        branches = self.each_branch()
        kernels = torch.cat([branch.blind_kernel(2 * reach + 1) for branch in branches])
        x = F.conv2d(F.pad(frames, (reach, reach, reach, reach), mode="circular"), kernels)
        x = x.transpose(0, 1).flatten(1)  # (n_branches * n_features, batch * height * width)
        for layer in range(self.n_mixing):
            x = block_diagonal([branch.mixing[layer] for branch in branches]) @ x
            x = F.leaky_relu(x, LEAKY_SLOPE)
        x = F.relu(block_diagonal([branch.head for branch in branches]) @ x)
        return x.reshape(len(branches), batch, height, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (batch, n_taps, height, width) -> denoised centre frame (batch, 1, height, width)."""
        weights = torch.softmax(self.branch_logits, dim=0)
        return torch.einsum("b,bnyx->nyx", weights, self.branch_outputs(frames))[:, None]


def block_diagonal(blocks: list[Tensor]) -> Tensor:
    """One matrix with `blocks` along its diagonal; a vector counts as a row."""
    matrix: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return matrix
