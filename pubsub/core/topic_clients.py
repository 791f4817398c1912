"""The clients of one topic with the option ``presence``, and the infos ``joined`` and ``left`` for its members. No I/O.

Every entry and every departure has a number. So a member is told exactly of what came after its own entry.
"""

from __future__ import annotations

import logging
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

MAX_HEARD: Final = 200  # clients; a topic that has more is quiet: nobody is told of another one


class Client(Struct, gc=False, eq=False):
    """``number``: of its entry. Without ``connections`` it is away, and may come back."""

    client_id: str
    number: int
    connections: int = 0


class Member(Struct, frozen=True, gc=False):
    """A connection of a client. ``number``: of its entry."""

    client: Client
    number: int


class Change(NamedTuple):
    """A client that has joined or left."""

    number: int
    client_id: str
    msg: str


class TopicClients:
    """See the module. ``ended``: the topic is gone, and some members do not know it yet."""

    __slots__ = ("_clients", "_gone", "_names", "_number", "_told", "ended", "members", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.ended = False
        self.members: dict[Subscriber, Member] = {}
        self._clients: dict[str, Client] = {}
        self._names = SortedNames()
        self._gone: dict[str, int] = {}  # clients that have left, which is not told yet although their entry was
        self._number = 0  # the last one
        self._told = 0  # members were told of all changes up to this number

    @property
    def count(self) -> int:
        return len(self._clients)

    @property
    def is_quiet(self) -> bool:
        """True if nobody is told of changes now."""
        return self.ended or len(self._clients) > MAX_HEARD

    def first(self, limit: int) -> list[PresentClient]:
        """The first clients by name."""
        return [
            PresentClient(name, self._clients[name].connections) for name in self._names.starting_at("", limit)
        ]

    def add(self, subscriber: Subscriber, client_id: str) -> Client:
        """Add a member, and its client if that is not here yet."""
        client = self._clients.get(client_id)
        if client is None:
            client = self._clients[client_id] = Client(client_id, self._next())
            self._names.add(client_id)
        client.connections += 1
        self.members[subscriber] = Member(client, self._next())
        return client

    def release(self, subscriber: Subscriber) -> Client:
        """Remove a member. Its client stays."""
        client = self.members.pop(subscriber).client
        client.connections -= 1
        return client

    def remove(self, client: Client) -> None:
        """Remove a client without connections."""
        del self._clients[client.client_id]
        self._names.remove(client.client_id)
        if client.number <= self._told:
            self._gone[client.client_id] = self._next()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def tell(self, ts: str) -> Iterator[None]:
        """Tell the members what has changed, unless the topic is quiet now. Each step takes about the same time.

        A quiet topic keeps what its members know. Once it has fewer clients again, they are told of the difference.
        """
        changes = [] if self.is_quiet else self._take_changes()
        if not changes:
            yield
            return
        news = News(self.topic.name, changes, ts)
        for subscriber in list(self.members):
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

    def _take_changes(self) -> list[Change]:
        """The changes that members were not told of, in their order."""
        joined = [Change(each.number, each.client_id, "joined") for each in self._clients.values()
                  if each.number > self._told]  # fmt: skip
        left = [Change(number, client_id, "left") for client_id, number in self._gone.items()]
        self._told, self._gone = self._number, {}
        return sorted(joined + left)


class News:
    """Changes as infos, encoded once for each encoding."""

    def __init__(self, topic: str, changes: Sequence[Change], ts: str) -> None:
        self._changes = changes
        self._texts = [
            encode(Info(topic=topic, msg=each.msg, client_id=each.client_id, ts=ts)) for each in changes
        ]
        self._concerned = {each.client_id for each in changes}
        self._encoded: dict[Encoding, list[bytes]] = {}
        self._joined: dict[Encoding, bytes] = {}

    def encode(self, member: Member, encoding: Encoding) -> bytes:
        """The infos for a member: those of its own client are left out, and those before its entry."""
        parts = self._encoded.get(encoding)
        if parts is None:
            parts = self._encoded[encoding] = [encoding.message(text) for text in self._texts]
            self._joined[encoding] = b"".join(parts)
        own = member.client.client_id
        if member.number < self._changes[0].number and own not in self._concerned:
            return self._joined[encoding]
        return b"".join([
            part for part, change in zip(parts, self._changes, strict=True)
            if change.number > member.number and change.client_id != own
        ])  # fmt: skip
