"""Waiting of handlers for what the Broker ends later. Nothing here knows a route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from pubsub.core.log import Done
from pubsub.protocol.errors import Failure

Answer = TypeVar("Answer")


async def ended(begin: Callable[[Done], None]) -> None:
    """Begin something and wait for its end. Raises the Failure that it ends with."""
    end: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
    begin(lambda failure: None if end.done() else end.set_result(failure))
    if (failure := await end) is not None:
        raise failure


async def answered(ask: Callable[[Callable[[Answer | Failure], None]], None]) -> Answer:
    """Ask for something and wait for the answer. Raises the Failure that comes in its place."""
    answer: asyncio.Future[Answer | Failure] = asyncio.get_running_loop().create_future()
    ask(lambda found: None if answer.done() else answer.set_result(found))
    if isinstance(found := await answer, Failure):
        raise found
    return found
