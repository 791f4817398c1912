"""Lanes with a filter: each event is evaluated once for all members, in slices. No I/O.

An evaluation takes some microseconds, so a burst on a topic with many filters would stop all other clients. What is
over the room of a tick waits for a turn. A lane evaluates its events in their order, and all before a member joins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pubsub.core.counts import MessageCount
from pubsub.core.event import Encoding, Source, StoredEvent
from pubsub.core.lane import Lane, Subscriber
from pubsub.filters.filters import Matcher, Subject

if TYPE_CHECKING:
    from pubsub.core.trail import Since

# What is evaluated in one turn. A unit is one evaluation of most filters, 3.5 to 5 µs; see Matcher.
ROOM: Final = 300
BUSY: Final = 2000  # units that wait, beyond which publishers have to wait too
BYTES_OF_UNIT: Final = 4096  # of events, which have to be decoded


class Portion(Struct):
    """Events that were delivered together to one lane, of which ``done`` are evaluated. They cost ``units``."""

    events: Sequence[StoredEvent]
    units: int
    done: int = 0

    @property
    def left(self) -> int:
        return len(self.events) - self.done

    @property
    def units_left(self) -> int:
        return self.units * self.left // len(self.events)

    def count_within(self, room: int) -> int:
        """The events that fit into so many units, at least one."""
        return self.left if self.units_left <= room else max(1, room * len(self.events) // self.units)


class Evaluator:
    """The evaluations of all filtered lanes. ``busy_changed`` is called when publishers have to wait, or no longer.

    ``room``: the units that need not wait any more in this tick; the Flushes set it. ``measured``: the events
    that were measured last.
    """

    __slots__ = ("_busy_changed", "_bytes", "_events", "_queue", "_subjects", "_take_turn", "_waiting",
                 "_when_idle", "busy", "measured", "room")  # fmt: skip

    def __init__(self, take_turn: Callable[[Callable[[], None]], None], busy_changed: Callable[[], None]) -> None:
        self._take_turn = take_turn
        self._busy_changed = busy_changed
        self.busy = False
        self._queue: deque[tuple[FilteredLane, Portion]] = deque()
        self.room = ROOM
        self._waiting = 0  # units
        self._events: Sequence[StoredEvent] = ()
        self._subjects: list[Subject] = []
        self.measured: Sequence[StoredEvent] = ()
        self._bytes = 0
        self._when_idle: list[Callable[[], None]] = []

    def measure(self, events: Sequence[StoredEvent], weight: int) -> Portion:
        """The events as a portion for a lane whose filter has this weight."""
        if events is not self.measured:  # the lanes of a topic get the same sequence, one after the other
            self.measured, self._bytes = events, sum(len(event.text) for event in events)
        return Portion(events, len(events) * weight + self._bytes // BYTES_OF_UNIT)

    def end_tick(self) -> None:
        """Forget the events that were evaluated last, unless others wait."""
        if not self._queue:
            self._events, self._subjects, self.measured = (), [], ()

    def add(self, lane: FilteredLane, portion: Portion) -> None:
        """Have a lane evaluate its last portion: at once if there is room, otherwise in turns."""
        self._waiting += portion.units
        if not self._queue:
            if portion.units <= self.room:
                self.room -= portion.units
                lane.evaluate(portion)
                return
            self._take_turn(self._work)
        self._queue.append((lane, portion))
        if self._waiting > BUSY and not self.busy:
            self.busy = True
            self._busy_changed()

    def settle(self) -> None:
        """Evaluate all that waits."""
        for lane, _ in list(self._queue):
            lane.settle()

    def call_when_idle(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once little waits: at once, or later."""
        if self.busy:
            self._when_idle.append(callback)
        else:
            callback()

    def subjects_of(self, events: Sequence[StoredEvent]) -> list[Subject]:
        """The subjects of events, which the lanes of a topic share."""
        if events is not self._events:
            self._events, self._subjects = events, [Subject(event.text) for event in events]
        return self._subjects

    def evaluated(self, units: int) -> None:
        """So many units no longer wait."""
        self._waiting -= units

    def _work(self) -> None:
        room = ROOM
        try:
            while self._queue and room > 0:
                lane, portion = self._queue[0]
                before = portion.units_left
                lane.evaluate(portion, room)
                room -= before - portion.units_left
                if not portion.left:
                    self._queue.popleft()
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

    __slots__ = ("_evaluator", "_matches", "_waiting", "matcher", "weight")

    def __init__(
        self, topic: Source, encoding: Encoding, delivered: MessageCount, matcher: Matcher, evaluator: Evaluator
    ) -> None:
        super().__init__(topic, encoding, delivered)
        self.matcher = matcher
        self.weight = matcher.weight
        self._matches = matcher.matches
        self._evaluator = evaluator
        self._waiting: deque[Portion] = deque()

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        self._waiting.append(portion := self._evaluator.measure(events, self.weight))
        self._evaluator.add(self, portion)

    def evaluate(self, portion: Portion, room: int | None = None) -> None:
        """Evaluate events of the portion that is the next, and deliver those that match.

        At most ``room`` units, but at least one event; None is no limit.
        """
        if not portion.left:
            return
        begin, before = portion.done, portion.units_left
        portion.done += portion.left if room is None else portion.count_within(room)
        self._evaluator.evaluated(before - portion.units_left)
        if not portion.left:
            self._waiting.popleft()
        if self._ready or self._lagging:
            events, subjects = portion.events, self._evaluator.subjects_of(portion.events)
            matches = self._matches
            matching = [events[at] for at in range(begin, portion.done) if matches(subjects[at])]
            if matching:
                super().deliver(matching)

    def settle(self) -> None:
        """Evaluate all events that wait."""
        while self._waiting:
            self.evaluate(self._waiting[0])

    def has_all(self, member: Subscriber) -> bool:
        return not self._waiting and super().has_all(member)

    @property
    def passed(self) -> int:
        if not self._waiting:
            return super().passed
        portion = self._waiting[0]
        return portion.events[portion.done].seq - 1

    def join(self, member: Subscriber, since: Since) -> None:
        self.settle()
        super().join(member, since)
