"""The rules for clients, and the end of subscriptions that new rights do not allow. No I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from pubsub.auth.identity import Identity
from pubsub.auth.quotas import Quotas
from pubsub.auth.rates import Rates
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.lane import Subscriber
from pubsub.protocol.errors import LimitExceeded, TopicNotFound, Unauthorized
from pubsub.protocol.replies import Info, encode

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


class Review:
    """The end of subscriptions that a client's present rights do not allow, in turns: they may be many.

    ``identity()`` returns the client's present rights; None once it is gone.
    """

    def __init__(
        self, broker: Broker, subscriber: Subscriber, clock: Clock, identity: Callable[[], Identity | None]
    ) -> None:
        self._broker = broker
        self._subscriber = subscriber
        self._clock = clock
        self._identity = identity

    def check(self, names: list[str]) -> None:
        identity = self._identity()
        if identity is None:
            return
        for name in names[:REVIEWED]:
            if self._subscriber.is_subscribed(name) and not identity.may_subscribe(name):
                self._forbid(name)
        if rest := names[REVIEWED:]:
            self._broker.turns.take(partial(self.check, rest))

    def _forbid(self, name: str) -> None:
        with contextlib.suppress(TopicNotFound):  # it has ended, and the client is about to be told
            topic = self._broker.unsubscribe(name, self._subscriber)
            notice = Info(topic=name, msg="unsubscribed", reason="forbidden", ts=self._clock.timestamp())
            self._subscriber.notify(topic, encode(notice))
