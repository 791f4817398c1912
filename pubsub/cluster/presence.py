"""Presence at all servers: the connections of each client in each topic are counts that all servers know. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pubsub.core.broker import Broker
    from pubsub.core.topic import Topic

KIND: Final = "presence"


class SharedPresence:
    """See the module: an Elsewhere for the Broker's presence, and a Counter.

    ``touch``, ``clients_of`` and ``forget`` are those of the shared counts.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.touch: Callable[[str, str], None]
        self.of: Callable[[str], Iterator[tuple[str, int]]]
        self.forget: Callable[[str], None]

    # Elsewhere

    def clients_of(self, topic: str) -> Iterable[tuple[str, int]]:
        return list(self.of(topic))

    def end(self, topic: str) -> None:
        self.forget(topic)

    # Counter

    def count(self, group: str, name: str) -> int:
        topic = self._find(group)
        clients = None if topic is None else self._broker.clients.here(topic)
        return 0 if clients is None else clients.connections_here(name)

    @property
    def groups(self) -> Iterable[str]:
        return (topic.name for topic in self._broker.clients.topics)

    def names_in(self, group: str) -> list[str]:
        topic = self._find(group)
        clients = None if topic is None else self._broker.clients.here(topic)
        return [] if clients is None else clients.names_here

    def change(self, group: str, name: str, more: int, *, dead: bool) -> None:
        topic = self._find(group)
        if topic is not None and topic.options.presence:
            self._broker.clients.change_elsewhere(topic, name, more, may_return=not dead)

    def _find(self, name: str) -> Topic | None:
        return self._broker.find_topic(name) if self._broker.exists(name) else None
