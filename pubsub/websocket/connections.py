"""All WebSocket connections, and the one timer that they share: heartbeat, messages that don't end, clients that stall.

It only decides that it is time; what happens then is the Connection's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

from pubsub.auth.quotas import Quotas
from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.protocol.frames import PING, control_frame, text_frame
from pubsub.protocol.replies import Info, encode
from pubsub.websocket.session import Rules, Session

if TYPE_CHECKING:
    from pubsub.websocket.connection import Connection

log = logging.getLogger(__name__)

TICK: Final = 0.1  # seconds: the grain of all time limits below
STALL_TICKS: Final = 5  # a look at a blocked client costs 3 µs, so each tick has a fifth of them
SLICE: Final = 200  # connections that are served at a stretch when all are: about 4 ms
SEARCHED: Final = 10_000  # connections that are looked at at a stretch when one client's are wanted: 1 ms

_GOLDEN: Final = 0.6180339887498949  # its multiples, modulo 1, never come close to each other


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; see the settings of the same names."""

    ping_period: float
    pong_wait: float
    write_wait: float
    read_timeout: float
    max_message_bytes: int
    queue_size: int
    auth_wait: float = 5.0


class Connections:
    """See the module. ``limits``, ``broker`` and ``clock`` are what each Connection needs from the server."""

    def __init__(
        self,
        broker: Broker,
        limits: Limits,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        rules: Rules | None = None,
        quotas: Quotas | None = None,
        session_type: type[Session] = Session,
    ) -> None:
        self.broker = broker
        self.limits = limits
        self.clock = clock
        self.rules = rules
        self.quotas = quotas or Quotas(in_all=0, per_client=0)
        self.session_type = session_type
        self.blocked: dict[Connection, None] = {}
        self.now: Callable[[], float] = loop.time
        self.defer: Callable[[Callable[[], None]], object] = loop.call_soon
        self.call_later = loop.call_later
        self.take_turn = broker.turns.take
        self.outbox_options = OutboxOptions(limits.queue_size, clock, self.take_turn, losses=broker.losses)
        self._open: dict[Connection, None] = {}
        self._opened = 0
        self._wheel: dict[int, dict[Connection, None]] = {}  # by tick: whose heartbeat is due
        self._unfinished: dict[Connection, float] = {}  # deadlines, in the order in which they fall due
        self._timer: asyncio.TimerHandle | None = None
        self._ticks_done = 0
        self._started = loop.time()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def left(self) -> int:
        """Connections that have ended since the start."""
        return self._opened - len(self._open)

    def add(self, connection: Connection) -> None:
        """Spread over the period, not served in one burst: each connection's first ping comes at a time of its own."""
        self._open[connection] = None
        self._opened += 1
        connection.number = self._opened
        connection.next_ping = self.now() + self.limits.ping_period * (self._opened * _GOLDEN % 1)
        self._schedule(
            connection, min(connection.next_ping, self.deadline(connection), self.now() + self.limits.pong_wait)
        )
        if self._timer is None:
            self._ticks_done = self._tick_at(self.now())
            self._timer = self.call_later(TICK, self._tick)

    def remove(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self.blocked.pop(connection, None)
        self._unfinished.pop(connection, None)
        self._unschedule(connection)
        if not self._open:
            self._emptied.set()

    def page(self, after: int, size: int) -> list[Connection]:
        """Up to ``size`` connections with numbers above ``after``, in the order in which they came."""
        everyone = list(self._open)
        start = bisect_right(everyone, after, key=_number_of)
        return everyone[start : start + size]

    async def disconnect(self, client_id: str) -> int:
        """Send away all connections that a client has now, in slices; how many those were."""
        found: list[Connection] = []
        everyone = list(self._open)
        for start in range(0, len(everyone), SEARCHED):
            found += [each for each in everyone[start : start + SEARCHED] if each.session.client_id == client_id]
            await asyncio.sleep(0)
        for served, connection in enumerate(found, 1):
            self._serve(connection, connection.disconnect)
            if served % SLICE == 0:
                await asyncio.sleep(0)
        return len(found)

    def deadline(self, connection: Connection) -> float:
        """When a client's token is over; until there is one, when it must be there. Not kept: 40 bytes for each."""
        session = connection.session
        if session.identity is not None:
            return session.identity.expires
        return self.now() + self.limits.auth_wait - connection.age if session.lacks_identity else inf

    def reschedule(self, connection: Connection) -> None:
        """Come back to the connection by its deadline, which has changed."""
        self._unschedule(connection)
        self._schedule(connection, min(connection.next_ping, self.deadline(connection)))

    def begin_message(self, connection: Connection, *, anew: bool) -> None:
        """A message has begun that is not whole. ``anew``: it is another one than that of the last call."""
        if anew:
            self._unfinished.pop(connection, None)
        if connection not in self._unfinished:
            self._unfinished[connection] = self.now() + self.limits.read_timeout

    def end_message(self, connection: Connection) -> None:
        self._unfinished.pop(connection, None)

    async def dismiss_all(self, *, within: float, spread: float) -> int:
        """Send everyone away and wait until they are gone; those that are not in time are cut off.

        Returns how many of those had something left to take.
        """
        deadline = self.now() + within
        self.broker.flush()
        everyone = list(self._open)
        turns = random.sample(range(len(everyone)), len(everyone))
        for served, (connection, turn) in enumerate(zip(everyone, turns, strict=True), 1):
            reconnect_after_ms = round(1000 * spread * (turn + random.random()) / len(everyone))
            self._serve(connection, partial(connection.dismiss, reconnect_after_ms))
            if served % SLICE == 0:
                await asyncio.sleep(0)
        if self._open:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), deadline - self.now())
        return self._abort_all()

    def _abort_all(self) -> int:
        late: list[Connection] = []

        def cut_off(connection: Connection) -> None:
            if connection.is_behind:
                late.append(connection)
            connection.abort("cut off at shutdown")

        for connection in list(self._open):
            self._serve(connection, partial(cut_off, connection))
        return len(late)

    def _serve(self, connection: Connection, step: Callable[[], None]) -> None:
        """One step of a loop over many: whatever it raises costs this connection alone, which ends."""
        try:
            step()
        except Exception:
            log.exception("Internal error at client %(client_id)s", {"client_id": connection.session.client_id})
            with contextlib.suppress(Exception):
                connection.abort("internal error")

    def _tick_at(self, moment: float) -> int:
        return int((moment - self._started) / TICK)

    def _schedule(self, connection: Connection, due: float) -> None:
        connection.slot = max(self._tick_at(due), self._ticks_done) + 1
        self._wheel.setdefault(connection.slot, {})[connection] = None

    def _unschedule(self, connection: Connection) -> None:
        if slot := self._wheel.get(connection.slot):
            slot.pop(connection, None)
            if not slot:
                del self._wheel[connection.slot]

    def _tick(self) -> None:
        now = self.now()
        self._timer = self.call_later(TICK, self._tick) if self._open else None
        self._end_late_messages(now)
        self._end_stalled(now)
        self._beat(now)

    def _end_late_messages(self, now: float) -> None:
        while self._unfinished:
            connection, deadline = next(iter(self._unfinished.items()))
            if deadline > now:
                break
            del self._unfinished[connection]
            self._serve(connection, connection.time_out_message)

    def _end_stalled(self, now: float) -> None:
        """Look at the share of the blocked ones whose turn it is; each has one in STALL_TICKS."""
        for connection in list(islice(self.blocked, -(-len(self.blocked) // STALL_TICKS))):
            del self.blocked[connection]
            self._serve(connection, partial(self._end_if_stuck, connection, now))

    def _end_if_stuck(self, connection: Connection, now: float) -> None:
        if connection.is_stuck(now):
            connection.cut_slow_consumer()
        else:
            self.blocked[connection] = None

    def _beat(self, now: float) -> None:
        due: list[Connection] = []
        while self._ticks_done < self._tick_at(now):
            self._ticks_done += 1
            due.extend(self._wheel.pop(self._ticks_done, ()))
        if due:
            frames = control_frame(PING) + text_frame(encode(Info(msg="ping", ts=self.clock.timestamp())))
            for connection in due:
                self._serve(connection, partial(self._look_after, connection, now, frames))

    def _look_after(self, connection: Connection, now: float, frames: bytes) -> None:
        """Ping the connection or end it, and come back when the next of the two falls due."""
        deadline = self.deadline(connection)
        if now >= deadline:
            connection.session.expire()
            return
        end = connection.last_life(now) + self.limits.pong_wait
        if now >= end:
            connection.abort(f"no sign of life for {self.limits.pong_wait:g} s")
            return
        if now >= connection.next_ping:
            connection.next_ping += self.limits.ping_period
            connection.beat(frames)
        self._schedule(connection, min(connection.next_ping, deadline, end))


def _number_of(connection: Connection) -> int:
    return connection.number
