"""Models of one node BlindFeatures with random weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lowdose_export.blind_features import WEIGHTS, blind_features, blind_features_inputs
from lowdose_export.functions import DOMAIN, OPSET
from lowdose_export.model_file import IR_VERSION, SPEC, set_metadata


class Sizes(NamedTuple):
    """Numbers that the shapes of the weights are made of."""

    n_taps: int = 5
    n_channels: int = 1
    n_features: int = 24
    linear: tuple[int, int] = (15, 15)
    window: tuple[int, int] = (15, 15)
    own_side: int = 1
    hidden: tuple[int, int] = (32, 32)


def random_weights(sizes, seed=0):
    """Weights by name; every layer keeps the size of its numbers, so that none is lost in the sum."""
    random = np.random.default_rng(seed)
    n_taps, c, n, (ly, lx), (wy, wx), side, (h1, h2) = sizes
    shapes = {
        "linear": (c, n_taps * c, ly, lx),
        "linear_bias": (c,),
        "mix": (c, n, n_taps * c + 1),
        "vertical": (c, n, wy),
        "horizontal": (c, n, wx),
        "own": (c, n, side, side),
        "w1": (c, h1, 1 + n),
        "b1": (c, h1),
        "w2": (c, h2, h1),
        "b2": (c, h2),
        "w3": (c, 1 + n + h1 + h2),
        "b3": (c,),
    }
    summed = {"linear": n_taps * c * ly * lx, "own": side**2} | {
        name: shapes[name][-1] for name in ("mix", "vertical", "horizontal", "w1", "w2", "w3")
    }
    return {
        name: random.normal(0, summed.get(name, 1) ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()
    }


def own_shares(weights, n_taps):
    """What the features hold of the own pixel, the weights of the linear filter there being zero: `own` of side 1."""
    mix, linear = weights["mix"].astype(np.float64), weights["linear"].astype(np.float64)
    vertical, horizontal = weights["vertical"].astype(np.float64), weights["horizontal"].astype(np.float64)
    (wy, wx), (ly, lx) = (vertical.shape[-1], horizontal.shape[-1]), linear.shape[-2:]
    shares = np.zeros((*mix.shape[:2], 1, 1))
    for c in range(len(mix)):
        plane = n_taps // 2 * len(mix) + c
        for f in range(mix.shape[1]):
            kernel = np.outer(vertical[c, f], horizontal[c, f])
            through_linear = sum(
                kernel[i, j] * linear[c, plane, ly // 2 + wy // 2 - i, lx // 2 + wx // 2 - j]
                for i in range(wy)
                for j in range(wx)
                if abs(i - wy // 2) <= ly // 2 and abs(j - wx // 2) <= lx // 2
            )
            shares[c, f] = mix[c, f, plane] * kernel[wy // 2, wx // 2] + mix[c, f, -1] * through_linear
    return shares.astype(np.float32)


def model_of(weights, n_taps):
    """frame_0 ... -> denoised, with the metadata of a method along time."""
    n_channels = len(weights["mix"])
    shape: list[str | int | None] = ["batch", n_channels, "height", "width"]
    inputs = [helper.make_tensor_value_info(f"frame_{i}", TensorProto.FLOAT, shape) for i in range(n_taps)]
    output = helper.make_tensor_value_info("denoised", TensorProto.FLOAT, shape)
    node = helper.make_node("BlindFeatures", blind_features_inputs(n_taps), ["denoised"], domain=DOMAIN)
    initializers = [numpy_helper.from_array(weights[name], name) for name in WEIGHTS]
    model = helper.make_model(
        helper.make_graph([node], "bfn", inputs, [output], initializers),
        functions=[blind_features(n_taps, {name: value.shape for name, value in weights.items()})],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    reach = weights["linear"].shape[-1] // 2 + weights["horizontal"].shape[-1] // 2
    set_metadata(
        model,
        {
            "spec": SPEC,
            "method": "bfn",
            "taps": {"axis": "time", "offsets": list(range(-(n_taps // 2), n_taps - n_taps // 2))},
            "ends": "mirror",
            "channels": [f"channel {c}" for c in range(n_channels)],
            "margin_px": reach,
            "align_px": 1,
            "min_size_px": 1,
            "boundary": "internal",
            "normalisation": "none",
            "offset_rule": "none",
            "low_pass": None,
            "weight_sets": [{"name": "random"}],
            "bytes_per_px": 100.0,
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model
