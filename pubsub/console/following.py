"""The console's subscriptions, each with a task that shows its items. It must never print."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import Raw

from pubsub.client import Client, Disconnected, Event, Gap, Notice, Position, PubsubError, Subscription
from pubsub.console.commands import Subscribe

Item = Event[Raw] | Gap | Notice


@dataclass(frozen=True, slots=True)
class _Followed:
    wanted: Subscribe
    subscription: Subscription[Raw]
    task: asyncio.Task[None]


class NotSubscribed(Exception):
    """There is no subscription of this name."""


class Following:
    """See the module. ``show`` gets each item, ``fail`` the reason for which the server ended a subscription."""

    def __init__(self, client: Client, *, show: Callable[[Item], None], fail: Callable[[PubsubError], None]) -> None:
        self._client = client
        self._show = show
        self._fail = fail
        self._followed: dict[str, _Followed] = {}

    @property
    def names(self) -> list[str]:
        """The topics and patterns that are subscribed to."""
        return list(self._followed)

    async def subscribe(self, wanted: Subscribe) -> list[str]:
        """Subscribe, and return the names of the topics; raises PubsubError.

        It takes the place of a subscription of the same name, and goes on where that was, unless it begins with older
        messages. If the server refuses it, that one stays.
        """
        before = self._followed.get(wanted.topic)
        if before is None:
            return await self._begin(wanted)
        reached = before.subscription.position
        await self.unsubscribe(wanted.topic)
        try:
            return await self._begin(wanted, resume=None if wanted.last else reached)
        except PubsubError:
            await self._begin(before.wanted, resume=reached)
            raise

    async def unsubscribe(self, name: str) -> None:
        """End a subscription; raises NotSubscribed."""
        followed = self._followed.pop(name, None)
        if followed is None:
            raise NotSubscribed(f"there is no subscription to '{name}'")
        followed.task.cancel()
        await followed.subscription.close()

    async def _begin(self, wanted: Subscribe, resume: Mapping[str, Position] | None = None) -> list[str]:
        subscription = self._client.subscribe(
            wanted.topic,
            type=Raw,
            last_n=wanted.last,
            filter=wanted.filter or None,
            params=wanted.params,
            resume=resume,
            notices=True,
        )
        await subscription.__aenter__()
        task = asyncio.create_task(self._follow(wanted.topic, subscription))
        self._followed[wanted.topic] = _Followed(wanted, subscription, task)
        return sorted(subscription.position)

    async def _follow(self, name: str, subscription: Subscription[Raw]) -> None:
        try:
            async for item in subscription:
                self._show(item)
        except Disconnected:
            pass  # all of them have ended: the session tells it once
        except PubsubError as error:
            del self._followed[name]
            self._fail(error)
