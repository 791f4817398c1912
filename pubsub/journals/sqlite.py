"""The journal of durable topics, in a directory on disk: acknowledged and delivered messages survive a crash.

The event loop never waits for the disk. One thread writes with group commit: all operations that come during a commit
are the next group. Another thread reads events older than the rings. Results are handled on the loop, in order.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import JournalError, StoredTopic, random_epoch, sender_of
from pubsub.journals.operations import Append, AppendAll, Create, Delete, Mark, Operation, Purge, Result, TopicHandle
from pubsub.journals.reader import Reader, stored_events
from pubsub.journals.store import EventRow, Store, TopicRow
from pubsub.journals.worker import Worker
from pubsub.journals.writer import Writer
from pubsub.protocol.errors import Failure
from pubsub.system.cores import SharedCore

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.log import Done, Found, Placed, Publisher, Purged
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions

log = logging.getLogger(__name__)

CLEAN_UP_PERIOD: Final = 1.0  # seconds
READ_BYTES: Final = 64 * 1024  # read at a time, and one event more: memory that a stalled subscriber may take
# Bytes that are not on disk yet. Beyond it, publishers to durable topics are not read from.
UNWRITTEN_BYTES: Final = 16 * 1024 * 1024
APPEND_BYTES: Final = 500  # memory of a publish without its payload


def _size(request: Publish) -> int:
    return APPEND_BYTES + len(request.message.payload)


class SqliteLog(TopicHandle):
    """One topic (TopicLog). ``purged``: no event up to this ``seq`` may be read any more."""

    __slots__ = ("_journal", "purged", "topic")

    topic: Topic

    def __init__(self, journal: SqliteJournal, name: str, epoch: str, options: TopicOptions, number: int = 0) -> None:
        super().__init__(name, epoch, options, number)
        self._journal = journal
        self.purged = 0

    def append(self, request: Publish, publisher: Publisher) -> None:
        self._journal.append(self, request, publisher)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Placed) -> None:
        self._journal.append_all(self, requests, client_id, done)

    def purge(self, done: Purged) -> None:
        self._journal.purge(self, done)

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        self._journal.read(self, after, until, limit, done)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._journal.find_missing(self, after, until, done)

    def delete(self, done: Done) -> None:
        self._journal.delete(self, done)


def _log_of(operation: Append | AppendAll | Create | Purge) -> SqliteLog:
    assert isinstance(operation.log, SqliteLog), "the loop's operations have the whole log"
    return operation.log


class SqliteJournal:
    """See the module. ``post`` runs a callback on the loop, from any thread; ``defer`` runs one at the end of the tick.

    ``failure``: the reason, for the operator, for which the last write failed; empty if it did not.
    """

    _host: Host

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        core: SharedCore,
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
        self._defer = defer
        self._call_later = call_later
        self._writer = Writer(directory, now=now, monotonic=clock.monotonic)
        self._writing = Worker("journal-writer", post)
        self._reader = Reader(directory, post)
        self._core = core
        self._logs: dict[int, SqliteLog] = {}
        self._waiting: deque[Operation] = deque()  # the writing thread takes from it
        self._unwritten_bytes = 0
        self._when_writable: list[Callable[[], None]] = []
        self._busy = False  # a group is being written, or will be at the end of the tick
        self._cleans_up = False
        self._closed = False

    # The topics' calls

    def create(self, name: str, options: TopicOptions, done: Done) -> None:
        self._add(Create(SqliteLog(self, name, random_epoch(), options), done))

    def delete(self, log: SqliteLog, done: Done) -> None:
        self._add(Delete(log, done))

    def append(self, log: SqliteLog, request: Publish, publisher: Publisher) -> None:
        sender = sender_of(log.options, publisher.client_id) if log.options.sender else UNSET  # saves a call
        self._add(Append(log, request, publisher, self._clock.timestamp(), sender))
        self._unwritten_bytes += _size(request)
        publisher.wait(request)

    def append_all(self, log: SqliteLog, requests: Sequence[Publish], client_id: str, done: Placed) -> None:
        self._add(AppendAll(log, requests, done, self._clock.timestamp(), sender_of(log.options, client_id)))
        self._unwritten_bytes += sum(map(_size, requests))

    def purge(self, log: SqliteLog, done: Purged) -> None:
        self._add(Purge(log, done))

    def read(self, log: SqliteLog, after: int, until: int, limit: int, done: Found) -> None:
        def read(store: Store) -> Sequence[StoredEvent]:
            return self._events(store.read(log.number, after, until, limit, READ_BYTES, self._now()))

        def take(page: Sequence[StoredEvent] | Failure) -> None:
            if not isinstance(page, Failure) and page and page[0].seq <= log.purged:  # after the page was read
                page = [event for event in page if event.seq > log.purged]
            done(page)

        self._reader.read(read, take)

    def find_missing(self, log: SqliteLog, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._reader.read(lambda store: store.is_missing(log.number, after, until, self._now()), done)

    @property
    def full(self) -> bool:
        return self._unwritten_bytes > UNWRITTEN_BYTES

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        self._when_writable.append(callback)

    # Start and end

    def attach(self, host: Host) -> None:
        self._host = host

    def restore(self) -> None:
        try:
            store = self._writer.open()
            for row in store.topics():
                self._restore(store, row)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self._directory}: {error}") from error
        log.info(
            "Journal opened: %(directory)s (topics: %(topics)d)",
            {"directory": str(self._directory), "topics": len(self._logs)},
        )
        self._start_clean_up()

    def _restore(self, store: Store, row: TopicRow) -> None:
        handle = self._logs[row.number] = SqliteLog(self, row.name, row.epoch, row.options, row.number)
        newest: list[StoredEvent] = []
        after = max(row.seq - self._host.ring_size(row.options), row.first - 1)
        # Expired events too: a ring has every seq.
        while page := self._events(store.read(row.number, after, row.seq, row.seq - after, READ_BYTES, now=0)):
            newest += page
            after = page[-1].seq
        handle.topic = self._host.add_topic(
            StoredTopic(
                row.name,
                row.epoch,
                row.options,
                handle,
                seq=row.seq,
                first=row.first,
                size=row.bytes,
                newest=newest,
                expiring=store.has_expired(row.number, row.first - 1, row.seq, inf),
            )
        )

    def call_after(self, callback: Callable[[], None]) -> None:
        if self._busy:
            self._add(Mark(callback))
        else:
            callback()

    def close(self) -> None:
        """Release files and threads. This waits for the disk."""
        self._closed = True
        self._reader.close()
        self._writing.close(self._writer.close)

    # Writing

    def _add(self, operation: Operation) -> None:
        self._waiting.append(operation)
        if not self._busy:
            self._set_busy(True)
            self._defer(self._write)

    def _write(self) -> None:
        self._writing.submit(self._write_waiting, lambda written: self._end_group(*written))

    def _write_waiting(self) -> tuple[list[Operation], Result]:
        """Write all waiting operations as one group, also those that came after the call (writing thread)."""
        group = [self._waiting.popleft() for _ in range(len(self._waiting))]
        return group, self._writer.write(group)

    def _end_group(self, group: Sequence[Operation], result: Result) -> None:
        if self._waiting and not self._closed:
            self._write()  # first, so that the disk does not wait for the rest
        else:
            self._set_busy(False)
        self._take(result)
        for operation in group:
            self._run_alone(partial(self._end, operation))
        self._start_clean_up()
        waiting, self._when_writable = self._when_writable, []
        for callback in waiting:
            self._run_alone(callback)

    def _set_busy(self, busy: bool) -> None:
        """Offer the core meanwhile: if there is only one, the writing thread waits for it three times in a commit."""
        self._busy = self._core.wanted = busy

    @staticmethod
    def _run_alone(step: Callable[[], None]) -> None:
        """Run one step of many: an exception must not keep the outcome from the others."""
        try:
            step()
        except Exception:
            log.exception("Internal error at the end of a group of the journal")

    def _end(self, operation: Operation) -> None:
        match operation:
            case Append():
                self._end_append(operation)
            case AppendAll():
                self._end_append_all(operation)
            case Create():
                self._end_create(operation)
            case Purge():
                self._end_purge(operation)
            case Delete():
                if operation.failure is None:
                    handle = self._logs.pop(operation.log.number)
                    self._host.remove_topic(handle.topic)
                operation.done(operation.failure)
            case Mark():
                operation.done()

    def _end_create(self, operation: Create) -> None:
        if operation.failure is None:
            handle = _log_of(operation)
            handle.number = operation.number
            self._logs[operation.number] = handle
            handle.topic = self._host.add_topic(StoredTopic(handle.name, handle.epoch, handle.options, handle, first=1))
        operation.done(operation.failure)

    def _end_append(self, operation: Append) -> None:
        publisher, request = operation.publisher, operation.request
        self._unwritten_bytes -= _size(request)
        assert publisher is not None, "append was given one"
        if operation.event is not None:
            topic = _log_of(operation).topic
            if operation.event.expires < inf:
                self._host.begin_to_expire(topic)
            self._host.deliver(topic, operation.event)
            publisher.published(request, operation.seq, operation.ts)
        elif operation.failure is not None:
            publisher.refused(request, operation.failure)
        else:
            publisher.repeated(request, operation.seq, operation.ts)

    def _end_append_all(self, operation: AppendAll) -> None:
        self._unwritten_bytes -= sum(map(_size, operation.requests))
        if operation.failure is not None:
            operation.done(operation.failure)
            return
        topic = _log_of(operation).topic
        if any([event.expires < inf for event in operation.events]):
            self._host.begin_to_expire(topic)
        self._host.deliver_all(topic, operation.events)
        operation.done(operation.placements)

    def _end_purge(self, operation: Purge) -> None:
        if operation.failure is not None:
            operation.done(operation.failure)
            return
        handle = _log_of(operation)
        handle.purged = handle.topic.seq
        self._host.forget(handle.topic, lambda _: None)
        operation.done(operation.count)

    def _take(self, result: Result) -> None:
        for extent in result.extents:
            if handle := self._logs.get(extent.number):
                self._host.trim(handle.topic, extent.first, extent.size)
        if result.failure and result.failure != self.failure:
            log.error("Journal fails: %(reason)s", {"reason": result.failure})
        elif self.failure and not result.failure:
            log.warning("Journal works again")
        self.failure = result.failure

    # Clean-up

    def _start_clean_up(self) -> None:
        if not self._cleans_up and not self._closed:
            self._cleans_up = True
            self._call_later(CLEAN_UP_PERIOD, self._clean_up)

    def _clean_up(self) -> None:
        if not self._closed:
            self._writing.submit(self._writer.clean_up, self._end_clean_up)

    def _end_clean_up(self, result: Result) -> None:
        self._take(result)
        if result.more:
            self._defer(self._clean_up)  # after a group that waits
        else:
            self._cleans_up = False
            self._start_clean_up()

    def _events(self, rows: Sequence[EventRow]) -> list[StoredEvent]:
        return stored_events(rows, self._clock.monotonic() - self._now())
