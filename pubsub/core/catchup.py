"""The catch-up of one subscriber: a replay, page by page, from the log and then the ring, up to the live events.

Most end in the step in which they begin. A page is encoded when the socket takes it, and each page takes a turn. So a
slow subscriber costs no memory and a fast one no time of other clients, however long the replay is. No I/O.
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

REPLAY_PAGE: Final = 500  # events; a page also ends after BATCH_BYTES and one event more


class ReplayStart(Struct, frozen=True):
    """The start of a subscription: the first event after ``after``.

    ``told``: the subscriber knows of all events up to this ``seq``, and gets a gap for every later one that is missing;
    None if it starts with whatever is kept. ``recovered``: after a resume, True if nothing is missing.
    """

    topic: Topic
    after: int
    told: int | None = None
    recovered: bool | UnsetType = UNSET


class CatchUp:
    """See the module. Meanwhile the subscriber is in the lane as one that arrives.

    ``recovered``: as in its ReplayStart, unless events were removed while the subscriber took nothing.
    """

    __slots__ = ("_after", "_clock", "_lane", "_subscriber", "_told", "_topic", "recovered")

    def __init__(self, start: ReplayStart, lane: Lane, subscriber: Subscriber, clock: Clock) -> None:
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
            topic.log.read(after, topic.seq, REPLAY_PAGE, partial(self._take, topic.seq - len(topic.ring)))

    def _read_ring(self) -> None:
        topic = self._topic
        page = _fitting(topic.page(self._after, REPLAY_PAGE, self._clock.monotonic()))
        if page.end < topic.seq:
            self._send(page.events, page.end)
            self._wait()
        else:
            topic.flush()
            self._subscriber.replay(topic, page.events, after=self._told, until=topic.seq)
            self._lane.join(self._subscriber)

    def _take(self, asked_to: int, page: Sequence[StoredEvent] | Failure) -> None:
        """Send a page of the log. ``asked_to``: the last ``seq`` before the ring when the page was asked for."""
        topic = self._topic
        if not self._lane.is_arriving(self._subscriber, self):
            return
        if isinstance(page, Failure):
            log.error("Topic %(topic)s: older messages can't be read for a subscriber", {"topic": topic.name})
            page = ()
        self._send(page, page[-1].seq if page else asked_to)
        self._wait()

    def _send(self, events: Sequence[StoredEvent], end: int) -> None:
        """Send events, and gaps before and between them. The next page starts after ``end``."""
        if events:
            self._subscriber.replay(self._topic, events, after=self._told, until=events[-1].seq)
            self._told = events[-1].seq
        self._after = end

    def _wait(self) -> None:
        """Advance when the socket has taken all, and other clients have been served.

        Events that are removed meanwhile become a gap, also for a subscriber that started with whatever is kept.
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
