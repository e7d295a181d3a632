"""`lowdose export MODEL --half`: a model file in half precision, if simulated data with known truth show no loss."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.metrics import psnr
from lowdose.model import Model, Settings, load
from lowdose.simulate import diffraction_scan, hrtem_movie, stem_movie
from lowdose_export import bfn, memory, udvd, windowed
from lowdose_export.engine_graph import contract_of
from lowdose_export.half import to_half
from lowdose_export.model_file import check_out, set_metadata

LARGEST_LOSS_DB = 0.05
LARGEST_DIFFERENCE = 0.02
"""To the float32 model, as a share of its range: more is no rounding."""
SEEDS = range(5000, 5004)
"""Not trained on; in turns of the doses."""
DOSES_PER_PX = (0.5, 5.0, 50.0, 500.0)
SIDE_PX = 96
N_FRAMES = 4
SCAN = (3, 4)
CUTOFF = 1 / 7

MEMORY_SIDES_PX = {
    "wcvd": memory.SIDES_PX,
    "wcid": memory.SIDES_PX,
    "udvd": udvd.MEMORY_SIDES_PX,
    "udvd-4d": udvd.MEMORY_SIDES_PX,
    "n2v": windowed.MEMORY_SIDES_PX,
    "synthesis3d": windowed.BLOCK_MEMORY_SIDES_PX,
    "bfn": bfn.MEMORY_SIDES_PX,
}
"""Of all methods that there is half precision for."""

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class HalfReport:
    """PSNR lost against the float32 model, mean and largest over the data; largest difference, of the range."""

    lost_db: float
    most_lost_db: float
    difference: float


def write_half(path: Path, out: Path, *, overwrite: bool = False, force: bool = False) -> HalfReport:
    """Write the model file `path` in half precision to `out`, and compare both on simulated data with known truth.

    Raises LowdoseError, and leaves nothing under `out`, for a model of another method or precision, for an existing
    file without `overwrite`, when the two differ by more than rounding does, and without `force` when more than
    LARGEST_LOSS_DB are lost. The loss is that of values in float16 and sums in float32 (`lowdose_export.half`).
    """
    check_out(out, overwrite)
    model = onnx.load(path)
    metadata = contract_of(model, path)
    if metadata["method"] not in MEMORY_SIDES_PX or "precision" in metadata:
        raise LowdoseError(
            f"{path} holds {metadata['method']} in {metadata.get('precision', 'float32')}; half precision is for "
            f"float32 models of {', '.join(MEMORY_SIDES_PX)}"
        )
    half = to_half(model, metadata)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / out.name
        onnx.save(half, unfinished)
        emulated = Path(folder) / "emulated.onnx"
        onnx.save(to_half(model, metadata, emulated=True), emulated)
        report = compare(load(path, device="cpu"), load(unfinished, device="cpu"), load(emulated, device="cpu"))
        if not report.difference <= LARGEST_DIFFERENCE:
            raise LowdoseError(f"half precision differs by {report.difference:.1e} of the range; this is no rounding")
        if report.most_lost_db > LARGEST_LOSS_DB and not force:
            raise LowdoseError(
                f"half precision loses up to {report.most_lost_db:.3f} dB, more than {LARGEST_LOSS_DB}; --force writes "
                "the file all the same"
            )
        metadata["precision"] = "fp16"
        metadata["precision_loss"] = {
            "data": f"simulated, seeds {SEEDS.start} to {SEEDS.stop - 1}, {DOSES_PER_PX} electrons per pixel",
            "lost_db": round(report.lost_db, 4),
            "most_lost_db": round(report.most_lost_db, 4),
            "difference": float(f"{report.difference:.2g}"),
        }
        metadata["bytes_per_px"] = memory.bytes_per_px(unfinished, metadata, MEMORY_SIDES_PX[metadata["method"]])
        set_metadata(half, metadata)
        onnx.save(half, unfinished)
        unfinished.replace(out)
    return report


def compare(full: Model, half: Model, emulated: Model) -> HalfReport:
    """`half`, the file, must run and agree; `emulated`, which rounds as float16 does, gives the loss."""
    lost, differences = [], []
    n_sets = len(full.metadata["weight_sets"])
    for noisy, truth in simulated(len(full.channels), full.scan):
        for weight_set in range(n_sets):
            settings = Settings(weight_set, CUTOFF, 0.0) if full.has_choice else None
            before, file, rounded = (model.denoise(noisy, settings=settings) for model in (full, half, emulated))
            lost.append(psnr(truth, before) - psnr(truth, rounded))
            differences += [float(np.abs(after - before).max() / np.ptp(before)) for after in (file, rounded)]
    return HalfReport(float(np.mean(lost)), float(np.max(lost)), float(np.max(differences)))


def simulated(n_channels: int, scan: bool) -> Iterator[tuple[Frames, Frames]]:
    """Counted electrons and what was expected of them, in the shapes that `Model.denoise` takes."""
    for seed, dose in zip(SEEDS, DOSES_PER_PX, strict=True):
        if scan:
            clean = diffraction_scan(seed, scan_y=SCAN[0], scan_x=SCAN[1], height=SIDE_PX, width=SIDE_PX).clean
        elif n_channels == 1 and seed % 2:
            clean = hrtem_movie(seed, n_frames=N_FRAMES, height=SIDE_PX, width=SIDE_PX).clean
        else:
            movie = stem_movie(seed, n_frames=N_FRAMES, height=SIDE_PX, width=SIDE_PX).clean
            clean = movie[:, 0] if n_channels == 1 else movie[:, np.arange(n_channels) % movie.shape[1]]
        truth = (clean * (dose / clean.mean())).astype(np.float32)
        yield np.random.default_rng(seed).poisson(truth).astype(np.float32), truth
