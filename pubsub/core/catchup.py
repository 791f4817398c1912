"""The catch-up of one subscriber: a replay, page by page, from the log and then the ring, up to the live events.

Most end in the step in which they begin. A page is encoded when the socket takes it, and each page takes a turn. So a
slow subscriber costs no memory and a fast one no time of other clients, however long the replay is. No I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import BATCH_BYTES
from pubsub.core.spans import extend, forget
from pubsub.core.topic import Page
from pubsub.core.trail import after_of, moment_of, since
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.core.lane import Lane, Subscriber
    from pubsub.core.spans import Span
    from pubsub.core.subscription import Grant, Subscription
    from pubsub.core.topic import Topic
    from pubsub.filters.filters import Matcher
    from pubsub.protocol.requests import Position

    Join = Callable[[Sequence[Subscription], Grant, str], "Matcher | None"]

log = logging.getLogger(__name__)

REPLAY_PAGE: Final = 500  # events; a page also ends after BATCH_BYTES and one event more
EVALUATED: Final = 4  # evaluations of a filter that take as long as the page of a catch-up that has nothing to replay
FILTERED_PAGE: Final = 250  # events whose filter is evaluated in one step, if its weight is 1: about 1 ms


def filtered_page(matcher: Matcher) -> int:
    """The number of events for which ``matcher`` may be evaluated in one step."""
    return max(1, FILTERED_PAGE // matcher.weight)


class ReplayStart(Struct, frozen=True):
    """The start of a subscription: the first event after ``after``.

    ``told``: the subscriber knows of all events up to this ``seq``, and gets a gap for every later one that is missing;
    None if it starts with whatever is kept. ``recovered``: after a resume, True if nothing is missing.
    """

    topic: Topic
    after: int
    told: int | None = None
    recovered: bool | UnsetType = UNSET

    @property
    def is_live(self) -> bool:
        """True if there is nothing to replay and nothing to tell."""
        return self.told is None and self.after >= self.topic.seq

    def joined(self, other: ReplayStart) -> ReplayStart:
        """The start from which nothing is missing of what either of two starts leads to."""
        told = [each.told for each in (self, other) if each.told is not None]
        return ReplayStart(self.topic, min(self.after, other.after), min(told, default=None), self.recovered)


class CatchUp:
    """See the module. Meanwhile the subscriber is in the lane as one that arrives.

    ``after``: the last ``seq`` that is done. ``spans``: the subscriptions that want the events that follow, if they are
    not all that lead to the lane. ``join`` makes the filter of subscriptions, by ``grant``, the rights. ``since``: the
    beginning of the membership. ``certain`` is False if several subscriptions have filters of their own.
    """

    __slots__ = ("_began", "_clock", "_grant", "_join", "_oldest", "_start", "_stopped", "_subscriber", "_told",
                 "_topic", "after", "begun", "certain", "lane", "since", "spans")  # fmt: skip

    def __init__(
        self,
        start: ReplayStart,
        lane: Lane,
        subscriber: Subscriber,
        clock: Clock,
        grant: Grant,
        join: Join,
        spans: list[Span],
        *,
        certain: bool = True,
    ) -> None:
        self.lane = lane
        self.since = since(start.after, clock.seconds())
        self.certain = certain
        self.after = start.after
        self.begun = False
        self.spans = spans
        self._start = start
        self._topic = start.topic
        self._began = start.topic.seq
        self._oldest = start.topic.oldest
        self._told = start.told
        self._stopped = False  # until the next life of the topic is told
        self._subscriber = subscriber
        self._clock = clock
        self._grant = grant
        self._join = join

    @property
    def recovered(self) -> bool | UnsetType:
        """As in its start, unless events were removed meanwhile."""
        return self._start.recovered and self._start.after + 1 >= self._topic.oldest

    @property
    def topic(self) -> Topic:
        return self._topic

    def renew(self, topic: Topic) -> None:
        """Go on in the next life of the topic, whose ``seq`` is that of the last message which both have.

        A resume that the client was not told of yet has another epoch now: it gets all that is kept.
        """
        if self.begun:
            self._end_spans()  # what nothing wants any more
        known = self.known
        self._topic = topic
        self._began = topic.seq
        self._oldest = topic.oldest
        for span in self.spans:
            span.until = min(span.until, topic.seq)
        if self._start.recovered is not UNSET and not self.begun:
            self.after, self._told = 0, 0
            self._start = ReplayStart(topic, 0, told=0, recovered=False)
        else:
            self.after = min(self.after, topic.seq)
            self._told = min(known, self.after)
        self.since = since(min(after_of(self.since), self.after), moment_of(self.since))
        if self._stopped:
            self._stopped = False
            self._wait()

    def resume(self, position: Position) -> None:
        """Begin at the position of a client, if it is in the life of the topic that began meanwhile."""
        if position.epoch == self._topic.epoch and position.seq <= self._topic.seq and self._start.recovered is False:
            self.after = self._told = position.seq

    def forget(self, name: str) -> None:
        """Send no more of what only this subscription wants: it has ended."""
        self.certain = False
        forget(self.spans, name)

    def limit(self, wanted: Sequence[Subscription]) -> None:
        """Send of all present events only those that these subscriptions want: the lane gets another filter."""
        self.certain = False
        extend(self.spans, self._topic.seq, wanted)

    @property
    def effort(self) -> int:
        """The time that the next page takes at most, in units of 10 to 20 µs."""
        if (matcher := self._filter) is None:
            return 1
        events = min(self._topic.seq - self.after, filtered_page(matcher))
        return 1 + events * matcher.weight // EVALUATED

    def advance(self) -> None:
        """Send the next page, as soon as the socket takes it, unless the subscription has ended meanwhile."""
        topic = self._topic
        self.begun = True
        if not self._is_current:
            return
        if topic.successor is not None:
            self._stopped = True
            return
        if topic.oldest > self._oldest:
            self._told = self.known
        if self._subscriber.lagging or not self._grant.may_subscribe(topic.name):  # the review of its rights comes
            self._wait()
            return
        self._end_spans(gone=topic.oldest - 1)
        if self.after == topic.seq and self._told in (None, topic.seq):  # nothing is replayed to most
            topic.flush()
            self._note_start((), topic.seq)
            self._join_lane()
            return
        after = max(self.after, topic.oldest - 1)
        until = self.spans[0].until if self.spans else topic.seq
        if topic.in_ring(after):
            self._read_ring(after, until)
        else:
            asked_to = min(until, topic.seq - len(topic.ring))
            topic.log.read(after, until, self._page, partial(self._take, topic, asked_to))

    @property
    def _is_current(self) -> bool:
        return self.lane.catch_up_of(self._subscriber) is self

    @property
    def known(self) -> int:
        """The last ``seq`` up to which the subscriber has all that it asked for, or knows of a gap."""
        return max(min(self.after, self._began), self._oldest - 1) if self._told is None else self._told

    def _known_before(self, events: Sequence[StoredEvent]) -> int | None:
        """The position of a gap before ``events``. None if there is none: they are the first of those that are kept."""
        if self._told is None and (not events or events[0].seq > self._began):
            return self._began
        return self._told

    @property
    def _filter(self) -> Matcher | None:
        return self._join(self.spans[0].wanted, self._grant, self._topic.name) if self.spans else self.lane.matcher

    @property
    def _page(self) -> int:
        return REPLAY_PAGE if self._filter is None else filtered_page(self._filter)

    def _end_spans(self, gone: int = 0) -> None:
        """End spans whose events are done, or ``gone``, and skip those that nothing wants any more."""
        while self.spans and (not self.spans[0].wanted or self.spans[0].until <= max(self.after, gone)):
            span = self.spans.pop(0)
            if not span.wanted and self._told is not None:
                self._subscriber.replay(self._topic, (), after=self._told, until=self.after)
                self._told = max(self._told, span.until)
            self.after = max(self.after, span.until)

    def _read_ring(self, after: int, until: int) -> None:
        topic = self._topic
        page = _fitting(topic.page(after, min(until - after, self._page), self._clock.monotonic()))
        if page.end < topic.seq:
            self._send(page.events, page.end)
            self._wait()
        else:
            topic.flush()
            known = self._known_before(page.events)
            self._note_start(page.events, known)
            self._subscriber.replay(topic, page.events, after=known, until=topic.seq, matcher=self._filter)
            self._join_lane()

    def _take(self, topic: Topic, asked_to: int, page: Sequence[StoredEvent] | Failure) -> None:
        """Send a page of the log. ``asked_to``: the last ``seq`` that could be on it."""
        if not self._is_current:
            return
        if topic.successor is not None:  # it may have messages that the topic has lost
            self._wait()
            return
        if isinstance(page, Failure):
            log.error("Topic %(topic)s: older messages can't be read for a subscriber", {"topic": self._topic.name})
            page = ()
        self._end_spans()
        self._send([event for event in page if event.seq > self.after], page[-1].seq if page else asked_to)
        self._wait()

    def _send(self, events: Sequence[StoredEvent], end: int) -> None:
        """Send events, and gaps before and between them. The next page starts after ``end``."""
        if events:
            until = events[-1].seq
            known = self._known_before(events)
            self._note_start(events, known)
            self._subscriber.replay(self._topic, events, after=known, until=until, matcher=self._filter)
            self._told = until
        self.after = max(self.after, end)

    def _note_start(self, events: Sequence[StoredEvent], known: int | None) -> None:
        """Note the true beginning for a subscriber that starts with what is kept: it is not told of what is gone."""
        if self._told is None:
            after = events[0].seq - 1 if known is None else known
            self.since = since(max(after, after_of(self.since)), moment_of(self.since))

    def _join_lane(self) -> None:
        """Join, now that the subscriber has all. What several filters had a part in is a stay of its own."""
        if not self.certain:
            self.after = self._topic.seq
            self._subscriber.ensure_trail().leave(self.lane.stay_of(self._subscriber))
            self.since = since(self._topic.seq, moment_of(self.since))
        self.lane.join(self._subscriber, self.since)

    def _wait(self) -> None:
        """Advance when the socket has taken all, and other clients have been served.

        Events that are removed meanwhile become a gap, also for a subscriber that started with whatever is kept.
        """
        if self._told is None:
            self._told = self.known
        self._subscriber.take_turn_when_ready(self.advance)


def _fitting(page: Page) -> Page:
    """The first BATCH_BYTES of a page, and one event more."""
    size = 0
    for number, event in enumerate(page.events, 1):
        size += len(event.text)
        if size >= BATCH_BYTES and number < len(page.events):
            return Page(page.events[:number], event.seq)
    return page
