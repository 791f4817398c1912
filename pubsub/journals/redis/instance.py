"""The way to an instance: its address (of Sentinel), log-in, checks, scripts, and the entry of this server."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from pubsub.core.journal import JournalError
from pubsub.journals.redis.address import Address, Place
from pubsub.journals.redis.checks import (
    check_info,
    engine_of,
    explain_refusal,
    find_losses,
    identity_of,
    is_replica,
    keeps_data,
    parse_info,
    settings_of,
)
from pubsub.journals.redis.connection import Connection, Refused, command, connect
from pubsub.journals.redis.scripts import NEEDED, VERSION, Scripts
from pubsub.journals.redis.sentinels import Sentinels
from pubsub.journals.redis.wire import Generation

LOOKED_AT: Final = 200  # rounds of SCAN for keys of another program: 200,000 keys, about 0.1 s


class Entry(Struct, frozen=True):
    """The entry of this server. ``n``: the last push before it. ``number``: of this connection among its connections.

    ``time``: Unix time of Redis.
    """

    generation: Generation
    n: int
    number: int
    time: float

    @classmethod
    def of(cls, reply: Any) -> Entry:
        """The reply of the script."""
        generation, previous, n, number, moment = reply
        return cls(Generation(generation.decode(), previous.decode()), int(n), int(number), float(moment))


class Instance:
    """See the module. ``lasting``: the reason for which durable topics may not last here.

    ``where`` is for messages. It says Redis until the instance has said what it is.
    ``moved`` is called when Sentinel tells of another primary.
    """

    def __init__(
        self, address: Address, scripts: Scripts, server: str, moved: Callable[[], None] = lambda: None
    ) -> None:
        self.lasting = ""
        self.where = f"Redis at {address}"
        self._address = address
        self._scripts = scripts
        self._server = server
        self._sentinels = Sentinels(address, moved)
        self._known = False  # its keys have been checked
        self._identity = ""  # of the instance that it entered last

    async def connect(
        self, push: Callable[[bytes, bytes], None], lost: Callable[[str], None]
    ) -> tuple[Connection, Mapping[str, str]]:
        """Connect to the instance that takes writes now; returns its INFO too. Raises Lost, Refused, JournalError."""
        self._place = place = await self._find()
        with self.explained():
            connection, _ = await connect(self._address, place, self._address.login, push, lost)
        try:
            with self.explained():
                if self._address.database:
                    await connection.ask("SELECT", self._address.database)
                info = parse_info(await connection.ask("INFO"))
                self.where = f"{engine_of(info)} at {self._address}"
                check_info(info, self.where)
                await connection.ask_all([script.load for script in self._scripts.all])
                self.lasting = find_losses(info, await _settings(connection))
        except BaseException:
            connection.close("it was not needed")
            raise
        return connection, info

    async def check(self, connection: Connection, info: Mapping[str, str]) -> None:
        """Raise JournalError if the instance can never hold this journal. Nothing is changed. Raises Lost, Refused."""
        if is_replica(info):
            reason = f"{self.where}: expected a primary, got a read-only replica"
            raise Refused(reason) if self._address.service else JournalError(reason)
        if not self._known:
            with self.explained():
                await self._check_keys(connection)
                await connection.ask_encoded(self._scripts.check.run(VERSION, self._address.part, *NEEDED))

    async def enter(
        self,
        connection: Connection,
        info: Mapping[str, str],
        seen: int = -1,
        entered: Callable[[Entry], None] = lambda _: None,
    ) -> Entry:
        """Enter with a connection. ``seen``: the last push of the connection before; less than 0 if there was none.

        ``entered`` gets the entry before any push that follows it.
        Raises Lost, Refused, and JournalError if it can never hold this journal.
        """
        await self.check(connection, info)
        with self.explained():
            reply = await connection.ask_encoded(
                self._scripts.enter.run(
                    VERSION,
                    self._server,
                    identity_of(info),
                    secrets.token_hex(5),
                    self._address.part,
                    "all" if self._address.renew_all else "lost",
                    self._identity if seen >= 0 else "",
                    max(seen, 0),
                    "same" if keeps_data(info) else "other",
                ),
                heard=lambda reply: entered(Entry.of(reply)),
            )
        self._known, self._identity = True, identity_of(info)
        return Entry.of(reply)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raise JournalError for what no later try can change."""
        try:
            yield
        except Refused as refused:
            if (error := explain_refusal(str(refused), self.where, self._address.part)) is not None:
                raise error from None
            raise

    async def _check_keys(self, connection: Connection) -> None:
        """Raise JournalError if another program has keys with the prefix."""
        prefix = self._address.prefix
        kinds = await connection.ask_all([command("TYPE", f"{prefix}:{key}") for key in ("meta", "topics", "due")])
        if [kind for kind, own in zip(kinds, (b"hash", b"hash", b"zset"), strict=True) if kind not in (own, b"none")]:
            raise Refused("WRONGTYPE")
        if (kinds[0] != b"none" or await self._finds_keys(connection)) and not await connection.ask(
            "HEXISTS", f"{prefix}:meta", "generation"
        ):
            raise Refused("WRONGTYPE")

    async def _finds_keys(self, connection: Connection) -> bool:
        """True if there are keys. They may be those of a server that has entered a moment ago."""
        cursor = b"0"
        for _ in range(LOOKED_AT):
            cursor, found = await connection.ask("SCAN", cursor, "MATCH", f"{self._address.prefix}:*", "COUNT", 1000)
            if found or cursor == b"0":
                return bool(found)
        return False

    async def has_moved(self) -> bool:
        """True if Sentinel knows another primary than the one that :meth:`connect` found. Raises Lost."""
        return bool(self._address.service) and await self._find() != self._place

    async def _find(self) -> Place:
        """The place of the instance; Sentinel knows it if there is one. Raises Lost."""
        return await self._sentinels.find_primary() if self._address.service else self._address.places[0]

    def close(self) -> None:
        self._sentinels.close()


async def _settings(connection: Connection) -> Mapping[str, str] | None:
    """The settings that decide what lasts; None if they are not shown."""
    try:
        return settings_of(await connection.ask("CONFIG", "GET", "appendfsync"))
    except Refused:
        return None
