"""The ONNX function BlindFeatures: the blind-feature network in standard operators, as its compiled kernel computes it.

The frames come in the network's normalisation, so that zero is right for what lies outside them. The linear filter is
also computed outside the frame, as far as the features see it: what they hold of a pixel through it is then the same
everywhere, and `own` takes it away at the edges too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, helper

from lowdose_export.functions import DOMAIN, OPSET

WEIGHTS = (
    "linear",
    "linear_bias",
    "mix",
    "vertical",
    "horizontal",
    "own",
    "w1",
    "b1",
    "w2",
    "b2",
    "w3",
    "b3",
)
"""Names of the weights, in the order in which they follow the frames; `blind_features` says their shapes."""


def blind_features_inputs(n_taps: int) -> list[str]:
    """Names of the inputs of the function BlindFeatures, in order."""
    return [*(f"frame_{tap}" for tap in range(n_taps)), *WEIGHTS]


class _Body:
    """The nodes of the function, in order."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def add(self, operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def integers(self, *values: int) -> str:
        name = f"integers_{len(self.nodes)}"
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return self.add("Constant", output=name, value=tensor)

    def cut(self, value: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], output: str) -> str:
        """From start to end of each axis, as in Python; an end of 0 is the end of the axis."""
        last = np.iinfo(np.int64).max
        bounds = (starts, [end or last for end in ends], axes)
        return self.add("Slice", value, *(self.integers(*b) for b in bounds), output=output)

    def weight(self, name: str, channel: int, shape: Sequence[int]) -> str:
        """The weights of one channel as those of a Conv."""
        part = self.cut(name, [channel], [channel + 1], [0], f"{name}_{channel}")
        return self.add("Reshape", part, self.integers(*shape), output=f"{part}_shaped")

    def channel(
        self, n_taps: int, shapes: Mapping[str, Sequence[int]], planes: str, filtered_of_all: str, channel: int
    ) -> str:
        """The network of one channel. planes, filtered_of_all: with the margin that the features see."""
        _, n, n_planes = shapes["mix"]
        height, width, side = shapes["vertical"][-1], shapes["horizontal"][-1], shapes["own"][-1]
        _, last_hidden, hidden = shapes["w2"]

        def add(operator: str, *inputs: str, output: str, **attributes: Any) -> str:
            return self.add(operator, *inputs, output=f"{output}_{channel}", **attributes)

        def weight(name: str, *shape: int) -> str:
            return self.weight(name, channel, shape)

        def part(value: str, output: str) -> str:
            return self.cut(value, [channel], [channel + 1], [1], f"{output}_{channel}")

        filtered = part(filtered_of_all, "own_filtered")
        everything = add("Concat", planes, filtered, output="everything", axis=1)
        mixed = add("Conv", everything, weight("mix", n, n_planes, 1, 1), output="mixed")
        columns = add("Conv", mixed, weight("vertical", n, 1, height, 1), output="columns", group=n)
        seen = add("Conv", columns, weight("horizontal", n, 1, 1, width), output="seen", group=n)
        frame = part(f"frame_{n_taps // 2}", "denoised_frame")
        own = add("Conv", frame, weight("own", n, 1, side, side), output="own_share", pads=[side // 2] * 4)
        features = add("Sub", seen, own, output="features")
        margin = height // 2, width // 2
        linear = self.cut(filtered, margin, [-r for r in margin], [2, 3], f"{filtered}_inside")
        x = add("Concat", linear, features, output="x", axis=1)
        first_sum = add("Conv", x, weight("w1", hidden, n + 1, 1, 1), weight("b1", hidden), output="first_sum")
        first = add("Relu", first_sum, output="first")
        second_sum = add(
            "Conv", first, weight("w2", last_hidden, hidden, 1, 1), weight("b2", last_hidden), output="second_sum"
        )
        second = add("Relu", second_sum, output="second")
        last_inputs = add("Concat", x, first, second, output="last_inputs", axis=1)
        n_last = 1 + n + hidden + last_hidden
        correction = add("Conv", last_inputs, weight("w3", 1, n_last, 1, 1), weight("b3", 1), output="correction")
        return add("Add", linear, correction, output="result")


def blind_features(n_taps: int, shapes: Mapping[str, Sequence[int]]) -> FunctionProto:
    """The function BlindFeatures for weights of these shapes; they belong to the network of one output channel each.

    Inputs: n_taps frames, float32 (batch, C, height, width), the middle one (n_taps // 2) being denoised; then

    - linear (C, n_taps * C, ly, lx), linear_bias (C,): the linear filter L, a correlation; sides odd. Plane
      tap * C + channel of its second axis is that channel of that frame. Its weights at the own pixel are zero.
    - mix (C, F, n_taps * C + 1): F mixtures of these planes and, last, of L;
    - vertical (C, F, wy), horizontal (C, F, wx): correlations along both axes of each mixture, odd lengths;
    - own (C, F, B, B), B odd: what a feature then holds of its own pixel and the neighbours that shall not be seen;
      sum over i, j of own[i, j] * frame[y + i - B // 2, x + j - B // 2] is taken away;
    - w1 (C, H1, 1 + F) of L and the features, b1 (C, H1), w2 (C, H2, H1), b2 (C, H2): two layers with ReLU;
    - w3 (C, 1 + F + H1 + H2), b3 (C,): the last layer, which sees everything: L, the features, the first layer's values
      and the second's, in this order. Its result is added to L.

    Output: (batch, C, height, width). Outside the frames are zeros; L there is that of the frames with zeros around.

    The compiled kernel leaves out the planes that no linear filter and no mixture gives a weight other than zero, and
    a margin of zeros around the linear filters: a file may be made for more than its filter turns out to need.
    """
    ly, lx = shapes["linear"][2:]
    ry, rx = shapes["vertical"][-1] // 2, shapes["horizontal"][-1] // 2
    n_channels = shapes["linear"][0]

    body = _Body()
    stack = body.add("Concat", *blind_features_inputs(n_taps)[:n_taps], output="stack", axis=1)
    margin = [ly // 2 + ry, lx // 2 + rx]
    padded = body.add("Pad", stack, body.integers(0, 0, *margin, 0, 0, *margin), output="padded")
    planes = body.cut(padded, [ly // 2, lx // 2], [-(ly // 2), -(lx // 2)], [2, 3], "planes")
    filtered = body.add("Conv", padded, "linear", "linear_bias", output="filtered")
    results = [body.channel(n_taps, shapes, planes, filtered, channel) for channel in range(n_channels)]
    body.add("Concat", *results, output="output", axis=1)
    return helper.make_function(
        DOMAIN,
        "BlindFeatures",
        blind_features_inputs(n_taps),
        ["output"],
        body.nodes,
        [helper.make_opsetid("", OPSET)],
    )
