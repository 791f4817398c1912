"""The counts of messages: published, delivered, resumed and told as gaps, whatever way they go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.lane import Subscriber
from pubsub.core.topic import Topic
from pubsub.protocol.frames import text_frame
from pubsub.protocol.requests import Position
from tests.core.test_broker import Client, make_broker
from tests.doubles import Sink, join


class Reader:
    """A subscriber whose deliveries are counted with those of the broker's lanes; ``written``: what it was sent."""

    def __init__(self, broker: Broker, limit: int = 100) -> None:
        self.written: list[bytes] = []
        options = OutboxOptions(limit, Clock(lambda: 0), losses=broker.losses, delivered=broker.delivered)
        self.outbox = Subscriber(Sink(self.written.append), options)


def published(broker: Broker) -> int:
    return broker.ended_topics.messages + sum(topic.seq for topic in broker.topics)


def published_bytes(broker: Broker) -> int:
    return broker.ended_topics.bytes + sum(topic.bytes for topic in broker.topics)


def events_of(topic: Topic) -> list[bytes]:
    return [event.text for event in topic.ring.after(0, 1000)]


@pytest.mark.parametrize("subscribed", [False, True])
def test_topics_count_what_is_published_to_them_with_and_without_subscribers(subscribed: bool) -> None:
    broker, ticks = make_broker(ring=100)
    client = Client(broker, "c")
    for name in ("a", "b"):
        broker.create_topic(name)
        if subscribed:
            join(broker, name, Reader(broker).outbox).advance()
        client.publish(name, "x" * 1000)
        client.publish(name, "y")
    ticks.end()
    assert published(broker) == 4
    assert published_bytes(broker) == sum(len(text) for topic in broker.topics for text in events_of(topic))


def test_a_topic_that_ends_stays_in_the_count_and_a_restored_one_comes_in_with_nothing() -> None:
    broker, _ = make_broker()
    broker.create_topic("a")
    client = Client(broker, "c")
    for payload in range(3):
        client.publish("a", payload)
    size = published_bytes(broker)
    broker.delete_topic("a")
    assert (published(broker), published_bytes(broker)) == (3, size)
    broker.create_topic("a")
    client.publish("a")
    assert published(broker) == 4
    topic = broker.topic("a")
    broker.remove_topic(topic)
    broker._put_back(topic)
    assert published(broker) == 4


def test_a_delivery_counts_once_for_each_subscriber() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    readers = [Reader(broker) for _ in range(3)]
    for reader in readers:
        join(broker, "a", reader.outbox).advance()
    publisher = Client(broker, "c")
    publisher.publish("a", 1)
    publisher.publish("a", 2)
    ticks.end()
    assert broker.delivered.messages == 6
    assert broker.delivered.bytes == sum(len(written) for reader in readers for written in reader.written) > 0


def test_what_waits_counts_once_it_is_written_and_what_is_dropped_never() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    reader = Reader(broker, limit=2)
    join(broker, "a", reader.outbox).advance()
    reader.outbox.block()
    publisher = Client(broker, "c")
    for payload in range(5):
        publisher.publish("a", payload)
    ticks.end()
    assert (broker.delivered.messages, broker.losses.gaps) == (0, 0)
    reader.outbox.unblock()
    assert (broker.delivered.messages, broker.losses.gaps) == (2, 1)
    events = broker.topic("a").ring.after(3, 2)
    assert broker.delivered.bytes == sum(len(text_frame(event.text)) for event in events)


def test_a_replay_counts_as_deliveries_and_its_gap_as_one() -> None:
    broker, _ = make_broker(ring=4)
    broker.create_topic("a")
    publisher = Client(broker, "c")
    for payload in range(10):
        publisher.publish("a", payload)
    join(broker, "a", Reader(broker).outbox, last_n=3).advance()
    assert (broker.delivered.messages, broker.losses.gaps) == (3, 0)
    join(broker, "a", Reader(broker).outbox, resume={"a": Position("e0", 2)}).advance()
    assert (broker.delivered.messages, broker.losses.gaps) == (7, 1)


def test_subscriptions_that_resume_count_by_their_success() -> None:
    broker, _ = make_broker(ring=4)
    broker.create_topic("a")
    client = Client(broker, "c")
    for payload in range(10):
        client.publish("a", payload)

    def subscribe(**fields: Any) -> None:
        Client(broker, "r").session.receive(
            json.dumps({"type": "subscribe", "topic": "a", "client_id": "r", "request_id": "r"} | fields)
        )

    subscribe()
    subscribe(resume={"a": {"epoch": "e0", "seq": 8}})
    subscribe(resume={"a": {"epoch": "e0", "seq": 10}})
    subscribe(resume={"a": {"epoch": "e0", "seq": 1}})
    subscribe(resume={"a": {"epoch": "other", "seq": 8}})
    assert broker.arrivals.resumes == {True: 2, False: 2}


@pytest.mark.parametrize(
    ("first", "moved"),
    [
        ({}, False),
        ({"last_n": 5}, False),
        ({"resume": {}}, False),
        ({"resume": {"a": {"epoch": "e0", "seq": 0}}}, True),
        ({"resume": {"a": {"epoch": "before", "seq": 7}}}, True),
    ],
)
def test_a_client_counts_once_by_its_first_subscription(first: dict[str, Any], moved: bool) -> None:
    broker, _ = make_broker()
    broker.create_topic("a")
    client = Client(broker, "r")
    position = {"resume": {"a": {"epoch": "e0", "seq": 0}}}
    for fields in ({"topic": "unknown"}, first, position, {"topic": "a.*"}):
        request = {"type": "subscribe", "topic": "a", "client_id": "r", "request_id": "r"} | fields
        client.session.receive(json.dumps(request))
    assert (broker.arrivals.moved, broker.arrivals.new) == (moved, not moved)
