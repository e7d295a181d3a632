"""The verdict on each eigenpatch: a small network that sees eigenpatches and eigenvalues, and never the image."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError
from lowdose.model import bundled_models
from lowdose.reucid.eigenpatches import Eigenpatches

SIDE_PX = 25
# Of the logarithm; stronger eigenpatches are far above any noise, and were not seen in training.
LARGEST_RATIO = 10.0

Inputs = dict[str, NDArray[np.float32]]


def classifier_inputs(candidates: Eigenpatches) -> Inputs:
    """What the network sees: `eigenpatch` (n, 1, 25, 25), root mean square about 1, and `eigenvalue` (n, 1).

    The eigenvalue is given as the logarithm of its ratio to the mean of those that are not judged, which is near the
    noise. (The paper takes the ratio to the largest eigenvalue, which says how strong a pattern is, but not whether
    it stands out of the noise.) An eigenpatch has no sign of its own: its sum is made positive.
    """
    patch_px = candidates.patches.shape[1]
    weights = resampling(patch_px)
    pictures = weights @ candidates.patches @ weights.T * patch_px
    signs = np.where(pictures.sum(axis=(1, 2)) < 0, -1.0, 1.0)
    # An image without noise has no rest but rounding, and eigenvalues that are that too, some of them below zero.
    rounding = np.finfo(np.float64).eps * candidates.patches[0].size * candidates.values[0]
    ratios = np.log(np.maximum(candidates.values, rounding) / max(candidates.rest, rounding))
    return {
        "eigenpatch": (pictures * signs[:, None, None])[:, None].astype(np.float32),
        "eigenvalue": np.minimum(ratios, LARGEST_RATIO)[:, None].astype(np.float32),
    }


def resampling(patch_px: int) -> NDArray[np.float64]:
    """Linear interpolation from `patch_px` samples to 25, pixel centres of the same width: (25, patch_px)."""
    at = np.clip((np.arange(SIDE_PX) + 0.5) * patch_px / SIDE_PX - 0.5, 0, patch_px - 1)
    distance = np.abs(at[:, None] - np.arange(patch_px))
    return np.asarray(np.maximum(1 - distance, 0))


class Classifier:
    """An opened model file of the kind `classifier`. Attributes: path, sha256, metadata (dict), runtime."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise LowdoseError(
                "REUCID's classifier needs ONNX Runtime for Python: pip install 'lowdose[cpu]' (or [gpu], [directml])"
            ) from error
        self.path = path
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # a few thousand weights: threads would only wait for each other
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            raise LowdoseError(f"cannot open the model file {path}: {error}") from error
        self.metadata: dict[str, Any] = json.loads(
            self._session.get_modelmeta().custom_metadata_map.get("lowdose", "{}")
        )
        if (self.metadata.get("method"), self.metadata.get("kind")) != ("reucid", "classifier"):
            given = self.metadata.get("method", "no method of lowdose")
            raise LowdoseError(
                f"{path} is no REUCID classifier (it holds {given}); expected a file from python -m "
                "lowdose_export.reucid. A denoiser is opened with lowdose.load"
            )

    def useful(self, candidates: Eigenpatches) -> NDArray[np.bool_]:
        """Which of the eigenpatches show signal, (n,)."""
        (share,) = self._session.run(["useful"], classifier_inputs(candidates))
        return np.asarray(share[:, 0] > 0.5)


@lru_cache(maxsize=4)
def opened(path: Path, modified_ns: int) -> Classifier:
    return Classifier(path)


def load_classifier(name_or_path: str | Path) -> Classifier:
    """Open a bundled classifier by name ("reucid") or a model file by path; it stays open for the next call.

    Raises LowdoseError for a file that is not there, and for one that is no REUCID classifier.
    """
    path = bundled_models().get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise LowdoseError(f"no classifier '{name_or_path}': expected a file or 'reucid'")
    return opened(path.resolve(), path.stat().st_mtime_ns)
