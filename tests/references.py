"""Slow, obvious versions of what the product computes quickly."""

from __future__ import annotations

import numpy as np


def low_pass(frame, cutoff):
    """Keep |frequency| <= cutoff by a full complex FFT in double precision."""
    height, width = frame.shape
    y = np.fft.fftfreq(height)[:, None]
    x = np.fft.fftfreq(width)[None, :]
    # The rim is decided in float32 everywhere in the product.
    inside = np.float32(y) ** 2 + np.float32(x) ** 2 <= np.float32(cutoff) ** 2
    return np.fft.ifft2(np.fft.fft2(frame.astype(np.float64)) * inside).real


def blind_spot(frames, branches, branch_weights):
    """WCVD and WCID pixel by pixel: frames (n_taps, height, width) -> (height, width), double precision.

    branches: (kernel (n_features, n_taps, K, K), mixing (n_mixing, n_features, n_features), head (n_features,)).
    """
    n_taps, height, width = frames.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for (kernel, mixing, head), share in zip(branches, branch_weights, strict=True):
                size = kernel.shape[-1]
                features = np.zeros(len(kernel))
                for tap in range(n_taps):
                    for i in range(size):
                        for j in range(size):
                            value = frames[tap, (y + i - size // 2) % height, (x + j - size // 2) % width]
                            features += kernel[:, tap, i, j] * value
                for layer in mixing:
                    features = layer @ features
                    features = np.where(features > 0, features, 0.1 * features)
                out[y, x] += share * max(0.0, head @ features)
    return out


def blind_spot_frame(frames, branches, branch_weights, dtype):
    """The same by shifted frames, each sum in `dtype`."""
    out = np.zeros(frames.shape[1:], dtype)
    for (kernel, mixing, head), share in zip(branches, branch_weights, strict=True):
        features = np.zeros((len(kernel), *frames.shape[1:]), dtype)
        middle = kernel.shape[-1] // 2
        for tap, i, j in np.ndindex(kernel.shape[1:]):
            shifted = np.roll(frames[tap].astype(dtype), (middle - i, middle - j), (0, 1))
            features += kernel[:, tap, i, j, None, None].astype(dtype) * shifted
        for layer in mixing.astype(dtype):
            features = np.tensordot(layer, features, 1)
            features = np.where(features > 0, features, dtype(0.1) * features)
        out += dtype(share) * np.maximum(0, np.tensordot(head.astype(dtype), features, 1))
    return out


def window(stack, index, taps):
    """Frames around `index`; one that is not there is replaced by the one as far on the other side, or the nearest."""
    chosen = []
    for tap in taps:
        choices = [index + tap, index - tap]
        choices += sorted(set(range(len(stack))) - {index}, key=lambda t: abs(t - index - tap))
        chosen.append(stack[next((t for t in choices if 0 <= t < len(stack)), index)])
    return np.stack(chosen)
