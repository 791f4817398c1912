"""Presence: the clients of topics with that option, and infos for members about clients that join and leave. No I/O.

A client is in a topic as long as any of its connections is a member, and for AWAY seconds more: one that reconnects
sooner has not left. Changes of a tick are told together at its end, in slices, and only to members that keep up.
Connections to other servers count too, if there are such servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from pubsub.core.clock import Clock
from pubsub.core.topic_clients import Client, TopicClients

if TYPE_CHECKING:
    from pubsub.core.lane import Subscriber
    from pubsub.core.topic import Topic
    from pubsub.protocol.replies import PresentClient

AWAY: Final = 5.0  # seconds
GATHERED: Final = 0.1  # seconds: clients that leave within them are one call of the timer
MAX_SHOWN: Final = 1000  # clients in an answer
TOLD: Final = 100  # members that are told in one turn, 10 to 30 µs each
REMOVED: Final = 500  # clients that are removed in one turn, 2 µs each


class Present(Struct, frozen=True):
    """The first MAX_SHOWN clients of a topic by name, and the number of all."""

    count: int
    clients: list[PresentClient]


class Absence(Struct, frozen=True):
    """A client without a connection, which leaves at ``deadline``."""

    clients: TopicClients
    deadline: float


class Elsewhere(Protocol):
    """The other servers that share the topics: they learn of each change here, and this server of theirs."""

    def touch(self, topic: str, client_id: str) -> None:
        """The number of a client's connections to this server has changed."""
        ...

    def clients_of(self, topic: str) -> Iterable[tuple[str, int]]:
        """The clients of a topic at the others, each with some of its connections."""
        ...

    def end(self, topic: str) -> None:
        """The topic has ended, and with it all memberships everywhere."""
        ...


class Presence:
    """See the module. ``defer``, ``take_turn`` and ``call_later`` are as in the Broker. All topics share one timer.

    ``elsewhere``: the other servers; None if this one is alone.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        defer: Callable[[Callable[[], None]], object],
        take_turn: Callable[[Callable[[], None]], None],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._clock = clock
        self._defer = defer
        self._take_turn = take_turn
        self._call_later = call_later
        self._topics: dict[Topic, TopicClients] = {}  # topics with a client
        self._absent: dict[Client, Absence] = {}  # in the order of their deadlines
        self._changed: dict[TopicClients, None] = {}  # topics whose members are to be told
        self._telling: Iterator[None] | None = None
        self._timing = False  # the timer runs
        self.elsewhere: Elsewhere | None = None

    def begin(self, topic: Topic) -> None:
        """A topic exists from now on. Its clients at other servers may have come first."""
        if self.elsewhere is not None:
            for client_id, connections in self.elsewhere.clients_of(topic.name):
                self.change_elsewhere(topic, client_id, connections)

    def enter(self, topic: Topic, subscriber: Subscriber, client_id: str) -> None:
        """A subscriber is in the topic, perhaps already since an earlier call."""
        clients = self._clients_of(topic)
        if subscriber in clients.members:
            return
        client = clients.add(subscriber, client_id)
        if client.total == 1:
            self._arrive(client, clients)
        if self.elsewhere is not None:
            self.elsewhere.touch(topic.name, client_id)

    def leave(self, topic: Topic, subscriber: Subscriber) -> None:
        """A subscriber has left the topic."""
        clients = self._topics[topic]
        client = clients.release(subscriber)
        if self.elsewhere is not None:
            self.elsewhere.touch(topic.name, client.client_id)
        if clients.ended:
            if not clients.here:
                self._drop(clients)
        elif not client.total:
            self._wait_for(client, clients)

    def change_elsewhere(self, topic: Topic, client_id: str, more: int, *, may_return: bool = True) -> None:
        """``more`` connections of a client to other servers are in the topic; fewer if it is below 0.

        ``may_return`` is False if a client without connections has been away for long: it leaves at once.
        """
        if more <= 0 and topic not in self._topics:
            return
        clients = self._clients_of(topic)
        client = clients.change_elsewhere(client_id, more)
        if client is None:
            return
        if client.total:
            self._arrive(client, clients)
        elif may_return:
            self._wait_for(client, clients)
        else:
            self._absent.pop(client, None)
            self._remove(client, clients)

    def _clients_of(self, topic: Topic) -> TopicClients:
        clients = self._topics.get(topic)
        if clients is None or clients.ended:
            clients = self._topics[topic] = TopicClients(topic)
        return clients

    def _arrive(self, client: Client, clients: TopicClients) -> None:
        """A client is there again, or for the first time."""
        if self._absent.pop(client, None) is None:
            self._tell_later(clients)

    def _wait_for(self, client: Client, clients: TopicClients) -> None:
        """Remove a client without connections unless it reconnects in time."""
        if client in self._absent:
            return
        self._absent[client] = Absence(clients, self._clock.monotonic() + AWAY)
        if not self._timing:
            self._timing = True
            self._call_later(AWAY, self._remove_absent)

    def end(self, topic: Topic) -> None:
        """The topic has ended. Nobody is told of its clients any more."""
        if self.elsewhere is not None:
            self.elsewhere.end(topic.name)
        if (clients := self._topics.get(topic)) is not None:
            clients.ended = True
            if not clients.here:
                self._drop(clients)

    def _drop(self, clients: TopicClients) -> None:
        if self._topics.get(clients.topic) is clients:
            del self._topics[clients.topic]

    def renew(self, old: Topic, new: Topic) -> None:
        """A topic goes on as another one, with the same members."""
        if (clients := self._topics.pop(old, None)) is not None:
            clients.topic = new
            self._topics[new] = clients

    def describe(self, topic: Topic) -> Present:
        """The clients of a topic."""
        clients = self._topics.get(topic)
        return Present(0, []) if clients is None else Present(clients.count, clients.first(MAX_SHOWN))

    def here(self, topic: Topic) -> TopicClients | None:
        """The clients of a topic, which know their connections to this server. None without clients."""
        clients = self._topics.get(topic)
        return None if clients is None or clients.ended else clients

    @property
    def topics(self) -> list[Topic]:
        """All topics with clients."""
        return list(self._topics)

    def _remove_absent(self) -> None:
        """Remove the clients that have not reconnected in time, in turns: they may be many."""
        now = self._clock.monotonic()
        for client, absence in list(islice(self._absent.items(), REMOVED)):
            if absence.deadline > now:
                self._call_later(max(absence.deadline - now, GATHERED), self._remove_absent)
                return
            del self._absent[client]
            self._remove(client, absence.clients)
        if self._absent:
            self._take_turn(self._remove_absent)
        else:
            self._timing = False

    def _remove(self, client: Client, clients: TopicClients) -> None:
        clients.remove(client)
        if clients.count:
            self._tell_later(clients)
        else:
            self._drop(clients)

    # What members are told

    def _tell_later(self, clients: TopicClients) -> None:
        if not clients.has_changes:
            return
        self._changed[clients] = None
        if self._telling is None:
            self._telling = self._tell_all()
            self._defer(self._tell_some)

    def _tell_some(self) -> None:
        assert self._telling is not None, "made by _tell_later"
        waits = False
        try:
            waits = len(list(islice(self._telling, TOLD))) == TOLD
        finally:
            if waits:
                self._take_turn(self._tell_some)
            else:
                self._telling = None

    def _tell_all(self) -> Iterator[None]:
        while self._changed:
            changed, self._changed = self._changed, {}
            for clients in changed:
                yield  # many topics may have no member here
                if not clients.has_changes:
                    continue
                yield from clients.tell(self._clock.timestamp())
