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

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", value, self.integers(*shape), output=f"{value}_shaped")


def blind_features(n_taps: int, shapes: Mapping[str, Sequence[int]]) -> FunctionProto:
    """The function BlindFeatures for weights of these shapes; they belong to the network of one output channel each.

    Inputs: n_taps frames, float32 (batch, C, height, width), the middle one (n_taps // 2) being denoised; then

    - linear (C, n_taps * C, ly, lx), linear_bias (C,): the linear filter L, a correlation; sides odd. Plane
      tap * C + channel of its second axis is that channel of that frame. Its weights at the own pixel are zero.
    - mix (C, F, n_taps * C + 1): F mixtures of these planes and, last, of L;
    - vertical (C, F, wy), horizontal (C, F, wx): correlations along both axes of each mixture, odd lengths;
    - own (C, F, B, B), B odd: what a feature then holds of its own pixel and the neighbours that shall not be seen;
      sum over i, j of own[i, j] * frame[y + i - B // 2, x + j - B // 2] is taken away;
    - w1 (C, H1, F + 1) of L and the features, b1 (C, H1), w2 (C, H2, H1), b2 (C, H2),
      w3 (C, H2), b3 (C,): a perceptron with ReLU; its result is added to L.

    Output: (batch, C, height, width). Outside the frames are zeros; L there is that of the frames with zeros around.
    """
    n_channels, n_features, n_planes = shapes["mix"]
    *_, ly, lx = shapes["linear"]
    height, width, hidden = shapes["vertical"][-1], shapes["horizontal"][-1], shapes["w1"][1]
    own_side, last_hidden = shapes["own"][-1], shapes["w2"][1]
    ry, rx, linear_ry, linear_rx = height // 2, width // 2, ly // 2, lx // 2
    n_all = n_channels * n_features

    body = _Body()
    stack = body.add("Concat", *blind_features_inputs(n_taps)[:n_taps], output="stack", axis=1)
    margin = [linear_ry + ry, linear_rx + rx]
    padded = body.add("Pad", stack, body.integers(0, 0, *margin, 0, 0, *margin), output="padded")
    filtered = body.add("Conv", padded, "linear", "linear_bias", output="filtered_with_margin")
    inside = body.cut(filtered, [ry, rx], [-ry, -rx], [2, 3], "filtered")

    planes = body.cut(padded, [linear_ry, linear_rx], [-linear_ry, -linear_rx], [2, 3], "planes")
    of_planes = body.cut("mix", [0], [n_planes - 1], [2], "mix_of_planes")
    of_filtered = body.cut("mix", [n_planes - 1], [0], [2], "mix_of_filtered")
    mixed_planes = body.add(
        "Conv", planes, body.reshaped(of_planes, [n_all, n_planes - 1, 1, 1]), output="mixed_planes"
    )
    mixed_filtered = body.add(
        "Conv", filtered, body.reshaped(of_filtered, [n_all, 1, 1, 1]), output="mixed_filtered", group=n_channels
    )
    mixed = body.add("Add", mixed_planes, mixed_filtered, output="mixed")
    columns = body.add("Conv", mixed, body.reshaped("vertical", [n_all, 1, height, 1]), output="columns", group=n_all)
    seen = body.add("Conv", columns, body.reshaped("horizontal", [n_all, 1, 1, width]), output="seen", group=n_all)
    own = body.add(
        "Conv",
        f"frame_{n_taps // 2}",
        body.reshaped("own", [n_all, 1, own_side, own_side]),
        output="own_share",
        group=n_channels,
        pads=[own_side // 2] * 4,
    )
    features = body.add("Sub", seen, own, output="features")

    of_linear = body.cut("w1", [0], [1], [2], "w1_of_filtered")
    of_features = body.cut("w1", [1], [0], [2], "w1_of_features")
    n_hidden = n_channels * hidden
    from_filtered = body.add(
        "Conv", inside, body.reshaped(of_linear, [n_hidden, 1, 1, 1]), output="from_filtered", group=n_channels
    )
    from_features = body.add(
        "Conv",
        features,
        body.reshaped(of_features, [n_hidden, n_features, 1, 1]),
        body.reshaped("b1", [n_hidden]),
        output="from_features",
        group=n_channels,
    )
    first = body.add("Relu", body.add("Add", from_filtered, from_features, output="first_sum"), output="first")
    n_last = n_channels * last_hidden
    second_sum = body.add(
        "Conv",
        first,
        body.reshaped("w2", [n_last, hidden, 1, 1]),
        body.reshaped("b2", [n_last]),
        output="second_sum",
        group=n_channels,
    )
    second = body.add("Relu", second_sum, output="second")
    correction = body.add(
        "Conv",
        second,
        body.reshaped("w3", [n_channels, last_hidden, 1, 1]),
        "b3",
        output="correction",
        group=n_channels,
    )
    body.add("Add", inside, correction, output="output")
    return helper.make_function(
        DOMAIN,
        "BlindFeatures",
        blind_features_inputs(n_taps),
        ["output"],
        body.nodes,
        [helper.make_opsetid("", OPSET)],
    )
