"""What the C library does with memory that was freed: kept for what comes next, or given back to the machine.

Knows nothing of what used it. Only glibc can be told.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

PERIOD: Final = 60.0  # seconds
LARGEST: Final = 4 * 1024 * 1024  # bytes of a block that may be kept
KEPT: Final = 8 * 1024 * 1024
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # of glibc's malloc.h
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


def keep_freed() -> None:
    """Have freed blocks used again, up to KEPT bytes of them, where they would go back to the machine at once.

    The kernel takes 0.2 to 3 µs for each page that it gives out anew: for a message of a MiB, which is copied some
    times, that was 4 of 6 ms.
    """
    if mallopt := _c_function("mallopt"):
        mallopt(_M_MMAP_THRESHOLD, LARGEST)
        mallopt(_M_TRIM_THRESHOLD, KEPT)


def trim() -> None:
    """Takes about 1 ms."""
    if trim_heap := _c_function("malloc_trim"):
        trim_heap(0)


def _c_function(name: str) -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), name, None)
