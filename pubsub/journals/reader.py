"""The reading thread of the durable journal: events that are older than the rings."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

from pubsub.core.event import StoredEvent
from pubsub.core.journal import JournalError
from pubsub.journals.store import EventRow, Store
from pubsub.journals.worker import Worker
from pubsub.protocol.errors import Failure, NotAnswered

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Reader:
    """See the module. It opens the database of ``directory`` for its first question, and again after a failure."""

    def __init__(self, directory: Path, post: Callable[[Callable[[], None]], object]) -> None:
        self._directory = directory
        self._worker = Worker("journal-reader", post)
        self._store: Store | None = None

    def read(self, question: Callable[[Store], Answer], done: Callable[[Answer | Failure], None]) -> None:
        """Ask ``question`` in the thread; ``done`` gets the answer on the loop."""
        self._worker.submit(lambda: self._try(question), done)

    def close(self) -> None:
        """Release the thread and the files. This waits for the disk."""
        self._worker.close(self._drop_store)

    def _try(self, question: Callable[[Store], Answer]) -> Answer | Failure:
        try:
            if self._store is None:
                self._store = Store(self._directory, read_only=True)
            return question(self._store)
        except Exception as error:  # a caller waits for an answer in any case
            if not isinstance(error, sqlite3.Error | OSError | JournalError):
                log.error("Internal error in the journal", exc_info=error)
            log.error("Journal can't be read: %(reason)s", {"reason": str(error)})
            self._drop_store()
            return NotAnswered()

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()


def stored_events(rows: Sequence[EventRow], ahead: float) -> list[StoredEvent]:
    """Rows as stored events. ``ahead``: the monotonic clock less Unix time, for their expiry."""
    return [StoredEvent(row.seq, row.text, inf if row.expires is None else row.expires + ahead) for row in rows]
