"""Slices: a request that affects many members or events does its work in slices, at most one in a tick."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec import Raw

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import make_rights
from pubsub.auth.quotas import Quotas
from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.catchup import EVALUATED, REPLAY_PAGE
from pubsub.core.clock import Clock
from pubsub.core.event import BATCH_BYTES, Batch
from pubsub.core.history import LOOKED_AT, KeptEvents
from pubsub.core.joining import ENTERED, Joining
from pubsub.core.lane import LANES_IN_A_TURN, Subscriber
from pubsub.core.memberships import MEMBERS
from pubsub.core.outbox import matching
from pubsub.core.subscription import Asked, Subscription
from pubsub.core.topic import Topic
from pubsub.filters.filters import Matcher
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import Failure, TopicNotFound, Unauthorized
from pubsub.protocol.requests import Message, Position, Publish, TopicOptions
from pubsub.websocket.connection import Connection
from pubsub.websocket.replies import NoReplies
from pubsub.websocket.rules import ClientRules
from pubsub.websocket.session import Session
from tests.doubles import ALL_GRANTED, NoPublisher, Sink, join
from tests.harness import new_id
from tests.simulation import Parts


class World:
    """A broker whose ticks a test ends one by one; it counts the work of each tick."""

    def __init__(self, ring_size: int = 100_000) -> None:
        self.now = 0.0
        self._deferred: list[Callable[[], None]] = []
        clock = Clock(lambda: 0, lambda: self.now)
        self.broker = Broker(defer=self._deferred.append, clock=clock, memory=MemoryJournal(clock), ring_size=ring_size)

    def topic(self, name: str = "t", **options: Any) -> Topic:
        self.broker.create_topic(name, TopicOptions(**options))
        return self.broker.topic(name)

    def publish(self, name: str, count: int, size: int = 1, **options: Any) -> None:
        payload = Raw(json.dumps("x" * size).encode())
        for _ in range(count):
            self.broker.publish([Publish(topic=name, message=Message(new_id(), payload), **options)], NoPublisher())
        self.end_tick()

    def outbox(self, write: Callable[[bytes], None] = lambda frames: None, limit: int = 100) -> Subscriber:
        return Subscriber(Sink(write), OutboxOptions(limit, Clock(lambda: 0), self.broker.turns.take))

    def join(self, topic: Topic, outbox: Subscriber, after: int | None = None) -> None:
        join(self.broker, topic.name, outbox, last_n=0 if after is None else topic.seq - after).advance()

    def end_tick(self) -> bool:
        """Run the deferred calls; return True if there were any."""
        deferred, self._deferred[:] = list(self._deferred), []
        for callback in deferred:
            callback()
        return bool(deferred)

    def count_by_tick(self, total: Callable[[], int]) -> list[int]:
        """Return the growth of ``total`` in each tick until all is done; the first number is from before the ticks."""
        grown, before = [total()], total()
        while self.end_tick():
            grown.append(total() - before)
            before = total()
        return grown


def test_row_65_the_members_of_a_topic_that_ends_are_told_in_slices() -> None:
    world, told = World(), bytearray()
    topic = world.topic()
    count = 4 * MEMBERS + 1
    for _ in range(count):
        world.join(topic, world.outbox(told.extend))
    ended: list[Failure | None] = []
    world.broker.delete_topic("t", ended.append)
    by_tick = world.count_by_tick(lambda: told.count(b"topic_deleted"))
    assert sum(by_tick) == count
    assert max(by_tick) == MEMBERS
    assert ended == [None]
    assert world.broker.subscriber_count == 0


def test_row_65_a_filter_over_the_history_of_many_topics_is_evaluated_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, evaluated = World(), 0
    for number in range(2 * ENTERED):
        world.topic(f"t.{number}")
        world.publish(f"t.{number}", 50)

    def count(batch: Batch, matcher: Matcher) -> Batch:
        nonlocal evaluated
        evaluated += len(batch.events)
        return matching(batch, matcher)

    monkeypatch.setattr("pubsub.core.outbox.matching", count)
    wanted = Subscription("t.*", world.broker.filters.compile("payload == 1"))
    answers: list[Joining | Failure] = []
    world.broker.subscribe(Asked(wanted, ALL_GRANTED, resume={}), world.outbox(), answers.append)
    while not answers:
        world.end_tick()
    (joining,) = answers
    assert isinstance(joining, Joining)
    joining.advance()
    by_tick = world.count_by_tick(lambda: evaluated)
    assert sum(by_tick) == 2 * ENTERED * 50
    assert max(by_tick) <= ENTERED * EVALUATED + 50


def test_who_comes_to_the_next_topic_of_that_name_is_told_of_the_end_of_the_first() -> None:
    world = World()
    topic = world.topic()
    written: list[bytearray] = []
    for _ in range(2 * MEMBERS):
        written.append(bytearray())
        world.join(topic, last := world.outbox(written[-1].extend))
    world.broker.delete_topic("t")
    assert b"topic_deleted" not in written[-1]
    following = world.topic()
    world.join(following, last)
    assert written[-1].count(b"topic_deleted") == 1
    while world.end_tick():
        pass
    world.publish("t", 1)
    assert [told.count(b"topic_deleted") for told in written] == [1] * len(written)
    assert [told.count(b'"event"') for told in written] == [0] * (len(written) - 1) + [1]
    assert following.subscribers == world.broker.subscriber_count == 1


def test_a_member_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world, told = World(), bytearray()
    topic = world.topic()

    def fail(frames: bytes) -> None:
        raise RuntimeError("a bug")

    world.join(topic, world.outbox(told.extend))
    world.join(topic, world.outbox(fail))
    world.join(topic, world.outbox(told.extend))
    world.publish("t", 1)
    assert told.count(b'"event"') == 2
    world.broker.delete_topic("t")
    assert told.count(b"topic_deleted") == 2
    assert "Internal error at a subscriber of topic t" in caplog.text
    assert "Internal error at the end of topic t" in caplog.text


def many_topics(world: World, outbox: Subscriber, count: int) -> list[Topic]:
    topics = [world.topic(f"t{number}") for number in range(count)]
    for topic in topics:
        world.join(topic, outbox)
    return topics


def test_row_65_a_subscriber_leaves_its_topics_in_slices() -> None:
    world = World()
    outbox = world.outbox()
    topics = many_topics(world, outbox, 2 * LANES_IN_A_TURN + 1)
    world.broker.leave(outbox)
    by_tick = world.count_by_tick(lambda: sum(not topic.subscribers for topic in topics))
    assert max(by_tick) == LANES_IN_A_TURN
    assert sum(by_tick) == len(topics)
    assert world.broker.subscriber_count == 0


def test_row_65_a_subscriber_that_blocks_tells_its_topics_in_slices_and_loses_no_order() -> None:
    world, written = World(), bytearray()
    outbox = world.outbox(written.extend)
    topics = many_topics(world, outbox, 2 * LANES_IN_A_TURN + 1)
    last = topics[-1]
    outbox.block()
    world.publish(last.name, 1)  # its lane does not know yet
    while world.end_tick():
        pass
    assert all(outbox in topic.lanes[0]._lagging for topic in topics)
    world.publish(last.name, 1)
    outbox.unblock()
    world.publish(last.name, 1)  # again
    while world.end_tick():
        pass
    assert all(outbox in topic.lanes[0]._ready for topic in topics)
    world.publish(last.name, 1)
    assert [written.find(b'"seq":%d,' % seq) for seq in range(1, 5)] == sorted(
        written.find(b'"seq":%d,' % seq) for seq in range(1, 5)
    )
    assert written.count(b'"event"') == 4


def test_row_59_a_replay_from_memory_comes_a_page_in_a_tick() -> None:
    world, written = World(), bytearray()
    topic = world.topic()
    world.publish("t", 3000, size=600)
    world.join(topic, world.outbox(written.extend), after=0)
    by_tick = world.count_by_tick(lambda: len(written))
    assert written.count(b'"event"') == 3000
    assert max(by_tick) <= BATCH_BYTES + 1000 + 4 * 100  # headers of frames


def test_row_59_short_messages_come_by_their_number() -> None:
    world, written = World(), bytearray()
    topic = world.topic()
    world.publish("t", 3 * REPLAY_PAGE)
    world.join(topic, world.outbox(written.extend), after=0)
    assert max(world.count_by_tick(lambda: written.count(b'"event"'))) <= REPLAY_PAGE


def test_row_59_a_replay_for_who_takes_nothing_holds_nothing_back() -> None:
    world, written = World(), bytearray()

    def write(frames: bytes) -> None:
        written.extend(frames)
        if len(written) > 4 * BATCH_BYTES:
            outbox.block()

    outbox = world.outbox(write)
    topic = world.topic()
    world.publish("t", 3000, size=600)
    world.join(topic, outbox, after=0)
    while world.end_tick():
        pass
    assert len(written) <= 5 * BATCH_BYTES + 1000
    assert outbox.queued == 0
    assert outbox.awaited
    world.publish("t", 200, size=600)
    assert outbox.queued == 0


def test_events_that_leave_the_ring_before_their_page_are_told_as_one_gap() -> None:
    world, written = World(ring_size=1000), bytearray()
    topic = world.topic()
    world.publish("t", 1000)
    outbox = world.outbox(written.extend)
    join(world.broker, "t", outbox, resume={"t": Position(topic.epoch, 0)}).advance()
    first_page = written.count(b'"event"')
    assert 0 < first_page < 1000
    outbox.block()
    world.publish("t", 2000)
    outbox.unblock()
    while world.end_tick():
        pass
    assert written.count(b'"event"') == first_page + 1000
    assert written.count(b'"dropped"') == 1
    assert b'"count":%d,"from_seq":%d,"to_seq":2000' % (2000 - first_page, first_page + 1) in written


@pytest.mark.parametrize("ask", ["history", "resume"])
def test_expired_events_are_looked_for_in_slices(ask: str) -> None:
    world, answers = World(), list[KeptEvents | Joining | Failure]()
    topic = world.topic(ttl_sec=1000)
    world.publish("t", 3 * LOOKED_AT)
    world.publish("t", 1, ttl_sec=1)
    world.publish("t", 1)
    world.now = 2.0
    if ask == "history":
        world.now = 1001.0
        world.publish("t", 1)
        world.broker.history_after("t", 0, 1000, answers.append)
    else:
        asked = Asked(Subscription("t"), ALL_GRANTED, resume={"t": Position(topic.epoch, 5)})
        world.broker.subscribe(asked, world.outbox(), answers.append)
    ticks = 0
    while not answers:
        assert world.end_tick()
        ticks += 1
    assert ticks >= 2
    (answer,) = answers
    if isinstance(answer, KeptEvents):
        assert [event.seq for event in answer.events] == [topic.seq]
        assert not answer.complete
    else:
        assert isinstance(answer, Joining)
        assert answer.recovered is False


@pytest.mark.parametrize("ask", ["history", "resume"])
def test_a_topic_that_ends_while_expired_events_are_looked_for_is_not_found(ask: str) -> None:
    world, answers = World(), list[KeptEvents | Joining | Failure]()
    topic = world.topic(ttl_sec=1000)
    world.publish("t", 3 * LOOKED_AT)
    if ask == "history":
        world.now = 1001.0
        world.broker.history_after("t", 0, 1000, answers.append)
    else:
        asked = Asked(Subscription("t"), ALL_GRANTED, resume={"t": Position(topic.epoch, 5)})
        world.broker.subscribe(asked, world.outbox(), answers.append)
    world.broker.delete_topic("t")
    while world.end_tick():
        pass
    (answer,) = answers
    assert isinstance(answer, TopicNotFound)


async def test_row_65_the_connections_of_a_client_are_sent_away_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.websocket.connections.CLOSED_AT_ONCE", 3)
    monkeypatch.setattr("pubsub.websocket.connections.SEARCHED_AT_ONCE", 4)
    parts, sent_away, counts = Parts(Random(0)), list[str](), list[int]()
    for _ in range(10):
        parts.connect("alice")
        parts.connect("bob")

    def note(connection: Connection) -> None:
        if not sent_away:
            asyncio.create_task(count())  # noqa: RUF006 - it ends before the test does
        sent_away.append(connection.session.client_id)

    async def count() -> None:
        """Count ``total`` at each tick of the loop."""
        while len(sent_away) < 10:
            counts.append(len(sent_away))
            await asyncio.sleep(0)

    monkeypatch.setattr(Connection, "disconnect", note)
    assert await parts.services.connections.disconnect("alice") == 10
    assert sent_away == ["alice"] * 10
    assert counts == [3, 6, 9]


def test_row_65_new_rights_are_held_against_subscriptions_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.core.review.REVIEWED", 2)
    world, written = World(), bytearray()
    outbox = world.outbox(written.extend)
    session = Session(
        world.broker,
        outbox,
        NoReplies(),
        Clock(lambda: 0),
        client_id="alice",
        named=True,
        rules=ClientRules(identify_as(subscribes=("t0", "t7")), None, Quotas(in_all=0, per_client=0), 0),
        identity=identity(subscribes=(">",)),
    )
    topics = many_topics(world, outbox, 8)
    session.receive('{"type":"auth","token":"x"}')
    by_tick = world.count_by_tick(lambda: written.count(b'"unsubscribed"'))
    assert sum(by_tick) == 6
    assert max(by_tick) == 2
    assert [topic.subscribers for topic in topics] == [1, 0, 0, 0, 0, 0, 0, 1]


def identity(subscribes: tuple[str, ...]) -> Identity:
    return Identity(
        client_id="alice", subscribes=make_rights(subscribes), publishes=make_rights(()), sees_all=False, admin=False
    )


def identify_as(subscribes: tuple[str, ...]) -> Callable[[str, Callable[[Identity | Unauthorized], None]], None]:
    return lambda token, answer: answer(identity(subscribes))
