"""The lock of a directory with durable topics: one process at a time uses it. It ends with the process."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from pubsub.core.journal import JournalError

LOCK: Final = "journal.lock"


class DirectoryLock:
    """A lock that lets one server use a directory. Raises JournalError if another one does."""

    def __init__(self, directory: Path) -> None:
        self._connection = sqlite3.connect(directory / LOCK, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA journal_mode = OFF")  # nothing is written to it
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise JournalError(f"{directory}: another server uses this journal (DATA_DIR)") from None
            raise

    def release(self) -> None:
        self._connection.close()
