"""Messages to systemd, as it would get them: datagrams at NOTIFY_SOCKET."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubsub.system.service_manager import tell_end, watchdog_period
from tests.harness import PATIENCE, ForkedServer
from tests.workers.serving import WorkersProcess


@pytest.fixture
def hearing(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(os.path.relpath(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_tells_that_it_serves_runs_and_ends(hearing: socket.socket, workers: int) -> None:
    environment = {"NOTIFY_SOCKET": os.path.abspath(hearing.getsockname()), "WATCHDOG_USEC": "100000"}
    with (
        ForkedServer(environment=environment) if workers == 1 else WorkersProcess(2, environment=environment) as server
    ):
        assert [hearing.recv(100) for _ in range(4)] == [b"READY=1"] + [b"WATCHDOG=1"] * 3
        server.process.send_signal(signal.SIGTERM)
        while (told := hearing.recv(100)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"
        assert server.wait() == 0


def test_a_watchdog_of_another_process_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_period() == 30
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_period() == 0


def test_a_socket_that_is_gone_or_full_does_no_harm(hearing: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", hearing.getsockname())
    for _ in range(10_000):
        tell_end()
    monkeypatch.setenv("NOTIFY_SOCKET", "missing")
    tell_end()
