"""The parts that make a Broker the owner of the topics of worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pubsub.core.clock import Clock
from pubsub.journals.workers.batches import Epochs
from pubsub.journals.workers.owner import Owner
from pubsub.journals.workers.relay import Relay
from pubsub.journals.workers.service import Service

if TYPE_CHECKING:
    from pubsub.core.broker import Broker


class Ownership:
    """See the module. ``relay`` stands before the Broker, and its journals take their epochs from ``epochs``."""

    def __init__(
        self,
        *,
        defer: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.relay = Relay(defer=defer, call_later=call_later)
        self.epochs = Epochs()

    def make_owner(self, broker: Broker, clock: Clock, *, path: str, max_message_bytes: int) -> Owner:
        """Make the owner of the Broker, which does not listen yet."""
        service = Service(broker, clock, self.relay, self.epochs, max_message_bytes=max_message_bytes)
        return Owner(service, path)
