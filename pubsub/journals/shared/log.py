"""The log of a topic that several servers share: a call becomes an operation for the engine. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import sender_of
from pubsub.journals.shared.engine import Delete, Engine, Known, Operation, Purge
from pubsub.protocol.errors import Failure, NotAnswered, TopicNotFound

if TYPE_CHECKING:
    from pubsub.core.log import Assigned, Done, Publisher, Purged
    from pubsub.core.log import Found as TakePage
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions

Found = TypeVar("Found")


class Asker(Protocol):
    """The part of the journal that has operations decided."""

    def publish(
        self, log: SharedLog, requests: Sequence[Publish], publisher: Publisher, ts: str, sender: str
    ) -> None: ...

    def publish_list(
        self, log: SharedLog, requests: Sequence[Publish], done: Assigned, ts: str, sender: str
    ) -> None: ...

    def add(self, operation: Operation, done: Callable[[Any], None] | None = None) -> None: ...


class LogParts(Struct, frozen=True):
    """The parts that the logs of all topics use. ``sync``: see Sharing. ``begin_to_expire``: see Host."""

    asking: Asker
    engine: Engine
    sync: Callable[[Done], None]
    clock: Clock
    begin_to_expire: Callable[[Topic], None]


class SharedLog:
    """See the module (TopicLog). ``topic`` is None before the engine has created it, and after its end.

    ``unsettled``: operations with publishes that have no outcome yet. ``target``: the last ``seq`` that the engine is
    known to have; above that of the topic while a hole is healed. ``purged``: no event up to this ``seq`` may be read
    any more. ``first`` and ``size``: what the engine keeps.
    """

    __slots__ = ("_parts", "epoch", "first", "name", "options", "purged", "size", "target", "topic", "unsettled")

    def __init__(self, name: str, epoch: str, options: TopicOptions, parts: LogParts) -> None:
        self.name = name
        self.epoch = epoch
        self.options = options
        self.topic: Topic | None = None
        self.unsettled = 0
        self.target = 0
        self.purged = 0
        self.first = 1
        self.size = 0
        self._parts = parts

    @property
    def seq(self) -> int:
        """The last ``seq`` that this server knows."""
        return self.target if self.topic is None else max(self.target, self.topic.seq)

    @property
    def known(self) -> Known:
        return Known(self.name, self.epoch, self.seq)

    @property
    def appending(self) -> bool:
        return self.unsettled > 0

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        sender = self._sender(publisher.client_id) if self.options.sender else ""  # saves a call
        self._parts.asking.publish(self, requests, publisher, self._parts.clock.timestamp(), sender)
        publisher.wait(requests)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> None:
        self._parts.asking.publish_list(self, requests, done, self._parts.clock.timestamp(), self._sender(client_id))

    def _sender(self, client_id: str) -> str:
        sender = sender_of(self.options, client_id)
        return "" if sender is UNSET else str(sender)

    def purge(self, done: Purged) -> None:
        self._ask(lambda: Purge(self.known), done)

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        if expect_seq is UNSET:
            self._ask(lambda: Delete(self.known), done)
        else:
            expected = Delete(self.known, expect_seq)  # in another epoch, this seq is that of another message
            self._ask(lambda: expected, done)

    def _ask(self, operation: Callable[[], Operation], done: Callable[[Any], None]) -> None:
        """Have an operation decided. If the topic is not found, and is not gone, it has another epoch: ask again."""

        def take(found: Any) -> None:
            if isinstance(found, TopicNotFound):
                self._parts.sync(again)
            else:
                done(found)

        def again(failure: Failure | None) -> None:
            if self.topic is None:
                done(TopicNotFound(self.name))
            elif failure is not None:
                done(failure)
            else:
                self._parts.asking.add(operation(), done)

        self._parts.asking.add(operation(), take)

    def read(self, after: int, until: int, limit: int, done: TakePage) -> None:
        def take(page: Sequence[StoredEvent] | Failure) -> None:
            if not isinstance(page, Failure):
                if page and page[0].seq <= self.purged:  # by a purge after the reading
                    page = [event for event in page if event.seq > self.purged]
                self._note_ends(page)
            self._answer(page, done)

        self._parts.engine.read(self.known, after, until, limit, take)

    def _note_ends(self, page: Sequence[StoredEvent]) -> None:
        """Messages that came before this server may have a TTL of their own, which no state tells."""
        topic = self.topic
        if topic is not None and not topic.expiring and any([event.expires < inf for event in page]):
            self._parts.begin_to_expire(topic)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._parts.engine.find_missing(self.known, after, until, lambda found: self._answer(found, done))

    def _answer(self, found: Found, done: Callable[[Found | Failure], None]) -> None:
        """Answer, but that the topic is gone only when the host knows that, or that it has another epoch."""
        if not isinstance(found, TopicNotFound):
            done(found)
            return
        topic = self.topic

        def end(_: Failure | None) -> None:
            done(found if topic is None or self.topic is not topic else NotAnswered())

        self._parts.sync(end)
