"""The journals of a Broker: one for topics in memory and one for durable topics, or one that servers share. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pubsub.protocol.errors import BadRequest

if TYPE_CHECKING:
    from pubsub.core.journal import Host, Journal, Sharing
    from pubsub.core.log import Done
    from pubsub.protocol.errors import Failure
    from pubsub.protocol.requests import TopicOptions

Found = TypeVar("Found")


class Journals:
    """See the module. ``make_durable`` is called when the first durable topic is made; None where there can be none.

    ``durable`` is None before that. ``shared``: the journal for all topics, in place of both, if servers share them.
    """

    def __init__(
        self,
        host: Host,
        memory: Journal,
        make_durable: Callable[[], Journal] | None,
        shared: Sharing | None = None,
    ) -> None:
        self.durable: Journal | None = shared
        self.shared = shared
        self._host = host
        self._memory = memory if shared is None else shared
        self._make_durable = make_durable
        self._memory.attach(host)

    def of(self, options: TopicOptions) -> Journal:
        """The journal of a topic with these options. Raises BadRequest if there can be none."""
        return self.open_durable() if options.durable else self._memory  # the same one if servers share it

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

    def bound(self, done: Callable[[Found | Failure], None]) -> Callable[[Found | Failure], None]:
        """``done``, which gets a failure if a journal that servers share has not answered in time."""
        return done if self.shared is None else self.shared.bound(done)

    def sync(self, done: Done) -> None:
        """Call ``done`` once all is known that other servers have done; or with a failure. Alone it is at once."""
        if self.shared is None:
            done(None)
        else:
            self.shared.sync(done)
