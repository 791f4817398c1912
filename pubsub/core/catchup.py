"""One subscriber's way to what is live: through what the journal still holds, page by page, then the ring.

For most of them it ends in the step in which it began. No I/O of its own. The frames of a page are joined when the
socket takes them, and each page takes a turn: a subscriber that takes its pages slowly costs no memory, and one that
takes them fast no one else's time, however much there is to replay.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import BATCH_BYTES
from pubsub.core.topic import Page
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.core.lane import Lane, Subscriber
    from pubsub.core.topic import Topic

log = logging.getLogger(__name__)

PAGE: Final = 500  # events, or BATCH_BYTES of them and one more


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

    __slots__ = ("_after", "_clock", "_lane", "_subscriber", "_told", "_topic", "recovered")

    def __init__(self, start: Start, lane: Lane, subscriber: Subscriber, clock: Clock) -> None:
        self._lane = lane
        self._topic = start.topic
        self._after = start.after
        self._told = start.told
        self._subscriber = subscriber
        self._clock = clock
        self.recovered = start.recovered
        if start.recovered is True:
            self.recovered = start.after + 1 >= start.topic.oldest

    def advance(self) -> None:
        """Send the next page, as soon as the socket takes it, unless the subscription has ended meanwhile."""
        topic = self._topic
        if not self._lane.is_arriving(self._subscriber, self):
            return
        if self._subscriber.lagging:
            self._wait()
        elif topic.in_ring(self._after):
            self._read_ring()
        else:
            after = max(self._after, topic.oldest - 1)
            topic.log.read(after, topic.seq, PAGE, partial(self._take, topic.seq - len(topic.ring)))

    def _read_ring(self) -> None:
        topic = self._topic
        page = _fitting(topic.page(self._after, PAGE, self._clock.monotonic()))
        if page.end < topic.seq:
            self._send(page.events, page.end)
            self._wait()
        else:
            topic.flush()
            self._subscriber.replay(topic, page.events, after=self._told, until=topic.seq)
            self._lane.join(self._subscriber)

    def _take(self, asked_to: int, page: Sequence[StoredEvent] | Failure) -> None:
        """``asked_to``: where the ring began when the page was asked for; what left it since is on no such page."""
        topic = self._topic
        if not self._lane.is_arriving(self._subscriber, self):
            return
        if isinstance(page, Failure):
            log.error("Topic %(topic)s: older messages can't be read for a subscriber", {"topic": topic.name})
            page = ()
        self._send(page, page[-1].seq if page else asked_to)
        self._wait()

    def _send(self, events: Sequence[StoredEvent], end: int) -> None:
        """Events, and what is missing before and among them; all up to ``end`` has had its turn then."""
        if events:
            self._subscriber.replay(self._topic, events, after=self._told, until=events[-1].seq)
            self._told = events[-1].seq
        self._after = end

    def _wait(self) -> None:
        """Go on when the socket has taken what it was sent, and others have had a turn.

        What is kept now and gone by then must be told, also to who begins with whatever comes.
        """
        if self._told is None:
            self._told = max(self._after, self._topic.oldest - 1)
        self._subscriber.call_when_ready(partial(self._subscriber.take_turn, self.advance))


def _fitting(page: Page) -> Page:
    """The first BATCH_BYTES of a page, and one event more."""
    size = 0
    for number, event in enumerate(page.events, 1):
        size += len(event.text)
        if size >= BATCH_BYTES and number < len(page.events):
            return Page(page.events[:number], event.seq)
    return page
