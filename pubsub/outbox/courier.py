"""Hands rows to a server, over REST. It must never send a row before the rows of its topic that were sent earlier.

A request has the rows of one topic, all of which the server takes or none. So order is kept whatever fails: over a
WebSocket, a message that is refused for now is overtaken by those that were sent after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, field

from pubsub.client.errors import (
    BadRequest,
    LimitExceeded,
    PubsubError,
    RateLimited,
    Refused,
    ServerFault,
    Unauthorized,
    Unreachable,
)
from pubsub.client.rest import RestClient
from pubsub.outbox.rows import Row, by_topic, lists_of
from pubsub.protocol import errors
from pubsub.protocol.patterns import check_topic
from pubsub.protocol.requests import MAX_MESSAGES

REQUESTS: Final = 16
"""Requests at a time, each for another topic."""


class Delivery(Struct):
    """The outcome of a batch. Rows that are nowhere in it stay as they are.

    ``done``: numbers of rows that are in their topics, or have expired. ``refused``: rows that the server never takes,
    and its errors. ``held``: topics that it does not take for now. ``away``: the error for which nothing can be
    published for now.
    """

    done: list[int] = field(default_factory=list)
    refused: list[tuple[Row, PubsubError]] = field(default_factory=list)
    held: dict[str, PubsubError] = field(default_factory=dict)
    topics: set[str] = field(default_factory=set)
    away: PubsubError | None = None


class Courier:
    """See the module."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest
        self._most = MAX_MESSAGES
        self._places = asyncio.Semaphore(REQUESTS)

    async def deliver(self, rows: Iterable[Row]) -> Delivery:
        delivery = Delivery()
        async with asyncio.TaskGroup() as tasks:
            for topic, ones in by_topic(rows).items():
                tasks.create_task(self._deliver_topic(topic, ones, delivery))
        return delivery

    async def _deliver_topic(self, topic: str, rows: Sequence[Row], delivery: Delivery) -> None:
        try:
            check_topic(topic)
        except errors.BadRequest as mistake:  # of a row that pubsub_publish has not inserted
            delivery.refused += [(row, BadRequest(str(mistake))) for row in rows]
            return
        delivery.done += [row.number for row in rows if row.has_expired]
        async with self._places:
            for each in lists_of([row for row in rows if not row.has_expired], self._most):
                if not await self._deliver_list(topic, each, delivery):
                    return

    async def _deliver_list(self, topic: str, rows: Sequence[Row], delivery: Delivery) -> bool:
        """Publish rows of a topic; return False if nothing more can be published there for now."""
        if delivery.away is not None:
            return False
        try:
            await self._rest.publish(topic, [row.as_message() for row in rows])
        except (BadRequest, LimitExceeded) as error:
            if len(rows) > 1:
                return await self._deliver_halves(topic, rows, delivery, error)
            if isinstance(error, LimitExceeded):
                delivery.held[topic] = error
                return False
            delivery.refused.append((rows[0], error))
        except PubsubError as error:
            if is_away(error):
                delivery.away = error
            else:
                delivery.held[topic] = error
            return False
        else:
            delivery.done += [row.number for row in rows]
            delivery.topics.add(topic)
        return True

    async def _deliver_halves(self, topic: str, rows: Sequence[Row], delivery: Delivery, refusal: Refused) -> bool:
        """Publish a list that was refused: it may be too large for the server, or have one row that is refused."""
        middle = len(rows) // 2
        if isinstance(refusal, LimitExceeded):  # of the server's rate, which a later list would exceed too
            self._most = middle
        return await self._deliver_list(topic, rows[:middle], delivery) and await self._deliver_list(
            topic, rows[middle:], delivery
        )


def is_away(error: PubsubError) -> bool:
    """Return True if other topics would have the same error: there is no server, or a limit is that of the client."""
    return isinstance(error, Unreachable | ServerFault | RateLimited | Unauthorized) or (
        isinstance(error, Refused) and not error.code and error.status not in range(400, 500)
    )
