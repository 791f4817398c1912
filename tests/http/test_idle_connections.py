"""Eviction of idle connections, with fake connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pubsub.http.idle_connections import MAX_CHECKS, Evictable, IdleConnections


class Fake(Evictable):
    """A fake connection, busy or not as a test sets it; ``peer`` is its other side."""

    def __init__(self) -> None:
        self.checks = 0
        self.busy = self.evicted = False
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)

    @property
    def is_busy(self) -> bool:
        self.checks += 1
        return self.busy

    def evict(self) -> None:
        self.evicted = True

    def close(self) -> None:
        self.sock.close()
        self.peer.close()


class Fakes:
    """Fake connections, numbered in the order in which they were opened."""

    def __init__(self, count: int) -> None:
        self.idle = IdleConnections()
        self.all: list[Fake] = []
        for _ in range(count):
            self.connect()

    def connect(self) -> Fake:
        fake = Fake()
        self.all.append(fake)
        self.idle.add(fake, fake.sock)
        return fake

    def evict_one(self) -> int:
        """Evict a connection, and return its number."""
        before = {number for number, fake in enumerate(self.all) if fake.evicted}
        self.idle.evict_idlest()
        (found,) = {number for number, fake in enumerate(self.all) if fake.evicted} - before
        return found

    def evict_all(self) -> list[int]:
        return [self.evict_one() for _ in range(len(self.idle))]


@pytest.fixture
def fakes(request: pytest.FixtureRequest) -> Iterator[Fakes]:
    found = Fakes(request.param)
    yield found
    for fake in found.all:
        fake.close()


def of(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fakes", [count], indirect=True)


@of(4)
def test_the_connection_that_has_been_idle_longest_is_evicted_first(fakes: Fakes) -> None:
    fakes.idle.touch(fakes.all[1])
    fakes.idle.remove(fakes.all[2])
    fakes.idle.remove(fakes.all[2])
    assert fakes.evict_all() == [0, 3, 1]
    fakes.idle.evict_idlest()
    assert len(fakes.idle) == 0


@of(1)
def test_an_evicted_connection_sees_the_end_of_the_stream(fakes: Fakes) -> None:
    fakes.evict_one()
    assert fakes.all[0].peer.recv(1) == b""


@of(2)
def test_a_connection_that_is_closed_already_is_evicted_all_the_same(fakes: Fakes) -> None:
    fakes.all[0].close()
    assert fakes.evict_all() == [0, 1]


@of(8)
def test_row_62_requests_in_progress_stay_while_others_are_idle(fakes: Fakes) -> None:
    for fake in fakes.all[:4]:
        fake.busy = True
    for idle_one in range(4, 12):
        fakes.connect()
        assert fakes.evict_one() == idle_one


@of(8)
def test_row_62_however_many_connect(fakes: Fakes) -> None:
    fakes.all[0].busy = True
    for _ in range(200):
        fakes.connect()
        assert fakes.evict_one() != 0


@of(8)
def test_row_62_requests_without_end_leave_a_quarter_to_those_who_connect(fakes: Fakes) -> None:
    for fake in fakes.all[:7]:
        fake.busy = True
    assert fakes.evict_one() == 0
    for idle_one in range(7, 10):
        fakes.connect()
        assert fakes.evict_one() == idle_one


@of(8)
def test_when_all_are_busy_the_oldest_is_evicted(fakes: Fakes) -> None:
    for fake in fakes.all:
        fake.busy = True
    assert fakes.evict_all() == list(range(8))


@of(8)
def test_a_busy_connection_is_idle_again_when_it_is_checked(fakes: Fakes) -> None:
    for fake in fakes.all[:7]:
        fake.busy = True
    assert fakes.evict_one() == 0
    for fake in fakes.all:
        fake.busy = False
    assert sorted(fakes.evict_all()) == list(range(1, 8))


@of(3)
def test_row_62_a_connection_with_unread_bytes_is_passed_over(fakes: Fakes) -> None:
    fakes.all[0].peer.send(b"GET")
    assert fakes.evict_all() == [1, 2, 0]


@of(8)
def test_bytes_that_are_no_request_are_worth_no_second_time(fakes: Fakes) -> None:
    for fake in fakes.all[:7]:
        fake.peer.send(b"G")
    assert fakes.evict_one() == 7
    for fake in fakes.all[:7]:
        fake.sock.recv(1)
        fake.peer.send(b"E")
    idle_one = fakes.connect()
    assert fakes.evict_one() == 0
    fakes.idle.touch(fakes.all[1])
    assert fakes.evict_one() == 2
    assert not idle_one.evicted


@of(2 * MAX_CHECKS)
def test_one_new_connection_costs_so_many_checks(fakes: Fakes) -> None:
    for fake in fakes.all:
        fake.busy = True
    fakes.evict_one()
    assert sum(fake.checks for fake in fakes.all) <= MAX_CHECKS


@of(100)
def test_a_connection_seen_busy_is_not_checked_for_each_new_one(fakes: Fakes) -> None:
    for fake in fakes.all[:50]:
        fake.busy = True
    for _ in range(50):
        fakes.evict_one()
    assert sum(fake.checks for fake in fakes.all) == 100
