"""UDVD and Noise2Void in the width that is bundled and as published, ms per frame, for `benchmarks.speed`.

The published widths have random weights. Noise2Void in int8 too, as `lowdose export --int8` makes it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from benchmarks.udvd_cache import network_of, timed_push

from lowdose.model import Settings, bundled_models, load
from lowdose_export.quantise import TIMED_SIDE_PX, quantise
from lowdose_export.udvd import movie_model
from lowdose_export.windowed import windowed_model_of
from lowdose_train.noise2void import noise2void_network

WIDTHS = ("lite", "full")
N_WARM_UP, N_TIMED = 3, 3


def noise2void_file(width: str, folder: Path) -> Path:
    if width == "lite":
        return bundled_models()["n2v-lite"]
    network = noise2void_network(1, width)
    network.draw(torch.Generator().manual_seed(0))
    onnx.save(windowed_model_of(network, {"name": "random"}), folder / "n2v.onnx")
    return folder / "n2v.onnx"


def udvd_ms(width: str, folder: Path) -> float:
    path = folder / f"udvd-{width}.onnx"
    onnx.save(movie_model(network_of(width), {"name": width}), path)
    side = TIMED_SIDE_PX
    stream = load(str(path), device="cpu").stream(side, side, np.uint16, settings=Settings(0, None, 0.0), threads=1)
    frames = np.random.default_rng(0).poisson(3, (N_WARM_UP + N_TIMED, side, side)).astype(np.uint16)
    return statistics.median([1e3 * timed_push(stream, frame)[0] for frame in frames][N_WARM_UP:])


def rows() -> Iterator[str]:
    """A Markdown table."""
    yield "| network | lite | lite, int8 | full | full, int8 |"
    yield "|" + "---|" * 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reports = [quantise(noise2void_file(w, folder), folder / f"int8-{w}.onnx", force=True) for w in WIDTHS]
        times = [f"{ms:.0f}" for report in reports for ms in (report.float_ms, report.int8_ms)]
        yield f"| n2v | {' | '.join(times)} |"
        lite, full = (udvd_ms(width, folder) for width in WIDTHS)
        yield f"| udvd | {lite:.0f} | - | {full:.0f} | - |"
        lost, most = reports[0].lost_db, reports[0].most_lost_db
        yield f"\nInt8 costs n2v-lite {lost:.3f} dB on simulated frames, {most:.3f} at worst."
