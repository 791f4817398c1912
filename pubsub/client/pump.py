"""Moves the items of a subscription out of its event loop. It runs in that loop, and must never decide anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from pubsub.client.client import Client
from pubsub.client.errors import PayloadError
from pubsub.client.events import Event, Gap, Notice, Position
from pubsub.client.handover import Closed, Handover
from pubsub.client.subscription import Subscription

__all__ = ["Pump", "Pumped"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pumped(Generic[T]):
    """An item, or the error in its place. ``position``: the one after it; None after an event, which says it itself."""

    item: Event[T] | Gap | Notice | PayloadError
    position: dict[str, Position] | None = None


class Pump(Generic[T]):
    """An open subscription with a client of its own. ``start``: its position before the first item of ``handover``."""

    def __init__(self, client: Client, topic: str, load: Callable[[], Any] | None, options: Mapping[str, Any]) -> None:
        self._load = load
        loads = None if load is None else self._load_in_thread
        self._subscription: Subscription[T] = client.subscribe(topic, load=loads, **options)
        self.handover: Handover[Pumped[T]] = Handover()
        self.start: dict[str, Position] = {}
        self.task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, client: Client, topic: str, load: Callable[[], Any] | None, options: Mapping[str, Any]) -> Self:
        """Connect and subscribe. The pump runs until its task is cancelled, as the end of its loop does."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            pump = cls(client, topic, load, options)
            await stack.enter_async_context(pump._subscription)
            pump.start = pump._subscription.position
            pump.task = asyncio.create_task(pump._run(stack.pop_all()))
        return pump

    @property
    def state(self) -> Any:
        return self._subscription.state

    async def reload(self) -> None:
        await self._subscription.reload()

    async def _load_in_thread(self) -> Any:
        """Call ``load``. The subscription has just forgotten what waited in it, so all that waits here goes too."""
        assert self._load is not None, "otherwise this function is not given to the subscription"
        self.handover.clear()
        self.start = self._subscription.position
        return await asyncio.to_thread(self._load)

    async def _run(self, stack: AsyncExitStack) -> None:
        async with stack:
            try:
                while True:
                    await self.handover.put(await self._next())
            except Exception as error:
                self.handover.end(error)
            finally:
                self.handover.end(Closed())  # which counts where nothing else has come

    async def _next(self) -> Pumped[T]:
        try:
            item = await anext(self._subscription)
        except PayloadError as error:
            return Pumped(error, self._subscription.position)
        return Pumped(item, None if isinstance(item, Event) else self._subscription.position)
