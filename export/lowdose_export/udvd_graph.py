"""The stages of UDVD as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from lowdose_export.model_file import Graph
from lowdose_train.udvd import LEAKY_SLOPE, LEAST_INSIDE, CausalConvolutions, CausalUNet, Udvd

HEIGHT, WIDTH = 2, 3
LAST = np.iinfo(np.int64).min
"""As the end of a backward slice: through the first element."""


class UdvdGraph(Graph):
    """Nodes of a network's two stages. Weights appear once, however often a U-Net runs."""

    def __init__(self, network: Udvd) -> None:
        super().__init__([*network.named_parameters(), *network.named_buffers()])
        self.network = network

    def rename(self, value: str, name: str) -> None:
        """Give the output of a node its final name; before any other node uses it."""
        for node in self.nodes:
            node.output[:] = [name if output == value else output for output in node.output]

    def weight(self, layer: nn.Module) -> str:
        assert isinstance(layer, nn.Conv2d)
        return self.parameter(layer.weight)

    def stage_1(self, triplet: Sequence[str]) -> str:
        x = self.add("Concat", *triplet, axis=1)
        parts = [self.turned(self.unet(self.network.first, self.turned(x, turns)), -turns) for turns in range(4)]
        if self.network.filter is not None:
            kernel = self.network.filter.kernel
            border = kernel.shape[-1] // 2
            parts.append(self.add("Conv", x, self.parameter(kernel), pads=[border] * 4))
        return self.add("Concat", *parts, axis=1)

    def stage_2(self, states: Sequence[str]) -> None:
        """Ends in the value `denoised`."""
        per_turn, rows = self.network.n_features // 4, self.constant([HEIGHT])
        parts = []
        for turns in range(4):
            first = turns * per_turn
            x = self.add("Concat", *(self.channels(state, first, first + per_turn) for state in states), axis=1)
            x = self.unet(self.network.second, self.turned(x, turns), rows_above=self.network.hidden_rows)
            x = self.add("Slice", x, self.constant([0]), self.constant([-self.network.hidden_rows]), rows)
            parts.append(self.turned(x, -turns))
        x = self.add("Conv", self.add("Concat", *parts, axis=1), self.weight(self.network.merge))
        x = self.add("Conv", self.add("LeakyRelu", x, alpha=LEAKY_SLOPE), self.weight(self.network.head))
        if self.network.filter is not None:
            x = self.add("Add", x, self.linear(states))
        self.add("Relu", x)
        self.rename_last("denoised")

    def linear(self, states: Sequence[str]) -> str:
        """The filter's sum over the triplets, raised where it reaches over the frame's edge (`Udvd.edge_gain`)."""
        assert self.network.filter is not None
        n = self.network.n_features
        summed = self.add("Sum", *(self.channels(state, n + i, n + i + 1) for i, state in enumerate(states)))
        whole = self.network.filter.kernel.sum((0, 1), keepdim=True).numpy()
        border = whole.shape[-1] // 2
        zero = self.add("Mul", summed, self.constant(np.zeros((), np.float32)))
        ones = self.add("Add", zero, self.constant(np.ones((), np.float32)))
        inside = self.add("Conv", ones, self.constant(whole), pads=[border] * 4)
        total = np.float32(whole.sum())
        least = self.constant(np.asarray(LEAST_INSIDE * total, np.float32))
        gain = self.add("Div", self.constant(np.asarray(total)), self.add("Max", inside, least))
        return self.add("Mul", summed, gain)

    def unet(self, network: CausalUNet, x: str, rows_above: int = 0) -> str:
        half = self.pooled(network.outer, x)
        quarter = self.pooled(network.middle, half)
        up = self.doubled(self.convolved(network.inner, quarter))
        up = self.doubled(self.convolved(network.up_middle, self.add("Concat", up, half, axis=1)))
        return self.convolved(network.up_outer, self.add("Concat", up, x, axis=1), rows_above)

    def convolved(self, convolutions: CausalConvolutions, x: str, rows_above: int = 0) -> str:
        """With rows of zeros above the result: without a bias, that is what the last layer makes of nothing."""
        *first, last = convolutions.layers
        for layer, above in (*((layer, 0) for layer in first), (last, rows_above)):
            x = self.add("Conv", x, self.weight(layer), pads=[2 + above, 1, 0, 1])  # above, left, below, right
            x = self.add("LeakyRelu", x, alpha=LEAKY_SLOPE)
        return x

    def pooled(self, convolutions: CausalConvolutions, x: str) -> str:
        """As `pool_above`: the last row, one too many for pools of two, is in none."""
        return self.add("MaxPool", self.convolved(convolutions, x, 1), kernel_shape=[2, 2], strides=[2, 2])

    def doubled(self, x: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.add(
            "Resize", x, "", scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
        )

    def channels(self, x: str, first: int, end: int) -> str:
        return self.add("Slice", x, self.constant([first]), self.constant([end]), self.constant([1]))

    def turned(self, x: str, turns: int) -> str:
        """As torch.rot90 over height and width."""
        turns %= 4
        if turns == 0:
            return x
        flipped = {1: [WIDTH], 2: [HEIGHT, WIDTH], 3: [HEIGHT]}[turns]
        backward = [self.constant([value] * len(flipped)) for value in (-1, LAST)]
        step = self.constant([-1] * len(flipped))
        x = self.add("Slice", x, *backward, self.constant(flipped), step)
        return x if turns == 2 else self.add("Transpose", x, perm=[0, 1, WIDTH, HEIGHT])
