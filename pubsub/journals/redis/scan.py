"""The states of all topics after a connection was made, read in slices between the records that come meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import hiredis

from pubsub.journals.redis import connection
from pubsub.journals.redis.connection import Connection, Lost, Refused, command
from pubsub.journals.redis.wire import AnyRecord, AppendedRecord, Generation, StateRecord
from pubsub.journals.shared.engine import Deleted, Follower, Purged

AT_ONCE: Final = 500  # topics in a slice: about 0.2 ms of Redis, and 2 ms here


class Scan:
    """See the module. Replies and pushes have one order, so a state is right for all records that follow it.

    ``names``: of the topics whose states have come. ``done``: when all have.
    """

    def __init__(self, main: Connection, prefix: str, generation: Generation, follower: Follower) -> None:
        self._connection = main
        self._key = f"{prefix}:topics"
        self._generation = generation
        self._follower = follower
        self.names: set[str] = set()
        self._asked = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Read all states. Raises Lost, also if there is no answer for some time, and Refused."""
        self._ask(b"0")
        while not self.done.done():
            asked = self._asked
            await asyncio.wait([self.done], timeout=connection.CONNECT_SECONDS)
            if not self.done.done() and asked == self._asked:
                raise Lost(f"no answer for {connection.CONNECT_SECONDS:g} s")
        self.done.result()

    def fail(self, error: Lost | Refused) -> None:
        """End it with this error."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # the one who waits may have gone

    def _ask(self, cursor: bytes) -> None:
        self._asked += 1
        self._connection.send(command("HSCAN", self._key, cursor, "COUNT", AT_ONCE), self._take)

    def _take(self, reply: Any) -> None:
        if self.done.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            self.fail(Refused(str(reply)))
            return
        cursor, fields = reply
        if cursor != b"0":
            self._ask(cursor)
        for i in range(0, len(fields), 2):
            state = self._generation.state_of(fields[i], fields[i + 1])
            self.names.add(state.name)
            self._follower.apply(state)
        if cursor == b"0":
            self.done.set_result(None)

    def lets_through(self, record: AnyRecord) -> bool:
        """True if a record is of a topic whose state has come. The state of others will have what it tells."""
        match record:
            case StateRecord(name):
                self.names.add(name)
            case Deleted(name):
                self.names.discard(name)
            case AppendedRecord(name) | Purged(name):
                return name in self.names
        return True
