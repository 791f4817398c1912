"""A Broker whose clock, timers and ends of ticks a test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.answers import TopicRule
from tests.core.held import HeldJournal
from tests.core.test_broker import RING, Ticks


class TimedBroker:
    """See the module. ``now``: the time. ``timers``: when each is due."""

    def __init__(self, rules: Sequence[TopicRule] = ()) -> None:
        self.now = 1000.0
        self.ticks = Ticks()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.journal = HeldJournal()
        clock = Clock(lambda: 0, lambda: self.now)
        self.broker = Broker(
            defer=self.ticks.defer,
            clock=clock,
            memory=MemoryJournal(clock),
            ring_size=RING,
            make_durable=lambda: self.journal,
            rules=TopicRules(rules),
            call_later=lambda delay, callback: self.timers.append((self.now + delay, callback)),
        )

    def settle(self) -> None:
        """End ticks until nothing waits."""
        while self.ticks.deferred:
            self.ticks.end()
