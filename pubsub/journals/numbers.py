"""Numbers of topics: the lowest free one is used first, because the key of an event has room for 2 million. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush


class Numbers:
    """See the module. ``taken``: the numbers in use, in order. Nothing here takes longer for more topics."""

    def __init__(self, taken: Sequence[int]) -> None:
        self._next = taken[-1] + 1 if taken else 1
        self._free = sorted(set(range(1, self._next)) - set(taken))  # below the highest; a sorted list is a heap

    @property
    def lowest(self) -> int:
        """The lowest free number."""
        return self._free[0] if self._free else self._next

    def take(self) -> None:
        """The lowest free number is in use from now on."""
        if self._free:
            heappop(self._free)
        else:
            self._next += 1

    def give_back(self, number: int) -> None:
        """A number is free again."""
        heappush(self._free, number)
