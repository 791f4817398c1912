"""The engine of worker processes: one process, the owner, has the journals, and the workers ask it by a Unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pubsub.core.journal import JournalError
from pubsub.journals.workers.engine import WorkerEngine
from pubsub.system.unix_socket import check_path

if TYPE_CHECKING:
    from pubsub.core.clock import Clock

SCHEME = "unix:"


def make_engine(url: str, _: Clock) -> WorkerEngine:
    """The engine of a worker whose owner listens at ``unix:path``. Raises JournalError."""
    path = url.strip().removeprefix(SCHEME)
    try:
        check_path(path)
    except ValueError as error:
        raise JournalError(f"JOURNAL_URL: got {url!r}, {error}") from None
    return WorkerEngine(path)
