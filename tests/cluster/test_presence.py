"""Presence of clients at several servers, step by step, and against a simple model with lost and late messages."""

from __future__ import annotations

import random
from functools import partial

import pytest

from pubsub.auth.quotas import Quotas
from pubsub.cluster.cluster import Cluster
from pubsub.cluster.counts import AT_ONCE, GATHERED
from pubsub.cluster.members import BEAT, DEAD
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.presence import AWAY
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.requests import TopicOptions
from tests.cluster.buses import Hub
from tests.cluster.test_counts import HEALED
from tests.cluster.timers import Timers
from tests.core.test_broker import RING, Client
from tests.core.test_presence import news, shown

PRESENCE = TopicOptions(presence=True)


class World:
    """Servers that share the topic ``room``. Their journals are their own: nothing is published here."""

    def __init__(self, names: str = "abc", *, seed: int = 0) -> None:
        self.hub = Hub(seed)
        self.timers = Timers(self.hub.deliver)
        self.brokers: dict[str, Broker] = {}
        self.clusters: dict[str, Cluster] = {}
        for name in names:
            self.start(name)
        self.pass_time(1)

    def start(self, name: str) -> None:
        clock = Clock(lambda: 0, self.timers.time)
        broker = self.brokers[name] = Broker(
            defer=self.timers.take_turn,
            clock=clock,
            memory=MemoryJournal(clock),
            ring_size=RING,
            call_later=self.timers.call_later,
        )
        bus = self.hub.join(name)
        cluster = self.clusters[name] = Cluster(
            bus, broker, Quotas(in_all=0, per_client=0), now=self.timers.time, call_later=self.timers.call_later
        )
        broker.create_topic("room", PRESENCE)
        cluster.members.start()

    def kill(self, name: str) -> None:
        self.hub.buses[name].is_cut_off = True

    def connect(self, server: str, client_id: str, topic: str = "room") -> Client:
        client = Client(self.brokers[server], client_id)
        assert client.ask(type="subscribe", topic=topic)["type"] == "ack"
        client.take()
        return client

    def pass_time(self, seconds: float) -> None:
        self.timers.pass_time(seconds)

    def settle(self) -> None:
        """Let the servers tell each other what has happened."""
        self.pass_time(2 * GATHERED)


@pytest.fixture
def world() -> World:
    return World()


def test_members_at_all_servers_are_told_once_of_a_client(world: World) -> None:
    watchers = [world.connect(server, f"w{server}") for server in "abc"]
    world.settle()
    for watcher in watchers:
        watcher.take()
    bobs = [world.connect(server, "bob") for server in "aab"]
    world.settle()
    assert [news(watcher) for watcher in watchers] == 3 * [[("joined", "bob")]]
    assert [news(bob) for bob in bobs] == 3 * [[]], "nobody is told of himself"
    assert [shown(watcher) for watcher in watchers] == 3 * [{"bob": 3, "wa": 1, "wb": 1, "wc": 1}]
    for bob in bobs[:2]:
        bob.session.end()
    world.pass_time(2 * AWAY)
    assert [news(watcher) for watcher in watchers] == 3 * [[]]
    bobs[2].session.end()
    world.pass_time(AWAY + 2 * GATHERED)
    assert [news(watcher) for watcher in watchers] == 3 * [[("left", "bob")]]


def test_a_client_that_moves_within_5_seconds_has_not_left(world: World) -> None:
    watcher = world.connect("c", "watcher")
    bob = world.connect("a", "bob")
    world.settle()
    watcher.take()
    for server in "bca":
        bob.session.end()
        world.pass_time(AWAY - 0.5)
        bob = world.connect(server, "bob")
        world.pass_time(0.5)
    world.pass_time(2 * AWAY)
    assert news(watcher) == []
    assert shown(watcher) == {"watcher": 1, "bob": 1}


def test_a_client_that_moves_later_has_left_and_joins(world: World) -> None:
    watcher = world.connect("c", "watcher")
    bob = world.connect("a", "bob")
    world.settle()
    bob.session.end()
    world.pass_time(AWAY + 1)
    world.connect("b", "bob")
    world.settle()
    assert news(watcher) == [("joined", "bob"), ("left", "bob"), ("joined", "bob")]


def test_a_new_server_learns_who_is_there(world: World) -> None:
    world.connect("a", "alice")
    world.connect("b", "bob")
    world.settle()
    world.start("d")
    world.pass_time(1)
    dora = world.connect("d", "dora")
    assert shown(dora) == {"alice": 1, "bob": 1, "dora": 1}
    world.settle()
    assert news(dora) == []


def test_clients_of_a_dead_server_leave_within_15_seconds(world: World) -> None:
    watcher = world.connect("b", "watcher")
    world.connect("a", "alice")
    world.connect("a", "bob")
    world.pass_time(BEAT)
    watcher.take()
    world.kill("a")
    world.pass_time(AWAY)
    world.connect("c", "bob")  # the one that found another server
    world.pass_time(DEAD - AWAY - BEAT - 0.1)
    assert news(watcher) == []
    world.pass_time(15 - DEAD + BEAT + 0.1)
    assert news(watcher) == [("left", "alice")]
    assert shown(watcher) == {"bob": 1, "watcher": 1}


def test_clients_of_a_server_that_ends_may_move(world: World) -> None:
    watcher = world.connect("b", "watcher")
    for name in ("alice", "bob"):
        world.connect("a", name)
    world.settle()
    watcher.take()
    world.clusters["a"].stop()
    world.kill("a")
    world.pass_time(AWAY - 0.1)
    world.connect("c", "bob")
    world.pass_time(1)
    assert news(watcher) == [("left", "alice")]


def test_a_server_that_cannot_hear_keeps_what_it_knew(world: World) -> None:
    watcher = world.connect("b", "watcher")
    world.connect("a", "alice")
    world.settle()
    watcher.take()
    for server in "abc":
        world.kill(server)
    world.pass_time(60)
    assert news(watcher) == []
    for server in "abc":
        world.hub.buses[server].is_cut_off = False
    world.connect("a", "carol")
    world.pass_time(HEALED)
    assert news(watcher) == [("joined", "carol")]


def test_the_end_of_a_topic_is_the_end_of_its_clients_everywhere(world: World) -> None:
    alice = world.connect("a", "alice")
    watcher = world.connect("b", "watcher")
    world.settle()
    for broker in world.brokers.values():
        broker.delete_topic("room")
        broker.create_topic("room", PRESENCE)
    world.settle()
    watcher.take()
    assert shown(world.connect("c", "carol")) == {"carol": 1}
    for client in (alice, watcher):
        client.take()
        client.ask(type="subscribe", topic="room")
        client.take()
    world.settle()
    assert shown(watcher) == {"alice": 1, "carol": 1, "watcher": 1}
    world.pass_time(2 * AWAY)
    assert ("left", "alice") not in news(watcher)


def test_clients_of_a_topic_that_came_before_it_are_in_it(world: World) -> None:
    world.brokers["a"].create_topic("later", PRESENCE)
    world.connect("a", "alice", "later")
    world.settle()
    world.brokers["b"].create_topic("later", PRESENCE)
    assert shown(world.connect("b", "bob", "later"), "later") == {"alice": 1, "bob": 1}


def test_10_000_clients_are_few_messages(world: World) -> None:
    before = world.hub.buses["a"].told
    clients = [world.connect("a", f"c{number}") for number in range(10_000)]
    world.settle()
    told = world.hub.buses["a"].told - before
    assert told <= 10_000 / AT_ONCE + 1
    assert world.brokers["b"].presence("room").count == 10_000
    for client in clients:
        client.session.end()
    world.pass_time(AWAY + 1)
    assert world.brokers["b"].presence("room").count == 0
    assert world.hub.buses["a"].told - before <= 2 * told + AWAY / BEAT + 2
    assert not world.brokers["b"].clients.topics, "nothing is left"


@pytest.mark.parametrize("seed", range(12))
def test_in_the_end_everybody_knows_who_is_there(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members know all by what they were told, although servers were cut off and messages lost or late."""
    for place in ("counts.AT_ONCE", "copies.REMOVED"):
        monkeypatch.setattr(f"pubsub.cluster.{place}", 2)
    chance, world = random.Random(seed), World(seed=seed)
    world.hub.loss, world.hub.late = 0.15, 0.3
    watchers = {server: world.connect(server, f"w{server}") for server in "abc"}
    views = {server: set(shown(watcher)) for server, watcher in watchers.items()}
    clients: list[tuple[str, str, Client]] = []
    for _ in range(150):
        if chance.random() < 0.6:
            server, name = chance.choice("abc"), f"c{chance.randrange(8)}"
            clients.append((server, name, world.connect(server, name)))
        elif clients:
            clients.pop(chance.randrange(len(clients)))[2].session.end()
        if chance.random() < 0.03:
            bus = world.hub.buses[chance.choice("abc")]
            bus.is_cut_off = True
            world.timers.call_later(chance.uniform(0, 2 * DEAD), partial(setattr, bus, "is_cut_off", False))
        world.pass_time(chance.choice((0, 0.01, 0.1, 2)))
    world.pass_time(2 * DEAD)
    world.hub.loss = world.hub.late = 0
    world.pass_time(HEALED + DEAD + AWAY)
    there = {name for _, name, _ in clients} | {"wa", "wb", "wc"}
    for server, watcher in watchers.items():
        for message, name in news(watcher):
            assert (name in views[server]) == (message == "left"), "each change is told once"
            (views[server].add if message == "joined" else views[server].remove)(name)
        assert views[server] == there
        expected = {name: sum(each == name for _, each, _ in clients) or 1 for name in there}
        assert shown(watcher) == expected
