"""The smallest part of a list of steps that still leads to a failure (delta debugging). No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shrink(steps: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """Leave out more and more of the steps, in halves, quarters and so on, as long as they still fail."""
    size = max(1, len(steps) // 2)
    while True:
        before = len(steps)
        start = 0
        while start < len(steps):
            fewer = [*steps[:start], *steps[start + size :]]
            if fewer and fails(fewer):
                steps = fewer
            else:
                start += size
        if size == 1 and len(steps) == before:
            return steps
        size = max(1, size // 2)
