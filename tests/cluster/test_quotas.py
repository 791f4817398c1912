"""The limit of a client's connections, over several servers."""

from __future__ import annotations

import pytest

from pubsub.auth.quotas import Quotas
from pubsub.cluster.cluster import Cluster
from pubsub.cluster.members import BEAT, CHECK, DEAD
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import LimitExceeded
from tests.cluster.buses import Hub
from tests.cluster.timers import Timers


class World:
    def __init__(self, names: str = "ab", *, per_client: int = 2) -> None:
        self.hub = Hub()
        self.timers = Timers(self.hub.deliver)
        self.quotas: dict[str, Quotas] = {}
        self.clusters: dict[str, Cluster] = {}
        for name in names:
            self.start(name, per_client)
        self.timers.pass_time(1)

    def start(self, name: str, per_client: int = 2) -> None:
        clock = Clock(lambda: 0, self.timers.time)
        broker = Broker(defer=self.timers.take_turn, clock=clock, memory=MemoryJournal(clock), ring_size=1)
        quotas = self.quotas[name] = Quotas(in_all=0, per_client=per_client)
        cluster = self.clusters[name] = Cluster(
            self.hub.join(name), broker, quotas, now=self.timers.time, call_later=self.timers.call_later
        )
        cluster.members.start()

    def connect(self, server: str, client: str) -> None:
        self.quotas[server].check_claim(client)
        self.quotas[server].claim(client)
        self.timers.pass_time(0.1)


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
