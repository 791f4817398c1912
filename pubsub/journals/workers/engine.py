"""The engine of a worker: a client of the owner over a Unix socket (Engine, see journals/shared/engine.py).

It connects again after each loss, and asks again what has no outcome yet. A batch that the owner had before it died may
be done or not: such a batch is not asked again, and its outcome is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from random import random
from typing import TYPE_CHECKING, Final

from pubsub.core.event import StoredEvent
from pubsub.core.journal import JournalError
from pubsub.journals.shared.engine import Deleted, Known, Operation, State
from pubsub.journals.workers.asked import AskedBatches, AskedQuestions
from pubsub.journals.workers.frames import FrameConnection
from pubsub.journals.workers.wire import (
    VERSION,
    Answer,
    FindMissing,
    Hello,
    Outcomes,
    Read,
    Records,
    Refused,
    Renew,
    Sync,
    Synced,
    Texts,
    Welcome,
    WireError,
    decode_from_owner,
    frame,
)
from pubsub.system.unix_socket import address_of, is_own_user

if TYPE_CHECKING:
    from pubsub.journals.shared.engine import Follower
    from pubsub.journals.shared.engine import Outcomes as TakeOutcomes
    from pubsub.journals.workers.wire import Question
    from pubsub.protocol.errors import Failure

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05  # seconds until the next attempt; it doubles with each one
LONGEST_PAUSE: Final = 1.0
ALIVE_PERIOD: Final = 1.0  # seconds between two questions if the owner is alive
ALIVE_WAIT: Final = 3.0  # seconds without an answer, after which the owner counts as away
STOP_WAIT: Final = 1.0  # seconds for what waits, at the end
RENEWED_AT_ONCE: Final = 1000  # topics in one message
LONGEST_FRAME: Final = 0xFFFFFFFF  # the owner is trusted: it runs the same program for the same user


class WorkerEngine:
    """See the module. ``path``: of the owner's socket."""

    lasting = ""

    def __init__(self, path: str) -> None:
        self.server = secrets.token_hex(6)
        self._path = path
        self._batches = AskedBatches()
        self._questions = AskedQuestions()
        self._connection: FrameConnection | None = None
        self._life = ""  # of the owner that was connected last
        self._topics: dict[str, State] = {}  # in memory, as they began: the next owner may have to make them again
        self._names: set[str] = set()  # that came since the Welcome
        self._ready = False  # all topics are known, and batches may be asked
        self._stopped = False
        self._told_reason: str | None = None
        self._heard = 0.0  # the time of the last message
        self._asks_if_alive = False
        self._first = asyncio.Event()  # synced or failing
        self._fatal = ""
        self._task: asyncio.Task[None] | None = None
        self._alive_timer: asyncio.TimerHandle | None = None

    # Engine

    async def start(self, follower: Follower) -> None:
        self._follower = follower
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        await self._first.wait()
        if self._fatal:
            raise JournalError(f"JOURNAL_URL: unix:{self._path}: {self._fatal}")

    def ask(self, operations: Sequence[Operation], outcomes: TakeOutcomes) -> None:
        self._batches.add(operations, outcomes)
        if self._ready:
            self._write(self._batches.unsent())

    def withdraw(self, outcomes: TakeOutcomes) -> None:
        self._batches.withdraw(outcomes)

    def sync(self, done: Callable[[Failure | None], None]) -> None:
        self._question(Sync, done)

    def read(
        self, known: Known, after: int, until: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        self._question(lambda number: Read(number, known, after, until, limit), done)

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self._question(lambda number: FindMissing(number, known, after, until), done)

    async def stop(self) -> None:
        if self._task is None:
            return
        if self._batches and self._ready:
            ended = asyncio.Event()
            self._question(Sync, lambda _: ended.set())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), STOP_WAIT)
        self._stopped = True
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        if self._connection is not None:
            self._connection.transport.close()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    # The connection

    async def _run(self) -> None:
        """Connect, again and again."""
        pause = FIRST_PAUSE
        while not self._stopped:
            self._heard = self._loop.time()
            reason = await self._connect()
            pause = FIRST_PAUSE if self._ready else min(2 * pause, LONGEST_PAUSE)
            self._connection, self._ready = None, False
            if not self._stopped:
                self._tell(reason)
                await asyncio.sleep(pause * (0.5 + random()))

    async def _connect(self) -> str:
        """Connect, and wait for the end of the connection; the reason of it."""
        lost = asyncio.Event()
        connection = FrameConnection(most=LONGEST_FRAME, connected=self._greet, lost=lost.set)
        connection.take = self._welcome
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, address_of(self._path))
            if not is_own_user(sock):
                raise PermissionError(errno.EPERM, "a process of another user listens there")
            await self._loop.create_unix_connection(lambda: connection, sock=sock)
        except OSError as error:
            sock.close()
            return f"the owner cannot be reached: {error.strerror or error}"
        self._watch()
        await lost.wait()
        return f"the owner has ended the connection{': ' if connection.fault else ''}{connection.fault}"

    def _greet(self, connection: FrameConnection) -> None:
        self._connection = connection
        connection.write(frame(Hello(VERSION, self.server, self._life)))

    def _welcome(self, text: memoryview) -> None:
        message = decode_from_owner(text)
        if isinstance(message, Refused):
            if not self._first.is_set():
                self._fatal = message.reason
            raise WireError(message.reason)
        if not isinstance(message, Welcome) or self._connection is None:
            raise WireError("no owner answers")
        self._known = message.known
        renewed = list(self._topics.values()) if message.life != self._life else []
        self._life = message.life
        self._names = set()
        self._connection.take = self._take
        for start in range(0, len(renewed), RENEWED_AT_ONCE):
            self._write([frame(Renew(renewed[start : start + RENEWED_AT_ONCE], more=True))])
        self._write([frame(Renew([], more=False))])

    def _take(self, text: memoryview) -> None:
        self._heard = self._loop.time()
        message = decode_from_owner(text)
        match message:
            case Records():
                self._apply(message)
            case Outcomes():
                self._batches.take(message.number, message.outcomes)
            case Answer():
                self._questions.take(message)
            case Synced():
                self._synced()
            case _:
                raise WireError("a second greeting")
        if self._ready and self._told_reason:
            self._tell("")

    def _apply(self, message: Records) -> None:
        apply = self._follower.apply
        for record in message.records:
            if isinstance(record, Texts):
                apply(record.record)
                continue
            if isinstance(record, State):
                self._names.add(record.name)
                if not record.options.durable:
                    self._topics[record.name] = record
            elif isinstance(record, Deleted):
                self._names.discard(record.name)
                self._topics.pop(record.name, None)
            apply(record)

    def _synced(self) -> None:
        for name in self._topics.keys() - self._names:
            del self._topics[name]
        self._follower.synced(self._names, lambda _: True)
        self._ready = True
        if not self._known:
            self._batches.fail_sent()
        self._write(self._batches.all())
        self._write(self._questions.all())
        self._tell("")

    def _question(self, make: Callable[[int], Question], done: Callable[..., None]) -> None:
        asked = self._questions.add(make, done)
        if self._ready:
            self._write([asked])

    def _write(self, frames: Iterable[bytes]) -> None:
        if self._connection is not None:
            for each in frames:
                self._connection.write(each)

    # The owner's health

    def _tell(self, reason: str) -> None:
        """Tell the follower, and who waits for the start, of a change."""
        if reason != self._told_reason:
            self._told_reason = reason
            self._follower.failing(reason)
        self._first.set()

    def _watch(self) -> None:
        """Ask now and then if the owner is alive: it may have been stopped, and its connections stay."""
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        self._alive_timer = None
        if self._stopped or self._connection is None:
            return
        if self._ready and not self._asks_if_alive:
            self._asks_if_alive = True
            self._question(Sync, self._is_alive)
        elif (self._ready or self._told_reason is None) and self._loop.time() - self._heard > ALIVE_WAIT:
            self._tell(f"the owner has not answered for {ALIVE_WAIT:g} seconds")
        self._alive_timer = self._loop.call_later(ALIVE_PERIOD, self._watch)

    def _is_alive(self, _: object) -> None:
        self._asks_if_alive = False
