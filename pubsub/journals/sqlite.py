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
from pubsub.core.journal import JournalError, StoredTopic, random_epoch
from pubsub.journals.operations import Append, Create, Delete, Mark, Operation, Result, TopicHandle
from pubsub.journals.store import EventRow, Store, TopicRow
from pubsub.journals.writer import Writer
from pubsub.protocol.errors import Failure, NotStored
from pubsub.system.cores import SharedCore

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.log import Done, Found, Publisher
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import Publish, TopicOptions

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

TIDY_PERIOD: Final = 1.0  # seconds
PAGE_BYTES: Final = 64 * 1024  # read at a time, and one event more: what a subscriber that stalls then holds
# What is not on the disk yet: beyond it, who publishes to durable topics is not read from.
UNWRITTEN_BYTES: Final = 16 * 1024 * 1024
APPEND_BYTES: Final = 500  # what a publish takes beside its payload


def _size(request: Publish) -> int:
    return APPEND_BYTES + len(request.message.payload)


class SqliteLog(TopicHandle):
    """One topic (TopicLog)."""

    __slots__ = ("_journal", "topic")

    topic: Topic

    def __init__(self, journal: SqliteJournal, name: str, epoch: str, options: TopicOptions, number: int = 0) -> None:
        super().__init__(name, epoch, options, number)
        self._journal = journal

    def append(self, request: Publish, publisher: Publisher) -> None:
        self._journal.append(self, request, publisher)

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        self._journal.read(self, after, until, limit, done)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._journal.find_missing(self, after, until, done)

    def delete(self, done: Done) -> None:
        self._journal.delete(self, done)


def _log_of(operation: Append | Create) -> SqliteLog:
    assert isinstance(operation.log, SqliteLog), "the loop's operations have the whole log"
    return operation.log


class SqliteJournal:
    """See the module. ``post`` has a callback run on the loop, from any thread; ``defer`` at the end of the tick.

    ``failure``: why the last attempt to write failed, in words for the operator; empty while all is well.
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
        self._post = post
        self._defer = defer
        self._call_later = call_later
        self._writer = Writer(directory, now=now, monotonic=clock.monotonic)
        self._writing = ThreadPoolExecutor(1, "journal-writer")
        self._reading = ThreadPoolExecutor(1, "journal-reader")
        self._read_store: Store | None = None
        self._core = core
        self._logs: dict[int, SqliteLog] = {}
        self._waiting: deque[Operation] = deque()  # the writing thread takes from it
        self._unwritten_bytes = 0
        self._when_writable: list[Callable[[], None]] = []
        self._busy = False  # a group is being written, or will be at the end of the tick
        self._tidies = False
        self._closed = False

    # The topics' calls

    def create(self, name: str, options: TopicOptions, done: Done) -> None:
        self._add(Create(SqliteLog(self, name, random_epoch(), options), done))

    def delete(self, log: SqliteLog, done: Done) -> None:
        self._add(Delete(log, done))

    def append(self, log: SqliteLog, request: Publish, publisher: Publisher) -> None:
        self._add(Append(log, request, publisher, self._clock.timestamp()))
        self._unwritten_bytes += _size(request)
        publisher.wait(request)

    def read(self, log: SqliteLog, after: int, until: int, limit: int, done: Found) -> None:
        def read(store: Store) -> Sequence[StoredEvent]:
            return self._events(store.read(log.number, after, until, limit, PAGE_BYTES, self._now()))

        self._read(read, done)

    def find_missing(self, log: SqliteLog, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._read(lambda store: store.is_missing(log.number, after, until, self._now()), done)

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
        self._begin_to_tidy()

    def _restore(self, store: Store, row: TopicRow) -> None:
        handle = self._logs[row.number] = SqliteLog(self, row.name, row.epoch, row.options, row.number)
        newest: list[StoredEvent] = []
        after = max(row.seq - self._host.ring_size(row.options), row.first - 1)
        # Those that have expired too: the ring has no holes.
        while page := self._events(store.read(row.number, after, row.seq, row.seq - after, PAGE_BYTES, now=0)):
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
                expiring=store.has_expired(row.number, 0, row.seq, inf),
            )
        )

    def call_after(self, callback: Callable[[], None]) -> None:
        if self._busy:
            self._add(Mark(callback))
        else:
            callback()

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
            self._set_busy(True)
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
            self._set_busy(False)
        self._take(result)
        for operation in group:
            self._alone(partial(self._end, operation))
        self._begin_to_tidy()
        waiting, self._when_writable = self._when_writable, []
        for callback in waiting:
            self._alone(callback)

    def _set_busy(self, busy: bool) -> None:
        """On a machine with one core the writing thread waits three times in a commit for the loop to offer it."""
        self._busy = self._core.wanted = busy

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
                self._end_create(operation)
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
            self._host.deliver(_log_of(operation).topic, operation.event)
            publisher.published(request, operation.seq, operation.ts)
        elif operation.failure is not None:
            publisher.refused(request, operation.failure)
        else:
            publisher.repeated(request, operation.seq, operation.ts)

    def _take(self, result: Result) -> None:
        for extent in result.extents:
            if handle := self._logs.get(extent.number):
                self._host.trim(handle.topic, extent.first, extent.size)
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

    def _read(self, read: Callable[[Store], Answer], done: Callable[[Answer | Failure], None]) -> None:
        self._submit(self._reading, lambda: self._try_read(read), done)

    def _try_read(self, read: Callable[[Store], Answer]) -> Answer | Failure:
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

    def _submit(self, executor: ThreadPoolExecutor, work: Callable[[], Answer], then: Callable[[Answer], None]) -> None:
        """Have a thread do ``work``, and ``then`` be called on the loop with what it found."""

        def end(future: Future[Answer]) -> None:
            self._post(lambda: then(future.result()))

        executor.submit(work).add_done_callback(end)
