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
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pubsub.core.clock import Clock
from pubsub.core.histogram import Histogram
from pubsub.core.journal import JournalError, JournalMeasures, StoredTopic, random_epoch
from pubsub.journals import DATABASE
from pubsub.journals.operations import Create, Mark, Operation, Result
from pubsub.journals.reader import Reader, stored_events
from pubsub.journals.results import Results
from pubsub.journals.store import Store, TopicRow
from pubsub.journals.topic_log import LogParts, SqliteLog
from pubsub.journals.worker import Worker
from pubsub.journals.writer import Writer
from pubsub.system.cores import SharedCore

if TYPE_CHECKING:
    from pubsub.core.journal import Host
    from pubsub.core.log import Done
    from pubsub.protocol.requests import TopicOptions

log = logging.getLogger(__name__)

CLEAN_UP_PERIOD: Final = 1.0  # seconds
COMMIT_TIMES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds
# Bytes that are not on disk yet. Beyond it, publishers to durable topics are not read from.
UNWRITTEN_BYTES: Final = 16 * 1024 * 1024


class SqliteJournal:
    """See the module. ``post`` runs a callback on the loop, from any thread; ``defer`` runs one at the end of the tick.

    ``failure``: the reason, for the operator, for which the last write failed; empty if it did not. ``new_epoch`` makes
    the epoch of a new topic.
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
        new_epoch: Callable[[], str] = random_epoch,
    ) -> None:
        self.failure = ""
        self._commits = Histogram(COMMIT_TIMES)
        self._failures = 0
        self._directory = directory
        self._clock = clock
        self._now = now
        self._new_epoch = new_epoch
        self._defer = defer
        self._call_later = call_later
        self._writer = Writer(directory, now=now, monotonic=clock.monotonic)
        self._writing = Worker("journal-writer", post)
        self._reader = Reader(directory, post)
        self._core = core
        self._parts = LogParts(self._add, self._reader, clock, now)
        self._results = Results(defer)
        self._waiting: deque[Operation] = deque()  # the writing thread takes from it
        self._when_writable: list[Callable[[], None]] = []
        self._busy = False  # a group is being written, or will be at the end of the tick
        self._cleans_up = False
        self._closed = False

    @property
    def measures(self) -> JournalMeasures:
        files = [str(self._directory / f"{DATABASE}{end}") for end in ("", "-wal")]
        return JournalMeasures(self._commits, self._failures, self._results.pending_bytes, files)

    @property
    def full(self) -> bool:
        return self._results.pending_bytes > UNWRITTEN_BYTES

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        self._when_writable.append(callback)

    # Start and end

    def attach(self, host: Host) -> None:
        self._host = self._results.host = host

    def restore(self) -> None:
        try:
            store = self._writer.open()
            for row in store.topics():
                self._restore(store, row)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self._directory}: {error}") from error
        log.info(
            "Journal opened: %(directory)s (topics: %(topics)d)",
            {"directory": str(self._directory), "topics": len(self._results.logs)},
        )
        self._start_clean_up()

    def _restore(self, store: Store, row: TopicRow) -> None:
        handle = self._results.logs[row.number] = SqliteLog(self._parts, row.name, row.epoch, row.options, row.number)
        after = max(row.seq - self._host.ring_size(row.options), row.first - 1)
        newest = store.newest(row.number, after, row.seq) if after < row.seq else []
        expiring = any(event.expires is not None for event in newest)
        if not expiring and after >= row.first:
            expiring = store.has_expired(row.number, row.first - 1, after, inf)
        handle.topic = self._host.add_topic(
            StoredTopic(
                row.name,
                row.epoch,
                row.options,
                handle,
                seq=row.seq,
                first=row.first,
                size=row.bytes,
                newest=stored_events(newest, self._clock.monotonic() - self._now()),
                expiring=expiring,
            )
        )

    def create(self, name: str, options: TopicOptions, done: Done) -> SqliteLog:
        handle = SqliteLog(self._parts, name, self._new_epoch(), options)
        self._add(Create(handle, done))
        return handle

    def call_after(self, callback: Callable[[], None]) -> None:
        if self._busy or self._results:
            self._add(Mark(callback))
        else:
            callback()

    def close(self) -> None:
        """Release files and threads. This waits for the disk; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        self._writing.close(self._writer.close)

    # Writing

    def _add(self, operation: Operation, size: int = 0) -> None:
        self._results.pending_bytes += size
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
        self._note_failure(result.failure)
        if not result.failure:
            self._commits.observe(result.taken)
        self._results.add([*group, Mark(self._let_publish)], result.extents)
        self._start_clean_up()

    def _let_publish(self) -> None:
        waiting, self._when_writable = self._when_writable, []
        for callback in waiting:
            try:
                callback()
            except Exception:  # the others may publish all the same
                self._results.log_fault()

    def _set_busy(self, busy: bool) -> None:
        """Offer the core meanwhile: if there is only one, the writing thread waits for it three times in a commit."""
        self._busy = self._core.wanted = busy

    def _note_failure(self, failure: str) -> None:
        self._failures += bool(failure)
        if failure and failure != self.failure:
            log.error("Journal fails: %(reason)s", {"reason": failure})
        elif self.failure and not failure:
            log.warning("Journal works again")
        self.failure = failure

    # Clean-up

    def _start_clean_up(self) -> None:
        if not self._cleans_up and not self._closed:
            self._cleans_up = True
            self._call_later(CLEAN_UP_PERIOD, self._clean_up)

    def _clean_up(self) -> None:
        if not self._closed:
            self._writing.submit(self._writer.clean_up, self._end_clean_up)

    def _end_clean_up(self, result: Result) -> None:
        self._note_failure(result.failure)
        self._results.add((), result.extents)
        if result.more:
            self._defer(self._clean_up)  # after a group that waits
        else:
            self._cleans_up = False
            self._start_clean_up()
