"""Tells the C library what to do with freed memory: keep it for the next use, or give it back to the system.

Only glibc can be told. Nothing here knows what used the memory.
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
    """Give memory back whenever many clients have left, as long as this context of an Application lasts.

    By itself the C library keeps it: 10 MiB of 10,000 clients. ``left`` returns the number of clients that have left in
    all.
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
    """Have up to KEPT bytes of freed blocks used again; by default they go back to the system at once.

    The kernel takes 0.2 to 3 µs for each page that it hands out again: for a message of a MiB, which is copied several
    times, that was 4 of 6 ms.
    """
    if mallopt := _c_function("mallopt"):
        mallopt(_M_MMAP_THRESHOLD, LARGEST)
        mallopt(_M_TRIM_THRESHOLD, KEPT)


def trim() -> None:
    """Give back what is free. Takes about 1 ms."""
    if trim_heap := _c_function("malloc_trim"):
        trim_heap(0)


def _c_function(name: str) -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), name, None)
