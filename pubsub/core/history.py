"""Kept events of a topic, read in slices from its ring and its log, and starts of subscriptions. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from msgspec import Struct

from pubsub.core.backward_search import BackwardSearch, Bound
from pubsub.core.catchup import ReplayStart, filtered_page
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.topic import Topic
from pubsub.filters.filters import Matcher, Subject
from pubsub.protocol.errors import Failure, LimitExceeded, TopicNotFound
from pubsub.protocol.requests import Position

LOOKED_AT: Final = 5000  # events of a ring that are checked for expiry in one turn: 0.3 ms
MAX_ANSWER: Final = 8 * 1024 * 1024  # bytes of events in one answer, unless a single one is larger


@dataclass(frozen=True, slots=True)
class KeptEvents:
    """Kept events of a topic. ``complete``: none of the events that were asked for is gone."""

    epoch: str
    events: list[StoredEvent]
    complete: bool


class Query(Struct):
    """A question for up to ``limit`` kept events that follow ``after`` and match, and those that were found.

    ``checked``: the number of kept events that were compared, which is at least the number of those found.
    """

    topic: Topic
    after: int
    limit: int
    matcher: Matcher | None
    answer: Callable[[KeptEvents | Failure], None]
    found: list[StoredEvent] = []
    checked: int = 0
    end: int = 0  # the last ``seq`` that was compared

    @property
    def missing(self) -> int:
        """The number of events that are still to be found."""
        return self.limit - len(self.found)

    def take(self, events: Sequence[StoredEvent]) -> None:
        """Take what matches of the next kept events, up to the limit."""
        if self.matcher is None:
            taken = events[: self.missing]
            self.found += taken
            self.checked += len(taken)
            self.end = taken[-1].seq if taken else self.end
            return
        for event in events:
            if not self.missing:
                break
            self.checked += 1
            self.end = event.seq
            if self.matcher.matches(Subject(event.text)):
                self.found.append(event)


class HistoryReader:
    """See the module. ``is_current``: the topic has not ended. ``take_turn(work)`` calls ``work`` in a later tick.

    Each call's answer comes in the same step or later; it is TopicNotFound if the topic ends meanwhile. ``bound(done)``
    is ``done`` for an answer of the journal; it gets a failure if that takes too long.
    """

    def __init__(
        self,
        clock: Clock,
        take_turn: Callable[[Callable[[], None]], None],
        is_current: Callable[[Topic], bool],
        bound: Bound,
    ) -> None:
        self._clock = clock
        self._take_turn = take_turn
        self._is_current = is_current
        self._bound = bound

    def find_start(
        self,
        topic: Topic,
        last_n: int,
        position: Position | None,
        matcher: Matcher | None,
        answer: Callable[[ReplayStart | Failure], None],
    ) -> None:
        """Find the start of a subscription to the newest ``last_n`` messages that match, or to all after a position."""
        if position is None:
            self._find_last(topic, last_n, matcher, answer)
        elif position.epoch != topic.epoch or position.seq > topic.seq:
            answer(ReplayStart(topic, 0, told=0, recovered=False))
        elif topic.in_ring(position.seq):
            if topic.expiring:
                self._look_for_expired(topic, position.seq, position.seq, answer)
            else:
                answer(_start(topic, position.seq, False))
        else:  # the disk may have deleted messages, and the loop not know yet
            take = self._bound(lambda found: answer(_start(topic, position.seq, found)))
            topic.log.find_missing(position.seq, topic.seq, take)

    def _find_last(
        self, topic: Topic, count: int, matcher: Matcher | None, answer: Callable[[ReplayStart | Failure], None]
    ) -> None:
        if matcher is None or not count:
            answer(ReplayStart(topic, max(0, topic.seq - count)))
        else:
            search = BackwardSearch(topic, count, matcher, self._clock, self._take_turn, self._is_current, self._bound)
            search.begin(lambda found: answer(ReplayStart(topic, found) if isinstance(found, int) else found))

    def _look_for_expired(
        self, topic: Topic, seq: int, after: int, answer: Callable[[ReplayStart | Failure], None]
    ) -> None:
        """Find the start after ``seq``, and find out if any later event of the ring has expired."""
        page = topic.page(after, LOOKED_AT, self._clock.monotonic())
        if not self._is_current(topic):
            answer(TopicNotFound(topic.name))
        elif len(page.events) < page.end - after or page.end == topic.seq:
            answer(_start(topic, seq, len(page.events) < page.end - after))
        else:
            self._take_turn(partial(self._look_for_expired, topic, seq, page.end, answer))

    def read_after(
        self,
        topic: Topic,
        seq: int,
        limit: int,
        matcher: Matcher | None,
        answer: Callable[[KeptEvents | Failure], None],
    ) -> None:
        """Read up to ``limit`` kept events that follow ``seq`` and match."""
        self._gather(Query(topic, seq, limit, matcher, answer), seq)

    def read_last(
        self, topic: Topic, count: int, matcher: Matcher | None, answer: Callable[[KeptEvents | Failure], None]
    ) -> None:
        """Read those of the newest ``count`` events that match and are kept."""

        def read(start: ReplayStart | Failure) -> None:
            if isinstance(start, Failure):
                answer(start)
            else:  # up to the end: what is gone behind the last one that matches is missing too
                limit = count if matcher is None else max(1, topic.seq - start.after)
                self._gather(Query(topic, start.after, limit, matcher, take), start.after)

        def take(kept: KeptEvents | Failure) -> None:
            if isinstance(kept, KeptEvents) and count < len(kept.events):
                kept = replace(kept, events=kept.events[-count:] if count else [])
            answer(kept)

        self._find_last(topic, count, matcher, read)

    def _gather(self, query: Query, after: int) -> None:
        """Continue after ``after``, in the log and then the ring, until all events are found or a limit is reached."""
        topic, found = query.topic, query.found
        if topic.successor is not None:
            self._begin_again(query)
            return
        if not self._is_current(topic):  # its number on the disk may belong to another topic by now
            query.answer(TopicNotFound(topic.name))
            return
        end, in_ring = after, topic.in_ring(after)
        if in_ring:
            limit = LOOKED_AT if topic.expiring else query.missing
            page = topic.page(
                after, limit if query.matcher is None else filtered_page(query.matcher), self._clock.monotonic()
            )
            query.take(page.events)
            end = page.end
        size = sum(len(event.text) for event in found)
        if size > MAX_ANSWER and len(found) > 1:
            query.answer(LimitExceeded(
                f"the answer would have more than {MAX_ANSWER} bytes: "
                f"ask for about {MAX_ANSWER * len(found) // size} messages"
            ))  # fmt: skip
        elif not query.missing or (in_ring and end == topic.seq):
            query.answer(_kept(query))
        elif in_ring:
            self._take_turn(partial(self._gather, query, end))
        else:
            asked_to = topic.seq - len(topic.ring)  # events that leave the ring meanwhile are not on an empty page
            start = max(after, topic.oldest - 1)
            limit = query.missing if query.matcher is None else filtered_page(query.matcher)
            topic.log.read(start, topic.seq, limit, self._bound(partial(self._take_page, query, asked_to)))

    def _begin_again(self, query: Query) -> None:
        """Ask the topic that goes on in a new epoch."""
        query.topic = query.topic.latest
        query.found, query.checked, query.end = [], 0, 0
        self._gather(query, query.after)

    def _take_page(self, query: Query, asked_to: int, page: Sequence[StoredEvent] | Failure) -> None:
        if query.topic.successor is not None:
            self._begin_again(query)
            return
        if isinstance(page, Failure):
            query.answer(page)
            return
        query.take(page)
        end = page[-1].seq if page else asked_to
        if query.matcher is None:
            self._gather(query, end)
        else:
            self._take_turn(partial(self._gather, query, end))


def _start(topic: Topic, seq: int, missing: bool | Failure) -> ReplayStart | Failure:
    """The start of a resume after ``seq``."""
    if isinstance(missing, Failure):
        return missing
    return ReplayStart(topic, seq, told=seq, recovered=not missing and seq + 1 >= topic.oldest)


def _kept(query: Query) -> KeptEvents:
    topic = query.topic
    end = topic.seq if query.missing else query.end
    return KeptEvents(topic.epoch, query.found, query.checked >= end - query.after)
