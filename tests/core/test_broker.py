"""The Broker step by step, and against a simple model of the events that every subscriber must see."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import BATCH_BYTES
from pubsub.core.filtered_lane import ROOM
from pubsub.core.lane import Subscriber
from pubsub.core.ring import RELEASED_AT_ONCE
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import BadRequest, TopicExists, TopicNotFound
from pubsub.protocol.frames import text_frame
from pubsub.protocol.requests import Message, Publish, TopicOptions
from pubsub.websocket.replies import NoReplies
from pubsub.websocket.session import Session
from tests.doubles import Sink
from tests.harness import messages_in

ID = "550e8400-e29b-41d4-a716-446655440000"
RING = 4
LIMIT = 6


class Client(NoReplies):
    """A Session over a wire that a test blocks and unblocks; ``told`` has all written messages."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.told: list[Any] = []
        self.outbox = Subscriber(Sink(self.write), OutboxOptions(LIMIT, Clock(lambda: 0)))
        self.session = Session(broker, self.outbox, self, Clock(lambda: 0), client_id=name, named=True)
        self._replies: list[bytes] = []

    def write(self, frames: bytes) -> None:
        self.told += messages_in(frames)

    def reply(self, text: bytes) -> None:
        self._replies.append(text_frame(text))

    def reply_all(self, texts: Sequence[bytes]) -> None:
        self._replies += map(text_frame, texts)

    def flush(self) -> None:
        replies, self._replies = self._replies, []
        self.write(b"".join(replies))

    def ask(self, **request: Any) -> Any:
        """Send a request, and return its answer, which stays in ``told``."""
        self.session.receive(json.dumps(request | {"client_id": "c", "request_id": "r"}))
        self.flush()
        return next(message for message in self.told if message.get("request_id") == "r")

    def publish(self, topic: str, payload: Any = None) -> Any:
        return self.ask(type="publish", topic=topic, message={"id": ID, "payload": payload})

    def take(self) -> list[Any]:
        told, self.told = self.told, []
        return told


class Ticks:
    """A list of the calls that the Broker defers to the end of the tick."""

    def __init__(self) -> None:
        self.deferred: list[Callable[[], None]] = []

    def defer(self, callback: Callable[[], None]) -> None:
        self.deferred.append(callback)

    def end(self) -> None:
        deferred, self.deferred = self.deferred, []
        for callback in deferred:
            callback()


def make_broker(ring: int = RING, max_filters: int = 256) -> tuple[Broker, Ticks]:
    ticks = Ticks()
    epochs = iter(range(1_000_000))
    clock = Clock(lambda: 0)
    broker = Broker(
        defer=ticks.defer,
        clock=clock,
        memory=MemoryJournal(clock, lambda: f"e{next(epochs)}"),
        ring_size=ring,
        max_filters=max_filters,
    )
    return broker, ticks


def seqs(told: list[Any]) -> list[int]:
    return [message["seq"] for message in told if message["type"] == "event"]


def test_topics_are_made_once_and_ended() -> None:
    broker, _ = make_broker()
    broker.create_topic("a")
    with pytest.raises(TopicExists):
        broker.create_topic("a")
    with pytest.raises(BadRequest):
        broker.create_topic("a b")
    assert [topic.name for topic in broker.topics] == ["a"]
    broker.delete_topic("a")
    with pytest.raises(TopicNotFound):
        broker.delete_topic("a")
    assert broker.topic_count == 0


def test_a_list_is_delivered_in_ticks_and_in_order() -> None:
    """Other clients are served between two ticks. Who subscribes meanwhile gets each message once."""
    broker, ticks = make_broker()
    broker.create_topic("a", TopicOptions(history=100))
    first, late = Client(broker, "first"), Client(broker, "late")
    first.ask(type="subscribe", topic="a")
    payload = Raw(b'"%b"' % (b"x" * BATCH_BYTES))
    requests = [Publish(topic="a", message=Message(ID, payload)) for _ in range(6)]
    broker.publish_all("a", requests, "", lambda _: None)
    ticks.end()
    first.publish("a")
    assert seqs(first.told) == [1]
    ticks.end()
    assert seqs(first.told) == [1, 2]
    late.ask(type="subscribe", topic="a", last_n=3)
    assert seqs(first.told) == [1, 2, 3, 4, 5, 6, 7]
    assert seqs(late.told) == [5, 6, 7]
    first.publish("a")
    while ticks.deferred:
        ticks.end()
    assert seqs(first.told) == list(range(1, 9))
    assert seqs(late.told) == [5, 6, 7, 8]


def test_each_tick_has_room_for_filters() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    first, publisher = Client(broker, "first"), Client(broker, "publisher")
    first.ask(type="subscribe", topic="a", filter="payload > 0")
    for seq in range(1, 2 * ROOM):
        publisher.publish("a", 1)
        ticks.end()
        assert first.told[-1].get("seq") == seq, "it need not wait for a turn"


def test_the_events_of_an_ended_topic_are_freed_in_turns() -> None:
    broker, ticks = make_broker()
    count = RELEASED_AT_ONCE + 1
    broker.create_topic("a", TopicOptions(history=count))
    client = Client(broker, "c")
    for _ in range(count):
        client.publish("a")
        client.take()
    (topic,) = broker.topics
    slots = topic.ring.slots
    broker.delete_topic("a")
    assert len(slots) == 1
    ticks.end()
    assert slots == []


def test_a_topic_made_again_has_another_epoch_and_counts_from_one() -> None:
    broker, _ = make_broker()
    client = Client(broker, "c")
    acks = []
    for _ in range(2):
        broker.create_topic("a")
        client.publish("a")
        client.take()
        acks.append(client.ask(type="subscribe", topic="a"))
        broker.delete_topic("a")
        client.take()
    assert [ack["seq"] for ack in acks] == [1, 1]
    assert acks[0]["epoch"] != acks[1]["epoch"]


def test_an_impossible_name_is_a_bad_request_and_a_possible_one_is_not_found() -> None:
    broker, _ = make_broker()
    client = Client(broker, "c")
    for request in ({"type": "subscribe"}, {"type": "unsubscribe"}, {"type": "history", "last_n": 1}):
        assert client.ask(topic="a b", **request)["error"]["code"] == "BAD_REQUEST"
        client.take()
        error = client.ask(topic="a", **request)["error"]
        assert error == {"code": "TOPIC_NOT_FOUND", "message": "Topic 'a' does not exist"}
        client.take()
    assert client.publish("a")["error"]["code"] == "TOPIC_NOT_FOUND"


def test_events_of_a_tick_are_delivered_at_its_end_and_by_one_deferred_call() -> None:
    broker, ticks = make_broker()
    publisher, subscriber = Client(broker, "p"), Client(broker, "s")
    for topic in ("a", "b"):
        broker.create_topic(topic)
        subscriber.ask(type="subscribe", topic=topic)
        subscriber.take()
    for topic in ("a", "b", "a"):
        publisher.publish(topic)
    assert subscriber.take() == []
    assert len(ticks.deferred) == 1
    ticks.end()
    assert [(m["topic"], m["seq"]) for m in subscriber.take()] == [("a", 1), ("a", 2), ("b", 1)]


def test_a_large_batch_does_not_wait_for_the_end_of_the_tick() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    subscriber = Client(broker, "s")
    subscriber.ask(type="subscribe", topic="a")
    subscriber.take()
    publisher = Client(broker, "p")
    for _ in range(5):
        publisher.publish("a", "x" * 20_000)
    assert seqs(subscriber.take()) == [1, 2, 3, 4]
    ticks.end()
    assert seqs(subscriber.take()) == [5]


def test_what_was_published_before_a_subscribe_in_the_same_tick_does_not_come_live() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    early, late = Client(broker, "e"), Client(broker, "l")
    early.ask(type="subscribe", topic="a")
    early.take()
    early.publish("a")
    late.ask(type="subscribe", topic="a", last_n=1)
    ticks.end()
    assert seqs(late.take()) == [1]
    assert seqs(early.take()) == [1]


def test_the_last_events_come_before_the_ack_of_an_unsubscribe() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    client = Client(broker, "c")
    for request in ("subscribe", "unsubscribe"):
        client.session.receive(json.dumps({"type": request, "topic": "a", "client_id": "c"}))
        client.publish("a")
    ticks.end()
    kinds = [(message["type"], message.get("seq")) for message in client.take() if "request_id" not in message]
    assert kinds == [("ack", 0), ("event", 1), ("ack", None)]


def test_the_last_events_come_before_topic_deleted() -> None:
    broker, ticks = make_broker()
    broker.create_topic("a")
    client = Client(broker, "c")
    client.ask(type="subscribe", topic="a")
    client.publish("a")
    client.take()
    broker.delete_topic("a")
    ticks.end()
    assert [message.get("msg", message["type"]) for message in client.take()] == ["event", "topic_deleted"]


@pytest.mark.parametrize(
    ("asked", "expected", "complete"),
    [
        ({"after": 0}, [7, 8, 9, 10], False),
        ({"after": 5}, [7, 8, 9, 10], False),
        ({"after": 6}, [7, 8, 9, 10], True),
        ({"after": 7, "limit": 2}, [8, 9], True),
        ({"after": 2, "limit": 2}, [7, 8], False),
        ({"after": 10}, [], True),
        ({"after": 99}, [], True),
        ({"last_n": 0}, [], True),
        ({"last_n": 2}, [9, 10], True),
        ({"last_n": 4}, [7, 8, 9, 10], True),
        ({"last_n": 5}, [7, 8, 9, 10], False),
        ({"last_n": 9, "limit": 2}, [9, 10], True),
    ],
)
def test_history(asked: Any, expected: list[int], complete: bool) -> None:
    broker, _ = make_broker()
    broker.create_topic("a")
    client = Client(broker, "c")
    for number in range(1, 11):
        client.publish("a", number)
    client.take()
    answer = client.ask(type="history", topic="a", **asked)
    assert [event["seq"] for event in answer["messages"]] == expected
    assert [event["message"]["payload"] for event in answer["messages"]] == expected
    assert answer["complete"] is complete
    assert answer["epoch"] == "e0"


def test_history_of_a_short_topic_is_complete() -> None:
    broker, _ = make_broker()
    broker.create_topic("a")
    client = Client(broker, "c")
    client.publish("a")
    client.take()
    assert client.ask(type="history", topic="a", last_n=1000)["complete"] is True


def test_a_bug_in_the_broker_reaches_one_client_as_internal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = make_broker()
    client = Client(broker, "c")

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(broker, "publish", fail)
    error = client.publish("a")
    assert error["error"] == {"code": "INTERNAL", "message": "internal error"}
    assert "ZeroDivisionError" in caplog.text


def test_no_answer_goes_to_a_client_that_is_gone() -> None:
    broker, _ = make_broker()
    broker.create_topic("a")
    client = Client(broker, "c")
    client.session.end()
    client.session.receive(json.dumps({"type": "publish", "topic": "a", "message": {"id": ID, "payload": 1}}))
    client.flush()
    assert client.take() == []


class Model(RuleBasedStateMachine):
    """Clients that subscribe, block, unblock and leave, beside publishers.

    For each client the model holds, in order, all messages that it must get of each topic, and the events that
    its queue had to drop.
    """

    topics = st.sampled_from(["a", "b"])
    clients = st.sampled_from(["x", "y"])

    def __init__(self) -> None:
        super().__init__()
        self.broker, self.ticks = make_broker()
        self.publisher = Client(self.broker, "p")
        self.published: dict[str, int] = {}
        self.lives: dict[str, int] = {}
        self.connected: dict[str, Client] = {}
        self.subscribed: dict[str, set[str]] = {}
        self.undelivered: dict[str, list[int]] = {}  # by topic: published in this tick
        self.queues: dict[str, list[tuple[str, int]]] = {}
        self.expected: dict[str, dict[str, list[Any]]] = {}
        for topic in ("a", "b"):
            self.create_or_delete(topic)
        for name in ("x", "y"):
            self.connect_or_leave(name)
            self.subscribe(name, "a", 0)

    def flush_model(self, topic: str) -> None:
        """End the tick of one topic in the model."""
        for seq in self.undelivered.pop(topic, []):
            for name, subscriptions in self.subscribed.items():
                if topic in subscriptions:
                    self.expected[name][topic].append(seq)
                    if self.connected[name].outbox.blocked:
                        self.queues[name].append((topic, seq))
        for queue in self.queues.values():
            del queue[:-LIMIT]

    @rule(topic=topics)
    def create_or_delete(self, topic: str) -> None:
        if topic not in self.published:
            self.broker.create_topic(topic)
            self.published[topic] = 0
            return
        self.flush_model(topic)
        self.broker.delete_topic(topic)
        del self.published[topic]
        for name, subscriptions in self.subscribed.items():
            if topic in subscriptions:
                subscriptions.remove(topic)
                self.expected[name][topic].append("deleted")

    @precondition(lambda self: self.published)
    @rule(topic=topics, count=st.integers(1, 9))
    def publish(self, topic: str, count: int) -> None:
        if topic not in self.published:
            return
        for _ in range(count):
            ack = self.publisher.publish(topic)
            self.publisher.take()
            self.published[topic] += 1
            assert ack["seq"] == self.published[topic]
            self.undelivered.setdefault(topic, []).append(ack["seq"])

    @rule(name=clients)
    def connect_or_leave(self, name: str) -> None:
        if name in self.connected:
            self.connected.pop(name).session.end()
            for state in (self.subscribed, self.queues, self.expected):
                del state[name]
            return
        self.connected[name] = Client(self.broker, name)
        self.subscribed[name] = set()
        self.queues[name] = []
        self.expected[name] = {"a": [], "b": []}

    @rule(name=clients, topic=topics, last_n=st.integers(0, RING + 2))
    def subscribe(self, name: str, topic: str, last_n: int) -> None:
        if name not in self.connected or topic not in self.published or self.connected[name].outbox.blocked:
            return
        self.flush_model(topic)
        client = self.connected[name]
        client.session.receive(
            json.dumps({"type": "subscribe", "topic": topic, "client_id": "c", "last_n": last_n, "request_id": "r"})
        )
        client.flush()
        self.subscribed[name].add(topic)
        newest = self.published[topic]
        replayed = list(range(max(1, newest - min(last_n, RING) + 1), newest + 1))
        self.expected[name][topic] += [("subscribed", newest), *replayed]

    @rule(name=clients, topic=topics, behind=st.integers(0, RING + 3))
    def resume(self, name: str, topic: str, behind: int) -> None:
        """Resume: the client gets each event after its position, or a notice that the event is lost."""
        if name not in self.connected or topic not in self.published or self.connected[name].outbox.blocked:
            return
        self.flush_model(topic)
        client, newest = self.connected[name], self.published[topic]
        after = max(0, newest - behind)
        position = {"epoch": self.broker.find_topic(topic).epoch, "seq": after}
        before = len(client.told)
        client.session.receive(
            json.dumps({"type": "subscribe", "topic": topic, "client_id": "c", "resume": {topic: position}})
        )
        client.flush()
        ack = next(message for message in client.told[before:] if message["type"] == "ack")
        assert ack["recovered"] is (behind <= RING or newest <= RING)
        self.subscribed[name].add(topic)
        self.expected[name][topic] += [("subscribed", newest), *range(after + 1, newest + 1)]

    @rule(name=clients, topic=topics)
    def unsubscribe(self, name: str, topic: str) -> None:
        if name not in self.connected or topic not in self.published or self.connected[name].outbox.blocked:
            return
        if topic in self.subscribed[name]:
            self.flush_model(topic)
        client = self.connected[name]
        client.session.receive(json.dumps({"type": "unsubscribe", "topic": topic, "client_id": "c"}))
        client.flush()
        self.subscribed[name].discard(topic)
        self.expected[name][topic].append("unsubscribed")

    @rule()
    def end_tick(self) -> None:
        for topic in list(self.undelivered):
            self.flush_model(topic)
        self.ticks.end()

    @rule(name=clients)
    def block_or_unblock(self, name: str) -> None:
        if name not in self.connected:
            return
        client = self.connected[name]
        if not client.outbox.blocked:
            client.outbox.block()
            return
        before = len(client.told)
        client.outbox.unblock()
        sent = [(message["topic"], message["seq"]) for message in client.told[before:] if message["type"] == "event"]
        assert sent == self.queues[name], "only the newest events that fit in the queue"
        self.queues[name] = []

    @invariant()
    def everyone_was_told_everything_once_and_in_order(self) -> None:
        for name, client in self.connected.items():
            for topic in ("a", "b"):
                told = [entry for message in client.told if message["topic"] == topic for entry in known(message)]
                expected = self.expected[name][topic]
                if client.outbox.blocked:
                    assert told == expected[: len(told)]
                else:
                    assert told == expected

    @invariant()
    def queues_are_bounded_and_members_counted(self) -> None:
        for name, client in self.connected.items():
            assert client.outbox.queued == len(self.queues[name]) <= LIMIT
        for topic in self.broker.topics:
            assert topic.subscribers == sum(topic.name in each for each in self.subscribed.values())
            assert len(topic.ring) == min(RING, self.published[topic.name])
        assert self.broker.subscriber_count == sum(1 for each in self.subscribed.values() if each)


def known(message: Any) -> list[Any]:
    """Return the facts that a subscriber learns from a message: each ``seq`` that it gets or has lost."""
    match message:
        case {"type": "event", "seq": seq}:
            return [seq]
        case {"msg": "dropped", "from_seq": first, "to_seq": last, "count": count}:
            assert count == last - first + 1
            return list(range(first, last + 1))
        case {"msg": "topic_deleted"}:
            return ["deleted"]
        case {"type": "ack", "seq": seq}:
            return [("subscribed", seq)]
        case {"type": "ack"}:
            return ["unsubscribed"]
    raise AssertionError(message)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=40)
