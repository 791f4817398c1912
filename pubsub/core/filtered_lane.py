"""Lanes with a filter: each event is evaluated once for all members, in slices. No I/O.

An evaluation takes some microseconds, so a burst on a topic with many filters would stop all other clients. What is
over the room of a tick waits for a turn. A lane evaluates its events in their order, and all before a member joins.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pubsub.core.event import Encoding, Source, StoredEvent
from pubsub.core.filters import Matcher, Subject
from pubsub.core.lane import Lane, Subscriber

log = logging.getLogger(__name__)

EVALUATIONS: Final = 300  # in one turn, 3.5 to 5 µs each
BUSY: Final = 2000  # evaluations that wait, beyond which publishers have to wait too


class Evaluator:
    """The evaluations of all filtered lanes. ``busy_changed`` is called when publishers have to wait, or no longer.

    ``room``: the evaluations that need not wait any more in this tick. The Broker sets it for each one.
    """

    __slots__ = ("_busy_changed", "_events", "_queue", "_subjects", "_take_turn", "_waiting",
                 "_when_idle", "busy", "room")  # fmt: skip

    def __init__(self, take_turn: Callable[[Callable[[], None]], None], busy_changed: Callable[[], None]) -> None:
        self._take_turn = take_turn
        self._busy_changed = busy_changed
        self.busy = False
        self._queue: deque[FilteredLane] = deque()
        self.room = EVALUATIONS
        self._waiting = 0  # evaluations
        self._events: Sequence[StoredEvent] = ()
        self._subjects: list[Subject] = []
        self._when_idle: list[Callable[[], None]] = []

    def add(self, lane: FilteredLane, events: Sequence[StoredEvent]) -> None:
        """Evaluate the events of a lane: at once if there is room, otherwise in a turn."""
        self._waiting += len(events)
        if not self._queue and len(events) <= self.room:
            self.room -= len(events)
            lane.settle()
            return
        if not self._queue:
            self._take_turn(self._work)
        self._queue.append(lane)
        if self._waiting > BUSY and not self.busy:
            self.busy = True
            self._busy_changed()

    def call_when_idle(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once few evaluations wait: at once, or later."""
        if self.busy:
            self._when_idle.append(callback)
        else:
            callback()

    def subjects_of(self, events: Sequence[StoredEvent]) -> list[Subject]:
        """The subjects of events. The lanes of a topic share them: they get the same sequence, one after the other."""
        if events is not self._events:
            self._events, self._subjects = events, [Subject(event.text) for event in events]
        return self._subjects

    def evaluated(self, count: int) -> None:
        """Events of a lane no longer wait."""
        self._waiting -= count

    def _work(self) -> None:
        try:
            room = EVALUATIONS
            while self._queue and room > 0:
                room -= self._queue.popleft().evaluate_next()
        finally:
            if self._queue:
                self._take_turn(self._work)
            else:
                self._events, self._subjects = (), []
            if self.busy and self._waiting <= BUSY // 2:
                self._end_busy()

    def _end_busy(self) -> None:
        self.busy = False
        self._busy_changed()
        waiting, self._when_idle = self._when_idle, []
        for callback in waiting:
            callback()


class FilteredLane(Lane):
    """A Lane whose members get the events that match."""

    __slots__ = ("_evaluator", "_matches", "_waiting", "matcher")

    def __init__(self, topic: Source, encoding: Encoding, matcher: Matcher, evaluator: Evaluator) -> None:
        super().__init__(topic, encoding)
        self.matcher = matcher
        self._matches = matcher.matches
        self._evaluator = evaluator
        self._waiting: deque[Sequence[StoredEvent]] = deque()

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        self._waiting.append(events)
        self._evaluator.add(self, events)

    def evaluate_next(self) -> int:
        """Evaluate events that were delivered together; returns their number, 0 if none wait any more."""
        if not self._waiting:
            return 0
        events = self._waiting.popleft()
        self._evaluator.evaluated(len(events))
        if self._ready or self._lagging:
            matches = self._matches
            subjects = self._evaluator.subjects_of(events)
            matching = [event for event, subject in zip(events, subjects, strict=True) if matches(subject)]
            if matching:
                super().deliver(matching)
        return len(events)

    def settle(self) -> None:
        """Evaluate all events that wait."""
        while self._waiting:
            self.evaluate_next()

    def has_all(self, member: Subscriber) -> bool:
        return not self._waiting and super().has_all(member)

    def join(self, member: Subscriber) -> None:
        self.settle()
        super().join(member)
