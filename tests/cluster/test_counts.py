"""Counts of several servers, of which messages are lost or late: in the end each server knows those of all others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from functools import partial

import pytest

from pubsub.cluster.copies import REMOVED
from pubsub.cluster.counts import ASKERS, AT_ONCE, GATHERED, LOOKED_AT, Changes, OwnCounts, decode
from pubsub.cluster.members import BEAT, CHECK, DEAD, SOON, Members
from pubsub.cluster.shared_counts import SharedCounts
from tests.cluster.buses import Hub
from tests.cluster.timers import Timers

HEALED = 4 * BEAT + SOON  # seconds: two signs of life, one of which may just have gone, and the copies

Counted = Counter[tuple[str, str]]


class Book:
    """A Counter of one server, and what it was told of the others."""

    def __init__(self) -> None:
        self.own: Counted = Counter()
        self.others: Counted = Counter()
        self.dead: list[bool] = []

    def count(self, group: str, name: str) -> int:
        return self.own[group, name]

    @property
    def groups(self) -> list[str]:
        return sorted({group for group, _ in +self.own})

    def names_in(self, group: str) -> list[str]:
        return [name for each, name in +self.own if each == group]

    def change(self, group: str, name: str, more: int, *, dead: bool) -> None:
        self.others[group, name] += more
        assert self.others[group, name] >= 0
        self.dead.append(dead)


class Server:
    """A server with members and counts of one kind. It is a Circle."""

    def __init__(self, world: World, name: str) -> None:
        self.bus = world.hub.join(name)
        self.book = Book()
        timers = world.timers
        self.members = Members(self.bus, self, timers.time, timers.call_later)
        self.counts = SharedCounts(
            self.bus,
            "counts",
            self.book,
            is_alone=lambda: not self.members.others,
            now=timers.time,
            call_later=timers.call_later,
            take_turn=timers.take_turn,
        )
        self.members.start()

    @property
    def versions(self) -> dict[str, int]:
        return {"counts": self.counts.own.version}

    def heed(self, server: str, versions: Mapping[str, int]) -> None:
        self.counts.copies.heed(server, versions["counts"])

    def lose(self, server: str, *, dead: bool) -> None:
        self.counts.copies.lose(server, dead=dead)

    def set(self, group: str, name: str, count: int) -> None:
        self.book.own[group, name] = count
        self.counts.touch(group, name)


class World:
    def __init__(self, names: str = "abc", *, seed: int = 0, loss: float = 0.0, late: float = 0.0) -> None:
        self.hub = Hub(seed, loss=loss, late=late)
        self.timers = Timers(self.hub.deliver)
        self.servers = {name: Server(self, name) for name in names}
        self.timers.pass_time(1)

    def heal(self) -> None:
        self.hub.loss = self.hub.late = 0
        self.timers.pass_time(HEALED)

    def check(self) -> None:
        """All know all."""
        living = {name: server for name, server in self.servers.items() if not server.bus.is_cut_off}
        for name, server in living.items():
            others: Counted = sum((each.book.own for other, each in living.items() if other != name), Counter())
            assert +server.book.others == +others, name
            assert Counter(dict(known_by(server))) == +others


def known_by(server: Server) -> Counted:
    found: Counted = Counter()
    for group in ("x", "y"):
        for name, count in server.counts.of(group):
            found[group, name] += count
    return found


def test_a_change_is_known_soon() -> None:
    world = World()
    world.servers["a"].set("x", "alice", 2)
    world.timers.pass_time(GATHERED)
    assert world.servers["b"].book.others == {("x", "alice"): 2}
    world.servers["a"].set("x", "alice", 0)
    world.servers["b"].set("x", "alice", 1)
    world.timers.pass_time(GATHERED)
    world.check()


def test_changes_are_told_together() -> None:
    """10,000 clients that enter a topic in one tick are 20 messages."""
    world = World()
    before = world.hub.buses["a"].told
    for number in range(10_000):
        world.servers["a"].set("x", f"c{number}", 1)
    world.timers.pass_time(GATHERED)
    assert world.hub.buses["a"].told - before == 10_000 / AT_ONCE
    world.check()


def test_changes_that_cancel_each_other_are_one_count() -> None:
    world = World()
    told: list[Changes] = []
    world.hub.buses["b"].hear("counts", lambda _, data: told.append(decode(data)))
    for count in (1, 2, 1):
        world.servers["a"].set("x", "alice", count)
    world.timers.pass_time(1)
    assert told == [Changes(world.servers["a"].counts.own.version, {"x": {"alice": 1}})]


def test_a_message_is_never_larger_than_the_bus_allows() -> None:
    """MemoryBus checks it: changes, and copies too."""
    world = World()
    names = [f"{number:04}" + "\N{ROCKET}" * 252 for number in range(1000)]
    for name in names:
        world.servers["a"].set("t" * 255, name, 1)
    world.timers.pass_time(1)
    world.servers["d"] = Server(world, "d")
    world.timers.pass_time(2)
    for server in "bd":
        assert world.servers[server].book.others == {("t" * 255, name): 1 for name in names}


class Rooms(Book):
    """A Book with many groups, of which only the last has a count here. ``looked``: groups since the last step."""

    looked = longest = 0

    @property
    def groups(self) -> list[str]:
        return [f"room.{number}" for number in range(5 * LOOKED_AT)]

    def names_in(self, group: str) -> list[str]:
        self.looked += 1
        self.longest = max(self.longest, self.looked)
        return ["c"] if group.endswith(f".{5 * LOOKED_AT - 1}") else []

    def end_step(self) -> None:
        self.looked = 0


def test_groups_without_counts_here_are_looked_at_in_steps() -> None:
    rooms = Rooms()
    rooms.own[f"room.{5 * LOOKED_AT - 1}", "c"] = 1
    timers = Timers(rooms.end_step)
    bus = Hub().join("a")
    own = OwnCounts(bus, "counts", rooms, is_alone=lambda: False, call_later=timers.call_later)
    own.copy()
    timers.pass_time(1)
    assert rooms.longest == LOOKED_AT
    assert bus.told == 2  # the count, and the end


def test_a_server_alone_tells_nothing() -> None:
    world = World("a")
    before = world.hub.buses["a"].told
    for number in range(1000):
        world.servers["a"].set("x", f"c{number}", 1)
    world.timers.pass_time(1)
    assert world.hub.buses["a"].told == before


def test_a_new_server_learns_everything() -> None:
    world = World("a")
    for number in range(5 * AT_ONCE):
        world.servers["a"].set("xy"[number % 2], f"c{number}", 1)
    world.timers.pass_time(1)
    world.servers["b"] = Server(world, "b")
    world.timers.pass_time(ASKERS)
    assert not world.servers["b"].counts.copies.are_complete
    world.timers.pass_time(SOON)
    assert world.servers["b"].counts.copies.are_complete
    world.check()


def test_changes_during_a_copy_are_not_lost() -> None:
    world = World("a")
    for number in range(3 * AT_ONCE):
        world.servers["a"].set("x", f"c{number}", 1)
    world.servers["b"] = Server(world, "b")
    for step in range(200):
        world.servers["a"].set("x", f"c{step * 7 % (3 * AT_ONCE)}", step % 3)
        world.servers["a"].set("x", f"n{step}", 1)
        world.timers.pass_time(0.003)
    world.timers.pass_time(0.1)
    world.check()


def test_a_server_that_ends_takes_its_counts_with_it() -> None:
    world = World()
    for name in "ab":
        for number in range(2 * REMOVED):
            world.servers[name].set("x", f"c{number}", 1)
    world.timers.pass_time(1)
    world.check()
    world.servers["a"].members.stop()
    world.hub.buses["a"].is_cut_off = True
    world.timers.pass_time(1)
    world.check()
    assert set(world.servers["b"].book.dead) == {False}


def test_a_dead_server_loses_its_counts_within_15_seconds() -> None:
    world = World()
    world.servers["a"].set("x", "alice", 1)
    world.timers.pass_time(BEAT)
    world.hub.buses["a"].is_cut_off = True
    world.timers.pass_time(DEAD + CHECK)
    world.check()
    assert world.servers["b"].book.dead == [False, True]


def test_a_server_that_was_cut_off_is_known_again() -> None:
    world = World()
    world.servers["a"].set("x", "alice", 1)
    world.servers["b"].set("x", "bob", 1)
    world.timers.pass_time(1)
    world.hub.buses["a"].is_cut_off = True
    world.timers.pass_time(2 * DEAD)
    world.servers["a"].set("x", "anna", 1)
    world.servers["b"].set("x", "bob", 0)
    world.timers.pass_time(1)
    world.hub.buses["a"].is_cut_off = False
    world.heal()
    world.check()


def test_a_group_that_has_ended_is_forgotten_everywhere() -> None:
    world = World()
    world.servers["a"].set("x", "alice", 1)
    world.servers["a"].set("y", "alice", 1)
    world.timers.pass_time(1)
    world.servers["b"].counts.copies.forget("x")
    assert known_by(world.servers["b"]) == {("y", "alice"): 1}
    world.servers["a"].set("x", "alice", 0)
    world.timers.pass_time(1)
    assert world.servers["b"].counts.copies.are_complete


@pytest.mark.parametrize("seed", range(20))
def test_lost_and_late_messages_heal(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, so that every step is between two others."""
    for place in ("counts.AT_ONCE", "copies.REMOVED"):
        monkeypatch.setattr(f"pubsub.cluster.{place}", 3)
    chance = random.Random(seed)
    world = World(seed=seed, loss=0.2, late=0.3)
    for step in range(300):
        server = world.servers[chance.choice("abc")]
        server.set(chance.choice("xy"), f"c{chance.randrange(12)}", chance.randrange(3))
        if chance.random() < 0.02:
            bus = server.bus
            bus.is_cut_off = True
            world.timers.call_later(chance.uniform(0, 2 * DEAD), partial(setattr, bus, "is_cut_off", False))
        world.timers.pass_time(chance.choice((0, 0, 0.01, 0.1, 1)))
        if step == 150:
            world.servers["d"] = Server(world, "d")
    world.timers.pass_time(2 * DEAD)
    world.heal()
    world.check()
