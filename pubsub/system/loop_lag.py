"""Measures the lag of the event loop: the time for which a callback waits that is due. Nothing here stores it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

PERIOD: Final = 0.1  # seconds


async def measured_lag(observe: Callable[[float], None], *, period: float = PERIOD) -> AsyncIterator[None]:
    """Give each lag in seconds to ``observe``, ten times a second, as long as this context of an Application lasts."""
    loop = asyncio.get_running_loop()
    due, timer = 0.0, None

    def begin() -> None:
        nonlocal due, timer
        due = time.monotonic() + period
        timer = loop.call_later(period, measure)

    def measure() -> None:
        observe(max(0.0, time.monotonic() - due))
        begin()

    begin()
    yield
    if timer is not None:
        timer.cancel()
