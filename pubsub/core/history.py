"""Kept events of a topic, read in slices from its ring and its log, and starts of subscriptions. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec import Struct

from pubsub.core.catchup import ReplayStart
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.topic import Topic
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
    """A question for up to ``limit`` kept events that follow ``after``, and those that were found."""

    topic: Topic
    after: int
    limit: int
    answer: Callable[[KeptEvents | Failure], None]
    found: list[StoredEvent] = []

    @property
    def missing(self) -> int:
        """The number of events that are still to be found."""
        return self.limit - len(self.found)


class HistoryReader:
    """See the module. ``is_current``: the topic has not ended. ``take_turn(work)`` calls ``work`` in a later tick.

    Each call's answer comes in the same step or later; it is TopicNotFound if the topic ends meanwhile.
    """

    def __init__(
        self,
        clock: Clock,
        take_turn: Callable[[Callable[[], None]], None],
        is_current: Callable[[Topic], bool],
    ) -> None:
        self._clock = clock
        self._take_turn = take_turn
        self._is_current = is_current

    def find_start(
        self, topic: Topic, last_n: int, position: Position | None, answer: Callable[[ReplayStart | Failure], None]
    ) -> None:
        """Find the start of a subscription to the newest ``last_n`` messages, or to all after ``position``."""
        if position is None:
            answer(ReplayStart(topic, max(0, topic.seq - last_n)))
        elif position.epoch != topic.epoch or position.seq > topic.seq:
            answer(ReplayStart(topic, 0, told=0, recovered=False))
        elif topic.in_ring(position.seq):
            if topic.expiring:
                self._look_for_expired(topic, position.seq, position.seq, answer)
            else:
                answer(_start(topic, position.seq, False))
        else:  # the disk may have deleted messages, and the loop not know yet
            topic.log.find_missing(position.seq, topic.seq, lambda found: answer(_start(topic, position.seq, found)))

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

    def read_after(self, topic: Topic, seq: int, limit: int, answer: Callable[[KeptEvents | Failure], None]) -> None:
        """Read up to ``limit`` kept events that follow ``seq``."""
        self._gather(Query(topic, seq, limit, answer), seq)

    def read_last(self, topic: Topic, count: int, answer: Callable[[KeptEvents | Failure], None]) -> None:
        """Read those of the newest ``count`` events that are kept."""
        after = max(0, topic.seq - count)
        self._gather(Query(topic, after, count, answer), after)

    def _gather(self, query: Query, after: int) -> None:
        """Continue after ``after``, in the log and then the ring, until all events are found or a limit is reached."""
        topic, found = query.topic, query.found
        if not self._is_current(topic):  # its number on the disk may belong to another topic by now
            query.answer(TopicNotFound(topic.name))
            return
        end, in_ring = after, topic.in_ring(after)
        if in_ring:
            page = topic.page(after, LOOKED_AT if topic.expiring else query.missing, self._clock.monotonic())
            found += page.events[: query.missing]
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
            topic.log.read(start, topic.seq, query.missing, partial(self._take_page, query, asked_to))

    def _take_page(self, query: Query, asked_to: int, page: Sequence[StoredEvent] | Failure) -> None:
        if isinstance(page, Failure):
            query.answer(page)
        else:
            query.found += page
            self._gather(query, page[-1].seq if page else asked_to)


def _start(topic: Topic, seq: int, missing: bool | Failure) -> ReplayStart | Failure:
    """The start of a resume after ``seq``."""
    if isinstance(missing, Failure):
        return missing
    return ReplayStart(topic, seq, told=seq, recovered=not missing and seq + 1 >= topic.oldest)


def _kept(query: Query) -> KeptEvents:
    topic, found = query.topic, query.found
    end = found[-1].seq if found and not query.missing else topic.seq
    return KeptEvents(topic.epoch, found, len(found) >= end - query.after)
