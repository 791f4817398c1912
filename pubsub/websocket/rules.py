"""The rules for clients, and the end of subscriptions that new rights do not allow. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pubsub.auth.identity import Identity
from pubsub.auth.quotas import Quotas
from pubsub.auth.rates import Rates
from pubsub.core.lane import Subscriber
from pubsub.protocol.errors import LimitExceeded, Unauthorized

REVIEWED: Final = 500  # subscriptions that are checked against new rights in one turn: up to 10 µs each


@dataclass(frozen=True, slots=True)
class ClientRules:
    """The rules for every client of a server.

    ``identify`` (Tokens) is None if it takes no tokens, ``rates`` if it has no limit of requests.
    """

    identify: Callable[[str, Callable[[Identity | Unauthorized], None]], None] | None
    rates: Rates | None
    quotas: Quotas
    max_subscriptions: int

    def check_room(self, subscriber: Subscriber, topic: str) -> None:
        """Raise LimitExceeded if the connection has all its subscriptions, and ``topic`` is not one of them."""
        limit = self.max_subscriptions
        if limit and subscriber.subscription_count >= limit and not subscriber.is_subscribed(topic):
            raise LimitExceeded(f"the connection has its {limit} subscriptions (MAX_SUBSCRIPTIONS_PER_CONNECTION)")
