"""A client that is cancelled at any moment of its life leaves no task, no connection and no error of another kind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from pubsub.client import Client, Event
from tests.harness import PATIENCE, Server, eventually, run_server

TRIES = 3  # lives that end before their cancellation: then every moment has had its turn
STEP = 2  # ticks of the loop between two cancellations


async def test_a_client_can_be_cancelled_at_each_of_its_awaits() -> None:
    async with run_server() as server:
        await server.create("t", presence=True, history=100)
        before = asyncio.all_tasks()
        ended = ticks = 0
        while ended < TRIES:
            ticks += STEP
            ended += await cancel_after(ticks, live(server.url))
            await eventually(partial(is_left, server, before))


def is_left(server: Server, before: set[asyncio.Task[Any]]) -> bool:
    """Return True once the server, whose tasks are in this loop too, has noticed the end of all connections."""
    return server.connections == 0 and asyncio.all_tasks() <= before


async def cancel_after(ticks: int, life: Coroutine[Any, Any, None]) -> bool:
    """Cancel after so many ticks of the loop; return True if it has ended before."""
    task = asyncio.create_task(life)
    for _ in range(ticks):
        await asyncio.sleep(0)
    ended = task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        async with asyncio.timeout(PATIENCE):
            await task
    return ended


async def live(url: str) -> None:
    """Use everything that waits."""

    async def load() -> int:
        return len((await client.history("t", last_n=10)).events)

    async def token() -> str:
        await asyncio.sleep(0)
        return "a"

    async with Client(url, max_outgoing=2) as client:
        await client.publish("t", 1)
        async with client.subscribe("t", last_n=2) as events, client.subscribe(">", load=load) as others:
            await client.publish_many("t", range(5))
            first = await anext(events)
            assert isinstance(first, Event)
            await others.reload()
            await client.presence("t")
            await client.topic("t")
            await events.close()
        async with client.subscribe("t"):
            await client.purge("t")
