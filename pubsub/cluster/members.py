"""The servers that are there. Each says so every few seconds; one that is silent for too long is dead. No I/O.

A server that does not hear itself is cut off from the others. Then it says nothing about their lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from pubsub.cluster.bus import Bus

ALIVE: Final = "alive"
BEAT: Final = 4.0  # seconds between two signs of life
DEAD: Final = 12.0  # seconds of silence; what belonged to the server is gone 3 seconds later at the latest
CUT_OFF: Final = 9.0  # seconds: this server lost two of its own signs of life
CHECK: Final = 1.0  # seconds
SOON: Final = 0.25  # seconds in which servers that start together get one answer


class Alive(Struct, frozen=True, array_like=True, gc=False):
    """A sign of life. ``versions``: of the counts that the server tells. ``new``: it asks all others for theirs.

    ``gone``: it is the last one.
    """

    versions: dict[str, int]
    new: bool = False
    gone: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Alive).decode


class Circle(Protocol):
    """The parts of this server that know the others."""

    @property
    def versions(self) -> Mapping[str, int]:
        """Those of the counts that this server tells."""
        ...

    def heed(self, server: str, versions: Mapping[str, int]) -> None:
        """Another server is alive, and has told its counts up to these versions."""
        ...

    def lose(self, server: str, *, dead: bool) -> None:
        """Another server has ended, or is ``dead`` for a while."""
        ...


class Members:
    """See the module. ``now`` is monotonic, in seconds. ``others``: the last sign of life of each other server."""

    def __init__(
        self,
        bus: Bus,
        circle: Circle,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.others: dict[str, float] = {}
        self._bus = bus
        self._circle = circle
        self._now = now
        self._call_later = call_later
        self._next_beat = 0.0
        self._echo = float("-inf")  # the last own sign of life that came back
        self._asked = self._pausing = self._stopped = False
        bus.hear(ALIVE, self._hear)

    @property
    def count(self) -> int:
        """The number of servers, with this one."""
        return len(self.others) + 1

    @property
    def is_cut_off(self) -> bool:
        return self._now() - self._echo > CUT_OFF

    @property
    def is_first(self) -> bool:
        """True for one of the servers: that which does what one of them has to do."""
        return all(self._bus.server < other for other in self.others)

    def start(self) -> None:
        self._beat(new=True)
        self._call_later(CHECK, self._check)

    def stop(self) -> None:
        """Say that this server ends."""
        self._stopped = True
        self._bus.tell(ALIVE, _encode(Alive({}, gone=True)))

    def _beat(self, *, new: bool = False) -> None:
        self._next_beat = self._now() + BEAT
        self._bus.tell(ALIVE, _encode(Alive(dict(self._circle.versions), new=new)))

    def _check(self) -> None:
        if self._stopped:
            return
        self._call_later(CHECK, self._check)
        now = self._now()
        if not self.is_cut_off:
            for server in [server for server, heard in self.others.items() if now - heard >= DEAD]:
                del self.others[server]
                self._circle.lose(server, dead=True)
        if now >= self._next_beat:
            self._beat()

    def _hear(self, server: str, data: bytes) -> None:
        told = _decode(data)
        if server == self._bus.server:
            self._hear_itself()
        elif told.gone:
            self.end(server)
        elif not self._stopped:
            self.others[server] = self._now()
            self._circle.heed(server, told.versions)
            if told.new:
                self._beat_soon()

    def end(self, server: str) -> None:
        """Another server has ended: it has said so, or its process is gone."""
        if self.others.pop(server, None) is not None:
            self._circle.lose(server, dead=False)

    def _hear_itself(self) -> None:
        if self.is_cut_off:  # nobody else could be heard either: they have as long as if they had just been
            self.others = dict.fromkeys(self.others, self._now())
        self._echo = self._now()

    def _beat_soon(self) -> None:
        """Answer a new server at once, and those that follow it soon together."""
        self._asked = True
        if not self._pausing:
            self._answer_new()

    def _answer_new(self) -> None:
        self._pausing = self._asked and not self._stopped
        if self._pausing:
            self._asked = False
            self._call_later(SOON, self._answer_new)
            self._beat()
