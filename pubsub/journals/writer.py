"""The work of the writing thread of the durable journal: one commit for a group of operations.

Only this thread assigns ``seq`` and keeps ids for durable topics, so that a failed group leaves no missing ``seq``:
after a failure it reads again what the disk has.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pubsub.core.event import StoredEvent, expiring_at, make_event
from pubsub.core.journal import JournalError, lifetime
from pubsub.journals import DATABASE
from pubsub.journals.dedup import RecentIds, id_key
from pubsub.journals.operations import Append, Create, Delete, Extent, Mark, Operation, Result, TopicHandle
from pubsub.journals.store import DirectoryLock, Store, event_key
from pubsub.journals.wal import lost_commits
from pubsub.protocol.errors import NotStored, TopicExists, TopicNotFound
from pubsub.protocol.requests import Publish, TopicOptions

if TYPE_CHECKING:
    from pubsub.journals.store import TopicRow

logger = logging.getLogger(__name__)

CLEAN_UP_LEAST: Final = 1.0  # seconds between two clean-ups of a topic
TRIM_LEAST: Final = 64  # fewer rows are not worth a deletion
TRIM_ROWS: Final = 1000  # rows deleted in one transaction: about 5 ms, for which a publish may have to wait


class State(Struct):
    """The writer's knowledge of a topic. ``first``: its oldest event on disk. ``size``: bytes of all its events.

    ``clean_up_at``: the Unix time of the next search for expired events.
    """

    epoch: str
    options: TopicOptions
    seq: int
    first: int
    size: int
    seen: RecentIds | None
    clean_up_at: float


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
        # Refused operations may be on disk all the same, if the log was written and could not be synced.
        self._cuts: dict[int, int] = {}  # by topic: the last seq that was not refused
        self._undo: list[Callable[[Store], None]] = []
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
                self._undo_refused(store)
                self._states = {row.number: self._restore(store, row) for row in store.topics()}
            except BaseException:
                store.close()
                raise
            self._touched = self._cuts.keys() & self._states.keys()
            self._cuts, self._undo = {}, []
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
        try:
            store = self.open()
            with store.transaction():
                for operation in group:
                    self._apply(store, operation)
                store.insert(self._rows)
                store.insert_seen(self._ids)
                self._trim_touched(store)
                extents = [self._update(store, number) for number in self._touched]
        except Exception as error:
            return self._fail(group, error)
        finally:
            self._rows, self._ids, self._touched = [], [], set()
        self._failing = False
        return Result(extents)

    def clean_up(self) -> Result:
        """Delete some of the expired events, and of the events of deleted topics."""
        try:
            store = self.open()
            with store.transaction():
                if self._failing:
                    store.probe()
                more = self._purge_deleted(store) | self._purge_expired(store)
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

    def _undo_refused(self, store: Store) -> None:
        """Undo refused operations that reached the disk."""
        if self._cuts or self._undo:
            with store.transaction():
                for undo in self._undo:
                    undo(store)
                for number, seq in self._cuts.items():
                    store.cut(number, seq)

    def _apply(self, store: Store, operation: Operation) -> None:
        match operation:
            case Append():
                self._append(operation)
            case Create():
                self._create(store, operation)
            case Delete():
                self._delete(store, operation)
            case Mark():
                pass

    def _append(self, operation: Append) -> None:
        log, request = operation.log, operation.request
        state = self._state_of(log)
        if state is None:
            operation.failure = TopicNotFound(log.name) if log.number else NotStored()
            return
        if state.seen is not None and (first := self._remember(log.number, state, request)):
            operation.seq = first
            return
        state.seq += 1
        ttl = lifetime(log.options, request)
        event = make_event(log.name, request.message, state.seq, operation.ts)
        expires = None if ttl == inf else self._now() + ttl
        self._rows.append((event_key(log.number, state.seq), event.text, expires))
        state.size += len(event.text)
        operation.seq = state.seq
        operation.event = event if ttl == inf else expiring_at(event, self._monotonic() + ttl)
        self._touched.add(log.number)

    def _remember(self, number: int, state: State, request: Publish) -> int:
        """The ``seq`` of the first message with this id; 0 if there was none: then the id is added."""
        assert state.seen is not None, "asked only of topics with dedup_sec"
        key, now = id_key(request.message.id), self._now()
        if (first := state.seen.find(key, now)) is not None:
            return first
        end = state.seen.add(key, state.seq + 1, now)
        self._ids.append((event_key(number, state.seq + 1), key, end))
        return 0

    def _create(self, store: Store, operation: Create) -> None:
        log = operation.log
        try:
            operation.number = store.create(log.name, log.epoch, log.options)
        except sqlite3.IntegrityError:
            operation.failure = TopicExists(log.name)
            return
        log.number = operation.number  # here, so that messages can be appended in the same group
        self._states[operation.number] = self._make_state(log.name, log.epoch, log.options, seq=0, first=1, size=0)

    def _delete(self, store: Store, operation: Delete) -> None:
        number = operation.log.number
        if self._state_of(operation.log) is None:
            operation.failure = TopicNotFound(operation.log.name)
            return
        del self._states[number]
        operation.applied = True
        self._touched.discard(number)
        store.delete(number)

    def _state_of(self, log: TopicHandle) -> State | None:
        """The state of a topic; None if it was deleted: another topic may have its number by now."""
        state = self._states.get(log.number)
        return state if state is not None and state.epoch == log.epoch else None

    def _make_state(self, name: str, epoch: str, options: TopicOptions, *, seq: int, first: int, size: int) -> State:
        seen = None if options.dedup_sec is None else RecentIds(name, options.dedup_sec)
        return State(epoch, options, seq, first, size, seen, clean_up_at=self._next_clean_up(options))

    def _restore(self, store: Store, row: TopicRow) -> State:
        state = self._make_state(row.name, row.epoch, row.options, seq=row.seq, first=row.first, size=row.bytes)
        if state.seen is not None:
            for key, seq, end in store.seen(row.number, self._now()):
                state.seen.restore(key, seq, end)
        return state

    def _next_clean_up(self, options: TopicOptions) -> float:
        """The time of the next clean-up. Expired events are deleted a little later, so that few clean-ups find many."""
        times = [seconds for seconds in (options.ttl_sec, options.dedup_sec) if seconds is not None]
        return self._now() + max(CLEAN_UP_LEAST, min(times) / 20) if times else inf

    def _trim_touched(self, store: Store) -> None:
        """Delete events beyond a topic's history, in slices, as fast as events are added."""
        for number in self._touched:
            state = self._states[number]
            history = state.options.history or 0
            excess = state.seq - state.first + 1 - history
            if excess > min(TRIM_ROWS, max(TRIM_LEAST, history // 8)):
                self._trim(store, number, state, state.first + min(excess, 2 * TRIM_ROWS))

    def _trim(self, store: Store, number: int, state: State, end: int) -> None:
        state.size -= store.trim(number, state.first, end)
        state.first = end

    def _update(self, store: Store, number: int) -> Extent:
        state = self._states[number]
        store.update(number, seq=state.seq, first=state.first, size=state.size)
        return Extent(number, state.first, state.size)

    def _purge_deleted(self, store: Store) -> bool:
        """Delete some events of a deleted topic. Returns True if there may be more."""
        for number in store.deleted():
            lowest = store.lowest(number)
            if lowest is not None:
                store.trim(number, lowest, lowest + TRIM_ROWS)
            elif not store.forget_seen(number, inf, TRIM_ROWS):
                store.forget(number)
            return True
        return False

    def _purge_expired(self, store: Store) -> bool:
        """Delete some expired events of the topics that are due. Returns True if there are more."""
        more = False
        now = self._now()
        for number, state in self._states.items():
            if state.clean_up_at <= now:
                state.clean_up_at = self._next_clean_up(state.options)
                if self._purge_topic(store, number, state, now):
                    state.clean_up_at, more = now, True
        return more

    def _purge_topic(self, store: Store, number: int, state: State, now: float) -> bool:
        forgotten = 0 if state.seen is None else store.forget_seen(number, now, TRIM_ROWS)
        deleted = 0
        if state.options.ttl_sec is not None:
            alive = min(store.first_alive(number, state.first, TRIM_ROWS, now), state.seq + 1)
            deleted = alive - state.first
        if deleted:
            self._trim(store, number, state, state.first + deleted)
            self._touched.add(number)
        return max(forgotten, deleted) == TRIM_ROWS

    def _fail(self, group: Sequence[Operation], error: Exception) -> Result:
        """Refuse a group, and drop all knowledge that was not read from the disk."""
        if not isinstance(error, sqlite3.Error | OSError | JournalError):
            logger.error("Internal error in the journal", exc_info=error)
        self._failing = True
        for operation in group:
            self._remember_to_undo(operation)
        for operation in group:
            if not isinstance(operation, Mark):
                operation.failure = NotStored()
            if isinstance(operation, Append):
                operation.event = None
            elif isinstance(operation, Create):
                operation.log.number = 0
        self._drop_store()
        return Result([], failure=str(error) or type(error).__name__)

    def _remember_to_undo(self, operation: Operation) -> None:
        match operation:
            case Append(event=StoredEvent()):
                self._cuts.setdefault(operation.log.number, operation.seq - 1)
            case Create(number=number, failure=None) if number:
                self._undo.append(partial(Store.forget, number=number))
            case Delete(log=log, applied=True):
                self._undo.append(partial(Store.rename, number=log.number, epoch=log.epoch, name=log.name))

    def _drop_store(self) -> None:
        store, self._store, self._states = self._store, None, {}
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()
