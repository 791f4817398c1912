"""Lanes with a filter: what they evaluate in one turn, in which order, and when publishers wait."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.event import WEBSOCKET_TEXT, StoredEvent
from pubsub.core.filtered_lane import BUSY, BYTES_OF_UNIT, ROOM, Evaluator, FilteredLane
from pubsub.core.filters import Subject
from pubsub.core.lane import Subscriber
from pubsub.core.topic import Topic
from pubsub.protocol.requests import TopicOptions
from tests.doubles import NoLog
from tests.harness import messages_in


class Even:
    """Lets every second event through; ``seen`` has all that were evaluated (Matcher)."""

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight
        self.seen: list[int] = []

    def matches(self, subject: Subject) -> bool:
        number = int(subject.text)
        self.seen.append(number)
        return number % 2 == 0


class World:
    def __init__(self) -> None:
        self.turns: list[Callable[[], None]] = []
        self.changes = 0
        self.evaluator = Evaluator(self.turns.append, self._change)
        self.topic = Topic("t", "e", TopicOptions(history=0), NoLog(), ring_size=0)

    def _change(self) -> None:
        self.changes += 1

    def lane(self, matcher: Even) -> FilteredLane:
        return FilteredLane(self.topic, WEBSOCKET_TEXT, matcher, self.evaluator)

    def take_turn(self) -> None:
        turns, self.turns[:] = list(self.turns), []
        for turn in turns:
            turn()


class Member:
    def __init__(self) -> None:
        self.got: list[int] = []
        self.subscriber = Subscriber(self._write, OutboxOptions(1000, Clock(lambda: 0)))

    def _write(self, frames: bytes) -> None:
        self.got += messages_in(frames)


def events(first: int, last: int, *, size: int = 0) -> list[StoredEvent]:
    return [StoredEvent(seq, (b"%d" % seq).ljust(size)) for seq in range(first, last + 1)]


def even(first: int, last: int) -> list[int]:
    return [number for number in range(first, last + 1) if number % 2 == 0]


@pytest.fixture
def world() -> World:
    return World()


def test_what_fits_into_a_tick_is_delivered_at_once(world: World) -> None:
    lane, member = world.lane(Even()), Member()
    lane.join(member.subscriber)
    lane.deliver(events(1, ROOM))
    assert member.got == even(1, ROOM)
    lane.deliver(events(ROOM + 1, ROOM + 1))
    assert len(member.got) == ROOM // 2, "the room of the tick is used up"
    world.take_turn()
    world.evaluator.room = ROOM
    lane.deliver(events(ROOM + 2, ROOM + 2))
    assert member.got == even(1, ROOM + 2)
    assert world.turns == []


@pytest.mark.parametrize("weight", [1, 7, ROOM, 10 * ROOM])
def test_a_turn_evaluates_no_more_than_its_room_or_one_event(world: World, weight: int) -> None:
    matchers = [Even(weight) for _ in range(3)]
    lanes, members = [world.lane(matcher) for matcher in matchers], [Member() for _ in range(3)]
    for lane, member in zip(lanes, members, strict=True):
        lane.join(member.subscriber)
    burst = events(1, 2 * ROOM + 1)
    for lane in lanes:
        lane.deliver(burst)
    while world.turns:
        before = sum(len(matcher.seen) for matcher in matchers)
        world.take_turn()
        evaluated = sum(len(matcher.seen) for matcher in matchers) - before
        assert evaluated * weight <= max(ROOM + weight, weight)
    assert [member.got for member in members] == 3 * [even(1, 2 * ROOM + 1)]
    assert [matcher.seen for matcher in matchers] == 3 * [list(range(1, 2 * ROOM + 2))]


def test_large_events_take_the_room_of_many(world: World) -> None:
    matcher, member = Even(), Member()
    lane = world.lane(matcher)
    lane.join(member.subscriber)
    lane.deliver(events(1, 4, size=ROOM * BYTES_OF_UNIT // 2))
    assert matcher.seen == []
    world.take_turn()
    assert len(matcher.seen) < 4
    while world.turns:
        world.take_turn()
    assert member.got == [2, 4]


def test_later_events_wait_behind_earlier_ones(world: World) -> None:
    lane, member = world.lane(Even()), Member()
    lane.join(member.subscriber)
    lane.deliver(events(1, 3 * ROOM))
    world.evaluator.room = ROOM
    lane.deliver(events(3 * ROOM + 1, 3 * ROOM + 2))
    while world.turns:
        world.take_turn()
    assert member.got == even(1, 3 * ROOM + 2)


def test_a_member_that_joins_gets_nothing_of_what_waits(world: World) -> None:
    lane, first, second = world.lane(Even()), Member(), Member()
    lane.join(first.subscriber)
    lane.deliver(events(1, 2 * ROOM))
    lane.join(second.subscriber)
    assert first.got == even(1, 2 * ROOM)
    world.take_turn()
    lane.deliver(events(2 * ROOM + 1, 2 * ROOM + 2))
    while world.turns:
        world.take_turn()
    assert first.got == even(1, 2 * ROOM + 2)
    assert second.got == [2 * ROOM + 2]


def test_publishers_wait_while_too_much_waits(world: World) -> None:
    idle: list[bool] = []
    lane = world.lane(Even())
    lane.join(Member().subscriber)
    lane.deliver(events(1, BUSY - 10))
    assert not world.evaluator.busy
    lane.deliver(events(BUSY - 9, BUSY + 1))
    assert world.evaluator.busy
    assert world.changes == 1
    world.evaluator.call_when_idle(lambda: idle.append(world.evaluator.busy))
    assert idle == []
    while world.turns:
        world.take_turn()
    assert idle == [False]
    assert world.changes == 2
    world.evaluator.call_when_idle(lambda: idle.append(True))
    assert idle == [False, True]


def test_a_lane_whose_members_all_arrive_evaluates_nothing(world: World) -> None:
    matcher = Even()
    world.lane(matcher).deliver(events(1, 10))
    assert matcher.seen == []
    assert world.turns == []


def test_nothing_is_kept_of_events_that_have_waited(world: World) -> None:
    burst = events(1, 2 * ROOM)
    before = sys.getrefcount(burst)
    lane = world.lane(Even())
    lane.join(Member().subscriber)
    lane.deliver(burst)
    while world.turns:
        world.take_turn()
    assert sys.getrefcount(burst) == before
