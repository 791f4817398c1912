"""The Cluster: this server among the others, with all that they tell and ask each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from pubsub.cluster import presence, quotas
from pubsub.cluster.bus import Bus
from pubsub.cluster.idle import SharedIdle
from pubsub.cluster.members import Members
from pubsub.cluster.presence import SharedPresence
from pubsub.cluster.questions import Answerer, Answers, Questions
from pubsub.cluster.quotas import ALL, SharedQuotas
from pubsub.cluster.shared_counts import SharedCounts

if TYPE_CHECKING:
    from pubsub.auth.quotas import Quotas
    from pubsub.cluster.shared_counts import Counter
    from pubsub.core.broker import Broker

log = logging.getLogger(__name__)

ECHO_WAIT: Final = 1.0  # seconds that a start waits for its own first message
REPLY_WAIT: Final = 0.3  # seconds from then on for signs of life
COPY_WAIT: Final = 2.0  # seconds from then on for the counts of the others
LOOK: Final = 0.02  # seconds


class Cluster:
    """See the module. It is the Circle of its Members. ``now`` is monotonic, in seconds."""

    def __init__(
        self,
        bus: Bus,
        broker: Broker,
        quotas_: Quotas,
        *,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.server = bus.server
        self._bus = GuardedBus(bus)
        self._now = now
        self._call_later = call_later
        self._counts: dict[str, SharedCounts] = {}
        self.members = Members(self._bus, self, now, call_later)
        self.questions = Questions(self._bus, self.members)
        self._idle = SharedIdle(broker, self.questions, self.members)
        broker.idle.others = self._idle.ask
        self._share_presence(broker)
        if quotas_.per_client:
            self._share_quotas(broker, quotas_)

    def _share_presence(self, broker: Broker) -> None:
        shared = SharedPresence(broker)
        counts = self._share(presence.KIND, shared, broker)
        shared.touch, shared.of, shared.forget = counts.touch, counts.of, counts.copies.forget
        broker.clients.elsewhere = shared

    def _share_quotas(self, broker: Broker, quotas_: Quotas) -> None:
        shared = SharedQuotas(quotas_)
        counts = self._share(quotas.KIND, shared, broker, told=shared.told)
        quotas_.touch = lambda client_id: counts.touch(ALL, client_id)

    def _share(
        self, kind: str, counter: Counter, broker: Broker, told: Callable[[str, str, int], None] | None = None
    ) -> SharedCounts:
        counts = self._counts[kind] = SharedCounts(
            self._bus,
            kind,
            counter,
            is_alone=lambda: not self.members.others,
            now=self._now,
            call_later=self._call_later,
            take_turn=broker.turns.take,
            told=told,
        )
        return counts

    # Questions

    @property
    def servers(self) -> int:
        """The number of servers, with this one."""
        return self.members.count

    def answer_with(self, kind: str, answerer: Answerer) -> None:
        """Answer all questions of a kind that other servers ask."""
        self.questions.answer_with(kind, answerer)

    async def ask(self, kind: str, body: bytes, servers: Collection[str] | None = None) -> Answers:
        """Ask the other servers, or only some of them."""
        return await self.questions.ask(kind, body, servers)

    # Messages

    def tell(self, kind: str, data: bytes) -> None:
        """Send a message of up to MOST_BYTES to the other servers. It may be lost."""
        self._bus.tell(kind, data)

    def hear(self, kind: str, callback: Callable[[bytes], None]) -> None:
        """Call ``callback`` with the messages of a kind that other servers send."""
        self._bus.hear(kind, lambda server, data: None if server == self.server else callback(data))

    # Circle

    @property
    def versions(self) -> Mapping[str, int]:
        return {kind: counts.own.version for kind, counts in self._counts.items()}

    def heed(self, server: str, versions: Mapping[str, int]) -> None:
        for kind, counts in self._counts.items():
            counts.copies.heed(server, versions.get(kind, 0))

    def lose(self, server: str, *, dead: bool) -> None:
        if dead:
            log.warning("Server %(server)s is dead: nothing was heard of it for some time", {"server": server})
        else:
            log.info("Server %(server)s has ended", {"server": server})
        self.questions.lose(server)
        for counts in self._counts.values():
            counts.copies.lose(server, dead=dead)

    # Start and end

    async def start(self) -> None:
        """Join the others, and wait for what they know, for a short time."""
        self.members.start()
        if await self._wait(ECHO_WAIT, lambda: not self.members.is_cut_off):
            await asyncio.sleep(REPLY_WAIT)
            await self._wait(COPY_WAIT, lambda: all(each.copies.are_complete for each in self._counts.values()))
        log.info("Joined as server %(server)s: %(servers)d in all", {"server": self.server, "servers": self.servers})

    async def _wait(self, seconds: float, condition: Callable[[], bool]) -> bool:
        end = self._now() + seconds
        while not condition():
            if self._now() >= end:
                return False
            await asyncio.sleep(LOOK)
        return True

    def stop(self) -> None:
        """Leave the others."""
        self.members.stop()
        self._idle.stop()
        self.questions.stop()


class GuardedBus:
    """A Bus on which a message that cannot be read, from a server of another version, does no harm."""

    def __init__(self, bus: Bus) -> None:
        self.server = bus.server
        self.tell = bus.tell
        self._bus = bus

    def hear(self, kind: str, callback: Callable[[str, bytes], None]) -> None:
        def guarded(server: str, data: bytes) -> None:
            try:
                callback(server, data)
            except Exception:
                log.exception(
                    "Internal error at a message of server %(server)s: %(kind)s", {"server": server, "kind": kind}
                )

        self._bus.hear(kind, guarded)
