"""Sockets from systemd by LISTEN_FDS: those that a server takes, and those that it refuses."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pubsub.system import activation
from pubsub.system.activation import ActivationError, take_sockets


@pytest.fixture(autouse=True)
def first(monkeypatch: pytest.MonkeyPatch) -> int:
    """Replace the first descriptor (3), which is in use in a test process, by a free one; return it."""
    number = 100
    monkeypatch.setattr(activation, "FIRST", number)
    return number


@pytest.fixture
def hand_over(first: int) -> Iterator[Callable[..., dict[str, str]]]:
    """Return a function that duplicates sockets or descriptors to the expected numbers and returns the environment."""
    given: list[int] = []

    def hand_over(*found: socket.socket | int, **more: str) -> dict[str, str]:
        for number, each in enumerate(found, first):
            os.dup2(each if isinstance(each, int) else each.fileno(), number)
            given.append(number)
        return {"LISTEN_FDS": str(len(found)), "LISTEN_PID": str(os.getpid()), "HOME": "/", **more}

    yield hand_over
    for number in given:
        try:
            os.close(number)
        except OSError:
            continue


HandOver = Callable[..., dict[str, str]]


def listening_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock


def test_without_variables_there_are_none() -> None:
    assert take_sockets({"HOME": "/"}) == []


def test_each_is_taken_in_order_and_the_variables_are_gone(
    hand_over: HandOver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as tcp, listening_unix("s") as unix:
        environment = hand_over(tcp, unix, LISTEN_FDNAMES="http:unix", LISTEN_PIDFDID="1")
        taken = take_sockets(environment)
        assert environment == {"HOME": "/"}
        assert [each.getsockname() for each in taken] == [tcp.getsockname(), "s"]
        assert not any(each.get_inheritable() or each.getblocking() for each in taken)
        for each in taken:
            each.close()


@pytest.mark.parametrize("pid", ["1", "", "x", str(os.getppid())])
def test_those_of_another_process_are_not_taken(hand_over: HandOver, pid: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        environment = hand_over(tcp, LISTEN_PID=pid)
        assert take_sockets(environment) == []
        assert environment == {"HOME": "/"}


def test_none_may_be_handed_over(hand_over: HandOver) -> None:
    assert take_sockets(hand_over()) == []


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5", "²"])
def test_a_count_that_is_none(hand_over: HandOver, count: str) -> None:
    environment = hand_over(LISTEN_FDS=count)
    with pytest.raises(ActivationError, match=r"LISTEN_FDS: got .*, expected a whole number"):
        take_sockets(environment)
    assert environment == {"HOME": "/"}


def a_file() -> int:
    return os.open(os.devnull, os.O_RDWR)


def a_datagram_socket() -> socket.socket:
    return socket.socket(type=socket.SOCK_DGRAM)


def a_connection() -> socket.socket:
    return socket.socketpair()[0]


def a_socket_at_rest() -> socket.socket:
    return socket.socket()


@pytest.mark.parametrize("make", [a_file, a_datagram_socket, a_connection, a_socket_at_rest])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_does_not_listen_is_told(hand_over: HandOver, first: int, make: Callable[[], socket.socket | int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        environment = hand_over(tcp, made := make(), LISTEN_FDNAMES="http:wrong")
        expected = rf"LISTEN_FDS: descriptor {first + 1} \(wrong\): got .*, expected a listening socket of TCP or Unix"
        with pytest.raises(ActivationError, match=expected):
            take_sockets(environment)
        if isinstance(made, int):
            os.close(made)


def test_a_descriptor_that_is_not_open_is_told(hand_over: HandOver, first: int) -> None:
    with pytest.raises(ActivationError, match=rf"descriptor {first}: got nothing"):
        take_sockets(hand_over(LISTEN_FDS="1"))
