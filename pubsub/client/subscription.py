"""A subscription as users see it: an asynchronous iterator over its items. It must never open a socket."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pubsub.client.events import Event, Gap, Item, Notice, Position

__all__ = ["Subscription"]

T = TypeVar("T")


class Subscription(Generic[T]):
    """``async with client.subscribe("orders") as events: async for event in events: …``

    Entering waits for the server's answer, over reconnects if need be. It raises TopicNotFound, Forbidden, BadRequest,
    LimitExceeded or Disconnected. Iterating yields :class:`Event`, :class:`Gap` and, with ``notices=True``,
    :class:`Notice`; it raises PayloadError for a payload that is not of the ``type``, and can go on after it; and
    Disconnected once the client is closed for good.
    """

    topic: str
    state: Any
    """What ``load`` returned; None without it."""

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event[T] | Gap | Notice:
        raise NotImplementedError

    def take(self) -> Item[T] | None:
        """Return the next item if there is one already."""
        raise NotImplementedError

    @property
    def position(self) -> dict[str, Position]:
        """The position in each topic after the last item that was handed out; ``resume`` of a later one takes it."""
        raise NotImplementedError

    async def reload(self) -> None:
        """Call ``load`` again, and go on after the position from before that call. ``state`` has the new state."""
        raise NotImplementedError

    async def close(self) -> None:
        """Unsubscribe. The iteration ends. Closing again does nothing."""
        raise NotImplementedError
