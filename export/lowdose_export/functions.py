"""The ONNX functions of the domain `lowdose`: what a compiled kernel computes, in standard operators.

An engine that knows no kernel for a function inlines its body, so these bodies define the numbers.
They avoid operators that TensorRT's parser refuses (DFT, Pad with mode "wrap").
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.parser

DOMAIN = "lowdose"
OPSET = 18
OPSET_IMPORT = f'opset_import: ["" : {OPSET}, "{DOMAIN}" : 1]'

# From this cutoff on the disc holds every frequency of a frame: sqrt(0.5) lies in the corner.
CUTOFF_NONE = 1.0
CUTOFF_ALL = 0.7072

# Columns 0..R of the real Fourier basis: cosines, then sines, orthonormal. R is rounded up: the mask in
# LowPass has the last word on which frequencies are kept. The phase n*k is reduced modulo the length in
# integers, because in float32 a large angle would lose its fraction.
FOURIER_BASIS = f"""
<domain: "{DOMAIN}", {OPSET_IMPORT}>
FourierBasis (length, cutoff) => (basis, frequency)
{{
    zero = Constant <value = int64 {{0}}> ()
    one = Constant <value = int64 {{1}}> ()
    two = Constant <value = int64 {{2}}> ()
    float_length = Cast <to = 1> (length)
    radius = Mul (cutoff, float_length)
    radius_up = Ceil (radius)
    radius_int = Cast <to = 7> (radius_up)
    nyquist = Div (length, two)
    last = Min (radius_int, nyquist)
    count = Add (last, one)
    k = Range (zero, count, one)
    n = Range (zero, length, one)
    column_axis = Constant <value = int64[1] {{1}}> ()
    n_column = Unsqueeze (n, column_axis)
    product = Mul (n_column, k)
    turns = Mod (product, length)
    float_turns = Cast <to = 1> (turns)
    full_circle = Constant <value = float {{6.283185307179586}}> ()
    step = Div (full_circle, float_length)
    angle = Mul (float_turns, step)
    cosine = Cos (angle)
    sine = Sin (angle)
    k_twice = Mul (k, two)
    k_around = Mod (k_twice, length)
    is_alone = Equal (k_around, zero)
    power_alone = Constant <value = float {{1.0}}> ()
    power_pair = Constant <value = float {{2.0}}> ()
    power = Where (is_alone, power_alone, power_pair)
    power_share = Div (power, float_length)
    amplitude = Sqrt (power_share)
    cosine_scaled = Mul (cosine, amplitude)
    sine_scaled = Mul (sine, amplitude)
    basis = Concat <axis = 1> (cosine_scaled, sine_scaled)
    float_k = Cast <to = 1> (k)
    k_frequency = Div (float_k, float_length)
    frequency = Concat <axis = 0> (k_frequency, k_frequency)
}}
"""

# Keep the disc |frequency| <= cutoff (cycles/pixel on both axes) by real matrix products with only the
# kept columns of the Fourier basis: Y = Ey (mask * (Ey^T X Ex)) Ex^T. The mean, which the disc always holds, goes
# around the products, so that their rounding errors are in proportion to the contrast and not to the level.
LOW_PASS = f"""
<domain: "{DOMAIN}", {OPSET_IMPORT}>
LowPass (frame, cutoff) => (filtered)
{{
    all = Constant <value = float {{{CUTOFF_ALL}}}> ()
    keeps_all = GreaterOrEqual (cutoff, all)
    filtered = If (keeps_all) <
        then_branch = pass_through () => (float[batch, channel, height, width] same) {{
            same = Identity (frame)
        }},
        else_branch = keep_disc () => (float[batch, channel, height, width] kept) {{
            shape = Shape (frame)
            axis_y = Constant <value = int64 {{2}}> ()
            axis_x = Constant <value = int64 {{3}}> ()
            height = Gather (shape, axis_y)
            width = Gather (shape, axis_x)
            basis_y, frequency_y = {DOMAIN}.FourierBasis (height, cutoff)
            basis_x, frequency_x = {DOMAIN}.FourierBasis (width, cutoff)
            basis_y_t = Transpose <perm = [1, 0]> (basis_y)
            basis_x_t = Transpose <perm = [1, 0]> (basis_x)
            image_axes = Constant <value = int64[2] {{2, 3}}> ()
            level = ReduceMean <keepdims = 1> (frame, image_axes)
            contrast = Sub (frame, level)
            half = MatMul (basis_y_t, contrast)
            spectrum = MatMul (half, basis_x)
            square_y = Mul (frequency_y, frequency_y)
            square_x = Mul (frequency_x, frequency_x)
            column_axis = Constant <value = int64[1] {{1}}> ()
            square_y_column = Unsqueeze (square_y, column_axis)
            square = Add (square_y_column, square_x)
            limit = Mul (cutoff, cutoff)
            inside = LessOrEqual (square, limit)
            mask = Cast <to = 1> (inside)
            disc = Mul (spectrum, mask)
            rows = MatMul (basis_y, disc)
            kept_contrast = MatMul (rows, basis_x_t)
            kept = Add (kept_contrast, level)
        }}
    >
}}
"""

PERIODIC_PAD = """
    axis_y = Constant <value = int64[1] {{2}}> ()
    axis_x = Constant <value = int64[1] {{3}}> ()
    start = Constant <value = int64[1] {{0}}> ()
    end = Constant <value = int64[1] {{9223372036854775807}}> ()
    margin = Constant <value = int64[1] {{{margin}}}> ()
    minus_margin = Constant <value = int64[1] {{-{margin}}}> ()
    above = Slice (stack, minus_margin, end, axis_y)
    below = Slice (stack, start, margin, axis_y)
    tall = Concat <axis = 2> (above, stack, below)
    left = Slice (tall, minus_margin, end, axis_x)
    right = Slice (tall, start, margin, axis_x)
    padded = Concat <axis = 3> (left, tall, right)
    pointwise = Constant <value = int64[4] {{{features}, {features}, 1, 1}}> ()
    to_one = Constant <value = int64[4] {{1, {features}, 1, 1}}> ()
"""

WINDOW = """
    before_{k} = Constant <value = int64[2] {{{inset}, {inset}}}> ()
    behind_{k} = Constant <value = int64[2] {{-{inset}, -{inset}}}> ()
    axes_{k} = Constant <value = int64[2] {{2, 3}}> ()
    window_{k} = Slice (padded, before_{k}, behind_{k}, axes_{k})
"""


def blind_spot_inputs(n_taps: int, kernel_sizes: Sequence[int]) -> list[str]:
    """Names of the inputs of the function BlindSpot, in order."""
    frames = [f"frame_{tap}" for tap in range(n_taps)]
    weights = [f"{name}_{k}" for k in kernel_sizes for name in ("kernel", "mixing", "head")]
    return [*frames, "weight_set", *weights, "branch_weights"]


def blind_spot(n_taps: int, kernel_sizes: Sequence[int], n_features: int, n_mixing: int) -> str:
    """Text of the function BlindSpot: WCVD for three taps, WCID for one (Lee et al., network section).

    Inputs: n_taps frames (batch, 1, height, width); `weight_set`, the int64 index into a bank of B
    weight sets; per kernel size K `kernel_K` (B, n_features, n_taps, K, K), `mixing_K`
    (B, n_mixing, n_features, n_features), `head_K` (B, n_features); `branch_weights` (B, n_branches).
    Output: (batch, 1, height, width). Borders are periodic.
    """
    margin = max(kernel_sizes) // 2
    lines = [f"    stack = Concat <axis = 1> ({', '.join(blind_spot_inputs(n_taps, kernel_sizes)[:n_taps])})"]
    lines.append(PERIODIC_PAD.format(margin=margin, features=n_features))
    lines += [f"    layer_{i} = Constant <value = int64 {{{i}}}> ()" for i in range(n_mixing)]
    lines += [f"    branch_{i} = Constant <value = int64 {{{i}}}> ()" for i in range(len(kernel_sizes))]
    lines.append("    shares = Gather <axis = 0> (branch_weights, weight_set)")
    for branch, k in enumerate(kernel_sizes):
        inset = margin - k // 2
        window = "padded"
        if inset:
            window = f"window_{k}"
            lines.append(WINDOW.format(k=k, inset=inset))
        lines.append(f"    own_kernel_{k} = Gather <axis = 0> (kernel_{k}, weight_set)")
        lines.append(f"    own_mixing_{k} = Gather <axis = 0> (mixing_{k}, weight_set)")
        lines.append(f"    own_head_{k} = Gather <axis = 0> (head_{k}, weight_set)")
        lines.append(f"    features_{k}_0 = Conv ({window}, own_kernel_{k})")
        for i in range(n_mixing):
            lines.append(f"    matrix_{k}_{i} = Gather <axis = 0> (own_mixing_{k}, layer_{i})")
            lines.append(f"    weight_{k}_{i} = Reshape (matrix_{k}_{i}, pointwise)")
            lines.append(f"    mixed_{k}_{i} = Conv (features_{k}_{i}, weight_{k}_{i})")
            lines.append(f"    features_{k}_{i + 1} = LeakyRelu <alpha = 0.1> (mixed_{k}_{i})")
        lines.append(f"    head_weight_{k} = Reshape (own_head_{k}, to_one)")
        lines.append(f"    summed_{k} = Conv (features_{k}_{n_mixing}, head_weight_{k})")
        lines.append(f"    positive_{k} = Relu (summed_{k})")
        lines.append(f"    share_{k} = Gather <axis = 0> (shares, branch_{branch})")
        lines.append(f"    part_{k} = Mul (positive_{k}, share_{k})")
    lines.append(f"    output = Sum ({', '.join(f'part_{k}' for k in kernel_sizes)})")
    signature = f"BlindSpot ({', '.join(blind_spot_inputs(n_taps, kernel_sizes))}) => (output)"
    return f'<domain: "{DOMAIN}", {OPSET_IMPORT}>\n{signature}\n{{\n' + "\n".join(lines) + "\n}"


def parse(text: str) -> onnx.FunctionProto:
    """The ONNX function that `text` (onnx.parser syntax) describes."""
    return onnx.parser.parse_function(text)
