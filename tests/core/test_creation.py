"""Creation of topics at their first use: by whom, with which options, and in which order."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.creation import MAX_RING, check_options
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import BadRequest, LimitExceeded, NotStored, TopicExists, TopicNotFound
from pubsub.protocol.requests import TopicOptions
from tests.core.held import HeldJournal, WaitingClient
from tests.core.test_broker import RING, Ticks

RULES = (
    TopicRule(pattern="room.main", options={"history": 9}),
    TopicRule(pattern="room.*", create=True, options={"history": 2}),
    TopicRule(pattern="durable.*", create=True, options={"durable": True}),
    TopicRule(pattern="made.*", options={"history": 3}),
)


class World:
    def __init__(self, max_topics: int = 0) -> None:
        self.ticks = Ticks()
        self.journal = HeldJournal()
        clock = Clock(lambda: 0)
        epochs = iter(range(1000))
        self.broker = Broker(
            defer=self.ticks.defer,
            clock=clock,
            memory=MemoryJournal(clock, lambda: f"e{next(epochs)}"),
            ring_size=RING,
            max_topics=max_topics,
            make_durable=lambda: self.journal,
            rules=TopicRules(RULES),
        )

    def connect(self) -> WaitingClient:
        return WaitingClient(self.broker, "c")

    @property
    def names(self) -> list[str]:
        return [topic.name for topic in self.broker.topics]


def code_of(answer: Any) -> Any:
    return answer["error"]["code"] if answer["type"] == "error" else answer["status"]


@pytest.mark.parametrize("kind", ["publish", "subscribe"])
def test_a_first_use_creates_the_topic_with_the_options_of_the_rule(kind: str) -> None:
    world = World()
    client = world.connect()
    if kind == "publish":
        client.send_publish("room.1", "hello")
        assert client.answers()[0]["seq"] == 1
    else:
        client.send("subscribe", "room.1")
        ack = client.answers()[0]
        assert (ack["epoch"], ack["seq"]) == ("e0", 0)
    assert world.broker.topic("room.1").options == TopicOptions(history=2)


@pytest.mark.parametrize(
    ("kind", "topic", "code"),
    [
        ("publish", "other", "TOPIC_NOT_FOUND"),
        ("subscribe", "other", "TOPIC_NOT_FOUND"),
        ("publish", "room.main", "TOPIC_NOT_FOUND"),  # the first rule that covers it does not create
        ("subscribe", "room.main", "TOPIC_NOT_FOUND"),
        ("publish", "room.a b", "BAD_REQUEST"),
        ("subscribe", "room.a b", "BAD_REQUEST"),
        ("publish", "room.", "BAD_REQUEST"),
        ("unsubscribe", "room.1", "TOPIC_NOT_FOUND"),
        ("history", "room.1", "TOPIC_NOT_FOUND"),
    ],
)
def test_other_names_and_other_requests_create_nothing(kind: str, topic: str, code: str) -> None:
    world = World()
    client = world.connect()
    if kind == "publish":
        client.send_publish(topic)
    else:
        client.send(kind, topic, last_n=1)
    assert [code_of(answer) for answer in client.answers()] == [code]
    assert world.names == []
    for find in (world.broker.topic, world.broker.find_topic, world.broker.delete_topic):
        with pytest.raises((TopicNotFound, BadRequest)):
            find(topic)
    assert world.names == []


def test_the_limit_of_topics_holds() -> None:
    world = World(max_topics=2)
    client = world.connect()
    for name in ("durable.1", "room.1", "room.2", "durable.2"):  # the first one is still coming
        client.send_publish(name)
    client.send("subscribe", "room.3")
    assert [code_of(answer) for answer in client.answers()] == ["LIMIT_EXCEEDED"] * 3  # room.1: behind the first one
    world.journal.end()
    assert [code_of(answer) for answer in client.answers()] == ["ok", "ok"]
    assert world.names == ["room.1", "durable.1"]
    with pytest.raises(LimitExceeded):
        world.broker.create_topic("a")


def test_publishes_wait_for_a_durable_topic_in_their_order() -> None:
    world = World()
    first, second = world.connect(), world.connect()
    for number in range(3):
        first.send_publish("durable.1", number)
        second.send_publish("durable.1", number)
    assert first.answers() == second.answers() == []
    assert world.names == []
    world.journal.end(1)
    assert world.names == ["durable.1"]
    first.send_publish("durable.1", 3)
    world.journal.end()
    assert [ack["seq"] for ack in first.answers()] == [1, 3, 5, 7]
    assert [ack["seq"] for ack in second.answers()] == [2, 4, 6]
    kept = world.broker.topic("durable.1").ring.after(0, 10)
    assert [json.loads(event.text)["message"]["payload"] for event in kept] == [1, 2, 2, 3]


def test_a_creation_that_fails_refuses_all_that_wait_and_the_next_use_tries_again() -> None:
    world = World()
    publisher, subscriber = world.connect(), world.connect()
    publisher.send_publish("durable.1", 0)
    publisher.send_publish("durable.1", 1)
    subscriber.send("subscribe", "durable.1")
    world.journal.end(1, NotStored())
    assert [code_of(answer) for answer in subscriber.answers()] == ["INTERNAL"]
    world.journal.end()
    assert [code_of(answer) for answer in publisher.answers()] == ["INTERNAL", "INTERNAL"]
    assert world.names == []
    publisher.send_publish("durable.1", 2)
    subscriber.send("subscribe", "durable.1")
    world.journal.end()
    assert [code_of(answer) for answer in publisher.answers() + subscriber.answers()] == ["ok", "ok"]


def test_subscribers_that_come_at_once_get_the_same_topic() -> None:
    world = World()
    clients = [world.connect() for _ in range(3)]
    for client in clients:
        client.send("subscribe", "durable.1")
    clients[0].session.end()
    assert world.journal.waiting == 1
    world.journal.end()
    told = [client.answers() for client in clients]
    assert [len(answers) for answers in told] == [0, 1, 1]
    assert told[1][0]["epoch"] == told[2][0]["epoch"] == "e"
    assert world.broker.topic("durable.1").subscribers == 2


def test_a_subscriber_gets_what_is_published_while_the_topic_is_created() -> None:
    world = World()
    client, publisher = world.connect(), world.connect()
    client.send("subscribe", "durable.1")
    publisher.send_publish("durable.1", "hello")
    world.journal.end()
    world.ticks.end()
    client.flush()
    assert [(each["type"], each.get("seq")) for each in client.take()] == [("ack", 0), ("event", 1)]


@pytest.mark.parametrize("kind", ["room", "durable"])
def test_subscribers_by_pattern_learn_of_the_topic_and_get_its_first_message(kind: str) -> None:
    world = World()
    watcher, publisher = world.connect(), world.connect()
    watcher.send("subscribe", f"{kind}.*")
    assert watcher.answers()[0]["status"] == "ok"
    assert world.names == []
    publisher.send_publish(f"{kind}.1", "hello")
    world.journal.end()
    world.ticks.end()
    watcher.flush()
    created, event = watcher.take()
    assert (created["msg"], created["topic"]) == ("topic_created", f"{kind}.1")
    assert (event["type"], event["seq"]) == ("event", 1)


@pytest.mark.parametrize("fields", [{"filter": "payload."}, {"last_n": -1}, {"resume": 5}, {"params": {"a": 1}}])
def test_a_request_that_is_refused_creates_nothing(fields: dict[str, Any]) -> None:
    world = World()
    client = world.connect()
    client.send("subscribe", "room.1", **fields)
    assert code_of(client.answers()[0]) == "BAD_REQUEST"
    client.send("publish", "room.1", message={"id": "no UUID", "payload": 1})
    assert code_of(client.answers()[0]) == "BAD_REQUEST"
    assert world.names == []


def test_a_topic_is_created_by_request_and_by_use_at_once() -> None:
    world = World()
    client = world.connect()
    ended: list[Any] = []
    world.broker.create_topic("durable.1", TopicOptions(durable=True, history=5), ended.append)
    client.send_publish("durable.1")
    client.send("subscribe", "durable.1")
    with pytest.raises(TopicExists):
        world.broker.create_topic("durable.1")
    world.journal.end()
    assert ended == [None]
    assert [code_of(answer) for answer in client.answers()] == ["ok", "ok"]
    assert world.broker.topic("durable.1").history == 5


def test_a_topic_that_is_created_by_request_is_not_there_before_it_is_stored() -> None:
    """Without a rule with create the answer is what it was before there were rules."""
    world = World()
    client = world.connect()
    world.broker.create_topic("made.1", TopicOptions(durable=True))
    client.send_publish("made.1")
    client.send("subscribe", "made.1")
    assert [code_of(answer) for answer in client.answers()] == ["TOPIC_NOT_FOUND"] * 2


def test_a_resume_of_a_topic_that_is_new_is_not_recovered() -> None:
    world = World()
    client = world.connect()
    client.send("subscribe", "room.1", resume={"room.1": {"epoch": "old", "seq": 7}})
    assert client.answers()[0]["recovered"] is False


def test_a_fault_of_one_client_keeps_the_topic_from_no_other(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    client = world.connect()

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    with caplog.at_level(logging.INFO):
        world.broker.create_topic("durable.1", TopicOptions(durable=True), fail)
        client.send("subscribe", "durable.1")
        world.journal.end()
    assert code_of(client.answers()[0]) == "ok"
    assert "Internal error at the creation of topic durable.1" in caplog.text
    assert f"Topic created: durable.1 (buffer size: {RING})" in caplog.text


def test_options_that_do_not_fit_together() -> None:
    check_options(TopicOptions(history=MAX_RING))
    check_options(TopicOptions(history=MAX_RING + 1, durable=True))
    with pytest.raises(BadRequest, match=r"^history: .* got 1000001$"):
        check_options(TopicOptions(history=MAX_RING + 1))
