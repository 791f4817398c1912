"""The rules for clients, and the end of subscriptions that new rights do not allow. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pubsub.auth.identity import Identity
from pubsub.auth.quotas import Quotas
from pubsub.auth.rates import Rates
from pubsub.core.lane import Subscriber
from pubsub.protocol.errors import LimitExceeded, Unauthorized

REVIEWED: Final = 500  # subscriptions that are checked against new rights in one turn: up to 10 µs each


Identify = Callable[[str, Callable[[Identity | Unauthorized], None]], None]


@dataclass(slots=True)
class ClientRules:
    """The rules for every client of a server. All sessions share them, so that a change counts at once.

    ``identify`` (Tokens) is None if it takes no tokens, ``rates`` if it has no limit of requests. ``asks``: a message
    of a client needs a look at them.
    """

    identify: Identify | None
    rates: Rates | None
    quotas: Quotas
    max_subscriptions: int
    asks: bool = field(init=False)

    def __post_init__(self) -> None:
        self.ask(self.identify, self.rates)

    def ask(self, identify: Identify | None, rates: Rates | None) -> None:
        """Ask something else of every client, from its next message on."""
        self.identify = identify
        self.rates = rates
        self.asks = identify is not None or rates is not None

    def check_room(self, subscriber: Subscriber, topic: str) -> None:
        """Raise LimitExceeded if the connection has all its subscriptions, and ``topic`` is not one of them."""
        limit = self.max_subscriptions
        if limit and subscriber.subscription_count >= limit and not subscriber.is_subscribed(topic):
            raise LimitExceeded(f"the connection has its {limit} subscriptions (MAX_SUBSCRIPTIONS_PER_CONNECTION)")


NO_RULES: Final = ClientRules(None, None, Quotas(in_all=0, per_client=0), 0)
