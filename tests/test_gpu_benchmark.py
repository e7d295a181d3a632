"""`python -m benchmarks.gpu`, as far as it goes without a GPU."""

from __future__ import annotations

import pytest
import torch
from benchmarks import gpu
from benchmarks.gpu_correctness import TOLERANCE, correctness
from click.testing import CliRunner

from lowdose import LowdoseError
from lowdose.model import bundled_models


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_bundled_model_is_compared_with_pytorch(precision):
    found = dict(correctness("cpu", precision))
    assert set(found) == set(bundled_models()) - {"reucid"}
    assert {
        name: share for name, share in found.items() if isinstance(share, str) or share > TOLERANCE[precision]
    } == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    outcome = CliRunner().invoke(gpu.main)
    assert isinstance(outcome.exception, LowdoseError) and "needs an NVIDIA GPU" in str(outcome.exception)
