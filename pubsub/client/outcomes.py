"""The outcomes of a client's requests, as users see them. It must never decode JSON."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from msgspec import Struct

from pubsub.client.events import Event

__all__ = ["History", "Presence", "PresentClient", "Published", "TopicDetails", "TopicSummary"]

T = TypeVar("T")


class Published(Struct, frozen=True, gc=False):
    """A message that is in its topic. ``duplicate``: it was there already, and ``seq`` is its number."""

    topic: str
    id: str
    seq: int
    duplicate: bool = False


class History(Struct, Generic[T], frozen=True):
    """Kept messages of a topic, oldest first. ``complete``: none of those that were asked for is gone."""

    epoch: str
    events: list[Event[T]]
    complete: bool


class PresentClient(Struct, frozen=True, gc=False):
    """A client in a topic, and the number of its connections; 0 if it left less than 5 seconds ago."""

    client_id: str
    connections: int


class Presence(Struct, frozen=True):
    """The clients of a topic. ``count`` has all of them, ``clients`` the first 1,000 by name."""

    topic: str
    count: int
    clients: list[PresentClient]


class TopicSummary(Struct, frozen=True, gc=False):
    """A topic in a list.

    ``messages``: ever published. ``bytes``: of those that it keeps. ``subscribers``: connections.
    """

    name: str
    epoch: str
    seq: int
    messages: int
    subscribers: int
    bytes: int


class TopicDetails(TopicSummary, frozen=True):
    """A topic with its options, by their names in the protocol."""

    options: dict[str, Any] = {}
