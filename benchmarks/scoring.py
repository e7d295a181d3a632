"""How the simulated sets are scored: a method runs as `lowdose denoise` runs it, and is compared with the truth."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.cases import Case
from numpy.typing import NDArray

from lowdose.methods import find_method
from lowdose.metrics import psnr, ssim
from lowdose.pipeline import Job, denoise_file


def score(case: Case, truth: NDArray[Any], result: NDArray[Any]) -> list[dict[str, float]]:
    """PSNR and SSIM per channel, over all frames, inside and at the edge."""
    scan = (truth.shape[0], truth.shape[1]) if case.kind == "scan" else None
    height, width = truth.shape[-2:]
    n_channels = truth.shape[1] if case.kind == "channels" else 1
    clean, denoised = (array.reshape(-1, n_channels, height, width) for array in (truth, result))
    edge = case.edges(len(clean), scan)
    scores = []
    for channel in range(n_channels):
        one, other = clean[:, channel], denoised[:, channel]
        span = float(np.ptp(one))
        entry = {"psnr": psnr(one, other), "ssim": ssim(one, other) or 0.0}
        if len(clean) > 1:
            entry["inner"] = psnr(one[~edge], other[~edge], data_range=span)
            entry["edge"] = psnr(one[edge], other[edge], data_range=span)
        scores.append(entry)
    return scores


def denoised(source: Path, case: Case, name: str, folder: Path) -> tuple[NDArray[Any], str]:
    """What `lowdose denoise` gives, and what it chose; a method of one channel takes the channels one by one."""
    results, summaries = [], []
    for channel in channels_of(case, name):
        out = folder / "denoised.npy"
        job = Job(axes=case.axes, channel=channel, overwrite=True, threads=1)
        of_channel = folder / f"{name}-{channel}.onnx"
        method = find_method(str(of_channel) if of_channel.exists() else name, device="cpu")
        report = denoise_file(source, out, method, job)
        results.append(np.load(out))
        summaries.append(report["summary"].splitlines()[0])
    result = results[0] if len(results) == 1 else np.stack(results, axis=1)
    return result, "; ".join(dict.fromkeys(summaries))


def channels_of(case: Case, name: str) -> list[int | None]:
    """The channels that are denoised one after the other; None: all at once."""
    return [0, 1] if case.kind == "channels" and name.startswith("udvd") else [None]


def measured(data: Path, case: Case, name: str, folder: Path) -> dict[str, Any]:
    """Scores of a method; `folder` may hold model files NAME-CHANNEL.onnx, one for each channel."""
    start = time.perf_counter()
    result, chosen = denoised(data / case.noisy, case, name, folder)
    seconds = time.perf_counter() - start
    return {"scores": score(case, case.read_truth(data), result), "chosen": chosen, "seconds": round(seconds, 1)}


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
