"""The log of a durable topic: a call becomes an operation for the writing thread, or a question to the reading one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import sender_of
from pubsub.journals.operations import Append, AppendAll, Delete, Operation, Purge, TopicHandle
from pubsub.journals.reader import Reader, stored_events
from pubsub.journals.sizes import size_of
from pubsub.journals.store import Store
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.core.log import Assigned, Done, Found, Publisher, Purged
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions

READ_BYTES: Final = 64 * 1024  # read at a time, and one event more: memory that a stalled subscriber may take


class LogParts(Struct, frozen=True):
    """The parts that all logs of a journal share. ``add`` queues an operation with its size in bytes."""

    add: Callable[[Operation, int], None]
    reader: Reader
    clock: Clock
    now: Callable[[], float]


class SqliteLog(TopicHandle):
    """See the module (TopicLog). ``purged``: no event up to this ``seq`` may be read any more."""

    __slots__ = ("_parts", "purged", "topic", "unsettled")

    topic: Topic

    def __init__(self, parts: LogParts, name: str, epoch: str, options: TopicOptions, number: int = 0) -> None:
        super().__init__(name, epoch, options, number)
        self._parts = parts
        self.purged = 0
        self.unsettled = 0  # operations with publishes that have no outcome yet

    @property
    def appending(self) -> bool:
        return self.unsettled > 0

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        parts = self._parts
        sender = sender_of(self.options, publisher.client_id) if self.options.sender else UNSET  # saves a call
        parts.add(Append(self, requests, publisher, parts.clock.timestamp(), sender), size_of(requests))
        self.unsettled += 1
        publisher.wait(requests)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> None:
        sender = sender_of(self.options, client_id)
        operation = AppendAll(self, requests, done, self._parts.clock.timestamp(), sender)
        self._parts.add(operation, size_of(requests))
        self.unsettled += 1

    def purge(self, done: Purged) -> None:
        self._parts.add(Purge(self, done), 0)

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        self._parts.add(Delete(self, done, expect_seq), 0)

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        clock, now = self._parts.clock, self._parts.now

        def read(store: Store) -> Sequence[StoredEvent]:
            rows = store.read(self.number, after, until, limit, READ_BYTES, now())
            return stored_events(rows, clock.monotonic() - now())

        def take(page: Sequence[StoredEvent] | Failure) -> None:
            if not isinstance(page, Failure) and page and page[0].seq <= self.purged:  # by a purge after the reading
                page = [event for event in page if event.seq > self.purged]
            done(page)

        self._parts.reader.read(read, take)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        now = self._parts.now
        self._parts.reader.read(lambda store: store.is_missing(self.number, after, until, now()), done)
