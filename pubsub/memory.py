"""Memory that the process has no more use for, given back to the machine. Knows nothing of what used it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

PERIOD: Final = 60.0  # seconds
WORTHWHILE: Final = 1000  # clients that must have left since the last time: about a MiB


async def given_back(left: Callable[[], int], *, period: float = PERIOD) -> AsyncIterator[None]:
    """As long as this context of an Application lasts, give memory back whenever many clients have left.

    The C library keeps what it has once got: of 10,000 clients that have left, 10 MiB. ``left``: how many have, in all.
    """
    looking = asyncio.create_task(_look(left, period))
    yield
    looking.cancel()


async def _look(left: Callable[[], int], period: float) -> None:
    before = 0
    while True:
        await asyncio.sleep(period)
        if left() - before >= WORTHWHILE:
            trim()
            before = left()


def trim() -> None:
    """Takes about 1 ms. Only glibc has it."""
    if sys.platform == "linux":
        import ctypes  # 0.3 MiB, so not before there is more to win

        trim_heap = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim_heap is not None:
            trim_heap(0)
