"""Whose turn it is to make way: the rule, with visitors that are none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pubsub.http.idle_connections import LOOKS, Lobby, Visitor


class Guest(Visitor):
    """As busy as it is told to be, with a connection whose other side is ``peer``."""

    def __init__(self) -> None:
        self.looks = 0
        self.busy = self.gone = False
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)

    @property
    def is_busy(self) -> bool:
        self.looks += 1
        return self.busy

    def make_way(self) -> None:
        self.gone = True

    def close(self) -> None:
        self.sock.close()
        self.peer.close()


class Guests:
    """Guests who came in the order of their numbers."""

    def __init__(self, count: int) -> None:
        self.lobby = Lobby()
        self.everyone: list[Guest] = []
        for _ in range(count):
            self.come()

    def come(self) -> Guest:
        guest = Guest()
        self.everyone.append(guest)
        self.lobby.enter(guest, guest.sock)
        return guest

    def next_to_go(self) -> int:
        """The number of the guest that is sent away now."""
        before = {number for number, guest in enumerate(self.everyone) if guest.gone}
        self.lobby.send_quietest_away()
        (found,) = {number for number, guest in enumerate(self.everyone) if guest.gone} - before
        return found

    def next_to_go_all(self) -> list[int]:
        return [self.next_to_go() for _ in range(len(self.lobby))]


@pytest.fixture
def guests(request: pytest.FixtureRequest) -> Iterator[Guests]:
    found = Guests(request.param)
    yield found
    for guest in found.everyone:
        guest.close()


def of(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("guests", [count], indirect=True)


@of(4)
def test_who_has_been_quiet_longest_goes_first(guests: Guests) -> None:
    guests.lobby.stir(guests.everyone[1])
    guests.lobby.leave(guests.everyone[2])
    guests.lobby.leave(guests.everyone[2])
    assert guests.next_to_go_all() == [0, 3, 1]
    guests.lobby.send_quietest_away()
    assert len(guests.lobby) == 0


@of(1)
def test_who_goes_sees_the_end_of_the_stream(guests: Guests) -> None:
    guests.next_to_go()
    assert guests.everyone[0].peer.recv(1) == b""


@of(2)
def test_who_is_gone_already_is_sent_away_all_the_same(guests: Guests) -> None:
    guests.everyone[0].close()
    assert guests.next_to_go_all() == [0, 1]


@of(8)
def test_row_62_requests_in_progress_stay_while_others_are_quiet(guests: Guests) -> None:
    for guest in guests.everyone[:4]:
        guest.busy = True
    for quiet in range(4, 12):
        guests.come()
        assert guests.next_to_go() == quiet


@of(8)
def test_row_62_however_many_connect(guests: Guests) -> None:
    guests.everyone[0].busy = True
    for _ in range(200):
        guests.come()
        assert guests.next_to_go() != 0


@of(8)
def test_row_62_requests_without_end_leave_a_quarter_to_those_who_connect(guests: Guests) -> None:
    for guest in guests.everyone[:7]:
        guest.busy = True
    assert guests.next_to_go() == 0
    for quiet in range(7, 10):
        guests.come()
        assert guests.next_to_go() == quiet


@of(8)
def test_when_all_are_busy_the_oldest_goes(guests: Guests) -> None:
    for guest in guests.everyone:
        guest.busy = True
    assert guests.next_to_go_all() == list(range(8))


@of(8)
def test_who_was_busy_is_quiet_again_when_it_is_looked_at(guests: Guests) -> None:
    for guest in guests.everyone[:7]:
        guest.busy = True
    assert guests.next_to_go() == 0
    for guest in guests.everyone:
        guest.busy = False
    assert sorted(guests.next_to_go_all()) == list(range(1, 8))


@of(3)
def test_row_62_who_has_sent_what_is_not_read_is_passed_over(guests: Guests) -> None:
    guests.everyone[0].peer.send(b"GET")
    assert guests.next_to_go_all() == [1, 2, 0]


@of(8)
def test_bytes_that_are_no_request_are_worth_no_second_time(guests: Guests) -> None:
    for guest in guests.everyone[:7]:
        guest.peer.send(b"G")
    assert guests.next_to_go() == 7
    for guest in guests.everyone[:7]:
        guest.sock.recv(1)
        guest.peer.send(b"E")
    quiet = guests.come()
    assert guests.next_to_go() == 0
    guests.lobby.stir(guests.everyone[1])
    assert guests.next_to_go() == 2
    assert not quiet.gone


@of(2 * LOOKS)
def test_one_new_connection_is_worth_so_many_looks(guests: Guests) -> None:
    for guest in guests.everyone:
        guest.busy = True
    guests.next_to_go()
    assert sum(guest.looks for guest in guests.everyone) <= LOOKS


@of(100)
def test_who_was_seen_busy_is_not_looked_at_for_each_connection(guests: Guests) -> None:
    for guest in guests.everyone[:50]:
        guest.busy = True
    for _ in range(50):
        guests.next_to_go()
    assert sum(guest.looks for guest in guests.everyone) == 100
