"""A simulated server over several lives: its real Broker, Sessions and Connections, started, drained and killed.

There is no socket and no real time; see ``tests.simulation`` for the loop and the transports. Durable topics are on a
Disk that outlives the server. All other topics end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import cast

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import make_rights
from pubsub.auth.quotas import Quotas
from pubsub.auth.rates import Rates
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import StoredTopic
from pubsub.core.topic import Topic
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import Unauthorized
from pubsub.websocket.connection import Connection
from pubsub.websocket.ending import Ending
from pubsub.websocket.peer import Limits, Peer
from pubsub.websocket.rules import ClientRules
from pubsub.websocket.services import Services
from tests.client.simulated_disk import Disk, DiskJournal
from tests.client.truth import Truth
from tests.simulation import Loop, Timer, Transport

RING = 8
QUEUE = 6
PING_PERIOD = 5.0
PONG_WAIT = 20.0
SPREAD_MS = 2000  # of reconnects after a drain


class OwnLoop:
    """The loop of one life of the server: after its death nothing of it runs."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.alive = True
        self.time = loop.time

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon(self._run, callback, *arguments)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Timer:
        return self._loop.call_later(delay, lambda: self._run(callback, *arguments))

    def _run(self, callback: Callable[..., object], *arguments: object) -> None:
        if self.alive:
            callback(*arguments)


class NotingBroker(Broker):
    """A Broker that notes each new life of a topic, and each message from the step in which it is published."""

    truth: Truth

    def add_topic(self, stored: StoredTopic) -> Topic:
        self.truth.begin(stored.name, stored.epoch)
        return super().add_topic(stored)

    def deliver(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        if not topic.first:  # the disk has noted the others
            for event in events:
                self.truth.note(topic.name, topic.epoch, event)
        super().deliver(topic, events)


class Life:
    """A server from its start to its end. ``guarded``: clients need tokens. ``rate``: requests a second, 0 for any."""

    def __init__(
        self, loop: Loop, random: Random, truth: Truth, disk: Disk, new_epoch: Callable[[], str],
        *, guarded: bool, rate: float,
    ) -> None:  # fmt: skip
        self.draining = False
        self._own = OwnLoop(loop)
        self._random = random
        self._loop = loop
        clock = Clock(lambda: 0, loop.time)
        self.journal = DiskJournal(disk, clock, new_epoch, self._own.call_soon)
        self.broker = NotingBroker(
            defer=self._own.call_soon,
            clock=clock,
            memory=MemoryJournal(clock, new_epoch),
            make_durable=lambda: self.journal,
            ring_size=RING,
            rules=TopicRules([]),
            call_later=self._own.call_later,
        )
        self.broker.truth = truth
        quotas = Quotas(in_all=0, per_client=0)
        rules = ClientRules(self._identify if guarded else None, None, quotas, 0)
        if rate:
            rules = ClientRules(rules.identify, Rates(rate, 2 * rate, loop.time), quotas, 0)
        limits = Limits(
            ping_period=PING_PERIOD, pong_wait=PONG_WAIT, write_wait=8, read_timeout=1000,
            max_message_bytes=4096, queue_size=QUEUE,
        )  # fmt: skip
        self.services = Services(
            self.broker, limits, clock, cast(asyncio.AbstractEventLoop, self._own),
            rules=rules, quotas=quotas,
        )  # fmt: skip
        self.broker.restore_topics()

    @property
    def alive(self) -> bool:
        return self._own.alive

    @property
    def peers(self) -> list[Peer]:
        return list(self.services.connections._open)

    def accept(self, client_id: str, token: str) -> Transport | None:
        """Take a connection whose handshake is done; None for one that is refused with 401.

        Without a token, an ``auth`` message has to come first.
        """
        identity = None
        if token and self.services.rules.identify is not None:
            identity = self.identity(token)
            if identity is None or identity.client_id != client_id:
                return None
        transport = Transport(cast(Loop, self._own))
        Connection(transport, self.services, client_id=client_id, named=True, identity=identity).open()
        return transport

    def identity(self, token: str) -> Identity | None:
        """The identity of a token ``client/end``; None if it has expired or is no token."""
        client_id, _, end = token.partition("/")
        expires = float(end or 0)
        if expires <= self._loop.time():
            return None
        all_topics = make_rights((">",))
        return Identity(client_id=client_id, subscribes=all_topics, publishes=all_topics, expires=expires)

    def _identify(self, token: str, answer: Callable[[Identity | Unauthorized], None]) -> None:
        found = self.identity(token) or Unauthorized("token: expired")
        if self._random.random() < 0.5:
            answer(found)
        else:
            self._own.call_soon(answer, found)

    def drain(self) -> None:
        """Begin to shut down: say when to reconnect, send what is queued, close."""
        self.draining = True
        for peer in self.peers:
            peer.close_for_shutdown(self._random.randrange(SPREAD_MS))

    @property
    def is_drained(self) -> bool:
        return self.draining and not self.peers and self.journal.is_idle

    def end(self) -> None:
        """End the shutdown: cut off all late clients."""
        for peer in self.peers:
            peer.abort(Ending.SHUTDOWN_TIMEOUT, "cut off at shutdown")
        self.kill()

    def kill(self) -> None:
        """End at once. The links of its clients are cut by the caller."""
        self._own.alive = False

    def keeps(self, topic: str, epoch: str, seq: int) -> bool:
        """True if a message of a topic that is not durable is kept."""
        found = {each.name: each for each in self.broker.topics}.get(topic)
        if not self.alive or found is None or found.epoch != epoch or not found.oldest <= seq <= found.seq:
            return False
        page = found.page(seq - 1, 1, self._loop.time())
        return bool(page.events) and page.events[0].seq == seq
