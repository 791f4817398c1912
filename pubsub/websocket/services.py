"""The parts of the server that every connection uses, made once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pubsub.auth.identity import Identity
from pubsub.auth.quotas import Quotas
from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.lane import Subscriber
from pubsub.protocol.deflate import Agreement, agree
from pubsub.websocket.compression import Compression
from pubsub.websocket.connections import Connections
from pubsub.websocket.departures import Departures
from pubsub.websocket.meter import Meter
from pubsub.websocket.peer import Limits
from pubsub.websocket.replies import Replies
from pubsub.websocket.rules import NO_RULES, ClientRules
from pubsub.websocket.session import Session
from pubsub.websocket.timers import Timers


class Services:
    """See the module. ``session_type`` serves the messages of clients.

    ``compresses_from``: the bytes of the shortest text that is compressed; None is no compression at all.
    ``departed_keep``: the seconds for which connections that have ended are remembered.
    """

    def __init__(
        self,
        broker: Broker,
        limits: Limits,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        rules: ClientRules = NO_RULES,
        quotas: Quotas | None = None,
        compresses_from: int | None = None,
        departed_keep: float = 600.0,
        session_type: type[Session] = Session,
    ) -> None:
        self.broker = broker
        self.limits = limits
        self.clock = clock
        self.rules = rules
        self.quotas = quotas or Quotas(in_all=0, per_client=0)
        self.session_type = session_type
        self.now: Callable[[], float] = loop.time
        self.defer: Callable[[Callable[[], None]], object] = loop.call_soon
        self.call_later = loop.call_later
        self.take_turn = broker.turns.take
        self.outbox_options = OutboxOptions(
            limits.queue_size, clock, self.take_turn, losses=broker.losses, delivered=broker.delivered
        )
        self.compression = None if compresses_from is None else Compression(self.outbox_options, compresses_from)
        self.timers = Timers(limits, clock, loop)
        self.connections = Connections(self.timers, self.now)
        self.departures = Departures(self.now, departed_keep)
        self.meter = Meter()
        self.started = clock.monotonic()

    def agree(self, offers: str) -> Agreement | None:
        """Agree on the compression of a connection, by the extensions that its client offers."""
        return agree(offers) if self.compression is not None else None

    def options_for(self, agreement: Agreement | None) -> OutboxOptions:
        """The options of the outbox of a connection."""
        if agreement is None:
            return self.outbox_options
        assert self.compression is not None, "without it nothing is agreed"
        return self.compression.options(agreement.window)

    def new_session(
        self, subscriber: Subscriber, replies: Replies, client_id: str, named: bool, identity: Identity | None
    ) -> Session:
        return self.session_type(
            self.broker,
            subscriber,
            replies,
            self.clock,
            client_id=client_id,
            named=named,
            rules=self.rules,
            identity=identity,
        )
