"""The clients of one topic with the option ``presence``, and the infos ``joined`` and ``left`` for its members. No I/O.

Each entry and each departure has a number, so that a member is told of exactly those that came after its own entry.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from pubsub.core.names import SortedNames
from pubsub.protocol.replies import Info, PresentClient, encode

if TYPE_CHECKING:
    from pubsub.core.event import Encoding
    from pubsub.core.lane import Subscriber
    from pubsub.core.topic import Topic

log = logging.getLogger(__name__)

MAX_ANNOUNCED: Final = 200  # clients; a topic with more is quiet: no change is announced


class Client(Struct, gc=False, eq=False):
    """``number``: of its entry. ``announced``: members were told of it, or will be at the end of the tick.

    ``connections`` are those to this server, ``elsewhere`` the number of those to the others. A client without any is
    away, and may reconnect.
    """

    client_id: str
    number: int
    announced: bool
    connections: int = 0
    elsewhere: int = 0

    @property
    def total(self) -> int:
        return self.connections + self.elsewhere


class Member(Struct, frozen=True, gc=False):
    """A connection of a client. ``number``: of its entry."""

    client: Client
    number: int


class Change(NamedTuple):
    """A client that has joined, or else left. Sorted, changes are in their order."""

    number: int
    client_id: str
    joined: bool

    def info(self, topic: str, ts: str) -> Info:
        if self.joined:
            return Info(topic=topic, msg="joined", client_id=self.client_id, ts=ts)
        return Info(topic=topic, msg="left", client_id=self.client_id, ts=ts)


class TopicClients:
    """See the module. ``ended``: the topic is gone, and some members do not know it yet. ``here``: the number of
    clients with a connection to this server.

    A quiet topic keeps what its members know. Once it has fewer clients again, the difference is announced. So a member
    that entered while the topic was not quiet knows exactly the clients of a topic that is not quiet.
    """

    __slots__ = ("_changes", "_clients", "_departed", "_names", "_number", "ended", "here", "members",
                 "topic")  # fmt: skip

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.ended = False
        self.here = 0
        self.members: dict[Subscriber, Member] = {}
        self._clients: dict[str, Client] = {}
        self._names = SortedNames()
        self._departed: dict[str, int] = {}  # announced clients that have left since the topic is quiet
        self._changes: list[Change] = []  # to be announced
        self._number = 0  # the last one

    @property
    def count(self) -> int:
        return len(self._clients)

    @property
    def has_changes(self) -> bool:
        return bool(self._changes) and not self.ended

    def first(self, limit: int) -> list[PresentClient]:
        """The first clients by name."""
        return [PresentClient(name, self._clients[name].total) for name in self._names.starting_at("", limit)]

    def here_from(self, first: str, limit: int) -> list[PresentClient]:
        """Of the first ``limit`` clients by name, not below ``first``, with their connections to this server."""
        return [PresentClient(name, self._clients[name].connections) for name in self._names.starting_at(first, limit)]

    def connections_here(self, client_id: str) -> int:
        client = self._clients.get(client_id)
        return 0 if client is None else client.connections

    @property
    def names_here(self) -> list[str]:
        """The clients with connections to this server."""
        return [each.client_id for each in self._clients.values() if each.connections]

    def add(self, subscriber: Subscriber, client_id: str) -> Client:
        """Add a member, and its client if that is not here yet."""
        client = self._clients.get(client_id)
        if client is None:
            client = self._add_client(client_id)
        self.here += not client.connections
        client.connections += 1
        self.members[subscriber] = Member(client, self._next())
        return client

    def change_elsewhere(self, client_id: str, more: int) -> Client | None:
        """Connections of a client to other servers have begun, or ended. None if it is not here and does not come."""
        client = self._clients.get(client_id)
        if client is None:
            if more <= 0:
                return None
            client = self._add_client(client_id)
        client.elsewhere = max(0, client.elsewhere + more)
        return client

    def _add_client(self, client_id: str) -> Client:
        number = self._next()
        announced = len(self._clients) < MAX_ANNOUNCED
        client = self._clients[client_id] = Client(client_id, number, announced)
        self._names.add(client_id)
        if announced:
            self._changes.append(Change(number, client_id, joined=True))
        return client

    def release(self, subscriber: Subscriber) -> Client:
        """Remove a member. Its client stays."""
        client = self.members.pop(subscriber).client
        client.connections -= 1
        self.here -= not client.connections
        return client

    def remove(self, client: Client) -> None:
        """Remove a client without connections."""
        del self._clients[client.client_id]
        self._names.remove(client.client_id)
        if client.announced:
            self._departed[client.client_id] = self._next()
        if len(self._clients) <= MAX_ANNOUNCED:
            left = [Change(number, client_id, joined=False) for client_id, number in self._departed.items()]
            joined = self._announce_others() if len(self._clients) == MAX_ANNOUNCED else []
            self._changes += sorted(left + joined)
            self._departed = {}

    def _announce_others(self) -> list[Change]:
        """The entries of clients that came while the topic was quiet."""
        others = [client for client in self._clients.values() if not client.announced]
        for client in others:
            client.announced = True
        return [Change(client.number, client.client_id, joined=True) for client in others]

    def _next(self) -> int:
        self._number += 1
        return self._number

    def tell(self, ts: str) -> Iterator[None]:
        """Tell each member of the changes in a step of its own. Later changes wait for the next call."""
        changes, self._changes = self._changes, []
        members = list(self.members)
        if not members:
            return
        news = News(self.topic.name, changes, ts)
        for subscriber in members:
            yield
            member = self.members.get(subscriber)
            if member is None or self.ended or not self._hears(subscriber):
                continue
            try:
                if encoded := news.encode(member, subscriber.encoding):
                    subscriber.write(encoded)
            except Exception:  # a fault of one member must not keep the infos from the others
                log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": self.topic.name})

    def _hears(self, subscriber: Subscriber) -> bool:
        """True for a member that keeps up, and was told that it is subscribed."""
        arrival = subscriber.lanes[self.topic.name].catch_up_of(subscriber)
        return not subscriber.lagging and (arrival is None or arrival.begun)


class News:
    """Changes as infos, encoded once for each encoding."""

    def __init__(self, topic: str, changes: Sequence[Change], ts: str) -> None:
        self._numbers = [each.number for each in changes]
        self._texts = [encode(each.info(topic, ts)) for each in changes]
        self._parts: dict[Encoding, list[bytes]] = {}
        self._joined: dict[Encoding, bytes] = {}

    def encode(self, member: Member, encoding: Encoding) -> bytes:
        """The infos for a member: those of changes after its entry. Those of its own client all came before."""
        start = bisect_right(self._numbers, member.number)
        if start == len(self._numbers):
            return b""
        parts = self._parts.get(encoding)
        if parts is None:
            parts = self._parts[encoding] = [encoding.message(text) for text in self._texts]
            self._joined[encoding] = b"".join(parts)
        return b"".join(parts[start:]) if start else self._joined[encoding]
