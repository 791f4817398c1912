"""The work of the writing thread of the durable journal: one commit for a group of operations.

Only this thread assigns ``seq`` and keeps ids for durable topics, so that a failed group leaves no missing ``seq``:
after a failure it reads again what the disk has.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from pubsub.core.event import StoredEvent, expiring_at, make_event
from pubsub.core.journal import JournalError, lifetime
from pubsub.journals import DATABASE
from pubsub.journals.cleaning import Cleaner, delete_expired, trim_history
from pubsub.journals.dedup import id_key
from pubsub.journals.directory_lock import DirectoryLock
from pubsub.journals.operations import (
    Append,
    AppendAll,
    Create,
    Delete,
    Extent,
    Mark,
    Operation,
    Outcome,
    Purge,
    Result,
    TopicHandle,
)
from pubsub.journals.placing import place_all, remember
from pubsub.journals.state import State, make_state
from pubsub.journals.store import Store, TopicRow, event_key
from pubsub.journals.undo import Undo
from pubsub.journals.wal import lost_commits
from pubsub.protocol.errors import Conflict, Failure, NotStored, TopicExists, TopicNotFound

if TYPE_CHECKING:
    from pubsub.protocol.requests import Publish

logger = logging.getLogger(__name__)


class Writer:
    """See the module. All but the constructor runs in the writing thread."""

    def __init__(self, directory: Path, *, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self._monotonic = monotonic
        self._lock: DirectoryLock | None = None
        self._store: Store | None = None
        self._states: dict[int, State] = {}
        self._failing = False
        self._undo = Undo()
        self._cleaner = Cleaner()
        self._rows: list[tuple[int, bytes, float | None]] = []
        self._ids: list[tuple[int, bytes, float]] = []
        self._touched: set[int] = set()

    def open(self) -> Store:
        """Open the database; create it if needed. Raises JournalError, OSError, sqlite3.Error."""
        if self._store is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = self._lock_directory()
            store = Store(self._directory)
            try:
                self._undo.apply(store)
                rows = store.topics()
                self._states = {row.number: self._restore(store, row) for row in rows}
                self._cleaner.purged = store.purged()
            except BaseException:
                store.close()
                raise
            self._touched = self._undo.cuts.keys() & self._states.keys()
            self._undo.clear()
            self._store = store
        return self._store

    def _lock_directory(self) -> DirectoryLock:
        """Lock the directory, and check that all commits in the log of a killed server can be read.

        The last commit may be unfinished: nobody was told of it. An unreadable commit before it is damage: SQLite would
        delete the log, and acknowledged messages would be lost and their ``seq`` assigned again.
        """
        lock = DirectoryLock(self._directory)
        lost = lost_commits(self._directory / DATABASE)
        if lost > 1:
            lock.release()
            raise JournalError(
                f"{self._directory / DATABASE}-wal: damaged: the last {lost} commits can't be read. Restore a copy, or "
                "export what is left of it and import that into an empty DATA_DIR"
            )
        return lock

    def write(self, group: Sequence[Operation]) -> Result:
        """Commit a group, all of it or nothing; each operation gets its outcome."""
        began = self._monotonic()
        try:
            store = self.open()
            with store.transaction():
                for operation in group:
                    self._apply(store, operation)
                store.insert(self._rows)
                store.insert_seen(self._ids)
                for number in self._touched:
                    trim_history(store, number, self._states[number])
                extents = [self._update(store, number) for number in self._touched]
        except Exception as error:
            return self._fail(group, error)
        finally:
            self._rows, self._ids, self._touched = [], [], set()
        self._failing = False
        return Result(extents, taken=self._monotonic() - began)

    def clean_up(self) -> Result:
        """Delete some of the expired and purged events, and of the events of deleted topics."""
        try:
            store = self.open()
            with store.transaction():
                if self._failing:
                    store.probe()
                more = self._cleaner.clean(store, self._states, self._touched, self._now())
                extents = [self._update(store, number) for number in self._touched]
        except Exception as error:
            return self._fail((), error)
        finally:
            self._touched = set()
        self._failing = False
        return Result(extents, more=more)

    def close(self) -> None:
        """Release the directory for another server."""
        self._drop_store()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _apply(self, store: Store, operation: Operation) -> None:
        match operation:
            case Append():
                self._append(operation)
            case AppendAll():
                self._append_all(operation)
            case Create():
                self._create(store, operation)
            case Delete():
                self._delete(store, operation)
            case Purge():
                self._purge(store, operation)
            case Mark():
                pass

    def _append(self, operation: Append) -> None:
        state = self._state_of(operation.log)
        if state is None:
            operation.failure = _missing(operation.log)
            return
        outcomes: list[Outcome] = []
        for request in operation.requests:
            if state.seen is None and request.expect_seq is UNSET:
                outcomes.append(self._add_event(operation, request, state))
            else:
                outcomes.append(self._append_checked(operation, request, state))
        operation.outcomes = outcomes

    def _append_checked(self, operation: Append, request: Publish, state: State) -> Outcome:
        """Append a message, unless it is a duplicate or expects another ``seq``."""
        key, now, seen = id_key(request.message.id), self._now(), state.seen
        if seen is not None and (first := seen.find(key, now)) is not None:
            return first
        if request.expect_seq is not UNSET and request.expect_seq != state.seq:
            return Conflict(request.expect_seq, state.seq)
        event = self._add_event(operation, request, state)
        if seen is not None:
            self._ids.append((event_key(operation.log.number, state.seq), key, seen.add(key, state.seq, now)))
        return event

    def _append_all(self, operation: AppendAll) -> None:
        log, now = operation.log, self._now()
        state = self._state_of(log)
        if state is None:
            operation.failure = _missing(log)
            return
        try:
            places = place_all(operation.requests, state.seq, state.seen, now)
        except Conflict as failure:
            operation.failure = failure
            return
        operation.assignments = places.assignments
        operation.events = [self._add_event(operation, request, state) for request, _ in places.new(operation.requests)]
        if state.seen is not None:
            self._ids += [(event_key(log.number, seq), key, end) for key, seq, end in remember(places, state.seen, now)]

    def _add_event(self, operation: Append | AppendAll, request: Publish, state: State) -> StoredEvent:
        """Give a message the next ``seq``."""
        log = operation.log
        state.seq += 1
        event = make_event(log.name, request.message, state.seq, operation.ts, operation.sender)
        expires = None
        if log.options.ttl_sec is not None or request.ttl_sec is not UNSET:
            ttl = lifetime(log.options, request)
            expires, event = self._now() + ttl, expiring_at(event, self._monotonic() + ttl)
        self._rows.append((event_key(log.number, state.seq), event.text, expires))
        state.size += len(event.text)
        self._touched.add(log.number)
        return event

    def _purge(self, store: Store, operation: Purge) -> None:
        """Forget all events of a topic. Their rows are deleted later: for a million of them it takes seconds."""
        number = operation.log.number
        state = self._state_of(operation.log)
        if state is None:
            operation.failure = TopicNotFound(operation.log.name)
            return
        store.insert(self._rows)  # those of this group: first_alive looks for them
        self._rows = []
        delete_expired(store, number, state, self._now())
        operation.before = Extent(number, state.first, state.size)
        operation.count = state.kept
        state.first, state.size = state.seq + 1, 0
        self._touched.add(number)
        self._cleaner.purged.add(number)

    def _create(self, store: Store, operation: Create) -> None:
        log = operation.log
        try:
            operation.number = store.create(log.name, log.epoch, log.options)
        except sqlite3.IntegrityError:
            operation.failure = TopicExists(log.name)
            return
        log.number = operation.number  # here, so that messages can be appended in the same group
        row = TopicRow(operation.number, log.name, log.epoch, log.options, seq=0, first=1, bytes=0)
        self._states[operation.number] = make_state(row, self._now())

    def _delete(self, store: Store, operation: Delete) -> None:
        number = operation.log.number
        state = self._state_of(operation.log)
        if state is None:
            operation.failure = TopicNotFound(operation.log.name)
            return
        if operation.expect_seq is not UNSET and operation.expect_seq != state.seq:
            operation.failure = Conflict(operation.expect_seq, state.seq)
            return
        del self._states[number]
        operation.applied = True
        self._touched.discard(number)
        store.delete(number)

    def _state_of(self, log: TopicHandle) -> State | None:
        """The state of a topic; None if it was deleted: another topic may have its number by now."""
        state = self._states.get(log.number)
        return state if state is not None and state.epoch == log.epoch else None

    def _restore(self, store: Store, row: TopicRow) -> State:
        state = make_state(row, self._now())
        if state.seen is not None:
            for key, seq, end in store.seen(row.number, self._now()):
                state.seen.restore(key, seq, end)
        return state

    def _update(self, store: Store, number: int) -> Extent:
        state = self._states[number]
        store.update(number, seq=state.seq, first=state.first, size=state.size)
        return Extent(number, state.first, state.size)

    def _fail(self, group: Sequence[Operation], error: Exception) -> Result:
        """Refuse a group, and drop all knowledge that was not read from the disk."""
        if not isinstance(error, sqlite3.Error | OSError | JournalError):
            logger.error("Internal error in the journal", exc_info=error)
        self._failing = True
        for operation in group:
            self._undo.remember(operation)
        for operation in group:
            if not isinstance(operation, Mark):
                operation.failure = NotStored()
            if isinstance(operation, Append):
                operation.outcomes = ()
            elif isinstance(operation, AppendAll):
                operation.events = ()
            elif isinstance(operation, Create):
                operation.log.number = 0
        self._drop_store()
        return Result([], failure=str(error) or type(error).__name__)

    def _drop_store(self) -> None:
        store, self._store, self._states = self._store, None, {}
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()


def _missing(log: TopicHandle) -> Failure:
    """The failure of a publish to a topic that was deleted, or that could not be created."""
    return TopicNotFound(log.name) if log.number else NotStored()
