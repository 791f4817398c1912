"""The links of one client, and their tasks. It must never look at a message.

A client has one link for its publishes and most of its subscriptions. A server sends an event once over a connection,
however many subscriptions there want it, and does not say which: so a subscription that covers a topic of another one
gets a link of its own, and its replay, its filter and its gaps are its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pubsub.client.conversation import Conversation
from pubsub.client.errors import Unreachable
from pubsub.client.link import Link, Peer
from pubsub.client.states import StateChange

__all__ = ["Links"]


class Links:
    """See the module. ``told`` gets the changes of the first link. Those of the others are in the log."""

    def __init__(self, peer: Peer, connect_timeout: float | None, told: Callable[[StateChange], None]) -> None:
        self._peer = peer
        self._connect_timeout = connect_timeout
        self._others: list[Link] = []
        self._is_closed = False
        self._ending: set[asyncio.Task[None]] = set()
        self.first = Link(peer, told, persistent=connect_timeout != 0)
        self.first.start()

    async def open(self) -> None:
        """Wait for the first connection. Raises Unreachable, Disconnected."""
        await self._wait(self.first)

    def conversation_for(self, name: str) -> Conversation:
        """Return a conversation in which no other subscription covers a topic of this name or pattern."""
        for link in (self.first, *self._others):
            if not link.conversation.overlaps(name):
                return link.conversation
        return self.first.conversation if self._is_closed else self._add().conversation

    async def wait_open(self, conversation: Conversation) -> None:
        """Wait until the conversation has had a connection. Raises Unreachable, Disconnected."""
        for link in (self.first, *self._others):
            if link.conversation is conversation:
                await self._wait(link)

    def release(self, conversation: Conversation) -> None:
        """End a link beside the first one that has no subscription any more."""
        for link in list(self._others):
            if link.conversation is conversation and not conversation.has_subscriptions:
                self._others.remove(link)  # at once: no later subscription may begin there
                ending = link.stop()
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all links. What is asked of them later is refused."""
        self._is_closed = True
        tasks = [*(link.stop() for link in (self.first, *self._others)), *self._ending]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _add(self) -> Link:
        link = Link(self._peer, lambda change: None)
        link.start()
        self._others.append(link)
        return link

    async def _wait(self, link: Link) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout or None):
                await link.wait_open()
        except TimeoutError:
            reason = link.latest.reason
            raise Unreachable(f"no connection within {self._connect_timeout:g} s: {reason}") from link.latest.error
