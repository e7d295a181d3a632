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


def blind_features(frames, weights):
    """The blind-feature network by its definition: frames (n_taps, C, height, width) -> (C, height, width), float64.

    weights: as `lowdose_export.blind_features.blind_features` describes them, by name.
    """
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    n_taps, n_channels, height, width = frames.shape
    ly, lx = w["linear"].shape[-2:]
    wy, wx = w["vertical"].shape[-1], w["horizontal"].shape[-1]
    ry, rx = wy // 2, wx // 2
    planes = frames.reshape(-1, height, width).astype(np.float64)
    out = np.zeros((n_channels, height, width))
    for c in range(n_channels):
        surrounded = np.pad(planes, [(0, 0), (ry + ly // 2,) * 2, (rx + lx // 2,) * 2])
        filtered = w["linear_bias"][c] + correlate(surrounded, w["linear"][c])
        inputs = np.concatenate([np.pad(planes, [(0, 0), (ry,) * 2, (rx,) * 2]), filtered[None]])
        middle = filtered[ry : ry + height, rx : rx + width]
        x = [middle]
        for mix, vertical, horizontal, own in zip(
            *(w[name][c] for name in ("mix", "vertical", "horizontal", "own")), strict=True
        ):
            mixed = np.tensordot(mix, inputs, 1)
            seen = correlate(mixed[None], np.outer(vertical, horizontal)[None])
            neighbours = np.pad(frames[n_taps // 2, c].astype(np.float64), len(own) // 2)
            x.append(seen - correlate(neighbours[None], own[None]))
        first = np.maximum(np.tensordot(w["w1"][c], np.stack(x), 1) + w["b1"][c][:, None, None], 0)
        second = np.maximum(np.tensordot(w["w2"][c], first, 1) + w["b2"][c][:, None, None], 0)
        out[c] = middle + np.tensordot(w["w3"][c], np.concatenate([x, first, second]), 1) + w["b3"][c]
    return out


def correlate(planes, kernels):
    """The sum over planes (n, height, width) of what lies whole under kernels (n, ky, kx)."""
    windows = np.lib.stride_tricks.sliding_window_view(planes, kernels.shape[1:], axis=(1, 2))
    return np.einsum("nyxij,nij->yx", windows, kernels)
