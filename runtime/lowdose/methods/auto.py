"""`--model auto`: the method with the smallest estimated error on a sample of the user's own noisy data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lowdose.errors import LowdoseError
from lowdose.methods.bfn import NAMES, Bfn, PreparedBfn
from lowdose.methods.classical import candidates
from lowdose.methods.method import FrameStream, Method, Options, Prepared
from lowdose.methods.network import Network
from lowdose.methods.reucid import Reucid
from lowdose.methods.risk import Sample, relative_risk, take_sample
from lowdose.methods.wiener import PreparedWiener, Wiener
from lowdose.model import Model, bundled_models, load
from lowdose.source import FrameSource
from lowdose.wiener.movie import N_BANDS


class Auto:
    """Tries every method that fits the data, the classical filters in several strengths, and takes the best."""

    name = "auto"
    runtime = "by the data"

    def __init__(self, device: str) -> None:
        self.device = device

    def prepare(self, frames: FrameSource, options: Options) -> PreparedAuto:
        if options.settings.weight_set is not None or options.settings.cutoff is not None:
            raise LowdoseError("auto chooses weights and low-pass itself: leave out --lowpass")
        blind = Wiener().prepare(frames, options)
        sample = take_sample(frames, blind)
        of_filter = relative_risk(blind, sample) + optimism(blind)
        table = [Row("wiener", of_filter, "", blind)]
        methods = list(applicable(frames, self.device))
        try:
            methods += [(method.name, method) for method in candidates(frames)]
        except LowdoseError as error:  # the extra [analysis] is not there
            table.append(Row("classical filters", np.inf, str(error), blind))
        for name, method in methods:
            try:
                prepared = method.prepare(frames, options)
                table.append(Row(name, risk_of(prepared, sample, of_filter), "", prepared))
            except LowdoseError as error:
                table.append(Row(name, np.inf, str(error), blind))
        table.sort(key=lambda row: row.risk)
        return PreparedAuto(table)


@dataclass(frozen=True)
class Row:
    """risk: estimated mean squared error plus noise, 1 for what the blind filter predicts of the noisy pixels."""

    name: str
    risk: float
    reason: str
    prepared: Prepared


@dataclass(frozen=True)
class PreparedAuto:
    """table: all that was tried, the best first."""

    table: list[Row]

    @property
    def report(self) -> dict[str, Any]:
        tried = [
            {"model": row.name, "risk": None if row.reason else row.risk, "left_out": row.reason} for row in self.table
        ]
        return {"chosen": self.table[0].name, "tried": tried, **self.table[0].prepared.report}

    @property
    def summary(self) -> str:
        best = self.table[0]
        lines = [f"chose {best.name}: {best.prepared.summary}", "estimated error above the best, in % of the noise:"]
        for row in self.table:
            more = row.reason or f"{100 * (row.risk - best.risk):.2f}"
            lines.append(f"    {row.name:24} {more}")
        return "\n  ".join(lines)

    @property
    def alone(self) -> bool:
        return self.table[0].prepared.alone

    def stream(self, frames: FrameSource, out_dtype: DTypeLike) -> FrameStream:
        return self.table[0].prepared.stream(frames, out_dtype)


def risk_of(prepared: Prepared, sample: Sample, of_filter: float) -> float:
    """Estimated error plus noise. of_filter: that of wiener.

    bfn is wiener's filter with a correction, and has measured by how much that lowers the error, on rows that neither
    filter nor correction was fitted to. What is estimated on the sample instead does not know how much of the noise
    that the filter has learned (its optimism) the correction undoes: on single images of crystals all, on short movies
    nothing.
    """
    if not isinstance(prepared, PreparedBfn) or prepared.own_pixel is not None:
        return relative_risk(prepared, sample) + optimism(prepared)
    # The filter that it was measured against was fitted to fewer rows: what all of them cost it, half its optimism,
    # is more there by 1 in N_BANDS - 1.
    more = np.mean(prepared.fitted.report["optimism"]) / 2 / (N_BANDS - 1)
    return float((of_filter + more) * (1 - np.mean([layer.gain for layer in prepared.last_layers])))


def optimism(prepared: Prepared) -> float:
    """By how much the risk of a method that was fitted to the sample's pixels looks too small."""
    fitted = prepared.fitted if isinstance(prepared, PreparedWiener | PreparedBfn) else None
    return float(np.mean(fitted.report["optimism"])) if fitted else 0.0


def applicable(frames: FrameSource, device: str) -> Iterator[tuple[str, Method]]:
    """The networks that take such data, and reucid, with their names.

    Where a frame has neighbours in time, methods for single images are left out.
    """
    for name, model in denoisers(device):
        alone = not model.scan and model.taps == [0]
        fits = len(model.channels) == frames.n_channels and model.scan == (frames.scan is not None)
        single = len(frames) == 1
        if fits and (alone or not single) and (not alone or single or frames.n_channels > 1):
            yield name, Bfn(name, device) if name in NAMES else Network(model)
    if len(frames) == 1:
        yield "reucid", Reucid()


def denoisers(device: str) -> Iterator[tuple[str, Model]]:
    """The bundled models but for REUCID's classifier."""
    for name in bundled_models():
        if name != "reucid":
            yield name, load(name, device=device)
