"""REUCID (`lowdose.reucid`) as a method: every image for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lowdose import reucid
from lowdose.errors import LowdoseError
from lowdose.methods.frame_by_frame import FrameByFrame
from lowdose.methods.method import FrameStream, Options
from lowdose.source import FrameSource


class Reucid:
    """The rapid eigenpatch utility classifier: no parameters."""

    name = "reucid"
    device = "cpu"
    runtime = "eigenpatches"

    def prepare(self, frames: FrameSource, options: Options) -> PreparedReucid:
        if options.settings.cutoff is not None or options.settings.weight_set is not None:
            raise LowdoseError("reucid takes no low-pass and no weight set: leave out --lowpass")
        return PreparedReucid(options)


@dataclass(frozen=True)
class PreparedReucid:
    options: Options

    @property
    def report(self) -> dict[str, Any]:
        return {"n_stacks": 1}

    @property
    def summary(self) -> str:
        return "every frame for itself, with eigenpatches of its own"

    alone = True

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        def denoise(image: NDArray[np.float32]) -> NDArray[np.float32]:
            return reucid.denoise(image, threads=max(1, self.options.threads))

        return FrameByFrame(denoise, out_dtype)
