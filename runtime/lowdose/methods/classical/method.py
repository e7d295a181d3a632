"""A classical filter as a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lowdose.errors import LowdoseError
from lowdose.methods.classical.choice import (
    NLM_H,
    SIGMAS_FRAMES,
    default_strength,
    noise_stds,
    round_strength,
    sample,
)
from lowdose.methods.classical.filters import FILTERS, Strength, parse, required, written
from lowdose.methods.classical.stream import FilteredStream
from lowdose.methods.method import Options
from lowdose.source import FrameSource


class Classical:
    """Gaussian (in the frame, or also along time or over the scan), total variation, non-local means, bilateral.

    name: "tv", or with the strength "tv:1.2"; `FILTERS` says what its numbers mean. Without it the strength is chosen
    from the noisy frames (`choice.py`). Raises LowdoseError for a wrong strength, for a device other than the CPU, and
    without the extra [analysis].
    """

    device = "cpu"

    def __init__(self, name: str, *, device: str = "auto") -> None:
        if device not in ("auto", self.device):
            raise LowdoseError(f"--device {device}: {name} runs on the CPU only")
        self.name = name
        self.kind, self.strength = parse(name)
        package = FILTERS[self.kind].package
        self.runtime = f"{package} {required(package, self.kind).__version__}"

    def prepare(self, frames: FrameSource, options: Options) -> PreparedClassical:
        if options.settings.cutoff is not None or options.settings.weight_set is not None:
            raise LowdoseError(f"{self.kind} takes no low-pass and no weight set: leave out --lowpass")
        neighbours = sample(frames)
        strength = self.strength or default_strength(self.kind, neighbours)
        return PreparedClassical(options, self.kind, strength, noise_stds(neighbours))


@dataclass(frozen=True)
class PreparedClassical:
    options: Options
    kind: str
    strength: Strength
    noise_stds: list[float]  # per channel

    @property
    def report(self) -> dict[str, Any]:
        return {"filter": written(self.kind, self.strength), "noise_std": self.noise_stds}

    @property
    def summary(self) -> str:
        noise = ", ".join(f"{noise:.3g}" for noise in self.noise_stds)
        return f"{written(self.kind, self.strength)}, noise of standard deviation {noise}"

    @property
    def alone(self) -> bool:
        return self.kind != "gaussian3d"

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FilteredStream:
        return FilteredStream(
            self.kind,
            self.strength,
            self.noise_stds,
            (frames.height, frames.width),
            frames.dtype,
            np.dtype(out_dtype),
            scan=frames.scan,
            max_bytes=self.options.max_bytes,
        )


def candidates(frames: FrameSource) -> list[Classical]:
    """Per filter three to five strengths around that which suits the frames, to choose from by a better measure.

    gaussian3d only where there are several frames. Raises LowdoseError for pixels that are not finite, and without the
    extra [analysis].
    """
    neighbours = sample(frames)
    (sigma,) = default_strength("gaussian", neighbours)
    (weight,) = default_strength("tv", neighbours)
    value_range, spread = default_strength("bilateral", neighbours)
    strengths: list[tuple[str, Strength]] = [
        *(("gaussian", (sigma * step,)) for step in (0.75, 1, 1.3)),
        *(("tv", (weight * step,)) for step in (0.7, 1, 1.4)),
        *(("nlm", (NLM_H * step,)) for step in (0.7, 1, 1.4)),
        *(("bilateral", (value_range * a, spread * b)) for a, b in ((0.5, 1), (1, 0.75), (1, 1))),
    ]
    if len(frames) > 1:
        t, xy = default_strength("gaussian3d", neighbours)
        around = ((0.5, 1.2), (1, 0.8), (1, 1), (1, 1.25), (2, 0.8))
        strengths += [("gaussian3d", (min(t * a, SIGMAS_FRAMES[-1]), xy * b)) for a, b in around]
    names = dict.fromkeys(written(kind, tuple(round_strength(n) for n in numbers)) for kind, numbers in strengths)
    return [Classical(name) for name in names]
