"""Subscriptions: what clients ask for. Lanes are where that leads (see ``memberships``). No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from pubsub.protocol.patterns import has_wildcard
from pubsub.protocol.requests import Position

if TYPE_CHECKING:
    from pubsub.filters.filters import Filter


class Grant(Protocol):
    """The rights of a subscriber. They may change; then :meth:`Memberships.review` has to be called."""

    @property
    def client_id(self) -> str:
        """The name of the client. It does not change after the first request to subscribe."""
        ...

    def may_subscribe(self, topic: str) -> bool: ...

    def may_subscribe_some(self, pattern: str) -> bool:
        """True if there can be a topic that the pattern covers and that the rights cover too."""
        ...

    def filters_for(self, topic: str) -> Sequence[Filter]:
        """The filters of the rights. An event of the topic has to match all of them."""
        ...


class Subscription(Struct, frozen=True, gc=False):
    """One subscription of a client, by the name of a topic or a pattern."""

    name: str
    filter: Filter | None = None

    @property
    def is_pattern(self) -> bool:
        return has_wildcard(self.name)


class Resume(Protocol):
    """The positions of a client in topics, by their names."""

    def get(self, name: str, default: Position | None, /) -> Position | None:
        """The client's position; ``default`` if it has none."""
        ...


class Asked(Struct, frozen=True):
    """A request to subscribe. ``resume``: the client's positions by topic; it wins over ``last_n``."""

    subscription: Subscription
    grant: Grant
    last_n: int = 0
    resume: Resume | None = None


class Book:
    """The subscriptions of one subscriber. It is made for the first one with a pattern or a filter.

    A subscriber without a book has plain subscriptions alone: they are the keys of its lanes, and cost nothing more.
    ``closed``: the subscriber has gone, or is about to go, and enters no topic any more.
    """

    __slots__ = ("closed", "grant", "subscriptions")

    def __init__(self, grant: Grant, names: Sequence[str]) -> None:
        self.grant = grant
        self.subscriptions = {name: Subscription(name) for name in names}
        self.closed = False


class NothingGranted:
    """The rights of a subscriber that has gone (Grant)."""

    client_id = ""

    def may_subscribe(self, topic: str) -> bool:
        return False

    def may_subscribe_some(self, pattern: str) -> bool:
        return False

    def filters_for(self, topic: str) -> Sequence[Filter]:
        return ()


GONE: Final = Book(NothingGranted(), ())  # the book of all subscribers that have gone
GONE.closed = True
