"""By how much the longer of two answers is longer: bins for the accuracy of rewards and of "longer wins"."""

from __future__ import annotations

LENGTH_BINS = ((0.0, 0.25, "under 25 %"), (0.25, 1.0, "25 to 100 %"), (1.0, float("inf"), "over 100 %"))
"""(from, below, name) of each bin."""


def length_difference(one: float, other: float) -> float:
    """How much longer the longer of two lengths is, relative to the shorter.

    >>> length_difference(30, 20), length_difference(0, 3)
    (0.5, 3.0)
    """
    short, long = sorted((one, other))
    return (long - short) / max(1, short)


def length_bin(one: float, other: float) -> str:
    """The name of the bin of two lengths."""
    difference = length_difference(one, other)
    return next(name for low, high, name in LENGTH_BINS if low <= difference < high)
