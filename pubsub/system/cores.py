"""Shares a core between the event loop and the threads of this process that wait for it.

A kernel without preemption leaves the core to a busy loop until the next tick of its clock, up to 4 ms, each time that
a thread has waited for the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from math import inf
from typing import Final

# The threads of this process need the core for less than that. If it was away for longer, another program had it, with
# a slice of 3 ms.
FOREIGN_TIME: Final = 0.001  # seconds
SHARE: Final = 0.01  # the most of the loop's time that other programs get by it
LONGEST_BREAK: Final = 1.0  # seconds; the whole process may have been stopped meanwhile

SCHED_YIELD: Final[Callable[[], object] | None] = getattr(os, "sched_yield", None)  # not everywhere


class SharedCore:
    """Offers the core. ``sched_yield`` gives core and GIL to the threads that wait for them, until they wait again.

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
        """Let waiting threads run, unless that cost too much a moment ago. Takes 1 µs if none waits."""
        if self._sched_yield is None or not self.wanted:
            return
        before = self._now()
        if before >= self._next:
            self._sched_yield()
            taken = self._now() - before
            if taken > FOREIGN_TIME:
                self._next = before + taken + min(taken / SHARE, LONGEST_BREAK)
