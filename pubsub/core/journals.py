"""The journals of a Broker: one for topics in memory, and one for durable topics. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pubsub.protocol.errors import BadRequest

if TYPE_CHECKING:
    from pubsub.core.journal import Host, Journal
    from pubsub.protocol.requests import TopicOptions


class Journals:
    """See the module. ``make_durable`` is called when the first durable topic is made; None where there can be none.

    ``durable`` is None before that.
    """

    def __init__(self, host: Host, memory: Journal, make_durable: Callable[[], Journal] | None) -> None:
        self.durable: Journal | None = None
        self._host = host
        self._memory = memory
        self._make_durable = make_durable
        memory.attach(host)

    def of(self, options: TopicOptions) -> Journal:
        """The journal of a topic with these options. Raises BadRequest if there can be none."""
        return self.open_durable() if options.durable else self._memory

    def open_durable(self) -> Journal:
        """The journal of durable topics, made if needed. Raises BadRequest if there can be none."""
        if self.durable is None:
            if self._make_durable is None:
                raise BadRequest("durable: there are no durable topics here")
            self.durable = self._make_durable()
            self.durable.attach(self._host)
        return self.durable

    def call_when_writable(self, callback: Callable[[], None]) -> bool:
        """False if durable messages can be taken in now. Otherwise ``callback`` is called once they can."""
        if self.durable is None or not self.durable.full:
            return False
        self.durable.call_when_writable(callback)
        return True
