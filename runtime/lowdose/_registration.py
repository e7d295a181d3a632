"""Registration of one noisy frame onto the mean of others, in the Fourier plane; `lowdose.drift` drives it.

Spectra are half planes of the real FFT, complex128 (height, width // 2 + 1), in the coordinates of frame 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lowdose.errors import LowdoseError

Floats = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]
Region = tuple[slice, slice]

TAPER = 0.15  # fraction of the window that fades out on each side
COARSE_STEP_PX, MIDDLE_STEP_PX = 0.5, 0.1
RIVAL_DISTANCE_PX = 2.0  # closer maxima belong to the same peak
# Maxima of a lattice this close in height, in standard deviations, are a tie: the smallest jump wins.
TIE = 0.75


@dataclass(frozen=True)
class Match:
    """`offset_px` (dy, dx) that remains; the height of its peak, and its lead over the highest other
    maximum within reach (negative after a tie), both in standard deviations of what noise alone gives."""

    offset_px: Floats
    height: float
    lead: float


class Registration:
    """Spectra of the frames of one movie, and the search for the shift between two of them."""

    def __init__(self, height: int, width: int, smoothing_px: float, upsampling: int, region: Region | None) -> None:
        self.shape = (height, width)
        self.upsampling = upsampling
        rows, columns = region if region is not None else (slice(None), slice(None))
        self.bounds = (rows.indices(height)[:2], columns.indices(width)[:2])
        if any(stop <= start for start, stop in self.bounds):
            raise LowdoseError(f"The region {region} holds no pixel of a frame of {height} x {width}.")
        self.y_frequency = np.fft.fftfreq(height)
        self.x_frequency = np.fft.rfftfreq(width)
        radius = np.hypot(self.y_frequency[:, None], self.x_frequency)
        self.smoothing: Floats = np.exp(-2 * (np.pi * smoothing_px * radius) ** 2)
        self.ring = np.rint(radius * min(self.shape)).astype(np.intp)
        # Columns that also stand for their mirror image in the half that is not stored count twice.
        self.multiplicity = np.where((self.x_frequency > 0) & (self.x_frequency < 0.5), 2.0, 1.0)

    def aligned(self, frame: npt.NDArray[Any], shift_px: Floats) -> Spectrum:
        """Spectrum of a frame (height, width), tapered, without its mean, moved by `shift_px`."""
        window = self._window(0, float(shift_px[0]))[:, None] * self._window(1, float(shift_px[1]))
        weight = window.sum()
        values = frame.astype(np.float64)
        level = (values * window).sum() / weight if weight > 0 else 0.0
        spectrum = np.fft.rfft2((values - level) * window)
        spectrum *= np.exp(-2j * np.pi * shift_px[0] * self.y_frequency)[:, None]
        spectrum *= np.exp(-2j * np.pi * shift_px[1] * self.x_frequency)
        return spectrum

    def _window(self, axis: int, shift_px: float) -> Floats:
        """Taper along one axis of a frame. It is fixed to the scene, because one that stays behind pulls
        every shift towards zero; it still ends at the edges of the frame, with a short taper of their own."""
        size = self.shape[axis]
        start, stop = self.bounds[axis]
        pixel = np.arange(size) + 0.5
        to_window = np.minimum(pixel + shift_px - start, stop - pixel - shift_px) / (TAPER * (stop - start))
        to_edge = np.minimum(pixel, size - pixel) / (0.25 * TAPER * size)
        taper: Floats = np.sin(0.5 * np.pi * np.clip(np.minimum(to_window, to_edge), 0, 1)) ** 2
        return taper

    def match(self, reference: Spectrum, own: Spectrum, noise: Floats, reach_px: float) -> Match:
        """The shift within +-`reach_px` that still brings `own` onto `reference`.

        `noise` (as spectra): power, per coefficient, of what `own` does not share with the reference.
        """
        deviation = float(np.sqrt((np.abs(reference) ** 2 * noise * self.multiplicity).sum()))
        if deviation == 0:
            return Match(np.zeros(2), 0.0, 0.0)
        cross = reference * np.conj(own) * self.multiplicity
        offsets, coarse = self._correlation(cross, np.zeros(2), reach_px, COARSE_STEP_PX)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(coarse, 1, constant_values=-np.inf), (3, 3))
        maximum = coarse >= around.max(axis=(2, 3))
        candidate = maximum & (coarse >= coarse.max() - TIE * deviation)
        best = np.argmin(np.where(candidate, np.hypot(offsets[0], offsets[1]), np.inf))
        centre = offsets.reshape(2, -1)[:, best]
        rival = maximum & (np.hypot(offsets[0] - centre[0], offsets[1] - centre[1]) > RIVAL_DISTANCE_PX)
        lead = float(coarse.flat[best] - coarse[rival].max(initial=-np.inf))
        height = 0.0
        for reach, step in ((COARSE_STEP_PX, MIDDLE_STEP_PX), (MIDDLE_STEP_PX, 1 / self.upsampling)):
            offsets, fine = self._correlation(cross, centre, reach, step)
            centre = offsets.reshape(2, -1)[:, np.argmax(fine)]
            height = float(fine.max())
        return Match(centre, height / deviation, lead / deviation)

    def _correlation(
        self, cross: Spectrum, centre_px: Floats, reach_px: float, step_px: float
    ) -> tuple[Floats, Floats]:
        """Correlation on a square grid around `centre_px`: offsets (2, n, n) and values (n, n)."""
        steps = round(reach_px / step_px)
        grid = step_px * np.arange(-steps, steps + 1)
        offsets = np.stack(np.meshgrid(centre_px[0] + grid, centre_px[1] + grid, indexing="ij"))
        rows = np.exp(2j * np.pi * np.outer(centre_px[0] + grid, self.y_frequency))
        columns = np.exp(2j * np.pi * np.outer(self.x_frequency, centre_px[1] + grid))
        return offsets, (rows @ cross @ columns).real

    def ring_mean(self, power: Floats) -> Floats:
        """Mean of `power` over rings of equal spatial frequency, as a map of the same shape."""
        ring = self.ring.ravel()
        sums = np.bincount(ring, power.ravel())
        mean: Floats = (sums / np.maximum(np.bincount(ring), 1))[self.ring]
        return mean


class Mean:
    """Running sum of aligned spectra and of their powers."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self.count = 0
        self.total = np.zeros(registration.ring.shape, np.complex128)
        self.power = np.zeros(registration.ring.shape)

    def add(self, spectrum: Spectrum) -> None:
        self.count += 1
        self.total += spectrum
        self.power += np.abs(spectrum) ** 2

    def signal_weight_and_noise(self) -> tuple[Floats, Floats]:
        """Wiener weight of the mean of all but one frame, and the noise power of one; constant on rings.

        Signal is what the frames have in common, noise what they have not: nothing has to be tuned.
        """
        if self.count < 2:
            return np.zeros_like(self.power), np.zeros_like(self.power)
        together = self.registration.ring_mean(np.abs(self.total) ** 2)
        alone = self.registration.ring_mean(self.power)
        signal = np.maximum(together - alone, 0) / (self.count * (self.count - 1))
        noise = np.maximum(alone - together / self.count, 0) / (self.count - 1)
        needed = signal + noise / (self.count - 1)
        return np.divide(signal, needed, out=np.zeros_like(signal), where=needed > 0), noise
