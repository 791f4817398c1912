"""Presence step by step, with a clock and timers that a test moves, and against a simple model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pubsub.core import presence, topic_clients
from pubsub.core.presence import AWAY, GATHERED, MAX_SHOWN, TOLD
from pubsub.core.topic_clients import MAX_ANNOUNCED
from pubsub.protocol.requests import TopicOptions
from tests.core.held import WaitingClient
from tests.core.test_broker import Client
from tests.core.timed import TimedBroker
from tests.doubles import Sink

LOUD: Final = 2  # clients in a topic of the model that is not quiet
PRESENCE: Final = TopicOptions(presence=True)


class World(TimedBroker):
    """A Broker with the topic ``room`` and its clients."""

    def __init__(self) -> None:
        super().__init__()
        self.broker.create_topic("room", PRESENCE)

    def connect(self, name: str, *topics: str) -> Client:
        """A new connection of a client that subscribes to topics and forgets the acks."""
        client = Client(self.broker, name)
        for topic in topics:
            assert client.ask(type="subscribe", topic=topic)["type"] == "ack"
        client.take()
        return client

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and run what is due on the way."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
            self.settle()
        self.now = end

    @property
    def kept(self) -> int:
        """The number of topics, clients and timers that presence knows of."""
        owner = self.broker.clients
        return len(owner._topics) + len(owner._absent) + len(owner._changed) + len(self.timers)


@pytest.fixture
def world() -> World:
    return World()


def news(client: Client) -> list[tuple[str, str]]:
    """The infos that a client got about others: ``joined`` or ``left``, and the client."""
    return [(m["msg"], m["client_id"]) for m in client.take() if m.get("msg") in ("joined", "left")]


def shown(client: Client, topic: str = "room") -> dict[str, int]:
    """The answer to a presence request: connections by client."""
    answer = client.ask(type="presence", topic=topic)
    client.take()
    assert answer["count"] == len(answer["clients"])
    return {each["client_id"]: each["connections"] for each in answer["clients"]}


# What members are told


def test_the_others_are_told_of_a_client_that_joins_and_leaves(world: World) -> None:
    alice = world.connect("alice", "room")
    bob = world.connect("bob", "room")
    assert news(alice) == []
    world.settle()
    assert alice.take() == [
        {"type": "info", "topic": "room", "msg": "joined", "client_id": "bob", "ts": "1970-01-01T00:00:00Z"}
    ]
    assert bob.take() == []
    bob.ask(type="unsubscribe", topic="room")
    bob.take()
    world.pass_time(AWAY - 0.01)
    assert alice.take() == []
    world.pass_time(0.01)
    assert alice.take() == [
        {"type": "info", "topic": "room", "msg": "left", "client_id": "bob", "ts": "1970-01-01T00:00:00Z"}
    ]
    assert bob.take() == []


def test_nothing_comes_before_the_ack_of_the_subscribe(world: World) -> None:
    world.connect("alice", "room")
    bob = Client(world.broker, "bob")
    bob.session.receive(json.dumps({"type": "subscribe", "topic": "room", "client_id": "bob"}))
    world.connect("carol", "room")
    world.settle()
    assert [message.get("msg", message["type"]) for message in bob.take()] == ["ack", "joined"]


def test_a_client_is_not_told_of_those_that_came_before_it_in_the_same_tick(world: World) -> None:
    clients = {name: world.connect(name, "room") for name in ("alice", "bob", "carol")}
    world.settle()
    assert {name: news(client) for name, client in clients.items()} == {
        "alice": [("joined", "bob"), ("joined", "carol")],
        "bob": [("joined", "carol")],
        "carol": [],
    }


def test_connections_of_one_client_are_one_client(world: World) -> None:
    alice = world.connect("alice", "room")
    bobs = [world.connect("bob", "room") for _ in range(3)]
    world.settle()
    assert news(alice) == [("joined", "bob")]
    assert shown(alice) == {"alice": 1, "bob": 3}
    assert [news(bob) for bob in bobs] == [[], [], []], "nobody is told of himself"
    for bob in bobs[:2]:
        bob.session.end()
    world.pass_time(2 * AWAY)
    assert news(alice) == []
    assert shown(alice) == {"alice": 1, "bob": 1}
    bobs[2].session.end()
    world.pass_time(AWAY)
    assert news(alice) == [("left", "bob")]


def test_subscriptions_of_one_connection_count_once(world: World) -> None:
    alice = world.connect("alice", "room")
    bob = world.connect("bob", "room", "*", "room", ">")
    world.settle()
    assert news(alice) == [("joined", "bob")]
    assert shown(alice) == {"alice": 1, "bob": 1}
    for name in ("room", "*"):
        bob.ask(type="unsubscribe", topic=name)
    world.pass_time(2 * AWAY)
    assert news(alice) == []
    bob.ask(type="unsubscribe", topic=">")
    world.pass_time(AWAY)
    assert news(alice) == [("left", "bob")]


def test_a_subscription_that_is_replaced_is_no_change(world: World) -> None:
    alice, bob = world.connect("alice", "room"), world.connect("bob", "room")
    world.settle()
    alice.take()
    for last_n in (0, 3):
        bob.ask(type="subscribe", topic="room", last_n=last_n)
    assert shown(alice) == {"alice": 1, "bob": 1}
    bob.session.end()
    world.pass_time(AWAY)
    assert news(alice) == [("left", "bob")]


def test_clients_of_a_pattern_are_in_a_topic_that_appears(world: World) -> None:
    alice, bob = world.connect("alice", "rooms.*"), world.connect("bob", "rooms.>")
    world.broker.create_topic("rooms.1", PRESENCE)
    world.broker.create_topic("rooms.2")
    world.settle()
    assert shown(alice, "rooms.1") == {"alice": 1, "bob": 1}
    alice.take()
    bob.take()
    world.connect("carol", "rooms.1", "rooms.2")
    world.settle()
    assert news(alice) == news(bob) == [("joined", "carol")]


def test_changes_of_a_tick_are_one_write_for_each_member(world: World) -> None:
    alice = world.connect("alice", "room")
    world.connect("bob", "room").session.end()
    world.settle()
    writes: list[bytes] = []
    alice.outbox.transport = Sink(writes.append)
    for name in ("carol", "dave", "erin"):
        world.connect(name, "room")
    world.settle()
    assert len(writes) == 1
    alice.write(writes[0])
    assert news(alice) == [("joined", "bob"), ("joined", "carol"), ("joined", "dave"), ("joined", "erin")]


def test_a_topic_without_the_option_tells_nothing(world: World) -> None:
    world.broker.create_topic("plain")
    alice = world.connect("alice", "plain")
    world.connect("bob", "plain").session.end()
    world.pass_time(AWAY)
    assert alice.take() == []
    assert world.kept == 0


def test_a_member_that_lags_is_told_nothing_and_nothing_waits_for_it(world: World) -> None:
    alice, slow = world.connect("alice", "room"), world.connect("slow", "room")
    world.settle()
    alice.take()
    slow.outbox.block()
    world.connect("bob", "room")
    world.settle()
    assert news(alice) == [("joined", "bob")]
    slow.outbox.unblock()
    assert slow.take() == []
    assert shown(slow) == {"alice": 1, "bob": 1, "slow": 1}


def test_a_fault_of_one_member_does_not_affect_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    broken, alice = world.connect("broken", "room"), world.connect("alice", "room")
    world.settle()

    def fail(_: bytes) -> None:
        raise ZeroDivisionError("a bug")

    broken.outbox.transport = Sink(fail)
    world.connect("bob", "room")
    world.settle()
    assert news(alice) == [("joined", "bob")]
    assert "Internal error at a subscriber of topic room" in caplog.text


def test_members_are_told_in_slices_and_a_member_that_leaves_meanwhile_is_not(world: World) -> None:
    members = [world.connect(f"c{number % 10}", "room") for number in range(3 * TOLD)]
    world.settle()
    for member in members:
        member.take()
    world.connect("new", "room")
    counts = []
    while world.ticks.deferred:
        world.ticks.end()
        counts.append(sum(bool(news(member)) for member in members))
        if len(counts) == 1:
            members[-1].session.end()
    assert sum(counts) == len(members) - 1
    assert max(counts) == TOLD


def test_an_answer_comes_before_infos_of_later_changes(world: World) -> None:
    alice = world.connect("alice", "room")
    world.settle()
    alice.take()
    world.connect("bob", "room")
    alice.session.receive('{"type":"presence","topic":"room"}')
    world.connect("carol", "room")
    world.settle()
    told = alice.take()
    assert [message.get("client_id", message["type"]) for message in told] == ["presence", "bob", "carol"]
    assert told[0]["count"] == 2


# A client that is away


def test_a_client_that_comes_back_in_time_has_not_left(world: World) -> None:
    alice, bob = world.connect("alice", "room"), world.connect("bob", "room")
    world.settle()
    alice.take()
    for _ in range(3):
        bob.session.end()
        assert shown(alice) == {"alice": 1, "bob": 0}
        world.pass_time(AWAY - 0.01)
        bob = world.connect("bob", "room")
    world.pass_time(2 * AWAY)
    assert news(alice) == news(bob) == []
    assert shown(alice) == {"alice": 1, "bob": 1}


def test_all_clients_share_one_timer(world: World) -> None:
    alice = world.connect("alice", "room")
    others = [world.connect(f"c{number}", "room") for number in range(50)]
    world.settle()
    alice.take()
    for other in others:
        other.session.end()
        world.now += GATHERED / 10
        assert len(world.timers) == 1
    world.pass_time(AWAY - 1)
    assert news(alice) == []
    world.pass_time(1 + GATHERED)
    assert news(alice) == [("left", f"c{number}") for number in range(50)]
    assert world.timers == []


def test_clients_that_leave_together_are_removed_in_turns(world: World) -> None:
    for client in [world.connect(f"c{number}", "room") for number in range(2 * presence.REMOVED + 1)]:
        client.session.end()
    world.now += AWAY
    world.timers.pop()[1]()
    left = [len(world.broker.clients._absent)]
    while world.ticks.deferred:
        world.ticks.end()
        left.append(len(world.broker.clients._absent))
    assert left[:3] == [presence.REMOVED + 1, 1, 0]
    assert world.kept == 0


# Topics with many clients


def test_a_topic_with_many_clients_is_quiet_and_later_tells_the_difference(world: World) -> None:
    alice = world.connect("alice", "room")
    first = [world.connect(f"c{number:03}", "room") for number in range(1, MAX_ANNOUNCED)]
    world.settle()
    assert len(news(alice)) == MAX_ANNOUNCED - 1
    late = [world.connect(f"d{number:03}", "room") for number in range(10)]
    for client in first[:8]:
        client.session.end()
    world.pass_time(AWAY)
    assert news(alice) == []
    assert world.broker.presence("room").count == MAX_ANNOUNCED + 2
    late[0].session.end()
    first[8].session.end()
    world.pass_time(AWAY)
    gone, come = (
        [("left", f"c{number:03}") for number in range(1, 10)],
        [("joined", f"d{number:03}") for number in range(1, 10)],
    )
    told = news(alice)
    assert sorted(told) == sorted(gone + come)
    assert news(late[9]) == gone, "it knows the others: they were there when it came"
    world.connect("erin", "room")
    world.settle()
    assert news(alice) == []
    first[9].session.end()
    world.pass_time(AWAY)
    assert news(alice) == [("joined", "erin"), ("left", "c010")]


def test_thousands_of_members_come_and_go_without_a_word(world: World) -> None:
    clients = [world.connect(f"c{number}", "room") for number in range(2000)]
    while world.ticks.deferred:
        world.ticks.end()
    told = [len(client.take()) for client in clients]
    assert max(told) == MAX_ANNOUNCED - 1
    assert sum(told) == MAX_ANNOUNCED * (MAX_ANNOUNCED - 1) // 2, "the first ones of the others that came after them"
    for client in clients[1000:]:
        client.session.end()
    again = [world.connect(f"c{number}", "room") for number in range(1000, 2000)]
    world.pass_time(2 * AWAY)
    assert not any(client.take() for client in clients[:1000] + again)
    for client in clients[:1000] + again:
        client.session.end()
    world.pass_time(2 * AWAY)
    assert world.kept == 0


def test_an_answer_has_the_first_clients_by_name(world: World) -> None:
    for number in range(MAX_SHOWN + 1, -1, -1):
        world.connect(f"c{number:04}", "room")
    answer = Client(world.broker, "c").ask(type="presence", topic="room")
    assert answer["count"] == MAX_SHOWN + 2
    assert [each["client_id"] for each in answer["clients"]] == [f"c{number:04}" for number in range(MAX_SHOWN)]


# Ends


def test_the_end_of_a_topic_ends_its_presence(world: World) -> None:
    alice, bob, carol = (world.connect(name, "room") for name in ("alice", "bob", "carol"))
    world.settle()
    for client in (alice, bob):
        client.take()
    carol.session.end()
    world.connect("dave", "room")
    world.broker.delete_topic("room")
    world.broker.create_topic("room", PRESENCE)
    assert shown(Client(world.broker, "c")) == {}
    world.pass_time(2 * AWAY)
    for client in (alice, bob):
        assert [message["msg"] for message in client.take()] == ["topic_deleted"]
    assert world.kept == 0
    again = world.connect("alice", "room")
    world.connect("bob", "room")
    world.settle()
    assert news(again) == [("joined", "bob")]


def test_the_end_of_a_topic_with_many_members_leaves_nothing(world: World) -> None:
    for number in range(350):
        world.connect(f"c{number}", "room")
    world.broker.delete_topic("room")
    world.settle()
    assert world.kept == 0


def test_a_topic_that_could_not_be_deleted_has_presence_again(world: World) -> None:
    world.broker.create_topic("stored", TopicOptions(durable=True, presence=True))
    world.journal.end()
    topic = world.broker.find_topic("stored")
    bob = WaitingClient(world.broker, "bob")
    bob.ask(type="subscribe", topic="stored")
    bob.session.end()
    world.broker.remove_topic(topic)
    world.broker._put_back(topic)
    alice = world.connect("alice", "stored")
    assert shown(alice, "stored") == {"alice": 1}
    world.pass_time(AWAY)
    assert shown(alice, "stored") == {"alice": 1}
    alice.session.end()
    world.pass_time(AWAY)
    assert world.kept == 0


def test_nothing_of_clients_that_have_gone_is_kept(world: World) -> None:
    for _ in range(3):
        clients = [world.connect(name, "room", "*") for name in ("alice", "bob", "alice")]
        world.settle()
        for client in clients:
            client.session.end()
        world.pass_time(2 * AWAY)
        assert world.kept == 0


# Requests


def test_a_request_is_refused(world: World) -> None:
    world.broker.create_topic("plain")
    alice = world.connect("alice", "plain")
    refused = {
        "plain": ("BAD_REQUEST", "topic: 'plain' was created without the option presence"),
        "nowhere": ("TOPIC_NOT_FOUND", "Topic 'nowhere' does not exist"),
    }
    for topic, (code, text) in refused.items():
        assert alice.ask(type="presence", topic=topic)["error"] == {"code": code, "message": text}
        alice.take()
    for wrong in ("*", "room.>", "a b", "", 5, None):
        assert alice.ask(type="presence", topic=wrong)["error"]["code"] == "BAD_REQUEST"
        alice.take()
    assert alice.ask(type="presence")["error"] == {"code": "BAD_REQUEST", "message": "topic: required, but missing"}


def test_who_asks_need_not_be_subscribed(world: World) -> None:
    assert shown(Client(world.broker, "c")) == {}
    world.connect("alice", "room")
    assert shown(Client(world.broker, "c")) == {"alice": 1}


# The model


class Model(RuleBasedStateMachine):
    """Connections of three clients that come, go and subscribe by name and by pattern, to two topics.

    The model holds the subscriptions of each connection, and the moment at which a client leaves a topic. Each
    connection keeps a list of clients as a program would: it asks once it is subscribed, and follows the infos.
    A topic with more than LOUD clients is quiet.
    """

    names = st.sampled_from(["alice", "bob", "carol", "dave"])
    subscriptions = st.sampled_from(["r.1", "r.2", "r.*", ">"])
    topics = st.sampled_from(["r.1", "r.2"])

    def __init__(self) -> None:
        super().__init__()
        topic_clients.MAX_ANNOUNCED = LOUD  # type: ignore[misc]
        self.world = World()
        self.connections: list[tuple[str, Client]] = []
        self.subscribed: dict[Client, set[str]] = {}
        self.leaving: dict[tuple[str, str], float] = {}  # by topic and client
        self.living: set[str] = set()
        self.lists: dict[tuple[Client, str], set[str]] = {}  # what a connection knows of a topic
        self.create_or_delete("r.1")
        self.create_or_delete("r.2")

    # The model

    def members(self, topic: str) -> list[tuple[str, Client]]:
        if topic not in self.living:
            return []
        return [each for each in self.connections if self.subscribed[each[1]] & {topic, "r.*", ">"}]

    def present(self, topic: str) -> dict[str, int]:
        found = Counter(name for name, _ in self.members(topic))
        absent = {client for where, client in self.leaving if where == topic}
        return dict.fromkeys(absent, 0) | found

    def change(self, step: Callable[[], None]) -> None:
        """Take a step of the model, and note who enters and who has no connection any more."""
        before = {topic: {name for name, _ in self.members(topic)} for topic in self.living}
        step()
        for topic, were in before.items():
            now = {name for name, _ in self.members(topic)}
            for name in were - now:
                self.leaving[topic, name] = self.world.now + AWAY
            for name in now:
                self.leaving.pop((topic, name), None)

    def follow(self) -> None:
        """Have each connection read what it was told, and ask where it has no list."""
        for client_id, client in self.connections:
            for message in client.take():
                known = self.lists.get((client, message.get("topic", "")))
                if known is None or message.get("msg") not in ("joined", "left"):
                    continue
                assert message["client_id"] != client_id, "nobody is told of himself"
                (known.add if message["msg"] == "joined" else known.discard)(message["client_id"])

    # The steps

    @rule(name=names)
    def connect(self, name: str) -> None:
        if len(self.connections) < 6:
            client = Client(self.world.broker, name)
            self.connections.append((name, client))
            self.subscribed[client] = set()

    @rule(which=st.integers(0, 5))
    def disconnect(self, which: int) -> None:
        if which < len(self.connections):
            _, client = self.connections[which]
            client.session.end()
            self.change(lambda: self.connections.remove(self.connections[which]))
            del self.subscribed[client]
            self.lists = {key: known for key, known in self.lists.items() if key[0] is not client}

    @rule(which=st.integers(0, 5), wanted=subscriptions)
    def subscribe(self, which: int, wanted: str) -> None:
        if which < len(self.connections) and (wanted in self.living or wanted in ("r.*", ">")):
            _, client = self.connections[which]
            self.follow()
            assert client.ask(type="subscribe", topic=wanted)["type"] == "ack"
            client.take()
            self.change(lambda: self.subscribed[client].add(wanted))
            self.begin_lists(client)

    @rule(which=st.integers(0, 5), wanted=subscriptions)
    def unsubscribe(self, which: int, wanted: str) -> None:
        if which < len(self.connections) and (wanted in self.living or wanted in ("r.*", ">")):
            _, client = self.connections[which]
            self.follow()
            assert client.ask(type="unsubscribe", topic=wanted)["type"] == "ack"
            client.take()
            self.change(lambda: self.subscribed[client].discard(wanted))
            self.begin_lists(client)

    def begin_lists(self, client: Client) -> None:
        """Have a connection ask for the clients of the topics that it has entered, unless they are quiet."""
        for topic in ("r.1", "r.2"):
            if not any(each is client for _, each in self.members(topic)):
                self.lists.pop((client, topic), None)
            elif (client, topic) not in self.lists and len(self.present(topic)) <= LOUD:
                self.lists[client, topic] = set(shown(client, topic))

    @rule(topic=topics)
    def create_or_delete(self, topic: str) -> None:
        self.follow()
        if topic in self.living:
            self.world.broker.delete_topic(topic)
            self.living.remove(topic)
            for held in self.subscribed.values():
                held.discard(topic)
            self.leaving = {key: due for key, due in self.leaving.items() if key[0] != topic}
            self.lists = {key: known for key, known in self.lists.items() if key[1] != topic}
        else:
            self.world.broker.create_topic(topic, PRESENCE)
            self.living.add(topic)
            for _, client in self.connections:
                client.take()
                self.begin_lists(client)

    @rule()
    def end_tick(self) -> None:
        self.world.settle()
        self.follow()

    @rule(seconds=st.sampled_from([0.5, 2.0, AWAY]))
    def pass_time(self, seconds: float) -> None:
        self.world.settle()
        self.world.pass_time(seconds)
        self.leaving = {key: due for key, due in self.leaving.items() if due > self.world.now}
        self.follow()

    @invariant()
    def answers_are_those_of_the_model(self) -> None:
        for topic in self.living:
            found = self.world.broker.presence(topic)
            assert {each.client_id: each.connections for each in found.clients} == self.present(topic)

    @invariant()
    def lists_are_exact_unless_the_topic_is_quiet(self) -> None:
        if self.world.ticks.deferred:
            return
        self.follow()
        names = {client: name for name, client in self.connections}
        for (client, topic), known in self.lists.items():
            present = self.present(topic).keys()
            if len(present) <= LOUD:
                assert known - {names[client]} == present - {names[client]}

    def teardown(self) -> None:
        try:
            for _, client in self.connections:
                client.session.end()
            self.world.settle()
            self.world.pass_time(2 * AWAY)
            assert self.world.kept == 0
        finally:
            topic_clients.MAX_ANNOUNCED = MAX_ANNOUNCED  # type: ignore[misc]


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=30)
