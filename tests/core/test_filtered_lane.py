"""Evaluations of filters: in slices, in order, each event once for each lane, and publishers wait."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from msgspec import Raw

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.counts import MessageCount
from pubsub.core.event import WEBSOCKET_TEXT, StoredEvent
from pubsub.core.filtered_lane import BUSY, BYTES_OF_UNIT, ROOM, Evaluator, FilteredLane
from pubsub.core.lane import Subscriber
from pubsub.core.topic import Topic
from pubsub.core.trail import Since
from pubsub.filters.filters import Filter, Subject
from pubsub.protocol.requests import Message, Publish, TopicOptions
from tests.core.test_broker import ID, Ticks, make_broker
from tests.doubles import NoLog, NoPublisher, Sink, join
from tests.harness import messages_in


class Bench:
    """A Broker with the topic ``a``, and the number of evaluations in each turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker, self.ticks = make_broker(ring=10_000)
        self.broker.create_topic("a")
        self.evaluations = 0
        self.subjects: list[weakref.ref[Subject]] = []
        matches = Filter.matches

        def count(wanted: Filter, subject: Subject) -> bool:
            self.evaluations += 1
            return matches(wanted, subject)

        monkeypatch.setattr(Filter, "matches", count)

    def publish(self, *payloads: int) -> None:
        for payload in payloads:
            self.broker.publish([Publish(topic="a", message=Message(ID, Raw(b"%d" % payload)))], NoPublisher())

    def subscribe(self, text: str | None) -> list[int]:
        """A subscriber with a filter; returns the list to which the seqs of its events come."""
        seqs: list[int] = []
        outbox = Subscriber(
            Sink(lambda frames: seqs.extend(message["seq"] for message in messages_in(frames))),
            OutboxOptions(10_000, Clock(lambda: 0), self.broker.turns.take),
        )
        join(self.broker, "a", outbox, wanted=None if text is None else self.broker.filters.compile(text)).advance()
        return seqs

    def end_tick(self) -> int:
        """Returns the number of evaluations in it."""
        before = self.evaluations
        self.ticks.end()
        return self.evaluations - before


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_a_short_burst_is_evaluated_in_its_tick_and_once_for_all_with_the_same_filter(bench: Bench) -> None:
    all_seqs = [bench.subscribe("payload > 1") for _ in range(3)]
    bench.publish(1, 2, 3)
    assert bench.end_tick() == 3
    assert all_seqs == [[2, 3]] * 3
    assert not bench.ticks.deferred


@pytest.mark.parametrize("lanes", [1, 3, 20])
def test_no_turn_evaluates_more_than_its_bound_and_order_holds(bench: Bench, lanes: int) -> None:
    plain = bench.subscribe(None)
    filtered = [bench.subscribe(f"payload > 0 || payload < -{number}") for number in range(lanes)]
    bench.publish(*(number % 3 for number in range(500)))
    bench.broker.flush()
    bench.publish(*(number % 3 for number in range(200)))
    turns = []
    while bench.ticks.deferred:
        turns.append(bench.end_tick())
    assert max(turns) <= ROOM * 2, "one turn beside the end of the tick"
    assert sum(turns) <= 700 * lanes
    assert plain == list(range(1, 701))
    payloads = [number % 3 for number in range(500)] + [number % 3 for number in range(200)]
    assert filtered == [[seq for seq, payload in enumerate(payloads, 1) if payload > 0]] * lanes


def test_a_member_that_joins_while_events_wait_gets_each_once(bench: Bench) -> None:
    first = bench.subscribe("payload > 0")
    bench.publish(*[1] * (ROOM + 50))
    bench.broker.flush()
    assert first == [], "too many for this turn"
    second = bench.subscribe("payload > 0")
    bench.publish(1, 0, 1)
    while bench.ticks.deferred:
        bench.end_tick()
    everything = [*range(1, ROOM + 52), ROOM + 53]
    assert first == everything
    assert second == everything[-2:]


def test_a_member_that_leaves_while_events_wait_gets_them_first(bench: Bench) -> None:
    seqs: list[int] = []
    outbox = Subscriber(
        Sink(lambda frames: seqs.extend(message["seq"] for message in messages_in(frames))),
        OutboxOptions(10_000, Clock(lambda: 0)),
    )
    join(bench.broker, "a", outbox, wanted=bench.broker.filters.compile("payload > 0")).advance()
    bench.publish(*[1] * (ROOM + 1))
    bench.broker.flush()
    bench.broker.unsubscribe("a", outbox, lambda: seqs.append(0))
    assert seqs == [*range(1, ROOM + 2), 0]
    while bench.ticks.deferred:
        bench.end_tick()
    assert seqs[-1] == 0


def test_all_that_waits_is_delivered_at_a_shutdown(bench: Bench) -> None:
    first, second = bench.subscribe("payload > 0"), bench.subscribe("payload > 1")
    bench.publish(*[2] * (ROOM + 1))
    bench.broker.settle()
    assert first == second == list(range(1, ROOM + 2))
    while bench.ticks.deferred:
        bench.end_tick()
    assert len(first) == ROOM + 1


def test_publishers_wait_while_many_evaluations_wait(bench: Bench) -> None:
    for number in range(20):
        bench.subscribe(f"payload > 0 || payload < -{number}")
    assert not bench.broker.heeds_publishes
    bench.publish(*[1] * 150)
    bench.broker.flush()
    assert bench.broker.heeds_publishes
    assert bench.broker.filters_busy
    woken: list[int] = []
    bench.broker.call_when_filtered(lambda: woken.append(bench.evaluations))
    assert not woken
    while bench.ticks.deferred:
        bench.end_tick()
    assert 20 * 150 - BUSY // 2 <= woken[0] <= 20 * 150
    assert len(woken) == 1
    assert not bench.broker.heeds_publishes
    bench.broker.call_when_filtered(lambda: woken.append(0))
    assert len(woken) == 2, "at once"


@pytest.mark.parametrize("count", [1, ROOM + 1], ids=["at once", "in turns"])
@pytest.mark.parametrize("end", [lambda broker: None, lambda broker: broker.delete_topic("a")], ids=["idle", "deleted"])
def test_an_idle_evaluator_holds_no_event(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int, end: Callable[[Broker], None]
) -> None:
    bench.subscribe("payload > 0")
    bench.subscribe("payload > 1")
    bench.publish(*[1] * count)
    end(bench.broker)
    run(bench.ticks)
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Subject)]
    evaluator = bench.broker._evaluator
    assert not evaluator._events
    assert not evaluator._queue
    assert evaluator._waiting == 0


def run(ticks: Ticks) -> None:
    while ticks.deferred:
        ticks.end()


# Weights of filters, and sizes of events


class Even:
    """Lets every second event through; ``seen`` has all that were evaluated (Matcher)."""

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight
        self.seen: list[int] = []

    def matches(self, subject: Subject) -> bool:
        number = int(subject.text)
        self.seen.append(number)
        return number % 2 == 0


class Lanes:
    """Lanes of one topic, and the turns that their evaluations take."""

    def __init__(self) -> None:
        self.turns: list[Callable[[], None]] = []
        self.changes = 0
        self.evaluator = Evaluator(self.turns.append, self._change)
        self.topic = Topic("t", "e", TopicOptions(history=0), NoLog(), ring_size=0)

    def _change(self) -> None:
        self.changes += 1

    def lane(self, matcher: Even) -> FilteredLane:
        return FilteredLane(self.topic, WEBSOCKET_TEXT, MessageCount(), matcher, self.evaluator)

    def take_turn(self) -> None:
        turns, self.turns[:] = list(self.turns), []
        for turn in turns:
            turn()


class Member:
    def __init__(self) -> None:
        self.got: list[int] = []
        self.subscriber = Subscriber(Sink(self._write), OutboxOptions(1000, Clock(lambda: 0)))

    def _write(self, frames: bytes) -> None:
        self.got += messages_in(frames)


def events(first: int, last: int, *, size: int = 0) -> list[StoredEvent]:
    return [StoredEvent(seq, (b"%d" % seq).ljust(size)) for seq in range(first, last + 1)]


def even(first: int, last: int) -> list[int]:
    return [number for number in range(first, last + 1) if number % 2 == 0]


@pytest.fixture
def lanes_of_topic() -> Lanes:
    return Lanes()


@pytest.mark.parametrize("weight", [1, 7, ROOM, 10 * ROOM])
def test_a_turn_evaluates_no_more_than_its_room_or_one_event(lanes_of_topic: Lanes, weight: int) -> None:
    matchers = [Even(weight) for _ in range(3)]
    lanes, members = [lanes_of_topic.lane(matcher) for matcher in matchers], [Member() for _ in range(3)]
    for lane, member in zip(lanes, members, strict=True):
        lane.join(member.subscriber, Since(0))
    burst = events(1, 2 * ROOM + 1)
    for lane in lanes:
        lane.deliver(burst)
    while lanes_of_topic.turns:
        before = sum(len(matcher.seen) for matcher in matchers)
        lanes_of_topic.take_turn()
        evaluated = sum(len(matcher.seen) for matcher in matchers) - before
        assert evaluated * weight <= max(ROOM + weight, weight)
    assert [member.got for member in members] == 3 * [even(1, 2 * ROOM + 1)]
    assert [matcher.seen for matcher in matchers] == 3 * [list(range(1, 2 * ROOM + 2))]


def test_large_events_take_the_room_of_many(lanes_of_topic: Lanes) -> None:
    matcher, member = Even(), Member()
    lane = lanes_of_topic.lane(matcher)
    lane.join(member.subscriber, Since(0))
    lane.deliver(events(1, 4, size=ROOM * BYTES_OF_UNIT // 2))
    assert matcher.seen == []
    lanes_of_topic.take_turn()
    assert len(matcher.seen) < 4
    while lanes_of_topic.turns:
        lanes_of_topic.take_turn()
    assert member.got == [2, 4]


def test_a_lane_whose_members_all_arrive_evaluates_nothing(lanes_of_topic: Lanes) -> None:
    matcher = Even()
    lanes_of_topic.lane(matcher).deliver(events(1, 10))
    assert matcher.seen == []
    assert lanes_of_topic.turns == []
