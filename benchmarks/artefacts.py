"""What a denoiser may add that is not there: `python -m benchmarks.artefacts MODEL...` prints a table.

Bundled names or model files of frames along time. The frames are simulated noise; no truth is needed.
"""

from __future__ import annotations

import click
import numpy as np
from numpy.typing import NDArray

import lowdose

Frames = NDArray[np.float32]

SIDE_PX = 192
N_FRAMES = 32
LEVEL, NOISE_STD = 100.0, 10.0
PITCHES_PX = (4, 8, 24)
AROUND = np.array([-3, -2, -1, 1, 2, 3])
SPOT_STDS = 20.0
FAR_PX = 12


def peak_over_surroundings(frames: Frames, pitch_px: int) -> float:
    """Largest mean power of frames (n, side, side) at a multiple of 1 / pitch_px on both axes, against its neighbours.

    These are six frequencies in its row and six in its column; the larger of their medians counts, because a step at
    the edge of a frame shows as a line along an axis. One: no peak.
    """
    contrast = frames - frames.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(contrast)) ** 2).mean(axis=0)
    side = frames.shape[-1]
    worst = 0.0
    for ky in range(0, side, side // pitch_px):
        for kx in range(0, side, side // pitch_px):
            if (ky, kx) != (0, 0):
                beside, above = power[ky, (kx + AROUND) % side], power[(ky + AROUND) % side, kx]
                worst = max(worst, float(power[ky, kx] / max(np.median(beside), np.median(above))))
    return worst


def measure(model: lowdose.Model) -> dict[str, float]:
    """Named numbers for one model."""
    n_channels = len(model.channels)
    rng = np.random.default_rng(0)
    noise = rng.normal(LEVEL, NOISE_STD, (N_FRAMES, n_channels, SIDE_PX, SIDE_PX)).astype(np.float32)

    def denoise(frames: Frames) -> Frames:
        stack = frames if n_channels > 1 else frames[:, 0]
        result: Frames = model.denoise(stack).reshape(frames.shape)
        return result

    flat = denoise(noise)
    spot = noise.copy()
    middle = SIDE_PX // 2
    spot[:, 0, middle, middle] += SPOT_STDS * NOISE_STD * (np.arange(N_FRAMES) == N_FRAMES // 2)
    change = np.abs(denoise(spot) - flat)[:, 0] / (SPOT_STDS * NOISE_STD)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - middle
    far = np.hypot(y, x) > FAR_PX
    scaled = denoise(3 * noise + 50)
    means_in, means_out = noise.mean(axis=(2, 3)), flat.mean(axis=(2, 3))
    residual = noise - flat
    residual -= residual.mean()
    values = {
        f"noise, peak at 1/{p}": peak_over_surroundings(flat.reshape(-1, SIDE_PX, SIDE_PX), p) for p in PITCHES_PX
    }
    return values | {
        "noise left": float(flat.std() / NOISE_STD),
        "residual, neighbours": float((residual[..., 1:] * residual[..., :-1]).mean() / residual.var()),
        "bright pixel, kept": float(change.max()),
        f"bright pixel, beyond {FAR_PX} px": float(change[:, far].max()),
        "gain": float(np.abs(scaled - 3 * flat - 50).max() / np.ptp(scaled)),
        "level of a frame": float(np.abs(means_out - means_in).max() / NOISE_STD),
    }


@click.command()
@click.argument("names", nargs=-1, required=True)
def main(names: tuple[str, ...]) -> None:
    """Print a Markdown table, a column for each model."""
    results = [measure(lowdose.load(name, device="cpu")) for name in names]
    click.echo(f"| {' | '.join(['', *names])} |\n|{'---|' * (len(names) + 1)}")
    for key in results[0]:
        click.echo(f"| {key} | {' | '.join(f'{result[key]:.2g}' for result in results)} |")


if __name__ == "__main__":
    main()
