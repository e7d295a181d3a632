"""Learn the kernels in coordinates in which the pixels they see are uncorrelated.

Neighbouring pixels are alike, so in plain coordinates the loss is a long narrow valley (steep along the
mean, almost flat across it), along which Adam spends thousands of steps. With kernel = coordinates @ basis,
basis = C^(-1/2) and C the second moments of the pixels seen, every direction is equally steep: the
same network, loss and optimiser need several times fewer steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowdose_train.blind_spot import Branch

SMALLEST_EIGENVALUE = 1e-6
"""Of C, as a share of its largest: along directions below, the pixels do not vary and nothing is learned."""


def second_moments(frames: Tensor, size: int) -> Tensor:
    """Mean products of the pixels of a size x size window, all taps: (n_taps, size, size, n_taps, size, size).

    `frames` is (batch, n_taps, height, width); the result is float64.
    """
    n_taps = frames.shape[1]
    products = torch.zeros(n_taps * size**2, n_taps * size**2, dtype=torch.float64, device=frames.device)
    for window in frames:
        pixels = F.unfold(window[None], size)[0].double()  # (n_taps * size * size, positions)
        products += pixels @ pixels.T / (pixels.shape[1] * len(frames))
    return products.reshape(n_taps, size, size, n_taps, size, size)


class WhitenedKernel:
    """The kernel of one branch as `coordinates` (n_features, n_weights), which an optimiser changes.

    A step: loss.backward(), `take_gradient`, the optimiser's step, `write_kernel`.
    """

    def __init__(self, branch: Branch, moments: Tensor) -> None:
        """`moments` as from `second_moments`, of windows at least as large as the kernel."""
        _, n_taps, size, _ = branch.kernel.shape
        n_weights = n_taps * size * size
        border = (moments.shape[1] - size) // 2
        near = slice(border, border + size)
        seen = branch.blind_mask.flatten().double()
        c = moments[:, near, near, :, near, near].reshape(n_weights, n_weights)
        values, vectors = torch.linalg.eigh(c * seen[:, None] * seen)
        varied = values > SMALLEST_EIGENVALUE * values[-1]
        values, vectors = values[varied], vectors[:, varied]
        self.branch = branch
        self.basis = (vectors * values**-0.5 @ vectors.T).float()
        self.inverse = (vectors * values**0.5 @ vectors.T).float()
        self.coordinates = nn.Parameter(branch.kernel.detach().flatten(1) @ self.inverse)

    @torch.no_grad()
    def read_kernel(self) -> None:
        """Take the coordinates from the kernel, after it was changed from outside."""
        self.coordinates.copy_(self.branch.kernel.flatten(1) @ self.inverse)

    @torch.no_grad()
    def take_gradient(self) -> None:
        gradient = self.branch.kernel.grad
        assert gradient is not None, "call backward first"
        self.coordinates.grad = gradient.flatten(1) @ self.basis  # the basis is symmetric

    @torch.no_grad()
    def write_kernel(self) -> None:
        kernel = (self.coordinates @ self.basis).view_as(self.branch.kernel)
        self.branch.kernel.copy_(kernel * self.branch.blind_mask)
