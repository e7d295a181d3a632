"""Truncation: every patch replaced by its part in the span of the kept eigenpatches, all added up on a canvas.

`add_truncated` does so with a patch matrix, for any patches. `truncate_all` gives the same (within 1e-12) for all of an
image: away from the edges the canvas is the image filtered with the sum of the autocorrelations of the eigenpatches.
Along an edge a pixel is in fewer patches across the edge, but in all of them along it: one filter per pair of rows.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lowdose._fourier import fast_length
from lowdose.reucid.terrain import add_patches
from lowdose.reucid.threads import for_each

Floats = NDArray[np.float64]

# Rows of a band, for which a Fourier transform and the memory of its spectra stay small.
BAND_PX = 256


def gather(image: Floats, chosen: NDArray[np.bool_], patch_px: int) -> tuple[Floats, NDArray[np.int64]]:
    """The patches (n, p^2) that start where `chosen` (height - p + 1, width - p + 1) is true; their places (n, 2)."""
    origins = np.argwhere(chosen)
    windows = sliding_window_view(image, (patch_px, patch_px))
    return windows[chosen].reshape(len(origins), -1), origins


def add_truncated(canvas: Floats, patches: Floats, origins: NDArray[np.int64], kept: Floats) -> None:
    """Project patches (n, p^2) onto the columns of `kept` (p^2, n_kept) and add them to the canvas."""
    patch_px = int(np.sqrt(len(kept)))
    for start in range(0, len(patches), 4096):
        part = slice(start, start + 4096)
        add_patches(canvas, origins[part], (patches[part] @ kept) @ kept.T, patch_px)


def truncate_all(image: Floats, kept: Floats, threads: int = 1) -> Floats:
    """The canvas (height, width) of all patches of the image; sides of at least 2 p - 1."""
    patch_px = int(np.sqrt(len(kept)))
    stack = np.ascontiguousarray(kept.T).reshape(-1, patch_px, patch_px)
    height, width = image.shape
    edge = patch_px - 1
    canvas = np.empty_like(image)
    kernel = autocorrelation(stack)
    starts = range(edge, height - edge, BAND_PX)

    def band(start: int) -> None:
        stop = min(start + BAND_PX, height - edge)
        filtered = correlate(image[start - edge : stop + edge], kernel)
        canvas[start:stop, edge : width - edge] = filtered

    for_each(band, starts, threads)
    for turns in range(4):
        turned = np.rot90(canvas, turns)
        turned[:edge, edge:-edge] = top_edge(np.rot90(image, turns), np.rot90(stack, turns, (1, 2)))
        turned[:edge, :edge] = corner(np.rot90(image, turns), np.rot90(stack, turns, (1, 2)))
    return canvas


def autocorrelation(stack: Floats) -> Floats:
    """Sum of the autocorrelations of all eigenpatches (n, p, p), lag zero in the middle: (2 p - 1, 2 p - 1)."""
    side = 2 * stack.shape[1] - 1
    power = (np.abs(np.fft.rfft2(stack, (side, side))) ** 2).sum(axis=0)
    return np.fft.fftshift(np.fft.irfft2(power, (side, side)))


def correlate(image: Floats, kernel: Floats) -> Floats:
    """The places where the kernel fits into the image, filtered with it (the kernel is point-symmetric)."""
    shape = fast_length(image.shape[0]), fast_length(image.shape[1])
    spectrum = np.fft.rfft2(image, shape) * np.fft.rfft2(kernel, shape)
    reach = len(kernel) - 1
    return np.fft.irfft2(spectrum, shape)[reach : image.shape[0], reach : image.shape[1]]


def top_edge(image: Floats, stack: Floats) -> Floats:
    """Canvas rows 0 ... p - 2, columns p - 1 ... width - p."""
    patch_px, width = stack.shape[1], image.shape[1]
    edge = patch_px - 1
    length = fast_length(width)
    rows = np.fft.rfft(image[: 2 * edge], length).T  # (n_frequencies, 2 p - 2)
    spectra = np.fft.rfft(stack, length).transpose(2, 1, 0)  # (n_frequencies, p, n)
    project = spectra @ spectra.conj().transpose(0, 2, 1)  # (n_frequencies, p, p): all columns of a patch at once
    out = np.zeros_like(rows)
    for top in range(edge):
        part = slice(top, top + patch_px)
        out[:, part] += (project @ rows[:, part, None])[..., 0]
    return np.fft.irfft(out[:, :edge].T, length)[:, edge : width - edge]


def corner(image: Floats, stack: Floats) -> Floats:
    """Canvas rows and columns 0 ... p - 2."""
    patch_px = stack.shape[1]
    edge = patch_px - 1
    block = image[: 2 * edge, : 2 * edge]
    canvas = np.zeros(block.shape)
    patches, origins = gather(block, np.ones((edge, edge), bool), patch_px)
    add_truncated(canvas, patches, origins, stack.reshape(len(stack), patch_px**2).T)
    return canvas[:edge, :edge]
