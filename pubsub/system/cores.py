"""Who has the core: the loop, or a thread of this process that waits for it.

A kernel without preemption leaves it to a loop with much to do until its next tick, up to 4 ms, each time that a thread
has waited for the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from math import inf
from typing import Final

# Threads of this process need it for less than that: who kept it longer was another program, and gets a slice of 3 ms.
LONG: Final = 0.001  # seconds
SHARE: Final = 0.01  # the most that other programs get of the loop's time by it
LONGEST_BREAK: Final = 1.0  # seconds; the whole process may have been stopped meanwhile

SCHED_YIELD: Final[Callable[[], object] | None] = getattr(os, "sched_yield", None)  # not everywhere


class SharedCore:
    """``sched_yield``: gives core and GIL to whoever waits for them; returns when they wait again or are done.

    ``wanted``: a thread of this process may be waiting. Without it, nothing is offered.
    """

    def __init__(
        self,
        sched_yield: Callable[[], object] | None = SCHED_YIELD,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sched_yield = sched_yield
        self._now = now
        self._next = -inf
        self.wanted = False

    def offer(self) -> None:
        """Takes 1 µs if nobody waits."""
        if self._sched_yield is None or not self.wanted:
            return
        before = self._now()
        if before >= self._next:
            self._sched_yield()
            taken = self._now() - before
            if taken > LONG:
                self._next = before + taken + min(taken / SHARE, LONGEST_BREAK)
