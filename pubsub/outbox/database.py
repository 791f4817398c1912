"""The outbox in its database: reads the rows that are committed, and deletes those that a server has.

It never remembers the last number that it read. Numbers are given when ``pubsub_publish`` is called, and rows are seen
when their transaction is committed, so a row with a lower number may be seen later. What is not deleted is read again.

Rows come in the order of their numbers. If a transaction has seen the rows of another one, it was given its numbers
later, and is seen later or in the same read: so its rows come after those, in every read and over all reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pubsub.outbox.errors import OutboxError
from pubsub.outbox.rows import Row
from pubsub.outbox.schema import CHANNEL, LOCK_CLASS, TABLE, VERSION, quoted, statements

if TYPE_CHECKING:
    from psycopg import AsyncConnection

BATCH_ROWS: Final = 2000
BATCH_BYTES: Final = 8 * 2**20
"""The rows of one read, and their payloads' bytes; the last one may exceed them."""
LEAST_VERSION: Final = 13
# A connection whose other end has vanished is noticed within 25 s. The DSN can say otherwise.
DEFAULTS: Final = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}

# A queue has the statistics of another moment. If they say that it is small, while a million rows wait, the planner
# would sort all of them for each read.
ORDERED: Final = """
SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', 'enable_sort']) AS name"""
READ: Final = """
SELECT number, topic, id::text, text, ttl_sec FROM (
    SELECT *, sum(octet_length(text)) OVER (ORDER BY number) - octet_length(text) AS before FROM (
        SELECT number, topic, id, payload::text AS text,
            extract(epoch FROM expires - clock_timestamp())::float8 AS ttl_sec
        FROM {table} WHERE error IS NULL AND number NOT IN (SELECT unnest(%s::bigint[]))
            AND topic NOT IN (SELECT unnest(%s::text[])) ORDER BY number LIMIT %s) AS oldest) AS sized
WHERE before < %s ORDER BY number"""
REFUSE: Final = """
UPDATE {table} AS kept SET error = refused.error
FROM (SELECT * FROM unnest(%s::bigint[], %s::text[])) AS refused (number, error) WHERE kept.number = refused.number"""


async def connect(dsn: str) -> AsyncConnection[Any]:
    """Connect. Raises OutboxError for a DSN that is none, and psycopg.OperationalError."""
    try:
        chosen = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its text has parts of the DSN, and so maybe the password
        raise OutboxError("--dsn: expected a connection string of PostgreSQL, as postgresql://user@host/db") from None
    options = {"application_name": "pubsub outbox", **DEFAULTS, **chosen, "client_encoding": "UTF8"}
    # Prepared statements do not survive PgBouncer's transaction mode.
    return await psycopg.AsyncConnection.connect(make_conninfo("", **options), autocommit=True, prepare_threshold=None)


class Outbox:
    """See the module. One task uses it at a time; each method raises psycopg.Error."""

    def __init__(self, connection: AsyncConnection[Any], schema: str) -> None:
        self.name = f"{schema}.{TABLE}"
        self.table = f"{quoted(schema)}.{TABLE}"
        self._schema = schema
        self._connection = connection
        self._notified = False
        connection.add_notify_handler(self._note)

    def _note(self, _: object) -> None:
        self._notified = True

    async def install(self) -> int:
        """Create the table and the functions, or bring them to this version; return the version that was there."""
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK_CLASS,))
            version = await self._version()
            if version < VERSION:
                await self._connection.execute(statements(self._schema, version))
        return version

    async def _version(self) -> int:
        """Return the version of what is installed, 0 for nothing. Raises OutboxError for one that is not known here."""
        function = f"{quoted(self._schema)}.pubsub_outbox_version()"
        if await self._value("SELECT to_regprocedure(%s)::text", function) is None:
            return 0
        version = int(await self._value(f"SELECT {function}"))
        if version > VERSION:
            raise OutboxError(f"{self.name}: version {version} of the outbox, this program knows {VERSION}")
        return version

    async def open(self) -> None:
        """Check that this program can use the outbox, and listen. Raises OutboxError, which says why it cannot."""
        if (server := self._connection.info.server_version) < LEAST_VERSION * 10_000:
            raise OutboxError(f"expected PostgreSQL {LEAST_VERSION} or newer, got {server // 10_000}")
        if (version := await self._version()) < VERSION:
            found = f"version {version}" if version else "none"
            raise OutboxError(f"{self.name}: expected an outbox of version {VERSION}, got {found} (--install)")
        if await self._value("SHOW server_encoding") != "UTF8":
            raise OutboxError("expected a database with the encoding UTF8")
        if await self._value("SELECT pg_is_in_recovery()"):
            raise OutboxError("expected the primary, got a standby (in the DSN: target_session_attrs=read-write)")
        for right in ("SELECT", "UPDATE", "DELETE"):
            if not await self._value("SELECT has_table_privilege(%s, %s)", self.table, right):
                raise OutboxError(f"{self.name}: the role {self._connection.info.user!r} needs the right {right}")
        await self._connection.execute(f"LISTEN {CHANNEL}")

    async def _value(self, statement: str, *parameters: object) -> Any:
        row = await (await self._connection.execute(statement, parameters)).fetchone()
        return None if row is None else row[0]

    async def read(self, flying: Collection[int], waiting: Collection[str]) -> list[Row]:
        """Read the oldest rows, without those with the numbers ``flying`` and those of the topics ``waiting``."""
        self._notified = False
        async with self._connection.transaction():
            await self._connection.execute(ORDERED)
            cursor = await self._connection.execute(
                READ.format(table=self.table), (list(flying), list(waiting), BATCH_ROWS, BATCH_BYTES)
            )
        return [
            Row(number, topic, id, text.encode(), ttl_sec)
            for number, topic, id, text, ttl_sec in await cursor.fetchall()
        ]

    async def delete(self, numbers: Collection[int]) -> None:
        await self._connection.execute(f"DELETE FROM {self.table} WHERE number = ANY(%s)", (list(numbers),))

    async def refuse(self, errors: Mapping[int, str]) -> None:
        """Keep rows with their errors; they are not read any more."""
        await self._connection.execute(REFUSE.format(table=self.table), (list(errors), list(errors.values())))

    async def wait(self, seconds: float, end: asyncio.Event) -> None:
        """Wait until rows may have been committed or the connection is lost, for ``end``, or so many seconds."""
        if self._notified:
            return
        loop = asyncio.get_running_loop()
        ready: asyncio.Event = asyncio.Event()
        ending = loop.create_task(end.wait())
        reading = loop.create_task(ready.wait())
        descriptor = self._connection.fileno()
        loop.add_reader(descriptor, ready.set)
        try:
            await asyncio.wait([ending, reading], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(descriptor)
            ending.cancel()
            reading.cancel()
