"""The filters that people use today, as methods: the baseline of every other one. Extra: `[analysis]`."""

from lowdose.methods.classical.filters import FILTERS
from lowdose.methods.classical.method import Classical, candidates

__all__ = ["FILTERS", "Classical", "candidates"]
