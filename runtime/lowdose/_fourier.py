"""Lengths for which a Fourier transform is quick; shared by wiener and reucid."""

from __future__ import annotations


def fast_length(n: int) -> int:
    """The smallest number >= n without prime factors above 7."""
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
