"""Quantiles of a histogram, estimated as Prometheus does it: evenly within a bucket. No I/O."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value that ``part`` of the measured values do not exceed; None without values.

    A value above all bounds counts as the last bound.
    """
    rank = part * sum(counts)
    if rank == 0:
        return None
    passed = 0
    for index, count in enumerate(counts[:-1]):
        if passed + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (rank - passed) / count
        passed += count
    return bounds[-1]


def difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    """The counts of the values that came between two moments."""
    return [late - early for late, early in zip(now, before, strict=True)]
