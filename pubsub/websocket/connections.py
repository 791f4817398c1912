"""The registry of all connections, and steps that concern many of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from pubsub.protocol.answers import TransportName
from pubsub.protocol.errors import CloseReason
from pubsub.websocket.ending import Ending
from pubsub.websocket.peer import Peer
from pubsub.websocket.timers import Timers, serve_alone

CLOSED_AT_ONCE: Final = 200  # connections that are closed in one step: about 4 ms
SEARCHED_AT_ONCE: Final = 10_000  # connections that are compared in one step: 1 ms


class Connections:
    """See the module. ``timers`` serve each connection as long as it is here. ``counts``: those that are here."""

    def __init__(self, timers: Timers, now: Callable[[], float]) -> None:
        self._timers = timers
        self._now = now
        self._open: dict[Peer, None] = {}
        self._opened = 0
        self.counts: Counter[TransportName] = Counter()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def left(self) -> int:
        """The number of connections that have ended since the start."""
        return self._opened - len(self._open)

    def add(self, peer: Peer) -> None:
        self._open[peer] = None
        self._opened += 1
        self.counts[peer.transport_name] += 1
        peer.number = self._opened
        self._timers.add(peer)

    def remove(self, peer: Peer) -> None:
        if peer in self._open:
            del self._open[peer]
            self.counts[peer.transport_name] -= 1
            self._timers.remove(peer)
        if not self._open:
            self._emptied.set()

    def page(self, after: int, size: int) -> list[Peer]:
        """Up to ``size`` connections with numbers above ``after``, in the order of their arrival."""
        everyone = list(self._open)
        start = bisect_right(everyone, after, key=_number_of)
        return everyone[start : start + size]

    async def find(self, matches: Callable[[Peer], bool], *, after: int = 0, most: int | None = None) -> list[Peer]:
        """The first ``most`` connections that match, with numbers above ``after``; they are looked for in slices."""
        found: list[Peer] = []
        everyone = self.page(after, len(self._open))
        for start in range(0, len(everyone), SEARCHED_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            found += filter(matches, everyone[start : start + SEARCHED_AT_ONCE])
            if most is not None and len(found) >= most:
                return found[:most]
        return found

    async def of_client(self, client_id: str) -> list[Peer]:
        """All connections of a client, oldest first."""
        return await self.find(lambda peer: peer.client_id == client_id)

    async def disconnect(self, client_id: str) -> int:
        """Close all present connections of a client, in slices; returns their number."""
        return await self._end(lambda peer: peer.client_id == client_id, lambda peer: peer.disconnect)

    async def revoke(self, is_revoked: Callable[[Peer], bool]) -> int:
        """Close all present connections whose credentials are no longer accepted, in slices; returns their number."""
        return await self._end(is_revoked, lambda peer: peer.revoke)

    async def close_newest(self, client_id: str, count: int) -> None:
        """Close the newest of the connections that the quota of a client counts: it has too many."""
        for peer in (await self.find(lambda peer: peer.claimed == client_id))[-count:]:
            serve_alone(peer, partial(peer.close, CloseReason.TOO_MANY_CONNECTIONS))

    async def _end(self, is_meant: Callable[[Peer], bool], step_of: Callable[[Peer], Callable[[], None]]) -> int:
        found = await self.find(is_meant)
        for served, peer in enumerate(found, 1):
            serve_alone(peer, step_of(peer))
            if served % CLOSED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return len(found)

    async def close_all(self, *, within: float, spread: float) -> int:
        """Close every connection and wait until all are gone; late ones are aborted.

        ``within`` and ``spread``, over which clients are told to reconnect, are in seconds. Returns the number of
        clients that had not taken everything.
        """
        deadline = self._now() + within
        everyone = list(self._open)
        turns = random.sample(range(len(everyone)), len(everyone))
        for served, (peer, turn) in enumerate(zip(everyone, turns, strict=True), 1):
            reconnect_after_ms = round(1000 * spread * (turn + random.random()) / len(everyone))
            serve_alone(peer, partial(peer.close_for_shutdown, reconnect_after_ms))
            if served % CLOSED_AT_ONCE == 0:
                await asyncio.sleep(0)
        if self._open:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), deadline - self._now())
        return self._abort_all()

    def _abort_all(self) -> int:
        late: list[Peer] = []

        def abort(peer: Peer) -> None:
            if peer.is_behind:
                late.append(peer)
            peer.abort(Ending.SHUTDOWN_TIMEOUT, "cut off at shutdown")

        for peer in list(self._open):
            serve_alone(peer, partial(abort, peer))
        return len(late)


def _number_of(peer: Peer) -> int:
    return peer.number
