"""The field on which a specimen is simulated: larger than the frame, so that nothing wraps into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """A periodic field of ``shape`` coarse pixels around a frame of (height, width) fine pixels.

    A coarse pixel is ``fine`` fine pixels of ``pixel_angstrom`` wide. Positions are (y, x) in angstrom
    from the centre of the frame.
    """

    height: int
    width: int
    pixel_angstrom: float
    fine: int
    shape: tuple[int, int]

    @property
    def coarse_angstrom(self) -> float:
        return self.fine * self.pixel_angstrom

    @property
    def sides_angstrom(self) -> NDArray[np.float64]:
        """Height and width of the field."""
        return np.array(self.shape) * self.coarse_angstrom

    @property
    def fy(self) -> NDArray[np.float64]:
        """Frequencies in 1/angstrom, (shape[0],)."""
        return np.fft.fftfreq(self.shape[0], self.coarse_angstrom).astype(np.float64)

    @property
    def fx(self) -> NDArray[np.float64]:
        """The frequencies >= 0 of a half spectrum in 1/angstrom, (shape[1] // 2 + 1,)."""
        return np.fft.rfftfreq(self.shape[1], self.coarse_angstrom).astype(np.float64)

    @property
    def fx_full(self) -> NDArray[np.float64]:
        """Frequencies in 1/angstrom, (shape[1],)."""
        return np.fft.fftfreq(self.shape[1], self.coarse_angstrom).astype(np.float64)

    def holds(self, yx: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the positions (n, 2) lie in the field."""
        return np.asarray((np.abs(yx) < self.sides_angstrom / 2).all(axis=1))

    def ramp(self, yx: NDArray[np.float64]) -> NDArray[np.complex64]:
        """The factor (shape[0], shape[1] // 2 + 1) that moves a spectrum from the corner to ``yx``."""
        along_y, along_x = (
            np.exp(-2j * np.pi * f * (at + (n // 2) * self.coarse_angstrom)).astype(np.complex64)
            for f, at, n in zip((self.fy, self.fx), yx, self.shape, strict=True)
        )
        return np.asarray(np.multiply.outer(along_y, along_x))

    def frame(self, spectrum: NDArray[np.complexfloating]) -> NDArray[np.float32]:
        """The frame (height, width) cut from the field with this half spectrum, interpolated exactly."""
        n_y, n_x = self.shape
        padded = np.zeros((n_y * self.fine, n_x * self.fine // 2 + 1), spectrum.dtype)
        half_y, half_x = (n_y - 1) // 2, (n_x - 1) // 2
        padded[: half_y + 1, : half_x + 1] = spectrum[: half_y + 1, : half_x + 1]
        padded[-half_y:, : half_x + 1] = spectrum[-half_y:, : half_x + 1]
        field = np.fft.irfft2(padded, (n_y * self.fine, n_x * self.fine)) * self.fine**2
        top, left = (
            n // 2 * self.fine - side // 2 for n, side in zip(self.shape, (self.height, self.width), strict=True)
        )
        return field[top : top + self.height, left : left + self.width].astype(np.float32)


def grid_around(
    height: int, width: int, pixel_angstrom: float, coarsest_angstrom: float, margin_angstrom: float
) -> Grid:
    """A field with ``margin_angstrom`` on every side and coarse pixels of at most ``coarsest_angstrom``."""
    fine = max(1, int(coarsest_angstrom / pixel_angstrom + 1e-9))
    n_y, n_x = (
        fast_length(int(np.ceil((side * pixel_angstrom + 2 * margin_angstrom) / (fine * pixel_angstrom))) + 2)
        for side in (height, width)
    )
    return Grid(height, width, pixel_angstrom, fine, (n_y, n_x))


def fast_length(n: int) -> int:
    """The smallest even number >= n without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1
