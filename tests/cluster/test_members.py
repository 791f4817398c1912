"""Servers that come and go, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pubsub.cluster.members import BEAT, CHECK, CUT_OFF, DEAD, SOON, Members
from tests.cluster.buses import Hub
from tests.cluster.timers import Timers


class Log:
    """A Circle that writes down what it is told."""

    def __init__(self) -> None:
        self.versions: Mapping[str, int] = {"presence": 7}
        self.heeded: dict[str, Mapping[str, int]] = {}
        self.lost: list[tuple[str, bool]] = []

    def heed(self, server: str, versions: Mapping[str, int]) -> None:
        self.heeded[server] = versions

    def lose(self, server: str, *, dead: bool) -> None:
        self.lost.append((server, dead))


class World:
    def __init__(self, *servers: str) -> None:
        self.hub = Hub()
        self.timers = Timers(self.hub.deliver)
        self.logs: dict[str, Log] = {}
        self.members: dict[str, Members] = {}
        for server in servers:
            self.start(server)

    def start(self, server: str) -> None:
        log = self.logs[server] = Log()
        bus = self.hub.join(server)
        members = self.members[server] = Members(bus, log, self.timers.time, self.timers.call_later)
        members.start()
        self.hub.deliver()

    def kill(self, server: str) -> None:
        """End without a word."""
        self.hub.buses[server].is_cut_off = True

    def others(self, server: str) -> set[str]:
        return set(self.members[server].others)


@pytest.fixture
def world() -> World:
    world = World("a", "b", "c")
    world.timers.pass_time(SOON)
    return world


def test_servers_know_each_other_soon(world: World) -> None:
    assert {server: world.others(server) for server in "abc"} == {"a": {"b", "c"}, "b": {"a", "c"}, "c": {"a", "b"}}
    assert [world.members[server].count for server in "abc"] == [3, 3, 3]
    assert [world.members[server].is_first for server in "abc"] == [True, False, False]
    assert world.logs["c"].heeded == {"a": {"presence": 7}, "b": {"presence": 7}}


def test_a_server_alone_is_one(world: World) -> None:
    alone = World("a")
    assert alone.members["a"].count == 1
    assert alone.members["a"].is_first
    assert not alone.members["a"].is_cut_off


def test_servers_that_live_stay(world: World) -> None:
    world.timers.pass_time(10 * DEAD)
    assert world.logs["a"].lost == world.logs["b"].lost == []
    assert world.hub.buses["a"].told <= 10 * DEAD / BEAT + 4


def test_a_server_that_ends_is_gone_at_once(world: World) -> None:
    world.members["b"].stop()
    world.hub.deliver()
    assert world.logs["a"].lost == world.logs["c"].lost == [("b", False)]
    world.timers.pass_time(2 * DEAD)
    assert world.others("a") == {"c"}
    assert len(world.logs["a"].lost) == 1


def test_a_server_that_was_seen_to_end_is_gone_at_once(world: World) -> None:
    world.kill("b")
    for server in "ac":
        world.members[server].end("b")
    assert world.logs["a"].lost == world.logs["c"].lost == [("b", False)]
    world.members["a"].end("b")
    world.hub.buses["b"].is_cut_off = False
    world.timers.pass_time(BEAT + CHECK)
    assert world.others("a") == {"b", "c"}, "it was wrong"


def test_a_server_that_is_killed_is_dead_after_12_seconds(world: World) -> None:
    world.timers.pass_time(BEAT + 0.1)
    world.kill("b")
    world.timers.pass_time(DEAD - BEAT - 0.2)
    assert world.logs["a"].lost == []
    world.timers.pass_time(BEAT + CHECK + 0.2)
    assert world.logs["a"].lost == world.logs["c"].lost == [("b", True)]


def test_a_server_that_is_cut_off_declares_nobody_dead(world: World) -> None:
    world.kill("b")
    world.timers.pass_time(3 * DEAD)
    assert world.members["b"].is_cut_off
    assert world.logs["b"].lost == []
    assert world.logs["a"].lost == [("b", True)]
    world.hub.buses["b"].is_cut_off = False
    world.timers.pass_time(BEAT + CHECK)
    assert not world.members["b"].is_cut_off
    assert world.others("a") == {"b", "c"}
    world.timers.pass_time(2 * DEAD)
    assert world.logs["b"].lost == []


def test_an_engine_that_is_away_kills_nobody(world: World) -> None:
    for server in "abc":
        world.kill(server)
    world.timers.pass_time(5 * DEAD)
    for server in "abc":
        world.hub.buses[server].is_cut_off = False
    world.timers.pass_time(2 * DEAD)
    assert [world.logs[server].lost for server in "abc"] == [[], [], []]


def test_a_process_that_was_stopped_does_not_bury_the_others(world: World) -> None:
    """Its timers run before it reads what has come meanwhile."""
    world.timers.now += 5 * DEAD
    world.hub.buses["b"].is_cut_off = True  # nothing is read yet
    world.members["b"]._check()
    assert world.logs["b"].lost == []


def test_many_new_servers_get_few_answers() -> None:
    world = World("a")
    before = world.hub.buses["a"].told
    for number in range(100):
        world.start(f"n{number}")
    world.timers.pass_time(1.0)
    assert world.hub.buses["a"].told - before <= 3
    assert world.members["n99"].count == world.members["a"].count == 101


def test_one_lost_sign_of_life_changes_nothing(world: World) -> None:
    assert 2 * BEAT < CUT_OFF < 3 * BEAT <= DEAD
    world.kill("b")
    world.timers.pass_time(BEAT + 0.1)
    world.hub.buses["b"].is_cut_off = False
    world.timers.pass_time(2 * BEAT)
    assert world.logs["a"].lost == world.logs["b"].lost == []
    assert not world.members["b"].is_cut_off
