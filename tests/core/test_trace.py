"""The fate of messages: what was traced is what has happened, whatever has happened."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import UNSET, Raw

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.losses import Loss
from pubsub.core.topic import Topic
from pubsub.core.trace import Message, Outcome, Verdict, trace_ended, trace_open
from pubsub.core.trail import MOST
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.requests import Message as Content
from pubsub.protocol.requests import Publish
from tests.core.test_broker import LIMIT, Client, Ticks
from tests.doubles import NoPublisher

RING = 8
LARGE = "payload > 1"
LOST = {Outcome.DROPPED, Outcome.EXPIRED, Outcome.DISCONNECTED, Outcome.NOT_SUBSCRIBED, Outcome.FORBIDDEN}


class World:
    """A Broker with a clock of its own, and clients whose wires block."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ticks = Ticks()
        epochs = iter(range(1_000_000))
        clock = Clock(lambda: 0, lambda: self.now)
        self.broker = Broker(
            defer=self.ticks.defer,
            clock=clock,
            memory=MemoryJournal(clock, lambda: f"e{next(epochs)}"),
            ring_size=RING,
        )
        self.clock = clock
        self.lives: dict[str, tuple[str, str, int]] = {}  # by the id of a message: its topic, epoch and seq

    def connect(self, name: str) -> Client:
        client = Client(self.broker, name)
        client.outbox._options = client.outbox._options.__class__(
            LIMIT, self.clock, self.broker.turns.take, losses=self.broker.losses
        )
        return client

    def run(self) -> None:
        while self.ticks.deferred:
            self.ticks.end()

    def publish(self, topic: str, *payloads: int, ttl_sec: float | None = None) -> None:
        for payload in payloads:
            content = Content(str(UUID(int=len(self.lives))), Raw(json.dumps(payload).encode()))
            found = self.broker.topic(topic)
            self.lives[content.id] = (topic, found.epoch, found.seq + 1)
            ttl = UNSET if ttl_sec is None else ttl_sec
            self.broker.publish([Publish(topic=topic, message=content, ttl_sec=ttl)], NoPublisher())
        self.run()

    def message(self, name: str, seq: int) -> Message:
        topic = self.broker.topic(name)
        found = [event for event in topic.ring.after(seq - 1, 1) if event is not None and event.seq == seq]
        return Message(topic, seq, found[0] if found else None)

    def trace(self, client: Client, seq: int, name: str = "a") -> Verdict:
        return trace_open(self.message(name, seq), client.outbox, allowed=True)

    def outcomes(self, client: Client, name: str = "a") -> list[str]:
        return [self.trace(client, seq, name).outcome.value for seq in range(1, self.broker.topic(name).seq + 1)]


@pytest.fixture
def world() -> World:
    world = World()
    world.broker.create_topic("a")
    return world


def subscribe(world: World, client: Client, name: str = "a", **fields: Any) -> None:
    client.session.receive(json.dumps({"type": "subscribe", "topic": name, "client_id": "c"} | fields))
    world.run()
    client.flush()


def unsubscribe(world: World, client: Client, name: str = "a") -> None:
    client.session.receive(json.dumps({"type": "unsubscribe", "topic": name, "client_id": "c"}))
    world.run()


def test_what_came_before_the_subscription_and_what_was_handed_to_the_socket(world: World) -> None:
    client = world.connect("c")
    world.publish("a", 1, 2, 3)
    assert world.outcomes(client) == ["not_subscribed"] * 3
    subscribe(world, client, last_n=1)
    world.publish("a", 4)
    assert world.outcomes(client) == ["not_subscribed", "not_subscribed", "sent", "sent"]
    assert world.trace(client, 2).detail == "the subscription began later: it gets what follows seq 2"


def test_what_waits_what_was_dropped_and_what_it_was_told(world: World) -> None:
    client = world.connect("c")
    subscribe(world, client)
    client.outbox.block()
    world.publish("a", *range(LIMIT + 2))
    assert world.outcomes(client) == ["dropped"] * 2 + ["queued"] * LIMIT
    assert world.trace(client, 1).detail == "2 messages from seq 1 to 2 were lost: the queue was full"
    client.outbox.unblock()
    assert world.outcomes(client) == ["dropped"] * 2 + ["sent"] * LIMIT


def test_what_expired_in_the_queue(world: World) -> None:
    client = world.connect("c")
    subscribe(world, client)
    client.outbox.block()
    world.publish("a", 1)
    world.publish("a", 2, ttl_sec=5)
    world.publish("a", 3)
    world.now += 10
    client.outbox.unblock()
    assert world.outcomes(client) == ["sent", "expired", "sent"]


def test_what_a_filter_left_out_and_what_is_not_known_without_the_message(world: World) -> None:
    client = world.connect("c")
    subscribe(world, client, filter=LARGE)
    world.publish("a", 1, 2)
    assert world.outcomes(client) == ["filtered", "sent"]
    world.publish("a", *[2] * RING)
    assert world.outcomes(client)[:3] == ["unknown", "unknown", "sent"]


def test_what_the_rights_forbid(world: World) -> None:
    client = world.connect("c")
    world.publish("a", 1)
    assert trace_open(world.message("a", 1), client.outbox, allowed=False).outcome is Outcome.FORBIDDEN


def test_a_subscription_that_ended_is_remembered(world: World) -> None:
    client = world.connect("c")
    subscribe(world, client)
    world.publish("a", 1)
    unsubscribe(world, client)
    world.publish("a", 2)
    subscribe(world, client)
    world.publish("a", 3)
    assert world.outcomes(client) == ["sent", "not_subscribed", "sent"]
    unsubscribe(world, client)
    world.publish("a", 4)
    assert world.trace(client, 4).detail == "the subscription had ended after seq 3"


def test_a_topic_that_was_created_again_is_another(world: World) -> None:
    client = world.connect("c")
    subscribe(world, client)
    world.publish("a", 1)
    world.broker.delete_topic("a")
    world.broker.create_topic("a")
    world.run()
    world.publish("a", 1)
    assert world.outcomes(client) == ["not_subscribed"]


@pytest.mark.parametrize("reason", [Loss.DISCONNECTED, Loss.SLOW_CONSUMER])
def test_a_connection_that_ended_is_known_by_its_trail(world: World, reason: Loss) -> None:
    client = world.connect("c")
    subscribe(world, client)
    world.publish("a", 1)
    client.outbox.block()
    world.publish("a", *range(LIMIT + 1))
    client.session.end()
    client.outbox.clear(reason)
    world.publish("a", 9)
    fates = [trace_ended(world.message("a", seq), client.outbox.trail, "why") for seq in range(1, LIMIT + 4)]
    assert [fate.outcome.value for fate in fates] == ["sent", "dropped", *["disconnected"] * (LIMIT + 1)]
    assert fates[0].detail == "it was handed to the socket; the connection ended: why"
    assert fates[-1].detail == "the connection had ended before; the connection ended: why"
    assert trace_ended(world.message("a", 1), None, "why").outcome is Outcome.NOT_SUBSCRIBED


def test_what_is_not_remembered_any_more_is_unknown_and_what_follows_is_not(world: World) -> None:
    client = world.connect("c")
    for _ in range(MOST + 1):
        subscribe(world, client)
        world.publish("a", 1)
        unsubscribe(world, client)
    assert world.outcomes(client) == ["unknown", *["sent"] * MOST]


def test_a_connection_with_too_many_topics_to_remember_is_unknown(world: World) -> None:
    client = world.connect("c")
    subscribe(world, client)
    for number in range(MOST):
        world.broker.create_topic(f"t{number}")
        subscribe(world, client, f"t{number}")
    world.publish("a", 1)
    client.session.end()
    assert trace_ended(world.message("a", 1), client.outbox.trail, "").outcome is Outcome.UNKNOWN


class Model(RuleBasedStateMachine):
    """Random lives of clients. What a client got is compared with what is traced."""

    names = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for name in self.names:
            self.world.broker.create_topic(name)
        self.clients = {name: self.world.connect(name) for name in ("x", "y")}
        self.ended: dict[str, Client] = {}
        self.got: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        self.plain = dict.fromkeys(self.clients, True)  # no filter, and no subscription replaced or overlapped
        self.subscribed: dict[str, set[str]] = defaultdict(set)

    @property
    def broker(self) -> Broker:
        return self.world.broker

    which = st.sampled_from(("x", "y"))
    topics = st.sampled_from(names)

    @rule(
        topic=topics, payloads=st.lists(st.integers(0, 3), min_size=1, max_size=LIMIT), ttl=st.sampled_from([None, 5])
    )
    def publish(self, topic: str, payloads: list[int], ttl: float | None) -> None:
        self.world.publish(topic, *payloads, ttl_sec=ttl)

    @rule(
        which=which,
        name=st.sampled_from(("a", "b", "*")),
        last_n=st.integers(0, 6),
        text=st.sampled_from([None, None, LARGE]),
        behind=st.sampled_from([None, 0, 3, 9]),
    )
    def subscribe(self, which: str, name: str, last_n: int, text: str | None, behind: int | None) -> None:
        client = self.clients[which]
        fields: dict[str, Any] = {"last_n": last_n} | ({} if text is None else {"filter": text})
        if behind is not None:
            fields["resume"] = {
                topic.name: {"epoch": topic.epoch, "seq": max(0, topic.seq - behind)}
                for topic in self.broker.topics
                if name in (topic.name, "*")
            }
        reaches = {"a", "b"} if name == "*" else {name}
        if text is not None or reaches & self.subscribed[which]:
            self.plain[which] = False
        self.subscribed[which] |= reaches
        subscribe(self.world, client, name, **fields)

    @rule(which=which, name=st.sampled_from(("a", "b", "*")))
    def unsubscribe(self, which: str, name: str) -> None:
        unsubscribe(self.world, self.clients[which], name)

    @rule(which=which)
    def block(self, which: str) -> None:
        self.clients[which].outbox.block()

    @rule(which=which)
    def unblock(self, which: str) -> None:
        self.clients[which].outbox.unblock()
        self.world.run()

    @rule()
    def pass_time(self) -> None:
        self.world.now += 10

    @rule(topic=topics)
    def purge(self, topic: str) -> None:
        self.broker.purge(topic, lambda _: None)
        self.world.run()

    @rule(topic=topics)
    def create_again(self, topic: str) -> None:
        self.broker.delete_topic(topic)
        self.world.run()
        self.broker.create_topic(topic)
        self.world.run()

    @precondition(lambda self: len(self.ended) < 3)
    @rule(which=which, reason=st.sampled_from([Loss.DISCONNECTED, Loss.SLOW_CONSUMER]))
    def end(self, which: str, reason: Loss) -> None:
        client = self.clients[which]
        client.session.end()
        client.outbox.clear(reason)
        self.world.run()
        name = f"{which}{len(self.ended)}"
        self.take(which, client)
        self.ended[name] = client
        self.got[name], self.plain[name] = self.got.pop(which, set()), self.plain[which]
        self.clients[which], self.plain[which] = self.world.connect(which), True
        self.subscribed[which] = set()

    def take(self, which: str, client: Client) -> None:
        for told in client.take():
            if told["type"] == "event":
                self.got[which].add(self.world.lives[told["message"]["id"]])

    @invariant()
    def what_is_traced_has_happened(self) -> None:
        self.world.run()
        for which, client in self.clients.items():
            client.flush()
            self.take(which, client)
            for topic in self.broker.topics:
                for seq in range(1, topic.seq + 1):
                    self.check(which, topic, seq, self.world.trace(client, seq, topic.name))
        for which, client in self.ended.items():
            for topic in self.broker.topics:
                for seq in range(1, topic.seq + 1):
                    message = self.world.message(topic.name, seq)
                    self.check(which, topic, seq, trace_ended(message, client.outbox.trail, "end"))

    def check(self, which: str, topic: Topic, seq: int, verdict: Verdict) -> None:
        came = (topic.name, topic.epoch, seq) in self.got[which]
        assert verdict.outcome is not Outcome.SENT or came, (which, topic.name, seq, verdict)
        assert verdict.outcome not in LOST | {Outcome.FILTERED} or not came, (which, topic.name, seq, verdict)
        if self.plain[which]:
            assert verdict.outcome is not Outcome.UNKNOWN, (which, topic.name, seq, verdict)
            assert (verdict.outcome is Outcome.SENT) == came, (which, topic.name, seq, verdict)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestModel = Model.TestCase
