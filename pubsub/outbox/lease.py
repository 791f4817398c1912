"""The right to hand over the rows of an outbox, which one worker has at a time. It must never read a row.

It is an advisory lock of a transaction that stays open on a connection of its own: with the connection the lock ends,
whatever happened to the worker. A lock of the session would be left behind in PgBouncer's transaction mode. The
transaction has written and read nothing, so it delays no vacuum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pubsub.outbox.schema import LOCK_CLASS

if TYPE_CHECKING:
    from psycopg import AsyncConnection


class Lease:
    """See the module. Each method raises psycopg.Error if the connection is lost."""

    def __init__(self, connection: AsyncConnection[Any], table: str) -> None:
        self._connection = connection
        self._table = table

    async def take(self) -> bool:
        """Take the lease; return False at once if another worker has it: one that waits would delay every vacuum."""
        await self._connection.execute("BEGIN")
        await self._connection.execute(
            "SELECT set_config(name, '0', true) FROM pg_settings "
            "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
        )
        cursor = await self._connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s, %s::regclass::oid::int)", (LOCK_CLASS, self._table)
        )
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return True
        await self._connection.execute("ROLLBACK")
        return False

    async def check(self) -> None:
        """Make sure that this worker still has the lease."""
        await self._connection.execute("SELECT 1")
