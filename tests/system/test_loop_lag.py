"""The lag of the event loop: measured as long as the context lasts, and as long as the loop was busy."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

from pubsub.system.loop_lag import measured_lag
from tests.harness import eventually

PERIOD = 0.01  # seconds
BUSY = 0.1


async def test_a_busy_loop_lags_by_so_much() -> None:
    lags: list[float] = []
    async with asynccontextmanager(measured_lag)(lags.append, period=PERIOD):
        await eventually(lambda: len(lags) > 2)
        assert all(lag >= 0 for lag in lags)
        lags.clear()
        time.sleep(PERIOD + BUSY)  # noqa: ASYNC251 - the loop is to be busy
        await eventually(lambda: len(lags) > 0)
        assert max(lags) >= BUSY / 2
    count = len(lags)
    await asyncio.sleep(3 * PERIOD)
    assert len(lags) == count
