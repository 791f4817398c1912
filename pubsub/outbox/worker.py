"""The worker of an outbox: has the lease, hands rows over when they come, and connects again after a loss.

It must never end because the database or the server is away. At its start, the database must be there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pubsub.client.pauses import Pauses
from pubsub.outbox.database import Outbox, connect
from pubsub.outbox.handover import Handover
from pubsub.outbox.lease import Lease

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from pubsub.client.rest import RestClient

log = logging.getLogger(__name__)

LEASE_POLL_SEC: Final = 1.0
LONGEST_PAUSE_SEC: Final = 5.0


class Worker:
    """See the module. ``poll``: seconds after which it looks for rows although no notification came."""

    def __init__(self, dsn: str, schema: str, rest: RestClient, *, poll: float) -> None:
        self._dsn = dsn
        self._schema = schema
        self._poll = poll
        self._end = asyncio.Event()
        self._random = Random()
        self._handover = Handover(rest, time.monotonic, self._random)

    def end(self) -> None:
        """Finish the batch that is on its way, then end."""
        self._end.set()

    async def run(self) -> None:
        """Work until :meth:`end`. Raises OutboxError, Unauthorized, and psycopg.Error if it cannot even start."""
        pauses = Pauses(self._random, LONGEST_PAUSE_SEC)
        started, told = False, ""
        while not self._end.is_set():
            try:
                async with AsyncExitStack() as stack:
                    outbox, lease = await self._open(stack)
                    if not started:
                        log.info("Outbox opened: %(table)s", {"table": outbox.name})
                        started = True
                    pauses.reset()
                    told = ""
                    await self._work(outbox, lease)
            except psycopg.Error as error:
                if not started:
                    raise
                if told != (text := one_line(error)):
                    told = text
                    log.warning("Database is lost: %(error)s", {"error": text})
                await self._sleep(pauses.next())
        log.info("Outbox closed: %(count)d rows handed over", {"count": self._handover.count})

    async def _open(self, stack: AsyncExitStack) -> tuple[Outbox, Lease]:
        outbox = Outbox(await self._connect(stack), self._schema)
        await outbox.open()
        return outbox, Lease(await self._connect(stack), outbox.table)

    async def _connect(self, stack: AsyncExitStack) -> AsyncConnection[Any]:
        connection = await connect(self._dsn)
        stack.push_async_callback(connection.close)
        return connection

    async def _work(self, outbox: Outbox, lease: Lease) -> None:
        if not await lease.take():
            log.info("Another worker has the outbox: waits until that ends")
            while not await lease.take():
                await self._sleep(LEASE_POLL_SEC)
                if self._end.is_set():
                    return
        log.info("Outbox taken")
        while not self._end.is_set():
            await lease.check()
            await self._handover.empty(outbox, lease, self._end)
            if self._handover.pause:
                await self._sleep(self._handover.pause)
            else:
                due = self._handover.holds.next_in()
                await outbox.wait(self._poll if due is None else min(self._poll, due), self._end)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not after :meth:`end`."""
        try:
            async with asyncio.timeout(seconds):
                await self._end.wait()
        except TimeoutError:
            pass


def one_line(error: psycopg.Error) -> str:
    """Return the text of an error without its details, which may have values of a row."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split())
