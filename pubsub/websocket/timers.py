"""The one timer of all connections: heartbeats, ends of tokens, messages that are not completed, slow consumers.

The timers decide that something is due; the Peer does it. Nothing here writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from pubsub.core.clock import Clock
from pubsub.websocket.ending import Ending
from pubsub.websocket.peer import Limits, Peer

log = logging.getLogger(__name__)

TICK: Final = 0.1  # seconds: the resolution of all time limits below
STALL_TICKS: Final = 5  # a check of a blocked client costs 3 µs, so each tick checks a fifth of them

SERVED: Final = 30  # peers that are served in one turn; the end of a connection takes 120 µs in all, a ping 20

_GOLDEN: Final = 0.6180339887498949  # its multiples, modulo 1, are spread evenly


def serve_alone(peer: Peer, step: Callable[[], None]) -> None:
    """Take one step of a loop over many peers. An exception ends this peer, and does not affect the others."""
    try:
        step()
    except Exception:
        log.exception("Internal error at client %(client_id)s", {"client_id": peer.client_id})
        with contextlib.suppress(Exception):
            peer.abort(Ending.FAULT, "internal error")


class Timers:
    """See the module. ``blocked``: the peers whose sockets take nothing. ``unfinished``: those whose message is."""

    def __init__(self, limits: Limits, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.blocked: dict[Peer, None] = {}
        self._limits = limits
        self._clock = clock
        self._now = loop.time
        self._call_later = loop.call_later
        self._call_soon = loop.call_soon
        self._wheel: dict[int, dict[Peer, None]] = {}  # by tick: the peers that are due
        self._due: deque[int] = deque()  # ticks with peers that are to be served now
        self._size = 0
        self.unfinished: dict[Peer, float] = {}  # deadlines of messages, in the order in which they fall due
        self._timer: asyncio.TimerHandle | None = None
        self._ticks_done = 0
        self._started = loop.time()

    def add(self, peer: Peer) -> None:
        """Add a peer. First pings are spread over the period, so that they are no burst."""
        self._size += 1
        now = self._now()
        peer.next_ping = now + self._limits.ping_period * (peer.number * _GOLDEN % 1)
        self._schedule(peer, min(peer.next_ping, peer.deadline, now + self._limits.pong_wait))
        if self._timer is None:
            self._ticks_done = self._tick_at(now)
            self._timer = self._call_later(TICK, self._tick)

    def remove(self, peer: Peer) -> None:
        self._size -= 1
        self.blocked.pop(peer, None)
        self.unfinished.pop(peer, None)
        self._unschedule(peer)

    def reschedule(self, peer: Peer) -> None:
        """Take the peer's changed deadline into account."""
        self._unschedule(peer)
        self._schedule(peer, min(peer.next_ping, peer.deadline))

    def begin_message(self, peer: Peer, *, anew: bool) -> None:
        """Start the time limit of an unfinished message. ``anew``: it is not the one of the last call."""
        if anew:
            self.unfinished.pop(peer, None)
        if peer not in self.unfinished:
            self.unfinished[peer] = self._now() + self._limits.read_timeout

    def end_message(self, peer: Peer) -> None:
        self.unfinished.pop(peer, None)

    def _tick_at(self, moment: float) -> int:
        return int((moment - self._started) / TICK)

    def _schedule(self, peer: Peer, due: float) -> None:
        peer.slot = max(self._tick_at(due), self._ticks_done) + 1
        self._wheel.setdefault(peer.slot, {})[peer] = None

    def _unschedule(self, peer: Peer) -> None:
        if slot := self._wheel.get(peer.slot):
            slot.pop(peer, None)
            if not slot:
                del self._wheel[peer.slot]

    def _tick(self) -> None:
        now = self._now()
        self._timer = self._call_later(TICK, self._tick) if self._size else None
        self._end_late_messages(now)
        self._end_slow_consumers(now)
        self._find_due(now)

    def _end_late_messages(self, now: float) -> None:
        while self.unfinished:
            peer, deadline = next(iter(self.unfinished.items()))
            if deadline > now:
                break
            del self.unfinished[peer]
            serve_alone(peer, peer.time_out_message)

    def _end_slow_consumers(self, now: float) -> None:
        """Check some of the blocked peers; each is checked once in STALL_TICKS."""
        for peer in list(islice(self.blocked, -(-len(self.blocked) // STALL_TICKS))):
            del self.blocked[peer]
            serve_alone(peer, partial(self._end_if_slow, peer, now))

    def _end_if_slow(self, peer: Peer, now: float) -> None:
        if peer.is_slow_consumer(now):
            peer.close_slow_consumer()
        else:
            self.blocked[peer] = None

    def _find_due(self, now: float) -> None:
        serving = bool(self._due)
        while self._ticks_done < self._tick_at(now):
            self._ticks_done += 1
            if self._ticks_done in self._wheel:
                self._due.append(self._ticks_done)
        if self._due and not serving:
            self._serve_due()

    def _serve_due(self) -> None:
        """Serve the peers that are due, in turns. Meanwhile some may go, or get another time."""
        now, ts, room = self._now(), self._clock.timestamp(), SERVED
        while self._due and room:
            if slot := self._wheel.get(self._due[0]):
                room -= 1
                peer, _ = slot.popitem()
                serve_alone(peer, partial(self._check, peer, now, ts))
            else:
                self._wheel.pop(self._due.popleft(), None)
        if self._due:
            self._call_soon(self._serve_due)

    def _check(self, peer: Peer, now: float, ts: str) -> None:
        """Ping the peer or end it, and schedule the next check."""
        deadline = peer.deadline
        if now >= deadline:
            peer.expire()
            return
        end = peer.last_activity(now) + self._limits.pong_wait
        if now >= end:
            peer.abort(Ending.SILENT, f"no sign of life for {self._limits.pong_wait:g} s")
            return
        if now >= peer.next_ping:
            peer.next_ping += self._limits.ping_period
            peer.send_heartbeat(ts)
        self._schedule(peer, min(peer.next_ping, deadline, end))
