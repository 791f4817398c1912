"""A subscription as users see it: an asynchronous iterator over its items. It must never open a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from pubsub.client.conversation import Conversation
from pubsub.client.errors import PubsubError
from pubsub.client.events import Event, Gap, Item, Notice, Position
from pubsub.client.inbox import InboxRules
from pubsub.client.interest import Interest, Status, Wish

__all__ = ["Subscription"]

T = TypeVar("T")


class Conversations(Protocol):
    """The connections of a client."""

    def conversation_for(self, name: str) -> Conversation:
        """Return a conversation in which no other subscription covers a topic of this name or pattern."""

    async def wait_open(self, conversation: Conversation) -> None:
        """Wait until the conversation has had a connection. Raises Unreachable, Disconnected."""

    def release(self, conversation: Conversation) -> None:
        """Note that a subscription has ended in this conversation."""


class Subscription(Generic[T]):
    """``async with client.subscribe("orders") as events: async for event in events: …``

    Entering waits for the server's answer, over reconnects if need be. It raises TopicNotFound, Forbidden, BadRequest,
    LimitExceeded or Disconnected. Iterating yields :class:`Event`, :class:`Gap` and, with ``notices=True``,
    :class:`Notice`; it raises PayloadError for a payload that is not of the ``type``, and can go on after it; and
    Disconnected once the client can't connect any more.

    ``state`` is what ``load`` returned; None without it.
    """

    def __init__(
        self,
        conversations: Conversations,
        wish: Wish,
        rules: InboxRules,
        load: Callable[[], Awaitable[Any]] | None,
    ) -> None:
        self.topic = wish.topic
        self.state: Any = None
        self._conversations = conversations
        self._wish = wish
        self._rules = rules
        self._load = load
        self._conversation: Conversation | None = None
        self._interest: Interest | None = None
        self._take: Callable[[], Item[T] | None] = lambda: None

    async def __aenter__(self) -> Self:
        if self._interest is not None:
            raise RuntimeError("a subscription can be entered once; call subscribe again")
        self._conversation = self._conversations.conversation_for(self.topic)
        try:
            await self._begin(self._conversation)
            if self._load is not None:
                await self.reload()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event[T] | Gap | Notice:
        while (item := self._take()) is None:
            await self._wait(self._entered)
        return item

    @property
    def position(self) -> dict[str, Position]:
        """The position in each topic after the last item that was handed out; ``resume`` of a later one takes it."""
        return self._entered.position

    async def reload(self) -> Any:
        """Call ``load`` again, after a Gap for example; return the new ``state``. The next item is later than the call.

        What has come up to the call is left out, because the new state has it: so an application has to store a change
        before it publishes it. What comes meanwhile waits.
        """
        if self._load is None:
            raise RuntimeError("there is nothing to load: subscribe was called without load")
        self._entered.forget_waiting()
        self.state = await self._load()
        return self.state

    async def close(self) -> None:
        """Unsubscribe. The iteration ends. Closing again does nothing."""
        self._end()

    @property
    def _entered(self) -> Interest:
        if self._interest is None:
            raise RuntimeError("use a subscription in 'async with client.subscribe(…) as events'")
        return self._interest

    async def _begin(self, conversation: Conversation) -> None:
        begun: asyncio.Future[PubsubError | None] = asyncio.get_running_loop().create_future()

        def answered(error: PubsubError | None) -> None:
            if not begun.done():
                begun.set_result(error)

        self._interest = conversation.subscribe(self._wish, self._rules, answered)
        self._take = self._interest.inbox.take
        await self._conversations.wait_open(conversation)
        if (error := await begun) is not None:
            raise error.copy()

    def _end(self) -> None:
        if self._conversation is not None and self._interest is not None:
            self._conversation.unsubscribe(self._interest)
            self._conversations.release(self._conversation)
            self._conversation = None

    async def _wait(self, interest: Interest) -> None:
        """Wait for an item. Raises the reason of the end once there will be none."""
        if interest.status is Status.ENDED:
            raise StopAsyncIteration if interest.error is None else interest.error.copy()
        if interest.inbox.wake is not None:
            raise RuntimeError("another task already waits for the next item of this subscription")
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        interest.inbox.wake = lambda: None if awake.done() else awake.set_result(None)
        try:
            await awake
        finally:
            interest.inbox.wake = None
