"""The invariants of what a client library hands on to its user, over all connections of the client. No I/O, no clock.

A Reading belongs to one subscription. It knows no connection: the user must not notice that there are several. Every
message comes once and in order, or is told as a gap; a position leads to exactly what follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kinds import Predicate
from oracle import Broken, Json, Record

from pubsub.protocol.patterns import covers, has_wildcard

CREATED_AGAIN = "created_again"


class Place(NamedTuple):
    """One message: its topic, the life of the topic, and its number there."""

    topic: str
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Told:
    """A gap as the user is told of it. The last three are None if they are not known."""

    topic: str
    epoch: str
    reason: str
    first: int | None
    last: int | None
    count: int | None


@dataclass
class Cursor:
    """The last message of a topic that was handed on or told as missing. ``past``: earlier lives of the topic.

    ``replayed``: the replay of ``last_n`` ends there. It begins with whatever is kept.
    """

    epoch: str
    seq: int
    past: set[str] = field(default_factory=set)
    replayed: int = 0

    @property
    def position(self) -> tuple[str, int]:
        return self.epoch, self.seq


def _nothing(_: Place) -> bool:
    return False


class Reading:
    """See the module. ``wants``: the filter of the subscription. ``leaves_out``: messages that the user does not want.

    ``keeps``: messages that the server still keeps, if a test knows it: a library that mends gaps has to fetch them.
    ``knows_all``: the record has each message from the moment at which it exists.
    ``deleted``: lives of topics that somebody has ended on purpose: a library may forget them without a word.
    ``goes_back``: an earlier life may be told again, as long as two engines believe that they are the one.
    A message that nobody has seen yet is not known to be wanted: ``doubts`` has those that were left out so far.
    """

    def __init__(
        self,
        record: Record,
        name: str,
        *,
        wants: Predicate | None = None,
        leaves_out: Callable[[Place], bool] = _nothing,
        keeps: Callable[[Place], bool] = _nothing,
        deleted: Callable[[str, str], bool] = lambda topic, epoch: False,
        knows_all: bool = False,
        goes_back: bool = False,
    ) -> None:
        self._record = record
        self._name = name
        self._wants = wants
        self._leaves_out = leaves_out
        self._keeps = keeps
        self._deleted = deleted
        self._knows_all = knows_all
        self._goes_back = goes_back
        self.cursors: dict[str, Cursor] = {}
        self.doubts: list[Place] = []
        self.events = 0
        self.gaps: list[Told] = []

    @property
    def takes_all(self) -> bool:
        """True without a filter."""
        return self._wants is None

    def covers(self, topic: str) -> bool:
        return covers(self._name, topic)

    def begin(self, positions: Mapping[str, tuple[str, int]], replayed: Mapping[str, int] = {}) -> None:
        """Start after these positions; topics of a pattern that are not named here start at their beginning.

        ``replayed``: the last ``seq`` of each replay.
        """
        self.cursors = {
            topic: Cursor(epoch, seq, replayed=replayed.get(topic, 0)) for topic, (epoch, seq) in positions.items()
        }

    def take_event(self, place: Place, message: Json) -> None:
        """Check an event that was handed on. Raises Broken."""
        self._record.note(place.topic, place.epoch, place.seq, message)
        cursor = self._cursor(place.topic, place.epoch)
        self._move_to(cursor, place, "event")
        if not self._wanted(place):
            raise Broken(f"{self._name}: nobody asked for {place}")
        cursor.seq, cursor.replayed = place.seq, 0
        self.events += 1

    def take_gap(self, gap: Told) -> None:
        """Check a gap that was told. Raises Broken."""
        self.gaps.append(gap)
        if gap.reason == CREATED_AGAIN:
            self._begin_again(gap)
            return
        if gap.first is None or gap.last is None or gap.first > gap.last:
            raise Broken(f"{self._name}: a gap without bounds: {gap}")
        cursor = self._cursor(gap.topic, gap.epoch)
        self._move_to(cursor, Place(gap.topic, gap.epoch, gap.first), str(gap))
        self._check_gap(gap, range(gap.first, gap.last + 1), gap.count)
        cursor.seq, cursor.replayed = gap.last, 0

    def _check_gap(self, gap: Told, span: range, count: int | None) -> None:
        if self._knows_all and span.stop - 1 > self._record.last(gap.topic, gap.epoch):
            raise Broken(f"{self._name}: a gap of messages that were never published: {gap}")
        missing = [seq for seq in span if self._wanted(Place(gap.topic, gap.epoch, seq))]
        if kept := [seq for seq in missing if self._keeps(Place(gap.topic, gap.epoch, seq))]:
            raise Broken(f"{self._name}: {kept} are still kept, got {gap}")
        exact = self._wants is None and len(missing) == len(span)
        if count is None and self._wants is not None:
            return  # with a filter, nobody may know how many match
        if count is None or not (len(span) if exact else max(1, len(missing))) <= count <= len(span):
            raise Broken(f"{self._name}: {len(missing)} messages are missing, got {gap}")

    def _begin_again(self, gap: Told) -> None:
        cursor = self.cursors.get(gap.topic) or (Cursor("", 0) if has_wildcard(self._name) else None)
        is_past = cursor is not None and gap.epoch in cursor.past and not self._goes_back
        if cursor is None or gap.epoch == cursor.epoch or is_past:
            raise Broken(f"{self._name}: {cursor} did not begin again: {gap}")
        self.cursors[gap.topic] = Cursor(gap.epoch, gap.last or 0, cursor.past | {cursor.epoch})

    def _cursor(self, topic: str, epoch: str) -> Cursor:
        cursor = self.cursors.get(topic)
        if has_wildcard(self._name) and (cursor is None or self._is_forgotten(topic, cursor, epoch)):
            cursor = self.cursors[topic] = Cursor(epoch, 0)
        if cursor is None or cursor.epoch != epoch:
            raise Broken(f"{self._name}: expected {cursor} of {topic}, got epoch {epoch} without a word")
        return cursor

    def _is_forgotten(self, topic: str, cursor: Cursor, epoch: str) -> bool:
        return epoch != cursor.epoch and epoch not in cursor.past and self._deleted(topic, cursor.epoch)

    def _move_to(self, cursor: Cursor, place: Place, got: str) -> None:
        """Check that nothing is missing before ``place``, and nothing comes twice."""
        if place.seq <= cursor.seq:
            raise Broken(f"{self._name}: expected seq {cursor.seq + 1} of {place.topic}, got {got} {place}")
        if owed := self._owed(place.topic, cursor, place.seq):
            raise Broken(f"{self._name}: expected {owed[0]}, got {got} {place}")

    def _owed(self, topic: str, cursor: Cursor, end: int) -> list[Place]:
        """Return the messages below ``end`` that must still come."""
        left = [Place(topic, cursor.epoch, seq) for seq in range(max(cursor.seq, cursor.replayed) + 1, end)]
        if self._wants is not None:
            self.doubts += [place for place in left if self._record.kind(*place) is None]
        return [place for place in left if self._wanted(place)]

    def _wanted(self, place: Place) -> bool:
        if self._leaves_out(place):
            return False
        if self._wants is None:
            return True
        kind = self._record.kind(*place)
        return kind is not None and self._wants(kind)

    def check_positions(self, positions: Mapping[str, tuple[str, int]]) -> None:
        """Check the position that the library would export now: nothing is left out, and nothing would come twice."""
        for topic, cursor in self.cursors.items():
            epoch, seq = positions.get(topic, ("none", 0))
            if self._deleted(topic, cursor.epoch) and has_wildcard(self._name):
                continue
            if epoch != cursor.epoch or seq < cursor.seq:
                raise Broken(f"{self._name}: the position of {topic} is {epoch} {seq}, expected {cursor}")
        for topic, (epoch, seq) in positions.items():
            cursor = self.cursors.get(topic) or Cursor(epoch, 0)
            if cursor.epoch != epoch:
                cursor = Cursor(epoch, 0)
            if owed := self._owed(topic, cursor, seq + 1):
                raise Broken(f"{self._name}: the position of {topic} is {epoch} {seq}, but {owed[0]} has not come")

    def missing(self, lives: Mapping[str, str]) -> list[Place]:
        """Return the messages that have not come, of topics that are in this life now."""
        found: list[Place] = []
        for topic, epoch in lives.items():
            cursor = self.cursors.get(topic) or Cursor(epoch, 0)
            if cursor.epoch != epoch:
                cursor = Cursor(epoch, 0)
            found += self._owed(topic, cursor, self._record.last(topic, epoch) + 1)
        return found + [place for place in self.doubts if self._wanted(place)]
