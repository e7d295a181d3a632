"""Panels of grey images side by side, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Grey = NDArray[np.uint8]
CAPTION_PX = 14
GAP_PX = 4


def grey(frame: NDArray[Any], low: float, high: float) -> Grey:
    """A frame (height, width) as uint8, `low` black and `high` white."""
    scaled = (np.asarray(frame, np.float64) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled, 0, 1) * 255, np.uint8)


def log_spectrum(frame: NDArray[Any]) -> Grey:
    """Logarithm of the power spectrum, zero frequency in the middle: white is the top 0.1 %, black the median.

    Where a low-pass left less than half of the spectrum, black is six decades below white.
    """
    values = np.asarray(frame, np.float64)
    power = np.log(np.abs(np.fft.fftshift(np.fft.fft2(values - values.mean()))) ** 2 + 1e-9)
    white = float(np.percentile(power, 99.9))
    return grey(power, max(float(np.median(power)), white - 6 * np.log(10)), white)


def save_panels(path: Path, captions: Sequence[str], rows: Sequence[Sequence[Grey]]) -> None:
    """Write rows of equally large images with a caption above each column."""
    height, width = rows[0][0].shape
    columns = len(captions)
    canvas = Image.new(
        "L", (columns * (width + GAP_PX) - GAP_PX, CAPTION_PX + len(rows) * (height + GAP_PX) - GAP_PX), 255
    )
    draw = ImageDraw.Draw(canvas)
    for column, caption in enumerate(captions):
        draw.text((column * (width + GAP_PX) + 2, 1), caption, fill=0)
        for row, images in enumerate(rows):
            canvas.paste(
                Image.fromarray(images[column]),
                (column * (width + GAP_PX), CAPTION_PX + row * (height + GAP_PX)),
            )
    canvas.save(path)


def compare(path: Path, raw: NDArray[Any], denoised: NDArray[Any], truth: NDArray[Any]) -> None:
    """raw | denoised | truth | residual (raw - denoised) of one frame, each above its power spectrum.

    Denoised and truth share one grey scale; the raw frame gets its own, because noise spans far more. A good
    residual looks like noise alone: no trace of the specimen, and a flat spectrum.
    """
    low, high = np.percentile(truth, (0.1, 99.9))
    residual = np.asarray(raw, np.float64) - denoised
    spread = 3 * float(residual.std())
    images = [
        grey(raw, *np.percentile(raw, (0.5, 99.5))),
        grey(denoised, low, high),
        grey(truth, low, high),
        grey(residual, -spread, spread),
    ]
    spectra = [log_spectrum(frame) for frame in (raw, denoised, truth, residual)]
    save_panels(path, ("raw", "denoised", "truth", "residual"), (images, spectra))
