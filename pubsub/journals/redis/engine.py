"""The engine on one Redis (Engine): it connects, enters, reads all states, and then lets batches and records flow.

Commands and pushes come on one connection, so records and replies have one order, and the reply to a script is the
barrier of ``sync``: only an instance that takes writes runs it. Reads have a second one. A canary must return every few
seconds as a push; otherwise both are made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

import hiredis
import msgspec

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import JournalError
from pubsub.journals.redis.address import Address
from pubsub.journals.redis.batches import REBUILD, Batches
from pubsub.journals.redis.canary import Canary
from pubsub.journals.redis.checks import explain_trouble
from pubsub.journals.redis.connection import Connection, Lost, Refused
from pubsub.journals.redis.instance import Entry, Instance
from pubsub.journals.redis.reads import Reads
from pubsub.journals.redis.scan import Scan
from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import (
    AnyRecord,
    AppendedRecord,
    RenewedRecord,
    StateRecord,
    appended_of,
    decode_push,
    state_of,
)
from pubsub.journals.shared.engine import Follower, Known, Operation, Outcomes
from pubsub.protocol.errors import Failure, NotAnswered

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 5.0
STOP_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 10.0  # between two questions to Sentinel, which may have told its news to nobody
MOVED: Final = "Sentinel knows another primary"
DISK_FULL: Final = "MISCONF"


class RedisEngine:
    """See the module and the contract. ``server``: the id of this server, new at each start."""

    def __init__(self, address: Address, clock: Clock, server: str) -> None:
        self.server = server
        self.lasting = ""
        self._prefix = address.prefix
        self._random = Random()
        self._scripts = Scripts(address.prefix)
        self._clock = clock
        self._instance = Instance(address, self._scripts, self.server, self._leave_primary)
        self._batches = Batches(self.server, self._scripts, self._tell)
        self._reads = Reads(self._scripts, clock)
        self._records = f"{address.prefix}:records".encode()
        self._main: Connection | None = None
        self._second: Connection | None = None
        self._scan: Scan | None = None
        self._synced = False
        self._left = False  # Sentinel has told of another primary since the last question
        self._seen = -1  # the last push; -1 until the server has entered
        self._last = -1  # that of the connection before
        self._shift = 0.0  # seconds from a Unix time of Redis to the monotonic clock of this machine
        self._reason = ""
        self._last_loss = ""
        self._syncs: list[Callable[[Failure | None], None]] = []
        self._asked = 0  # of the syncs, those whose barrier is on its way
        self._canary = Canary(self.server, self._scripts, self._random, self._tell, lambda: self._seen)
        self._broken: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def check(self) -> str:
        """Look at the instance without changing it; returns its run id, "" if it cannot be reached.

        Raises JournalError if it can never hold this journal.
        """
        try:
            connection, info = await self._instance.connect(lambda *_: None, lambda _: None)
            try:
                await self._instance.check(connection, info)
            finally:
                connection.close("it is not needed any more")
        except (Lost, Refused):
            return ""
        return info["run_id"]

    # The contract

    async def start(self, follower: Follower) -> None:
        self._follower = follower
        try:
            await self._open()
        except (Lost, Refused) as error:
            self._fail(str(error))
        self._task = asyncio.create_task(self._run())

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        self._batches.ask(operations, outcomes)

    def withdraw(self, outcomes: Outcomes) -> None:
        self._batches.withdraw(outcomes)

    def sync(self, done: Callable[[Failure | None], None]) -> None:
        self._syncs.append(done)
        if self._synced:
            self._ask_barrier()

    def read(
        self, known: Known, after: int, until: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        self._reads.read(known, after, until, limit, done)

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._reads.find_missing(known, after, until, done)

    async def stop(self) -> None:
        if self._synced:
            asked: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            self.ask((), lambda outcomes: None if asked.done() else asked.set_result(outcomes))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await asked
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._main is not None:
            with contextlib.suppress(Lost, Refused):
                await self._main.ask("UNLINK", f"{self._prefix}:s:{self.server}")
        self._close("the server stops")
        self._instance.close()

    # Connecting

    async def _run(self) -> None:
        """Keep the connections, and make them anew after each loss."""
        bound = 0.1
        while True:
            try:
                if self._synced:
                    await self._wait_for_loss()
                    bound = 0.1
                await asyncio.sleep(self._random.uniform(bound / 2, bound))
                bound = min(2 * bound, LONGEST_PAUSE)
                await self._open()
            except (Lost, Refused, JournalError) as error:
                self._fail(str(error))
            except Exception as error:  # an answer that nobody expected: the next one may be another
                log.exception("Internal error at the connection to Redis")
                self._fail(f"internal error: {error!r}")

    async def _wait_for_loss(self) -> None:
        """Wait for the loss of a connection. One to a primary that is none any more, for Sentinel, is closed."""
        while self._synced:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):  # wait_for of Python 3.11 can swallow a cancellation
                    await self._broken.wait()
                return
            with contextlib.suppress(Lost):
                if await self._instance.has_moved():
                    self._leave_primary()

    def _leave_primary(self) -> None:
        """The primary is none any more, for Sentinel. It may not know that, and take what nobody keeps."""
        self._left = True
        self._rebuild(MOVED)

    async def _open(self) -> None:
        """Connect, enter, and read all states. Raises Lost, Refused and JournalError."""
        self._broken.clear()
        if self._seen >= 0:
            self._last = self._seen
        self._seen = -1
        self._left = False
        try:
            with self._instance.explained():
                self._main, info = main, _ = await self._instance.connect(self._pushed, self._lost)
                for channel in (self._records, f"{self._prefix}:canary:{self.server}"):
                    await main.ask("SUBSCRIBE", channel)
                entry = await self._instance.enter(main, info, self._last, self._entered)
                self._check_open()
                scan = self._scan
                assert scan is not None, "made at the entry"
                self._second, _ = second, _ = await self._instance.connect(lambda *_: None, self._lost)
                self._check_open()
                await scan.run()
                self._check_open()
        except BaseException:
            self._close("it was not needed")
            raise
        self._go_on(main, second, entry, scan)

    def _entered(self, entry: Entry) -> None:
        """The pushes that follow are for this server."""
        assert self._main is not None, "it enters with it"
        self._seen, self._shift = entry.n, self._clock.monotonic() - entry.time
        self._scan = Scan(self._main, self._prefix, entry.generation, self._follower)

    def _go_on(self, main: Connection, second: Connection, entry: Entry, scan: Scan) -> None:
        """All states have come: let batches and questions flow."""
        self._scan = None
        self.lasting = self._instance.lasting
        self._follower.synced(scan.names, lambda _: True)
        self._succeed()
        self._batches.seen = self._seen
        self._batches.open(main, entry.number, secrets.token_hex(5))
        self._reads.open(second)
        self._synced = True
        if self._syncs:
            self._ask_barrier()
        self._canary.begin(main, second, entry.number)

    def _check_open(self) -> None:
        """Raise Lost if a connection was lost while nobody waited for it, or leads to the wrong instance."""
        if self._main is None or self._left:
            raise Lost(MOVED if self._left else self._last_loss)

    def _lost(self, reason: str) -> None:
        """A connection is lost: both are made anew."""
        self._last_loss = reason
        if self._scan is not None:
            self._scan.fail(Lost(reason))
        if self._synced:
            self._synced = False
            self._fail(reason)
            self._broken.set()
        self._close(reason)

    def _close(self, reason: str) -> None:
        self._synced = False
        self._scan = None
        self._asked = 0
        self._canary.stop()
        self._batches.pause()
        self._reads.pause()
        main, second = self._main, self._second
        self._main = self._second = None
        for each in (main, second):
            if each is not None:
                each.close(reason)

    def _fail(self, reason: str, *, partly: bool = False) -> None:
        where = self._instance.where
        reason = reason if reason.startswith(where) else f"{where}: {explain_trouble(reason)}"
        if reason != self._reason:
            self._reason = reason
            self._follower.failing(reason, partly=partly)

    def _succeed(self) -> None:
        if self._reason:
            self._reason = ""
            self._follower.failing("")

    def _tell(self, trouble: str) -> None:
        """Redis refuses to decide (no memory, a full disk, too few replicas), or a probe found that it decides.

        It still answers: it can be read from, and with full memory it deletes what it is to delete.
        """
        if trouble:
            self._fail(trouble, partly=True)
        elif self._synced:
            self._succeed()

    # Records

    def _pushed(self, channel: bytes, message: bytes) -> None:
        if channel != self._records:
            self._take_canary(message)
            return
        try:
            push = decode_push(message)
        except msgspec.MsgspecError as error:
            self._rebuild(f"a record that this version does not know: {error}")
            return
        if self._seen < 0 or push.n <= self._seen:  # from before the entry
            return
        if push.n != self._seen + 1:
            self._rebuild("a push was lost")
            return
        self._seen = push.n
        for record in push.records:
            self._apply(record)
        if self._synced:
            self._batches.release(push.n)

    def _apply(self, record: AnyRecord) -> None:
        if self._scan is not None and not self._scan.lets_through(record):
            return
        match record:
            case AppendedRecord():
                self._follower.apply(appended_of(record, self._shift))
            case StateRecord():
                self._follower.apply(state_of(record))
            case RenewedRecord():
                self._rebuild("all epochs were renewed")
            case _:
                self._follower.apply(record)

    def _rebuild(self, reason: str) -> None:
        if self._main is not None:
            self._main.close(reason)

    def _ask_barrier(self) -> None:
        """Ask for the barrier: when it comes, all records of what was decided before have come."""
        if self._main is not None:
            count = len(self._syncs) - self._asked
            self._asked = len(self._syncs)
            self._main.send(self._scripts.barrier.run(), partial(self._take_barrier, self._main, count))

    def _take_barrier(self, main: Connection, count: int, reply: object) -> None:
        """A replica refuses the barrier, also one that was the primary until now: another instance may know more.

        An instance whose disk is full refuses it too, and has all that there is.
        """
        code = str(reply).partition(" ")[0] if isinstance(reply, hiredis.ReplyError) else ""
        if code in REBUILD:
            main.close(str(reply))
            return
        failure = NotAnswered() if code not in ("", DISK_FULL) else None
        ended, self._syncs = self._syncs[:count], self._syncs[count:]
        self._asked -= count
        for done in ended:
            done(failure)

    def _take_canary(self, message: bytes) -> None:
        n, moment = self._canary.take(message)
        self._shift = self._clock.monotonic() - moment
        if n != self._seen:
            self._rebuild("the last pushes were lost")
