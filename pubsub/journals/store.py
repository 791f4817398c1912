"""Durable topics on disk: one SQLite database, and all the SQL of the project. No threads, no asyncio.

A row of ``events`` has the event's JSON under a key of the topic's number and the ``seq``: a topic's events are stored
together, and a new one goes to the page that was written last. The same holds for ``seen``, the ids for deduplication.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from pubsub.core.journal import JournalError
from pubsub.journals import DATABASE
from pubsub.journals.numbers import Numbers
from pubsub.protocol.requests import TopicOptions

APPLICATION_ID: Final = 0x70756273
SEQ_BITS: Final = 42  # 4.4e12 messages: 140 years at 1,000 a second; leaves room for 2 million topics
MAX_SEQ: Final = (1 << SEQ_BITS) - 1
# Each statement lets other threads run, and may wait 5 ms to continue if the event loop is busy. So rows are inserted
# by the hundred, and a page is read as one value, separated by a character that no JSON text has.
CHUNKS: Final = (256, 64, 16, 4, 1)
SEPARATOR: Final = "\x1e"
CHECKPOINT_PAGES: Final = 4000  # 16 MiB of write-ahead log

# Statements by version, which make a database of the version before into one of this version.
MIGRATIONS: Final = (
    """
    CREATE TABLE topics (
        number INTEGER PRIMARY KEY,
        name TEXT UNIQUE,  -- NULL: deleted, and its events are yet to be
        epoch TEXT NOT NULL,
        options TEXT NOT NULL,
        seq INTEGER NOT NULL,
        first INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE events (key INTEGER PRIMARY KEY, event BLOB NOT NULL, expires REAL) STRICT;
    CREATE INDEX expiring ON events (key, expires) WHERE expires IS NOT NULL;
    CREATE TABLE seen (key INTEGER PRIMARY KEY, id BLOB NOT NULL, expires REAL NOT NULL) STRICT;
    """,
    # The same tables. A topic may have the options "sender" and "presence", and events before its first one: they were
    # purged.
    "",
    # The same tables. A topic may have the option "dead_letter".
    "",
)
VERSION: Final = len(MIGRATIONS)


class TopicRow(Struct):
    """A topic on disk. ``first``: its oldest event, one above ``seq`` if there is none. Earlier rows were purged."""

    number: int
    name: str
    epoch: str
    options: TopicOptions
    seq: int
    first: int
    bytes: int


class EventRow(Struct):
    """An event on disk. ``text``: its JSON. ``expires``: Unix time, or None."""

    seq: int
    text: bytes
    expires: float | None


class Store:
    """One connection to the database of ``directory``, for one thread at a time.

    Raises JournalError for a file that is no journal or has a later version; sqlite3.Error if the disk fails.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.path = directory / DATABASE
        if read_only and not self.path.exists():
            raise JournalError(f"{directory}: there is no journal ({DATABASE})")
        self._connection = self._connect(read_only=read_only)
        self._numbers: Numbers | None = None  # read for the first new topic
        try:
            self._prepare(read_only=read_only)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise JournalError(f"{self.path}: damaged, or no database at all: {error}") from None
            raise
        except JournalError:
            self._connection.close()
            raise

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        """Connect. The last connection to close deletes the write-ahead log; one that only reads cannot."""
        address = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)

    def _prepare(self, *, read_only: bool) -> None:
        found = self._value("PRAGMA application_id"), self._value("PRAGMA user_version")
        if found[0] != APPLICATION_ID and self._value("SELECT count(*) FROM sqlite_schema"):
            raise JournalError(f"{self.path}: a database of another program")
        if found[1] > VERSION:
            raise JournalError(f"{self.path}: version {found[1]} of the journal, this server knows {VERSION}")
        if read_only:
            return
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        for version in range(found[1], VERSION):
            steps = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version + 1}"
            self._connection.executescript(f"BEGIN; {MIGRATIONS[version]} {steps}; COMMIT")

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all statements or none; they are on disk when the context ends."""
        self.begin()
        try:
            yield
            self.commit()
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @property
    def in_transaction(self) -> bool:
        """False after some failures too, such as a full disk, which end the transaction."""
        return self._connection.in_transaction

    def begin(self) -> None:
        """Begin a transaction. It ends with :meth:`commit`, or leaves nothing."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Have all statements since :meth:`begin` on disk."""
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one moment's state within the context."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def topics(self) -> list[TopicRow]:
        """All topics that are not deleted, in the order of their creation."""
        rows = self._connection.execute(
            "SELECT number, name, epoch, options, seq, first, bytes FROM topics WHERE name IS NOT NULL ORDER BY number"
        ).fetchall()
        return [
            TopicRow(number, name, epoch, self._read_options(name, options), seq, first, size)
            for number, name, epoch, options, seq, first, size in rows
        ]

    def _read_options(self, name: str, text: str) -> TopicOptions:
        try:
            return decode_options(text)
        except msgspec.MsgspecError as error:
            raise JournalError(f"{self.path}: the options of topic {name!r} can't be read: {error}") from None

    def create(self, name: str, epoch: str, options: TopicOptions) -> int:
        """Add a topic; returns its number. After a failure of the transaction the Store must not be used again."""
        if self._numbers is None:
            rows = self._connection.execute("SELECT number FROM topics ORDER BY number")
            self._numbers = Numbers([number for (number,) in rows])
        number = self._numbers.lowest
        text = msgspec.json.encode(options).decode()
        self._connection.execute("INSERT INTO topics VALUES (?, ?, ?, ?, 0, 1, 0)", (number, name, epoch, text))
        self._numbers.take()
        return number

    def delete(self, number: int) -> None:
        """Remove the topic's name; its events are deleted later."""
        self._connection.execute("UPDATE topics SET name = NULL WHERE number = ?", (number,))

    def deleted(self, limit: int) -> list[int]:
        """Up to ``limit`` topics that were deleted and may still have events."""
        statement = "SELECT number FROM topics WHERE name IS NULL LIMIT ?"
        return [number for (number,) in self._connection.execute(statement, (limit,))]

    def delete_events(self, number: int, limit: int) -> int:
        """Delete the oldest ``limit`` events of a topic, deleted or not; returns their number."""
        oldest = "SELECT key FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?"
        return self._connection.execute(f"DELETE FROM events WHERE key IN ({oldest})", (*_keys(number), limit)).rowcount

    def forget(self, number: int) -> None:
        """Remove a deleted topic; its number is free then."""
        self._connection.execute("DELETE FROM topics WHERE number = ?", (number,))
        if self._numbers is not None:
            self._numbers.give_back(number)

    def update(self, number: int, *, seq: int, first: int, size: int) -> None:
        self._connection.execute(
            "UPDATE topics SET seq = ?, first = ?, bytes = ? WHERE number = ?", (seq, first, size, number)
        )

    def insert(self, rows: Sequence[tuple[int, bytes, float | None]]) -> None:
        """Add events: key, text, and expiry (Unix time)."""
        self._insert("events", rows)

    def insert_seen(self, rows: Sequence[tuple[int, bytes, float]]) -> None:
        """Add ids of messages: the event's key, the id, and the end of its window."""
        self._insert("seen", rows)

    def _insert(self, table: str, rows: Sequence[tuple[object, object, object]]) -> None:
        start = 0
        for size in CHUNKS:
            statement = f"INSERT INTO {table} VALUES {', '.join(['(?, ?, ?)'] * size)}"
            while len(rows) - start >= size:
                values = [value for row_ in rows[start : start + size] for value in row_]
                self._connection.execute(statement, values)
                start += size

    def read(self, number: int, after: int, until: int, limit: int, max_bytes: int, now: float) -> list[EventRow]:
        """The oldest events from ``after`` + 1 to ``until`` that have not expired by ``now``: at most ``limit``, and at
        most one beyond ``max_bytes``."""
        start, end = event_key(number, after) + 1, event_key(number, until)
        last = self._value(
            "SELECT max(key) FROM (SELECT key, size, sum(size) OVER (ORDER BY key) AS total FROM ("
            "SELECT key, length(event) AS size FROM events WHERE key BETWEEN ? AND ? "
            "AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?)) WHERE total - size < ?",
            (start, end, now, limit, max_bytes),
        )
        if last is None:
            return []
        keys, events, ends = self._connection.execute(
            "SELECT group_concat(key), group_concat(event, ?), group_concat(ifnull(expires, '')) FROM ("
            "SELECT key, event, expires FROM events WHERE key BETWEEN ? AND ? "
            "AND (expires IS NULL OR expires > ?) ORDER BY key)",
            (SEPARATOR, start, last, now),
        ).fetchone()
        parts = zip(keys.split(","), events.encode().split(SEPARATOR.encode()), ends.split(","), strict=True)
        return [EventRow(int(key) & MAX_SEQ, event, float(end) if end else None) for key, event, end in parts]

    def newest(self, number: int, after: int, until: int) -> list[EventRow]:
        """The events from ``after`` + 1 to ``until``, expired or not. Each row is a step: not beside a busy loop."""
        rows = self._connection.execute(
            "SELECT key, event, expires FROM events WHERE key BETWEEN ? AND ? ORDER BY key",
            (event_key(number, after) + 1, event_key(number, until)),
        )
        return [EventRow(key & MAX_SEQ, event, expires) for key, event, expires in rows]

    def has_expired(self, number: int, after: int, until: int, now: float) -> bool:
        """True if any event from ``after`` + 1 to ``until`` has expired by ``now``."""
        found = self._value(
            "SELECT EXISTS (SELECT 1 FROM events WHERE expires IS NOT NULL AND expires <= ? AND key BETWEEN ? AND ?)",
            (now, event_key(number, after) + 1, event_key(number, until)),
        )
        return bool(found)

    def is_missing(self, number: int, after: int, until: int, now: float) -> bool:
        """True if any event from ``after`` + 1 to ``until`` has expired, was deleted or was purged."""
        # In this order: the second statement finds what was deleted between the two.
        return self.has_expired(number, after, until, now) or not self._value(
            "SELECT EXISTS (SELECT 1 FROM events, topics WHERE key = ? AND number = ? AND first <= ?)",
            (event_key(number, after + 1), number, after + 1),
        )

    def first_alive(self, number: int, first: int, limit: int, now: float) -> int:
        """The ``seq`` of the first unexpired event among ``limit`` from ``first`` on; else the next ``seq``."""
        key = self._value(
            "SELECT min(key) FROM events WHERE key BETWEEN ? AND ? AND (expires IS NULL OR expires > ?)",
            (event_key(number, first), event_key(number, first + limit - 1), now),
        )
        return first + limit if key is None else int(key & MAX_SEQ)

    def cut(self, number: int, seq: int) -> None:
        """Delete the events of a topic after ``seq``, if it has any."""
        span = event_key(number, seq + 1), event_key(number, MAX_SEQ)
        for table in ("events", "seen"):
            self._connection.execute(f"DELETE FROM {table} WHERE key BETWEEN ? AND ?", span)
        self._connection.execute(
            "UPDATE topics SET seq = ?, first = min(first, ?), "
            "bytes = (SELECT ifnull(sum(length(event)), 0) FROM events "
            "WHERE key BETWEEN ? + min(first, ?) AND ?) WHERE number = ? AND seq > ?",
            (seq, seq + 1, event_key(number, 0), seq + 1, event_key(number, MAX_SEQ), number, seq),
        )

    def extend(self, number: int, epoch: str, first: int, size: int) -> None:
        """Restore the extent of a topic before a purge; nothing happens if the purge did not reach the disk."""
        self._connection.execute(
            "UPDATE topics SET first = ?, bytes = ? WHERE number = ? AND epoch = ? AND first > ?",
            (first, size, number, epoch, first),
        )

    def rename(self, number: int, epoch: str, name: str) -> None:
        """Restore the name of a topic that :meth:`delete` removed."""
        self._connection.execute("UPDATE topics SET name = ? WHERE number = ? AND epoch = ?", (name, number, epoch))

    def trim(self, number: int, first: int, end: int) -> int:
        """Delete the events from ``first`` to before ``end``; returns their bytes."""
        span = event_key(number, first), event_key(number, end) - 1
        size = self._value("SELECT total(length(event)) FROM events WHERE key BETWEEN ? AND ?", span)
        self._connection.execute("DELETE FROM events WHERE key BETWEEN ? AND ?", span)
        return int(size)

    def purged(self) -> set[int]:
        """The topics whose purged events are still to be deleted."""
        rows = self._connection.execute(
            f"SELECT number FROM topics WHERE name IS NOT NULL AND EXISTS (SELECT 1 FROM events "
            f"WHERE key >= number << {SEQ_BITS} AND key < (number << {SEQ_BITS}) + first)"
        )
        return {number for (number,) in rows}

    def lowest(self, number: int) -> int | None:
        """The ``seq`` of the oldest event of a topic, deleted or purged or not."""
        key = self._value("SELECT min(key) FROM events WHERE key BETWEEN ? AND ?", _keys(number))
        return None if key is None else int(key & MAX_SEQ)

    def seen(self, number: int, now: float) -> list[tuple[bytes, int, float]]:
        """Ids within their window, with ``seq`` and the end of the window, in the order of the ends."""
        rows = self._connection.execute(
            "SELECT id, key, expires FROM seen WHERE key BETWEEN ? AND ? AND expires > ? ORDER BY key",
            (*_keys(number), now),
        ).fetchall()
        return [(found, key & MAX_SEQ, end) for found, key, end in rows]

    def forget_seen(self, number: int, now: float, limit: int) -> int:
        """Delete up to ``limit`` ids whose window has ended; returns their number."""
        return self._connection.execute(
            "DELETE FROM seen WHERE key IN "
            "(SELECT key FROM seen WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?) AND expires <= ?",
            (*_keys(number), limit, now),
        ).rowcount

    def probe(self) -> None:
        """Write without a change, to find out if the disk works."""
        self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def problems(self) -> list[str]:
        """The problems that SQLite finds in the file."""
        found = [text for (text,) in self._connection.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def _value(self, statement: str, values: Sequence[object] = ()) -> Any:
        return self._connection.execute(statement, values).fetchone()[0]


@lru_cache(maxsize=1024)
def decode_options(text: str) -> TopicOptions:
    """Options of a topic. Most topics share them with others."""
    return msgspec.json.decode(text, type=TopicOptions)


def event_key(number: int, seq: int) -> int:
    return number << SEQ_BITS | seq


def _keys(number: int) -> tuple[int, int]:
    """The lowest and the highest possible key of a topic's events."""
    return event_key(number, 0), event_key(number, MAX_SEQ)
