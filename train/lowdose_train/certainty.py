"""What measurements that scatter say for certain."""

from __future__ import annotations

from torch import Tensor

SCORES = 3.0
"""Standard errors below the mean, of a normal distribution."""


def certain(values: Tensor) -> float:
    """How large the mean of measurements (n,) is at least: SCORES standard errors below what they say, and more where
    their scatter is known from few of them (Student's t, to first order). Nothing is certain from one alone: 0."""
    n = len(values)
    if n < 2:
        return 0.0
    scores = SCORES * (1 + (SCORES**2 + 1) / (4 * (n - 1)))
    return float(values.mean() - scores * values.std() / n**0.5)
