"""Unix sockets to listen on: socket files that are replaced, files that are not, and the file after the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pubsub.system import unix_socket
from pubsub.system.unix_socket import LONGEST, bind_unix, check_path, path_of
from tests.harness import new_id

PATH = "pubsub.sock"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a test's directory: its full path can be too long for a socket."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bind(path: str = PATH, mode: int = 0o660) -> socket.socket:
    return bind_unix(path, mode=mode, backlog=8)


def answers(path: str = PATH) -> bool:
    """True if a client can connect."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def leave_stale(kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Leave a socket file without a server, as a killed server does."""
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(PATH)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o000])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_mode_is_the_one_that_is_asked_for(mode: int, mask: int) -> None:
    before = os.umask(mask)
    try:
        with bind(mode=mode):
            assert stat.S_IMODE(os.stat(PATH).st_mode) == mode
    finally:
        os.umask(before)


def test_its_file_is_removed_when_it_is_closed() -> None:
    listener = bind()
    assert answers()
    listener.close()
    listener.close()
    assert not os.path.lexists(PATH)


def test_its_file_is_removed_from_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = bind()
    monkeypatch.chdir("/")
    listener.close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone_already_does_not_matter() -> None:
    listener = bind()
    os.unlink(PATH)
    listener.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_file_that_a_dead_server_left_is_replaced(kind: socket.SocketKind) -> None:
    leave_stale(kind)
    with bind():
        assert answers()
    assert not os.path.lexists(PATH)


def test_the_file_of_a_server_that_lives_is_not_replaced() -> None:
    with bind() as living:
        with pytest.raises(OSError, match="another server listens there") as refused:
            bind()
        assert refused.value.errno == errno.EADDRINUSE
        living.accept()[0].close()  # the connection by which bind() found it
        assert answers()


def test_nor_that_of_a_server_with_a_full_queue() -> None:
    with bind(), contextlib.ExitStack() as waiting:
        while True:
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(PATH) == errno.EAGAIN:
                break
        with pytest.raises(OSError, match="another server listens there"):
            bind()


def test_nor_a_datagram_socket_that_is_in_use() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(PATH)
        with pytest.raises(OSError, match="another server listens there"):
            bind()


def make_file() -> None:
    Path(PATH).write_text("important")


def make_directory() -> None:
    Path(PATH).mkdir()


def make_link() -> None:
    Path(PATH).symlink_to("elsewhere")


@pytest.mark.parametrize("make", [make_file, make_directory, make_link])
def test_what_is_not_a_socket_is_left_alone(make: object) -> None:
    assert callable(make)
    make()
    before = os.lstat(PATH)
    with pytest.raises(FileExistsError, match="not a socket"):
        bind()
    assert os.lstat(PATH).st_ino == before.st_ino


def test_the_file_of_another_server_that_has_replaced_it_stays() -> None:
    old = bind()
    os.unlink(PATH)
    with bind():
        old.close()
        assert answers()


def test_of_servers_that_start_at_once_one_listens_and_the_others_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds the stale file of a dead server; none may remove a socket that another has bound since."""
    ask = unix_socket._is_alive

    def ask_and_wait(path: str) -> bool:
        alive = ask(path)
        time.sleep(0.01)  # in this time the others try too
        return alive

    monkeypatch.setattr(unix_socket, "_is_alive", ask_and_wait)

    def start(_: int) -> socket.socket | int | None:
        try:
            return bind()
        except OSError as error:
            return error.errno

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            leave_stale()
            found = list(pool.map(start, range(8)))
            assert found.count(errno.EADDRINUSE) == 7
            assert answers()
            for each in found:
                if isinstance(each, socket.socket):
                    each.close()


def test_a_directory_that_stays_locked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_socket, "LOCK_WAIT", 0.05)
    descriptor = os.open(".", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="locked the directory"):
        bind()
    os.close(descriptor)
    bind().close()


def test_a_directory_that_is_not_there_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        bind("missing/pubsub.sock")


def test_no_descriptor_stays_open_when_it_fails() -> None:
    make_file()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(OSError, match="not a socket"):
            bind()
        with pytest.raises(FileNotFoundError):
            bind("missing/pubsub.sock")
    assert os.listdir("/proc/self/fd") == before


def test_an_abstract_socket_has_no_file() -> None:
    name = f"@{new_id()}"
    with bind(name) as listener:
        assert answers("\0" + name[1:])
        assert path_of(listener.getsockname()) == name
        assert not os.listdir()
        with pytest.raises(OSError, match="in use"):
            bind(name)
    bind(name).close()


def test_a_path_may_be_as_long_as_the_system_allows() -> None:
    for longest in ("x" * LONGEST, "@" + "x" * LONGEST):
        check_path(longest)
        bind(longest).close()


@pytest.mark.parametrize("path", ["", "@", "x" * (LONGEST + 1), "@" + "x" * (LONGEST + 1), "é" * 54, "a\0b"])
def test_a_path_that_no_socket_can_have(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        check_path(path)
