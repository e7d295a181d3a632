"""A model file of Noise2Void in int8: static quantisation by ONNX Runtime, calibrated and scored on simulated frames.

Everything at half the frame's resolution and below takes uint8 activations and int8 weights, with one scale per output
channel, as QuantizeLinear and DequantizeLinear nodes. At the frame's own resolution it stays float: there rounding
errors stand in the result, and pixels far brighter than the rest leave few levels to the others. What is farther from
the mean, in standard deviations, than anything in the calibration is clipped.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from lowdose.errors import LowdoseError
from lowdose.metrics import psnr
from lowdose.model import load
from lowdose.simulate import hrtem_movie, stem_movie
from lowdose_export.memory import bytes_per_px
from lowdose_export.model_file import check_out, set_metadata
from lowdose_export.windowed import MEMORY_SIDES_PX, window_moments
from lowdose_train.bundled_unets import GAUSSIAN_SHARE, INPUT_PSNR_DB, at_input_psnr

METHOD = "n2v"
LARGEST_LOSS_DB = 0.1
CALIBRATION_SEEDS = range(3000, 3016)
SCORED_SEEDS = range(4000, 4016)
"""Neither was trained on (`lowdose_train.bundled_unets`)."""
SIDE_PX = 256
TIMED_SIDE_PX = 512
TIMED_ROUNDS = 5

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Int8Report:
    """PSNR lost against the float model, mean and largest over the scored frames; ms per frame on one thread."""

    lost_db: float
    most_lost_db: float
    float_ms: float
    int8_ms: float


def quantise(path: Path, out: Path, *, overwrite: bool = False, force: bool = False) -> Int8Report:
    """Write the model file `path` in int8 to `out`, and compare both on simulated frames with known truth.

    Raises LowdoseError, and leaves nothing under `out`, for a model of another method or precision, for an existing
    file without `overwrite`, and without `force` when more than LARGEST_LOSS_DB are lost.
    """
    check_out(out, overwrite)
    floating = load(str(path), device="cpu")
    metadata = floating.metadata
    if metadata["method"] != METHOD or "precision" in metadata:
        raise LowdoseError(
            f"{path} holds {metadata['method']} in {metadata.get('precision', 'float32')}; int8 is for float models of "
            f"{METHOD}, the others gain nothing from it"
        )
    frames = [simulated(seed, len(floating.channels))[0] for seed in CALIBRATION_SEEDS]
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / out.name
        write_int8(path, unfinished, frames)
        model = onnx.load(unfinished)
        metadata["precision"] = "int8"
        metadata["bytes_per_px"] = bytes_per_px(unfinished, metadata, MEMORY_SIDES_PX)
        set_metadata(model, metadata)
        onnx.save(model, unfinished)
        report = compare(path, unfinished)
        if report.lost_db > LARGEST_LOSS_DB and not force:
            raise LowdoseError(
                f"int8 loses {report.lost_db:.2f} dB, more than {LARGEST_LOSS_DB}; --force writes the file all the same"
            )
        metadata["calibration"] = {
            "data": f"simulated, seeds {CALIBRATION_SEEDS.start} to {CALIBRATION_SEEDS.stop - 1}",
            "lost_db": round(report.lost_db, 3),
            "most_lost_db": round(report.most_lost_db, 3),
        }
        set_metadata(model, metadata)
        onnx.save(model, unfinished)
        unfinished.replace(out)
    return report


def simulated(seed: int, n_channels: int) -> tuple[Frames, Frames]:
    """A noisy frame (n_channels, height, width) and its truth: lattices for one channel, adatoms for any number."""
    rng = np.random.default_rng([seed, 5])
    size: dict[str, Any] = {"n_frames": 1, "height": SIDE_PX, "width": SIDE_PX}
    if n_channels == 1 and seed % 2:
        clean = hrtem_movie(
            seed, pixel_size_angstrom=rng.uniform(0.06, 0.22), support=bool(seed % 4 == 1), **size
        ).clean
    else:
        density = float(np.exp(rng.uniform(np.log(0.05), np.log(5.0))))
        movie = stem_movie(seed, pixel_size_angstrom=rng.uniform(0.1, 0.26), adatoms_per_nm2=density, **size).clean
        clean = movie[:, (np.arange(n_channels) + seed // 2) % movie.shape[1]][0]
    pairs = [at_input_psnr(plane, rng, rng.uniform(*INPUT_PSNR_DB), rng.uniform(*GAUSSIAN_SHARE)) for plane in clean]
    return np.stack([noisy for noisy, _ in pairs]).astype(np.float32), np.stack([truth for _, truth in pairs])


class Feeds:
    """What ONNX Runtime reads the calibration from: the inputs of the graph, frame by frame, then None."""

    def __init__(self, frames: list[Frames]) -> None:
        self.frames = iter(frames)

    def get_next(self) -> dict[str, Frames] | None:
        frame = next(self.frames, None)
        if frame is None:
            return None
        offset, scale = window_moments(frame[None])
        return {"frame_0": frame[None], "offset": offset, "scale": scale}


def write_int8(path: Path, out: Path, frames: list[Frames]) -> None:
    """Quantise `path` with ranges from `frames` (n_channels, height, width); leaves a second file beside `out`."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = node.output[0]  # ONNX Runtime chooses nodes by name
    prepared = out.with_name("prepared.onnx")
    quant_pre_process(model, prepared, skip_symbolic_shape=True, skip_optimization=True)
    quantize_static(
        prepared,
        out,
        Feeds(frames),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_quantize=below_full_resolution(model.graph),
    )


def below_full_resolution(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the first pooling until the frame has its own size again."""
    operators = [node.op_type for node in graph.node]
    last = max(i for i, operator in enumerate(operators) if operator == "Resize")
    return [node.name for node in graph.node[operators.index("AveragePool") : last]]


def compare(path: Path, int8: Path) -> Int8Report:
    """Score both on frames that the calibration has not seen; time them in turn."""
    models = [load(str(file), device="cpu") for file in (path, int8)]
    n_channels = len(models[0].channels)
    lost = []
    for seed in SCORED_SEEDS:
        noisy, truth = simulated(seed, n_channels)
        results = [model.denoise(noisy if n_channels > 1 else noisy[0]).reshape(noisy.shape) for model in models]
        lost += [psnr(t, before) - psnr(t, after) for t, before, after in zip(truth, *results, strict=True)]
    shape = (n_channels, TIMED_SIDE_PX, TIMED_SIDE_PX)
    frame = np.random.default_rng(0).poisson(5, shape if n_channels > 1 else shape[1:]).astype(np.float32)
    streams = [model.stream(TIMED_SIDE_PX, TIMED_SIDE_PX, threads=1) for model in models]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + TIMED_ROUNDS):
        for stream, taken in zip(streams, times, strict=True):
            start = time.perf_counter()
            stream.push(frame)
            taken.append(1e3 * (time.perf_counter() - start))
    return Int8Report(mean(lost), max(lost), *(median(taken[1:]) for taken in times))
