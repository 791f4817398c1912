"""A bus in memory that joins servers of one process. Its messages can be lost or late; their order stays."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from pubsub.cluster.bus import MOST_BYTES

Heard = Callable[[str, bytes], None]


def never(_: Callable[[], None]) -> None:
    """The test delivers by itself."""


class MemoryBus:
    """The end of one server (Bus). ``is_cut_off``: nothing goes out or comes in."""

    def __init__(self, hub: Hub, server: str) -> None:
        self.server = server
        self.is_cut_off = False
        self.waiting: deque[tuple[str, str, bytes]] = deque()
        self.told = 0
        self._hub = hub
        self._heard: dict[str, list[Heard]] = {}

    def tell(self, kind: str, data: bytes) -> None:
        assert len(data) <= MOST_BYTES + 1024
        self.told += 1
        if not self.is_cut_off:
            self._hub.spread(self.server, kind, data)

    def hear(self, kind: str, callback: Heard) -> None:
        self._heard.setdefault(kind, []).append(callback)

    def take(self) -> None:
        """Take in the next message."""
        server, kind, data = self.waiting.popleft()
        for callback in self._heard.get(kind, ()):
            callback(server, data)


class Hub:
    """See the module. ``loss``, ``late``: the shares of messages that a server never gets, or only later.

    ``defer`` has :meth:`deliver` called once a message waits. ``is_held``: nothing is delivered.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        late: float = 0.0,
        defer: Callable[[Callable[[], None]], object] = never,
    ) -> None:
        self.buses: dict[str, MemoryBus] = {}
        self.loss = loss
        self.late = late
        self._random = random.Random(seed)
        self._defer = defer
        self.is_held = False

    def join(self, server: str) -> MemoryBus:
        bus = self.buses[server] = MemoryBus(self, server)
        return bus

    def spread(self, server: str, kind: str, data: bytes) -> None:
        if not any(bus.waiting for bus in self.buses.values()):
            self._defer(self.deliver)
        for bus in self.buses.values():
            if not bus.is_cut_off and self._random.random() >= self.loss:
                bus.waiting.append((server, kind, data))

    def deliver(self) -> None:
        """Deliver what waits, and what is told meanwhile; late messages wait for the next time."""
        held: set[str] = set()
        if self.is_held:
            return
        while ready := [bus for bus in self.buses.values() if bus.waiting and bus.server not in held]:
            for bus in ready:
                if self._random.random() < self.late:
                    held.add(bus.server)
                else:
                    bus.take()
        if held:
            self._defer(self.deliver)
