"""Batches on their way from the database to the server. It must never delete a row that the server does not have.

While one batch is published, the next is read, and the rows of the one before are deleted. A batch is published when
the one before has an answer, so the order of a topic is kept over batches too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from pubsub.client.errors import PubsubError, RateLimited, Unauthorized
from pubsub.client.pauses import Pauses
from pubsub.outbox.courier import REQUESTS, Courier, Delivery
from pubsub.outbox.holds import LONGEST_PAUSE_SEC, Holds
from pubsub.outbox.rows import Row

if TYPE_CHECKING:
    from pubsub.client.rest import RestClient
    from pubsub.outbox.database import Outbox
    from pubsub.outbox.lease import Lease

log = logging.getLogger(__name__)

REMEMBERED: Final = 100_000
"""Topics whose option ``dedup_sec`` was looked at: 12 MB."""


class Handover:
    """See the module. ``count``: rows that the server has. ``pause``: seconds for which nothing is to be published."""

    def __init__(self, rest: RestClient, clock: Callable[[], float], random: Random) -> None:
        self.count = 0
        self.holds = Holds(clock, random)
        self.pause = 0.0
        self._rest = rest
        self._courier = Courier(rest)
        self._pauses = Pauses(random, LONGEST_PAUSE_SEC)
        self._away = ""
        self._seen: set[str] = set()

    async def empty(self, outbox: Outbox, lease: Lease, end: asyncio.Event) -> None:
        """Hand over all rows that can be; raises psycopg.Error, and Unauthorized.

        At ``end``, the batch that is on its way is the last.
        """
        self.pause = 0.0
        before = Delivery()
        rows = await outbox.read((), self.holds.waiting())
        while rows and not end.is_set():
            await lease.check()
            before, rows = await self._step(outbox, before, rows)
        await settle(outbox, before)
        if isinstance(before.away, Unauthorized):
            raise before.away

    async def _step(self, outbox: Outbox, before: Delivery, rows: Sequence[Row]) -> tuple[Delivery, list[Row]]:
        """Publish rows, settle the batch before, and read the next one."""
        publishing = asyncio.create_task(self._courier.deliver(rows))
        try:
            await settle(outbox, before)
            following = await outbox.read([row.number for row in rows], self.holds.waiting())
            delivery = await publishing
        finally:
            publishing.cancel()  # only if the database is lost
            await asyncio.gather(publishing, return_exceptions=True)
        await self._note(delivery)
        if delivery.away is not None:
            following = []
        return delivery, [row for row in following if row.topic not in self.holds]

    async def _note(self, delivery: Delivery) -> None:
        self.count += len(delivery.done)
        for topic in delivery.topics:
            self.holds.release(topic)
        new = list(delivery.topics - self._seen)
        for start in range(0, len(new), REQUESTS):
            await asyncio.gather(*[self._look_at(topic) for topic in new[start : start + REQUESTS]])
        for topic, error in delivery.held.items():
            self.holds.hold(topic, error)
        for row, error in delivery.refused:
            facts = {"number": row.number, "topic": row.topic, "id": row.id, "error": str(error)}
            log.error("Row refused: %(number)d for %(topic)s, with id %(id)s (%(error)s)", facts)
        self._note_away(delivery.away, published=bool(delivery.topics))

    def _note_away(self, error: PubsubError | None, *, published: bool) -> None:
        if published:
            self._pauses.reset()
        if error is not None:
            asked = error.retry_after_ms / 1000 if isinstance(error, RateLimited) else 0.0
            self.pause = asked + self._pauses.next()
            if self._away != (text := str(error)):
                log.warning("Server takes nothing: %(error)s", {"error": text})
                self._away = text
        elif published and self._away:
            log.info("Server takes messages again")
            self._away = ""

    async def _look_at(self, topic: str) -> None:
        """Warn once of a topic that would take a message twice."""
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen.add(topic)
        try:
            details = await self._rest.describe(topic)
        except PubsubError:  # a token that may only publish
            return
        if not details.options.get("dedup_sec"):
            log.warning(
                "Topic without dedup_sec: %(topic)s (messages are there twice after a lost answer)", {"topic": topic}
            )


async def settle(outbox: Outbox, delivery: Delivery) -> None:
    """Note in the database what a delivery came to."""
    if delivery.done:
        await outbox.delete(delivery.done)
    if delivery.refused:
        await outbox.refuse({row.number: str(error) for row, error in delivery.refused})
