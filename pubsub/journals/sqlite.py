"""The journal of durable topics, in a directory on disk: what is acknowledged and delivered survives a crash.

The event loop never waits for the disk. One thread writes: whatever comes while a commit runs goes into the next one,
together. Another one reads what is older than the rings. What they find is handled on the loop again, in order.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import JournalError
from pubsub.journals.store import EventRow, Store, TopicRow
from pubsub.journals.writer import Append, Create, Delete, Mark, Operation, Result, Writer
from pubsub.protocol.errors import Failure, NotStored
from pubsub.system.cores import SharedCore

if TYPE_CHECKING:
    from pubsub.core.journal import Deliver, Done, Publisher
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions

log = logging.getLogger(__name__)

Found = TypeVar("Found")

TIDY_PERIOD: Final = 1.0  # seconds
PAGE_BYTES: Final = 64 * 1024  # read at a time, and one event more: what a subscriber that stalls then holds
# What is not on the disk yet: beyond it, who publishes to durable topics is not read from.
UNWRITTEN_BYTES: Final = 16 * 1024 * 1024
APPEND_BYTES: Final = 500  # what a publish takes beside its payload


def _size(request: Publish) -> int:
    return APPEND_BYTES + len(request.message.payload)


class SqliteJournal:
    """See the module. ``post`` has a callback run on the loop, from any thread; ``defer`` at the end of the tick.

    ``failure``: why the last attempt to write failed, in words for the operator; empty while all is well.
    """

    deliver: Deliver

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        post: Callable[[Callable[[], None]], object],
        defer: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.failure = ""
        self._directory = directory
        self._clock = clock
        self._now = now
        self._post = post
        self._defer = defer
        self._call_later = call_later
        self._writer = Writer(directory, now=now, monotonic=clock.monotonic)
        self._writing = ThreadPoolExecutor(1, "journal-writer")
        self._reading = ThreadPoolExecutor(1, "journal-reader")
        self._read_store: Store | None = None
        self._core = SharedCore()
        self._topics: dict[int, Topic] = {}
        self._waiting: deque[Operation] = deque()  # the writing thread takes from it
        self._unwritten_bytes = 0
        self._paused: list[Publisher] = []
        self._busy = False  # a group is being written, or will be at the end of the tick
        self._tidies = False
        self._closed = False

    # The Journal's own calls

    def create(self, topic: Topic, done: Done) -> None:
        self._add(Create(topic, done))

    def delete(self, topic: Topic, done: Done) -> None:
        self._add(Delete(topic, done))

    def append(self, topic: Topic, request: Publish, publisher: Publisher) -> None:
        publisher.wait(request)
        self._add(Append(topic, request, publisher, self._clock.timestamp()))
        self._unwritten_bytes += _size(request)
        if self._unwritten_bytes > UNWRITTEN_BYTES:
            publisher.pause()
            self._paused.append(publisher)

    def read(
        self, topic: Topic, after: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        after, until, number = max(after, topic.oldest - 1), topic.seq, topic.number

        def read(store: Store) -> Sequence[StoredEvent]:
            return self._events(store.read(number, after, until, limit, PAGE_BYTES, self._now()))

        self._read(read, done)

    def find_missing(self, topic: Topic, after: int, done: Callable[[bool | Failure], None]) -> None:
        number, until = topic.number, topic.seq
        self._read(lambda store: store.is_missing(number, after, until, self._now()), done)

    # Start and end

    def open(self, restore: Callable[[str, str, TopicOptions], Topic]) -> None:
        try:
            store = self._writer.open()
            for row in store.topics():
                self._restore(store, row, restore(row.name, row.epoch, row.options))
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self._directory}: {error}") from error
        log.info(
            "Journal opened: %(directory)s (topics: %(topics)d)",
            {"directory": str(self._directory), "topics": len(self._topics)},
        )
        self._begin_to_tidy()

    def _restore(self, store: Store, row: TopicRow, topic: Topic) -> None:
        topic.number, topic.seq, topic.first, topic.stored_bytes = row.number, row.seq, row.first, row.bytes
        topic.expiring = topic.expiring or store.has_expired(row.number, 0, row.seq, inf)
        after = max(row.seq - topic.ring.capacity, topic.oldest - 1)
        # Those that have expired too: the ring has no holes.
        while page := self._events(store.read(row.number, after, row.seq, row.seq - after, PAGE_BYTES, now=0)):
            for event in page:
                topic.ring.append(event)
            after = page[-1].seq
        self._topics[row.number] = topic

    def call_after(self, callback: Callable[[], None]) -> None:
        if self._busy:
            self._add(Mark(callback))
        else:
            callback()

    def give_way(self) -> None:
        """Where the writing thread has but the loop's core, it waits for it three times in a commit."""
        if self._busy:
            self._core.offer()

    def close(self) -> None:
        """Takes as long as the disk takes."""
        self._closed = True
        self._reading.shutdown()
        if self._read_store is not None:
            self._read_store.close()
        self._writing.submit(self._writer.close)
        self._writing.shutdown()

    # Writing

    def _add(self, operation: Operation) -> None:
        self._waiting.append(operation)
        if not self._busy:
            self._busy = True
            self._defer(self._write)

    def _write(self) -> None:
        self._submit(self._writing, self._write_waiting, lambda written: self._end_group(*written))

    def _write_waiting(self) -> tuple[list[Operation], Result]:
        """In the writing thread: all that waits by now is one group, also what came after the loop had called."""
        group = [self._waiting.popleft() for _ in range(len(self._waiting))]
        return group, self._writer.write(group)

    def _end_group(self, group: Sequence[Operation], result: Result) -> None:
        if self._waiting and not self._closed:
            self._write()  # first: the disk is not to wait for what follows
        else:
            self._busy = False
        self._take(result)
        for operation in group:
            self._alone(partial(self._end, operation))
        self._begin_to_tidy()
        paused, self._paused = self._paused, []
        for publisher in paused:
            self._alone(publisher.go_on)

    @staticmethod
    def _alone(step: Callable[[], None]) -> None:
        """One step of many: whatever it raises costs nobody else the end of what they wait for."""
        try:
            step()
        except Exception:
            log.exception("Internal error at the end of a group of the journal")

    def _end(self, operation: Operation) -> None:
        match operation:
            case Append():
                self._end_append(operation)
            case Create():
                if operation.failure is None:
                    operation.topic.number, operation.topic.first = operation.number, 1
                    self._topics[operation.number] = operation.topic
                operation.done(operation.failure)
            case Delete():
                if operation.failure is None:
                    self._topics.pop(operation.topic.number, None)
                operation.done(operation.failure)
            case Mark():
                operation.done()

    def _end_append(self, operation: Append) -> None:
        publisher, request = operation.publisher, operation.request
        self._unwritten_bytes -= _size(request)
        assert publisher is not None, "append was given one"
        if operation.event is not None:
            topic = operation.topic
            if operation.event.expires < inf:
                topic.purge(self._clock.monotonic())
            self.deliver(topic, request, operation.event, operation.ts, publisher)
        elif operation.failure is not None:
            publisher.refused(request, operation.failure)
        else:
            publisher.repeated(request, operation.seq, operation.ts)

    def _take(self, result: Result) -> None:
        for extent in result.extents:
            if topic := self._topics.get(extent.number):
                topic.first, topic.stored_bytes = extent.first, extent.size
        if result.failure and result.failure != self.failure:
            log.error("Journal fails: %(reason)s", {"reason": result.failure})
        elif self.failure and not result.failure:
            log.warning("Journal works again")
        self.failure = result.failure

    # Tidying

    def _begin_to_tidy(self) -> None:
        if not self._tidies and not self._closed:
            self._tidies = True
            self._call_later(TIDY_PERIOD, self._tidy)

    def _tidy(self) -> None:
        if not self._closed:
            self._submit(self._writing, self._writer.tidy, self._end_tidy)

    def _end_tidy(self, result: Result) -> None:
        self._take(result)
        if result.more:
            self._defer(self._tidy)  # behind a group that waits for its turn
        else:
            self._tidies = False
            self._begin_to_tidy()

    # Reading

    def _read(self, read: Callable[[Store], Found], done: Callable[[Found | Failure], None]) -> None:
        self._submit(self._reading, lambda: self._try_read(read), done)

    def _try_read(self, read: Callable[[Store], Found]) -> Found | Failure:
        """In the reading thread."""
        try:
            if self._read_store is None:
                self._read_store = Store(self._directory, read_only=True)
            return read(self._read_store)
        except Exception as error:  # somebody waits for an answer, whatever it is
            if not isinstance(error, sqlite3.Error | OSError | JournalError):
                log.error("Internal error in the journal", exc_info=error)
            log.error("Journal can't be read: %(reason)s", {"reason": str(error)})
            store, self._read_store = self._read_store, None
            if store is not None:
                store.close()
            return NotStored()

    def _events(self, rows: Sequence[EventRow]) -> list[StoredEvent]:
        """Rows as what is sent; when they expire by the clock that nobody sets."""
        ahead = self._clock.monotonic() - self._now()
        return [StoredEvent(row.seq, row.text, inf if row.expires is None else row.expires + ahead) for row in rows]

    def _submit(self, executor: ThreadPoolExecutor, work: Callable[[], Found], then: Callable[[Found], None]) -> None:
        """Have a thread do ``work``, and ``then`` be called on the loop with what it found."""

        def end(future: Future[Found]) -> None:
            self._post(lambda: then(future.result()))

        executor.submit(work).add_done_callback(end)
