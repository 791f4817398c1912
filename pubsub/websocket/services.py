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
from pubsub.websocket.connections import Connections
from pubsub.websocket.departures import Departures
from pubsub.websocket.meter import Meter
from pubsub.websocket.peer import Limits
from pubsub.websocket.replies import Replies
from pubsub.websocket.rules import ClientRules
from pubsub.websocket.session import Session
from pubsub.websocket.timers import Timers


class Services:
    """See the module. ``rules`` is None if nothing is asked of clients. ``session_type`` serves their messages.

    ``departed_keep``: the seconds for which connections that have ended are remembered.
    """

    def __init__(
        self,
        broker: Broker,
        limits: Limits,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        rules: ClientRules | None = None,
        quotas: Quotas | None = None,
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
        self.timers = Timers(limits, clock, loop)
        self.connections = Connections(self.timers, self.now)
        self.departures = Departures(self.now, departed_keep)
        self.meter = Meter()
        self.started = clock.monotonic()

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
