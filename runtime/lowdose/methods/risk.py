"""The error of a denoised sample without a truth, the same for every method: what `--model auto` compares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.methods.method import Prepared
from lowdose.source import ArraySource, FrameSource

Frames = NDArray[np.float32]

CROP_PX = 192
N_FRAMES = 25
"""More than any window along time, so that those that are scored have all their neighbours."""
N_SCORED = 5
SCAN_SIDE = 11
SCAN_MARGIN = 2
"""Of the sample of a scan all patterns inside are scored: its few bright pixels need many patterns."""
PROBE = 0.1
"""Size of the probe in units of the noise: small, so that a network stays linear."""
NOISE_FREQUENCY = 0.42
"""Cycles/pixel beyond which no signal is expected along both axes; signal there makes the noise seem larger."""


@dataclass(frozen=True)
class Sample:
    """Noisy frames to try methods on, (n_frames, n_channels, height, width).

    scored: the frames whose error is estimated. probe: added to them, it measures how far a method follows the noise
    of the pixel that it denoises; its square has the noise's size. predicted: per channel the error of predicting the
    noisy pixels blindly.
    """

    frames: Frames
    scan: tuple[int, int] | None
    channel_names: list[str]
    scored: list[int]
    probe: Frames
    predicted: NDArray[np.float64]

    def source(self, frames: Frames) -> ArraySource:
        n_channels = frames.shape[1]
        array = frames if n_channels > 1 else frames[:, 0]
        if self.scan:
            array = array.reshape(*self.scan, *array.shape[1:])
        source = ArraySource(array, n_channels=n_channels, is_scan=self.scan is not None)
        source.channel_names = self.channel_names
        return source


def take_sample(frames: FrameSource, blind: Prepared) -> Sample:
    """The middle of a sequence (at most CROP_PX a side) or scan (whole patterns), with its probe.

    blind: the blind filter, fitted to the frames. Raises LowdoseError for pixels that are not finite.
    """
    sides = (frames.height, frames.width)
    crop = [slice(None) if frames.scan else slice(max(0, (n - CROP_PX) // 2), (n + CROP_PX) // 2) for n in sides]
    scan: tuple[int, int] | None = None
    if frames.scan:
        n_y, n_x = frames.scan
        scan = (min(n_y, SCAN_SIDE), min(n_x, SCAN_SIDE))
        first = ((n_y - scan[0]) // 2, (n_x - scan[1]) // 2)
        chosen = [(first[0] + y) * n_x + first[1] + x for y in range(scan[0]) for x in range(scan[1])]
        inner = [range(min(SCAN_MARGIN, (n - 1) // 2), n - min(SCAN_MARGIN, (n - 1) // 2)) for n in scan]
        scored = [y * scan[1] + x for y in inner[0] for x in inner[1]]
    else:
        n = min(len(frames), N_FRAMES)
        start = (len(frames) - n) // 2
        chosen = list(range(start, start + n))
        scored = list(range(max(0, n // 2 - N_SCORED // 2), min(n, n // 2 + N_SCORED // 2 + 1)))
    taken = [
        np.asarray(frames[i], np.float32).reshape(-1, frames.height, frames.width)[..., crop[0], crop[1]]
        for i in chosen
    ]
    sample = np.stack(taken)
    if not np.isfinite(sample).all():
        raise LowdoseError("there are NaN or infinite pixels; replace them first")
    unprobed = Sample(sample, scan, frames.channel_names, scored, np.zeros_like(sample), np.ones(sample.shape[1]))
    residual = sample[scored] - denoise(blind, unprobed, sample)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), residual.shape)
    squares = np.square(residual, dtype=np.float64).mean(axis=(0, 2, 3))
    noise = squares if scan else np.minimum(squares, corner_variance(sample))
    size = np.sqrt(np.divide(noise, squares, out=np.ones_like(noise), where=squares > 0)).astype(np.float32)
    probe = np.zeros_like(sample)
    probe[scored] = residual * signs * size[:, None, None]
    return Sample(sample, scan, frames.channel_names, scored, probe, np.maximum(squares, 1e-30))


def corner_variance(frames: Frames) -> NDArray[np.float64]:
    """Variance of white noise per channel, from the corners of the spectrum, where the signal is weakest."""
    height, width = frames.shape[-2:]
    power = np.abs(np.fft.fft2(frames - frames.mean(axis=(2, 3), keepdims=True))) ** 2 / (height * width)
    high = (np.abs(np.fft.fftfreq(height))[:, None] > NOISE_FREQUENCY) & (
        np.abs(np.fft.fftfreq(width)) > NOISE_FREQUENCY
    )
    if not high.any():
        return np.full(frames.shape[1], np.inf)
    return np.asarray(power[..., high].mean(axis=(0, 2)), np.float64)


def denoise(prepared: Prepared, sample: Sample, frames: Frames) -> Frames:
    """The scored frames of the sample as the method gives them back."""
    if prepared.alone:
        frames = frames[sample.scored]
        sample = replace(sample, scan=None, scored=list(range(len(frames))))
    source = sample.source(frames)
    stream = prepared.stream(source, np.float32)
    results = [out for frame in source if (out := stream.push(frame)) is not None] + stream.flush()
    return np.reshape(np.asarray(results, np.float32), frames.shape)[sample.scored]


def relative_risk(prepared: Prepared, sample: Sample) -> float:
    """Estimated mean squared error plus noise, in units of the blind filter's, mean over channels.

    mean (f(y) - y)^2 + 2 mean n f(y): the first term is the error plus the noise less twice what f has followed of the
    pixel's own noise n, which the second adds again (Stein 1981). It is measured by the change of f(y) when a probe of
    the noise's size and random signs is added (Ramani et al. 2008). For a blind method it vanishes. The published uMSE
    compares with the neighbouring frames instead, and flatters every method that sees them.
    """
    frames, scored = sample.frames, sample.scored
    plain = denoise(prepared, sample, frames)
    probed = denoise(prepared, sample, frames + np.float32(PROBE) * sample.probe)
    misfit = np.square(plain - frames[scored], dtype=np.float64).mean(axis=(0, 2, 3))
    followed = (sample.probe[scored] * (probed - plain)).mean(axis=(0, 2, 3), dtype=np.float64) / PROBE
    return float(np.mean((misfit + 2 * followed) / sample.predicted))
