"""The journal on disk as a side of a copy. It must never be written to beside a server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from math import inf
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from pubsub.core.event import make_event
from pubsub.core.journal import JournalError
from pubsub.journals.dedup import id_key
from pubsub.journals.directory_lock import DirectoryLock
from pubsub.journals.store import MAX_SEQ, EventRow, Store, TopicRow, event_key
from pubsub.journals.transfer.moved import MovedEvent, MovedId, MovedTopic
from pubsub.journals.wal import lost_commits
from pubsub.protocol.replies import Event
from pubsub.protocol.requests import Message

PAGE: Final = 1000
PAGE_BYTES: Final = 4 * 2**20
CHANGED_BYTES: Final = 4 * 2**20
"""Bytes of events that one transaction writes, and at most one page more."""

_decode: Final = msgspec.json.Decoder(Event).decode


class SqliteContents:
    """A topic of the database, by its number."""

    def __init__(self, store: Store, topic: MovedTopic, number: int) -> None:
        self._store = store
        self._topic = topic
        self._number = number

    async def events(self) -> AsyncIterator[Sequence[MovedEvent]]:
        """Yield all messages, also those that have expired."""
        after = self._topic.first - 1
        while page := self._store.read(self._number, after, MAX_SEQ, PAGE, PAGE_BYTES, now=0):
            yield [self._moved(row) for row in page]
            after = page[-1].seq

    def _moved(self, row: EventRow) -> MovedEvent:
        try:
            event = _decode(row.text)
        except msgspec.MsgspecError as error:
            raise JournalError(f"topic {self._topic.name!r}: #{row.seq} can't be read: {error}") from None
        sender = "" if event.sender is UNSET else event.sender
        expires = inf if row.expires is None else round(row.expires, 3)
        return MovedEvent(row.seq, event.message.id, bytes(event.message.payload), event.ts, sender, expires)

    async def ids(self, now: float) -> AsyncIterator[Sequence[MovedId]]:
        seen = self._store.seen(self._number, now)
        for start in range(0, len(seen), PAGE):
            yield [MovedId(str(uuid.UUID(bytes=key)), seq, end) for key, seq, end in seen[start : start + PAGE]]


class Changes:
    """Changes of the database, committed together: a commit waits for the disk."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._size = -1  # bytes of events since the beginning of the transaction; less than 0 if there is none

    def begin(self, size: int = 0) -> None:
        """Prepare for a change of ``size`` bytes. Raises JournalError as :meth:`commit` does."""
        if self._size + size > CHANGED_BYTES:
            self.commit()
        self._check()
        if self._size < 0:
            self.store.begin()
            self._size = 0
        self._size += size

    def commit(self) -> None:
        """Have all changes on disk. Raises JournalError if SQLite has undone them, because the disk refused one."""
        self._check()
        if self._size >= 0:
            self.store.commit()
            self._size = -1

    def _check(self) -> None:
        if self._size >= 0 and not self.store.in_transaction:
            raise JournalError(f"{self.store.path}: changes were undone, because the disk refused one of them")


class SqliteDraft(SqliteContents):
    """A topic without a name yet. A server that finds one deletes it, as the rest of a topic that was deleted."""

    def __init__(self, changes: Changes, topic: MovedTopic) -> None:
        store = changes.store
        changes.begin()
        number = store.create(topic.name, topic.epoch, topic.options)
        store.delete(number)
        self._changes = changes
        self._size = 0
        super().__init__(store, topic, number)

    async def add_events(self, events: Sequence[MovedEvent]) -> None:
        rows = [(event_key(self._number, each.seq), self._text(each), end_of(each)) for each in events]
        size = sum(len(text) for _, text, _ in rows)
        self._changes.begin(size)
        self._store.insert(rows)
        self._size += size

    def _text(self, event: MovedEvent) -> bytes:
        message = Message(event.id, Raw(event.payload))
        return make_event(self._topic.name, message, event.seq, event.ts, event.sender or UNSET).text

    async def add_ids(self, ids: Sequence[MovedId]) -> None:
        self._changes.begin()
        self._store.insert_seen([(event_key(self._number, each.seq), id_key(each.id), each.end) for each in ids])

    async def finish(self) -> None:
        topic, number = self._topic, self._number
        self._changes.begin()
        self._store.update(number, seq=topic.seq, first=topic.first, size=self._size)
        self._store.rename(number, topic.epoch, topic.name)


def oldest(row: TopicRow) -> int:
    """Return the oldest message that a topic shows. It deletes those beyond its history later, some at a time."""
    history = row.options.history
    return row.first if history is None else max(row.first, row.seq - history + 1)


def end_of(event: MovedEvent) -> float | None:
    return None if event.expires == inf else event.expires


class SqliteSide:
    """A directory, which is locked from the start on. Raises JournalError if a server uses it."""

    only_durable = True

    def __init__(self, directory: Path, *, writes: bool) -> None:
        self.where = str(directory)
        if writes:
            directory.mkdir(parents=True, exist_ok=True)
        elif not directory.is_dir():
            raise JournalError(f"{directory}: there is no such directory")
        self._lock = DirectoryLock(directory)
        try:
            self._store = Store(directory, read_only=not writes)
            if (lost := lost_commits(self._store.path)) > 1:
                raise JournalError(f"{self._store.path}-wal: damaged: the last {lost} commits can't be read")
        except BaseException:
            self._lock.release()
            raise
        self._changes = Changes(self._store)
        self._numbers: dict[str, int] = {}

    async def topics(self) -> Sequence[MovedTopic]:
        rows = self._store.topics()
        self._numbers = {row.name: row.number for row in rows}
        return [MovedTopic(row.name, row.epoch, row.options, row.seq, oldest(row), row.bytes) for row in rows]

    def contents(self, topic: MovedTopic) -> SqliteContents:
        return SqliteContents(self._store, topic, self._numbers[topic.name])

    async def begin(self, topic: MovedTopic) -> SqliteDraft:
        return SqliteDraft(self._changes, topic)

    async def save(self) -> None:
        self._changes.commit()

    async def users(self) -> int:
        return 0  # the lock says so

    async def close(self) -> None:
        self._store.close()
        self._lock.release()
