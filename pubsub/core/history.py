"""Kept events of a topic, read from its ring and its log in slices; starts of subscriptions. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pubsub.core.catchup import Start
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.topic import Topic
from pubsub.protocol.errors import Failure, LimitExceeded, TopicNotFound
from pubsub.protocol.requests import Position

LOOKED_AT: Final = 5000  # events of a ring that are looked at in one turn for those that have expired: 0.3 ms
MAX_ANSWER: Final = 8 * 1024 * 1024  # bytes of events in one answer, unless a single one is larger


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept events of a topic. ``complete``: nothing that was asked for is gone."""

    epoch: str
    events: list[StoredEvent]
    complete: bool


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
        self, topic: Topic, last_n: int, position: Position | None, answer: Callable[[Start | Failure], None]
    ) -> None:
        """Find the start of a subscription to the newest ``last_n`` messages, or to all after ``position``."""
        if position is None:
            answer(Start(topic, max(0, topic.seq - last_n)))
        elif position.epoch != topic.epoch or position.seq > topic.seq:
            answer(Start(topic, 0, told=0, recovered=False))
        elif topic.in_ring(position.seq):
            if topic.expiring:
                self._look_for_expired(topic, position.seq, position.seq, answer)
            else:
                answer(_start(topic, position.seq, False))
        else:  # the disk may have let go of messages, and the news of it be on its way
            topic.log.find_missing(position.seq, topic.seq, lambda found: answer(_start(topic, position.seq, found)))

    def _look_for_expired(self, topic: Topic, seq: int, after: int, answer: Callable[[Start | Failure], None]) -> None:
        """Find a start after ``seq`` for who must be told whether any of what follows it has expired."""
        page = topic.page(after, LOOKED_AT, self._clock.monotonic())
        if not self._is_current(topic):
            answer(TopicNotFound(topic.name))
        elif len(page.events) < page.end - after or page.end == topic.seq:
            answer(_start(topic, seq, len(page.events) < page.end - after))
        else:
            self._take_turn(partial(self._look_for_expired, topic, seq, page.end, answer))

    def read_after(self, topic: Topic, seq: int, limit: int, answer: Callable[[Kept | Failure], None]) -> None:
        """Up to ``limit`` kept events that follow ``seq``."""
        self._gather(topic, seq, seq, limit, [], answer)

    def read_last(self, topic: Topic, count: int, answer: Callable[[Kept | Failure], None]) -> None:
        """Those of the newest ``count`` events that are kept."""
        after = max(0, topic.seq - count)
        self._gather(topic, after, after, count, [], answer)

    def _gather(
        self,
        topic: Topic,
        asked: int,
        after: int,
        limit: int,
        found: list[StoredEvent],
        answer: Callable[[Kept | Failure], None],
    ) -> None:
        """Read on from ``after``, from the journal and then the ring, until all is found that was asked for."""
        if not self._is_current(topic):  # its place on the disk may be another's by now
            answer(TopicNotFound(topic.name))
            return
        end = after
        if topic.in_ring(after):
            page = topic.page(after, LOOKED_AT if topic.expiring else limit - len(found), self._clock.monotonic())
            found, end = found + page.events[: limit - len(found)], page.end
        size = sum(len(event.text) for event in found)
        if size > MAX_ANSWER and len(found) > 1:
            fitting = MAX_ANSWER * len(found) // size
            answer(
                LimitExceeded(f"the answer would have more than {MAX_ANSWER} bytes: ask for about {fitting} messages")
            )
        elif len(found) >= limit or (topic.in_ring(after) and end == topic.seq):
            answer(_kept(topic, asked, limit, found))
        elif topic.in_ring(after):
            self._take_turn(partial(self._gather, topic, asked, end, limit, found, answer))
        else:
            asked_to = topic.seq - len(topic.ring)  # what leaves the ring meanwhile may be on no page that is empty

            def go_on(page: Sequence[StoredEvent] | Failure) -> None:
                if isinstance(page, Failure):
                    answer(page)
                else:
                    self._gather(topic, asked, page[-1].seq if page else asked_to, limit, [*found, *page], answer)

            topic.log.read(max(after, topic.oldest - 1), topic.seq, limit - len(found), go_on)


def _start(topic: Topic, seq: int, missing: bool | Failure) -> Start | Failure:
    """To go on after ``seq``."""
    if isinstance(missing, Failure):
        return missing
    return Start(topic, seq, told=seq, recovered=not missing and seq + 1 >= topic.oldest)


def _kept(topic: Topic, asked: int, limit: int, found: list[StoredEvent]) -> Kept:
    end = found[-1].seq if len(found) == limit and found else topic.seq
    return Kept(topic.epoch, found, len(found) >= end - asked)
