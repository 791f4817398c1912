"""Counts of one kind at all servers: those of this one are told, those of the others are heard. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from pubsub.cluster.bus import Bus
from pubsub.cluster.copies import Copies, Listener
from pubsub.cluster.counts import Again, Changes, OwnCounts, Owner, Part, decode, decode_groups


class Counter(Owner, Listener, Protocol):
    """The part of this server that counts, and needs the counts of the others."""


class SharedCounts:
    """See the module. The parameters are those of OwnCounts and Copies. ``copies`` are the counts of the others."""

    def __init__(
        self,
        bus: Bus,
        kind: str,
        counter: Counter,
        *,
        is_alone: Callable[[], bool],
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        take_turn: Callable[[Callable[[], None]], None],
        told: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self.own = OwnCounts(bus, kind, counter, is_alone=is_alone, call_later=call_later, told=told)
        self.copies = Copies(counter, partial(bus.tell, kind), now, take_turn)
        self.touch = self.own.touch
        self._server = bus.server
        bus.hear(kind, self._hear)

    def of(self, group: str) -> Iterator[tuple[str, int]]:
        return self.copies.of(group)

    def _hear(self, server: str, data: bytes) -> None:
        if server == self._server:
            self._hear_itself(data)
            return
        match decode(data):
            case Changes() as told:
                self.copies.change(server, told)
            case Part() as part:
                self.copies.take(server, part)
            case Again(wanted):
                if wanted == self._server:
                    self.own.copy()

    def _hear_itself(self, data: bytes) -> None:
        match decode(data):
            case Changes(counts=counts):
                self.own.hear_itself(counts)
            case Part(counts=encoded):
                self.own.hear_itself(decode_groups(encoded))
            case Again():
                pass
