"""Topics that go on in another epoch, and messages that are lost for all: what their members get."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw, structs

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import make_event
from pubsub.core.journal import StoredTopic
from pubsub.core.topic import Topic
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.requests import Message, TopicOptions
from tests.core.test_broker import Client, Ticks
from tests.harness import new_id


class World:
    """A Broker with a topic ``a.b`` in the epoch ``e``, whose events the test delivers."""

    def __init__(self, **options: Any) -> None:
        self.ticks = Ticks()
        clock = Clock(lambda: 0, lambda: 100.0)
        self.broker = Broker(
            defer=self.ticks.defer, clock=clock, memory=MemoryJournal(clock, lambda: "e"), ring_size=100
        )
        self.broker.create_topic("a.b", TopicOptions(**options))

    @property
    def topic(self) -> Topic:
        return self.broker.topic("a.b")

    def deliver(self, *seqs: int, payload: bytes = b"1") -> None:
        for seq in seqs:
            message = Message(new_id(), Raw(payload))
            self.broker.deliver(self.topic, [make_event("a.b", message, seq, "now")])
        self.ticks.end()

    def renew(self, base: int, epoch: str = "f") -> None:
        topic = self.topic
        self.broker.renew(topic, StoredTopic("a.b", epoch, topic.options, topic.log, seq=base))
        self.ticks.end()

    def member(self, name: str = "a.b", client_id: str = "c", **more: Any) -> Client:
        client = Client(self.broker, client_id)
        client.ask(type="subscribe", topic=name, **more)
        self.ticks.end()
        client.take()
        return client


@pytest.fixture
def world() -> World:
    return World()


def facts(client: Client) -> list[Any]:
    """The messages in short: the ``seq`` of an event, the bounds of a gap, the epoch and ``seq`` of a new life."""
    found: list[Any] = []
    for told in client.take():
        if told["type"] == "event":
            found.append(told["seq"])
        elif told["type"] == "ack":
            found.append("ack")
        elif told["msg"] == "dropped":
            found.append((told["from_seq"], told["to_seq"]))
        else:
            found.append([told["msg"], told.get("epoch"), told.get("seq")])
    return found


@pytest.mark.parametrize("name", ["a.b", "a.*", ">"])
def test_a_member_stays_and_is_told_where_the_topic_goes_on(world: World, name: str) -> None:
    member = world.member(name)
    world.deliver(1, 2, 3)
    world.renew(2)
    world.deliver(3, 4)
    assert facts(member) == [1, 2, 3, ["topic_created", "f", 2], 3, 4]
    assert world.topic.subscribers == world.broker.subscriber_count == 1
    member.ask(type="unsubscribe", topic=name)
    assert world.topic.subscribers == 0


def test_a_topic_that_lost_all_begins_again(world: World) -> None:
    member = world.member()
    world.deliver(1)
    world.renew(0)
    world.deliver(1)
    assert facts(member) == [1, ["topic_created", "f", None], 1]


def test_events_that_wait_for_the_socket_come_before_the_new_epoch(world: World) -> None:
    member = world.member()
    member.outbox.block()
    world.deliver(1, 2)
    world.renew(1)
    world.deliver(2)
    member.outbox.unblock()
    assert facts(member) == [1, 2, ["topic_created", "f", 1], 2]


def test_filters_go_on(world: World) -> None:
    member = world.member(filter="payload == 1")
    world.deliver(1)
    world.deliver(2, payload=b"2")
    world.renew(1)
    world.deliver(2, payload=b"2")
    world.deliver(3)
    assert facts(member) == [1, ["topic_created", "f", 1], 3]
    assert len(world.topic.lanes) == 1


@pytest.mark.parametrize(
    ("base", "told"),
    [
        (3, [2, ["topic_created", "f", 2], (3, 3), 4]),  # the test keeps nothing of the earlier life
        (2, [2, ["topic_created", "f", 2], 3]),
        (1, [2, ["topic_created", "f", 1], 2]),
        (0, [2, ["topic_created", "f", None], 1]),
    ],
)
def test_a_replay_goes_on_behind_what_both_lives_have(
    world: World, base: int, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pubsub.core.catchup.REPLAY_PAGE", 1)
    world.deliver(*range(1, 6))
    member = Client(world.broker, "c")
    member.outbox._options = structs.replace(member.outbox._options, take_turn=world.broker.turns.take)
    member.ask(type="subscribe", topic="a.b", resume={"a.b": {"epoch": "e", "seq": 1}})
    world.renew(base)
    world.deliver(base + 1)
    for _ in range(5):
        world.ticks.end()
    assert facts(member)[1:] == told


def test_a_client_that_was_not_answered_yet_gets_the_new_epoch(world: World) -> None:
    world.deliver(*range(1, 6))
    member = Client(world.broker, "c")
    member.outbox.block()
    member.session.receive('{"type":"subscribe","topic":"a.b","client_id":"c","resume":{"a.b":{"epoch":"e","seq":4}}}')
    world.renew(3)
    world.deliver(4)
    member.outbox.unblock()
    member.flush()
    world.ticks.end()
    ack, *told = member.take()
    assert (ack["epoch"], ack["seq"], ack["recovered"]) == ("f", 4, False)
    assert [each.get("seq", (each.get("from_seq"), each.get("to_seq"))) for each in told] == [(1, 3), 4]


def test_who_is_present_stays(world: World) -> None:
    world = World(presence=True)
    alice, bob = world.member(client_id="alice"), world.member(client_id="bob")
    alice.take()
    world.renew(0)
    assert [each.client_id for each in world.broker.presence("a.b").clients] == ["alice", "bob"]
    assert facts(alice) == facts(bob) == [["topic_created", "f", None]]
    bob.ask(type="unsubscribe", topic="a.b")
    assert {each.client_id: each.connections for each in world.broker.presence("a.b").clients} == {
        "alice": 1, "bob": 0,
    }  # fmt: skip


def test_the_counts_of_messages_go_on(world: World) -> None:
    world.deliver(1, 2, 3)
    world.renew(2)
    ended, topic = world.broker.ended_topics, world.topic
    assert (ended.messages + topic.seq, topic.latest is topic) == (3, True)


def test_what_is_lost_for_all_is_told_before_the_next_event(world: World) -> None:
    ready, slow = world.member(), world.member("a.*")
    world.deliver(1)
    slow.outbox.block()
    world.broker.skip(world.topic, 4)
    world.deliver(5)
    slow.outbox.unblock()
    assert facts(ready) == facts(slow) == [1, (2, 4), 5]
    assert (world.topic.seq, world.topic.oldest) == (5, 5)
    again = world.member(last_n=5)
    assert again.ask(type="history", topic="a.b", after=0)["complete"] is False


def test_a_history_is_asked_of_the_life_that_goes_on(world: World) -> None:
    world.deliver(1, 2)
    old = world.topic
    world.renew(1)
    given: list[Any] = []
    world.broker._history.read_after(old, 0, 10, None, given.append)
    assert (given[0].epoch, given[0].events) == ("f", [])
