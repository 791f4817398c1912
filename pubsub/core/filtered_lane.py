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
    """The evaluations of all filtered lanes. ``busy_changed`` is called when publishers have to wait, or no longer."""

    __slots__ = ("_busy_changed", "_events", "_queue", "_room", "_subjects", "_take_turn", "_waiting",
                 "_when_idle", "busy")  # fmt: skip

    def __init__(self, take_turn: Callable[[Callable[[], None]], None], busy_changed: Callable[[], None]) -> None:
        self._take_turn = take_turn
        self._busy_changed = busy_changed
        self.busy = False
        self._queue: deque[FilteredLane] = deque()
        self._room = EVALUATIONS
        self._waiting = 0  # evaluations
        self._events: Sequence[StoredEvent] = ()
        self._subjects: list[Subject] = []
        self._when_idle: list[Callable[[], None]] = []

    def begin_tick(self) -> None:
        """Give room for evaluations that need not wait."""
        self._room = EVALUATIONS

    def end_tick(self) -> None:
        """Forget the events that were evaluated last, unless others wait."""
        if not self._queue:
            self._events, self._subjects = (), []

    def add(self, lane: FilteredLane, events: Sequence[StoredEvent]) -> None:
        """Evaluate the events of a lane: at once if there is room, otherwise in a turn."""
        self._waiting += len(events)
        if not self._queue and len(events) <= self._room:
            self._room -= len(events)
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
                lane = self._queue.popleft()
                room -= lane.evaluate_some(room)
                if lane.is_within_events:  # its topic's other lanes need the same subjects
                    self._queue.appendleft(lane)
        finally:
            if self._queue:
                self._take_turn(self._work)
            else:
                self.end_tick()
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

    __slots__ = ("_evaluated", "_evaluator", "_matches", "_waiting", "matcher")

    def __init__(self, topic: Source, encoding: Encoding, matcher: Matcher, evaluator: Evaluator) -> None:
        super().__init__(topic, encoding)
        self.matcher = matcher
        self._matches = matcher.matches
        self._evaluator = evaluator
        self._waiting: deque[Sequence[StoredEvent]] = deque()
        self._evaluated = 0  # of the first ones that wait

    @property
    def is_within_events(self) -> bool:
        """True if a part of events that were delivered together is evaluated."""
        return self._evaluated > 0

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        self._waiting.append(events)
        self._evaluator.add(self, events)

    def evaluate_some(self, most: int) -> int:
        """Evaluate up to ``most`` of the events that were delivered together first; returns their number."""
        if not self._waiting:
            return 0
        events, start = self._waiting[0], self._evaluated
        end = self._evaluated = min(len(events), start + most)
        if end == len(events):
            self._waiting.popleft()
            self._evaluated = 0
        self._evaluator.evaluated(end - start)
        if self._ready or self._lagging:
            matches = self._matches
            subjects = self._evaluator.subjects_of(events)
            matching = [event for event, subject in zip(events[start:end], subjects[start:end], strict=True)
                        if matches(subject)]  # fmt: skip
            if matching:
                super().deliver(matching)
        return end - start

    def settle(self) -> None:
        """Evaluate all events that wait."""
        while self._waiting:
            self.evaluate_some(EVALUATIONS)

    def join(self, member: Subscriber) -> None:
        self.settle()
        super().join(member)
