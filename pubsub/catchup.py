"""One subscriber's way to what is live: through what the journal still holds, page by page, then the ring.

For most of them it ends in the step in which it began. No I/O of its own, and no copy of anything: a subscriber that
takes its pages slowly costs no memory, however much there is to replay.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType

from pubsub.clock import Clock
from pubsub.errors import Failure

if TYPE_CHECKING:
    from pubsub.outbox import Outbox
    from pubsub.topic import StoredEvent, Topic

log = logging.getLogger(__name__)

PAGE: Final = 500  # events


class Start(Struct, frozen=True):
    """Where a subscription begins: at what follows ``after``.

    ``told``: the subscriber knows of everything up to there, so what is missing from there on must be told; None
    where it begins with whatever comes. ``recovered``: nothing is missing, where that was asked.
    """

    topic: Topic
    after: int
    told: int | None = None
    recovered: bool | UnsetType = UNSET


class CatchUp:
    """See the module. The subscriber stands in the topic's lane meanwhile, as one that arrives.

    ``recovered``: that of its start, if it is still so; a subscriber that takes nothing may have kept it waiting.
    """

    __slots__ = ("_after", "_clock", "_outbox", "_told", "_topic", "recovered")

    def __init__(self, start: Start, outbox: Outbox, clock: Clock) -> None:
        self._topic = start.topic
        self._after = start.after
        self._told = start.told
        self._outbox = outbox
        self._clock = clock
        self.recovered = start.recovered
        if start.recovered is True:
            self.recovered = start.after + 1 >= start.topic.oldest

    def go_on(self) -> None:
        """Send what comes next, unless the subscription has ended meanwhile."""
        topic = self._topic
        if not topic.lane.is_arriving(self._outbox, self):
            return
        if topic.in_ring(self._after):
            self._arrive()
        else:
            topic.journal.read(topic, self._after, PAGE, partial(self._take, topic.seq - len(topic.ring)))

    def _take(self, asked_to: int, page: Sequence[StoredEvent] | Failure) -> None:
        """``asked_to``: where the ring began when the page was asked for; what left it since is on no such page."""
        topic = self._topic
        if not topic.lane.is_arriving(self._outbox, self):
            return
        if isinstance(page, Failure):
            log.error("Topic %(topic)s: older messages can't be read for a subscriber", {"topic": topic.name})
            page = ()
        if page:
            self._outbox.replay(topic, page, after=self._told, until=page[-1].seq)
            self._after = self._told = page[-1].seq
        else:
            self._after = asked_to
        self._outbox.call_when_ready(self.go_on)

    def _arrive(self) -> None:
        topic = self._topic
        topic.flush()
        events = topic.after(self._after, len(topic.ring), self._clock.monotonic())
        self._outbox.replay(topic, events, after=self._told, until=topic.seq)
        topic.lane.join(self._outbox)
