"""The limit of a client's connections, over several servers."""

from __future__ import annotations

import contextlib
from random import Random

import pytest

from pubsub.auth.quotas import Quotas
from pubsub.cluster.cluster import Cluster
from pubsub.cluster.members import BEAT, CHECK, DEAD
from pubsub.cluster.quotas import ALL, KIND, SharedQuotas
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.http.app_keys import SERVICES
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import LimitExceeded
from tests.cluster.buses import Hub
from tests.cluster.servers import run_servers
from tests.cluster.timers import Timers
from tests.harness import eventually


class World:
    def __init__(self, names: str = "ab", *, per_client: int = 2) -> None:
        self.hub = Hub()
        self.timers = Timers(self.hub.deliver)
        self.quotas: dict[str, Quotas] = {}
        self.clusters: dict[str, Cluster] = {}
        self.closed: list[tuple[str, str, int]] = []
        for name in names:
            self.start(name, per_client)
        self.timers.pass_time(1)

    def start(self, name: str, per_client: int = 2) -> None:
        clock = Clock(lambda: 0, self.timers.time)
        broker = Broker(defer=self.timers.take_turn, clock=clock, memory=MemoryJournal(clock), ring_size=1)
        quotas = self.quotas[name] = Quotas(in_all=0, per_client=per_client)
        quotas.close = lambda client, count: self.close(name, client, count)
        cluster = self.clusters[name] = Cluster(
            self.hub.join(name), broker, quotas, now=self.timers.time, call_later=self.timers.call_later
        )
        cluster.members.start()

    def connect(self, server: str, client: str) -> None:
        self.begin(server, client)
        self.timers.pass_time(0.1)

    def begin(self, server: str, client: str) -> None:
        """Connect, before the other servers hear of it."""
        self.quotas[server].check_claim(client)
        self.quotas[server].claim(client)

    def close(self, server: str, client: str, count: int) -> None:
        self.closed.append((server, client, count))
        for _ in range(count):
            self.quotas[server].release(client)

    def count(self, client: str) -> int:
        return sum(quotas.claims.get(client, 0) for quotas in self.quotas.values())


def test_connections_to_all_servers_count() -> None:
    world = World()
    world.connect("a", "alice")
    world.connect("b", "alice")
    for server in "ab":
        with pytest.raises(LimitExceeded, match="MAX_CONNECTIONS_PER_CLIENT"):
            world.connect(server, "alice")
        world.connect(server, "bob")
    world.quotas["b"].release("alice")
    world.timers.pass_time(0.1)
    world.connect("a", "alice")


@pytest.mark.parametrize(("first", "last"), ["ab", "ba"])
def test_of_connections_to_several_servers_at_once_the_last_are_closed(first: str, last: str) -> None:
    world = World()
    world.connect(last, "alice")
    world.begin(first, "alice")
    world.timers.pass_time(0.01)
    world.begin(last, "alice")
    world.timers.pass_time(0.1)
    assert world.closed == [(last, "alice", 1)]
    assert world.count("alice") == 2
    with pytest.raises(LimitExceeded):
        world.connect(last, "alice")


def test_no_more_and_no_fewer_are_closed_than_are_too_many() -> None:
    """Clients come and go at three servers, as fast as they can."""
    random = Random(7)
    world = World("abc")
    for _ in range(300):
        for _ in range(random.randint(1, 4)):
            server, client = random.choice("abc"), random.choice(["alice", "bob"])
            if random.random() < 0.3 and world.quotas[server].claims.get(client):
                world.quotas[server].release(client)
            else:
                with contextlib.suppress(LimitExceeded):
                    world.begin(server, client)
        world.timers.pass_time(random.choice([0.005, 0.1]))
    world.timers.pass_time(1)
    assert world.closed != []
    assert all(world.count(client) <= 2 for client in ("alice", "bob"))


def test_only_a_connection_that_all_hear_of_now_is_closed() -> None:
    quotas, closed = Quotas(in_all=0, per_client=2), list[int]()
    quotas.close = lambda _, count: closed.append(count)
    shared = SharedQuotas(quotas)
    quotas.claims["alice"] = 1
    shared.told(ALL, "alice", 1)
    quotas.elsewhere["alice"] = 2
    shared.told(ALL, "alice", 1)  # in a copy for another server
    assert closed == [], "those of the other server came later"
    shared.told(ALL, "alice", 2)
    assert closed == [], "the second one has gone meanwhile"
    shared.told(ALL, "alice", 1)
    quotas.claims["alice"] = 2
    shared.told(ALL, "alice", 2)
    assert closed == [1]


def test_what_was_opened_while_the_servers_were_apart_is_closed() -> None:
    world = World()
    world.hub.buses["b"].is_cut_off = True
    for server in "aabb":
        world.begin(server, "alice")
    world.timers.pass_time(1)
    assert world.count("alice") == 4
    world.hub.buses["b"].is_cut_off = False
    world.timers.pass_time(10)
    assert world.count("alice") == 2


def test_a_new_server_knows_the_connections_to_the_others() -> None:
    world = World()
    for _ in range(2):
        world.connect("a", "alice")
    world.start("c")
    world.timers.pass_time(1)
    with pytest.raises(LimitExceeded):
        world.connect("c", "alice")


@pytest.mark.parametrize("dead", [True, False])
def test_connections_to_a_server_that_is_gone_count_no_longer(dead: bool) -> None:
    world = World()
    for _ in range(2):
        world.connect("a", "alice")
    if not dead:
        world.clusters["a"].members.stop()
    world.hub.buses["a"].is_cut_off = True
    world.timers.pass_time(BEAT + DEAD + CHECK if dead else 0.1)
    world.connect("b", "alice")
    world.quotas["b"].release("alice")
    assert world.quotas["b"].elsewhere == {}


def test_without_the_limit_nothing_is_told() -> None:
    world = World(per_client=0)
    before = world.hub.buses["a"].told
    world.quotas["a"].claim("alice")
    world.timers.pass_time(1)
    assert world.hub.buses["a"].told == before
    assert set(world.clusters["a"].versions) == {"presence"}


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_connection_that_came_last_is_closed_and_may_come_again(short_waits: None) -> None:
    async with run_servers("a", "b", max_connections_per_client=1) as servers:
        servers.hub.is_held = True
        async with servers["a"].client() as first, servers["b"].client() as last:
            waiting = servers.hub.buses["a"].waiting
            await eventually(lambda: [server for server, kind, _ in waiting if kind == KIND] == ["a", "b"])
            servers.hub.is_held = False
            servers.hub.deliver()
            assert await last.closed() == 1013
            await first.sync()
        await eventually(lambda: servers["a"].connections == 0)
        await eventually(lambda: not servers["b"].app[SERVICES].quotas.elsewhere)
        async with servers["b"].client() as again:
            await again.sync()
