"""A server on sockets that another process opened: the test acts as systemd, which keeps them over a restart."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.harness import (
    NOWHERE,
    PATIENCE,
    REPOSITORY,
    RawClient,
    ServerProcess,
    clean_environment,
    free_port,
    on_one_loop,
)

# The steps of systemd between fork and exec: descriptors from 3 on, and the id of the process.
LAUNCH = """\
import os, sys, fcntl
count = int(sys.argv[1])
kept = [fcntl.fcntl(int(descriptor), fcntl.F_DUPFD, 100) for descriptor in sys.argv[2 : 2 + count]]
for place, descriptor in enumerate(kept, 3):
    os.dup2(descriptor, place)
    os.close(descriptor)
os.environ.setdefault("LISTEN_FDS", str(count))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "pubsub", "serve", *sys.argv[2 + count :]])
"""
# Each Python process of the server loads this; the one that reads the settings reports what it has inherited.
SPY = """\
import json, os, sys
if "pubsub.settings_reader" in sys.orig_argv:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    with open(os.environ["SPY"], "w") as told:
        json.dump({"variables": sorted(os.environ), "links": links}, told)
"""


def launch(handed_over: Sequence[socket.socket | int], *flags: str, **environment: str) -> subprocess.Popen[str]:
    numbers = [each if isinstance(each, int) else each.fileno() for each in handed_over]
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(len(numbers)), *map(str, numbers), "--data-dir", NOWHERE, *flags],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)} | environment,
        pass_fds=numbers,
        stderr=subprocess.PIPE,
        text=True,
    )


class ActivatedServer(ServerProcess):
    """A server that inherits its sockets; HOST is an address on which it could not listen."""

    def __init__(self, *handed_over: socket.socket, **environment: str) -> None:
        self.process = launch(handed_over, "--host", "192.0.2.1", **environment)
        self.log = ""
        self.read_log_until("Sockets taken over")
        for _ in handed_over:
            self.read_log_until("Listening on")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a short path, as a Unix socket needs."""
    return os.path.relpath(tmp_path / "s")


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=100)


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


async def ask_for_health(port: int) -> RawClient:
    client = await RawClient.connect_tcp(port)
    await client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    return client


@on_one_loop
async def test_it_serves_on_each_socket_in_place_of_host_and_port(tmp_path: Path, path: str) -> None:
    with listening() as first, listening() as second, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        with ActivatedServer(first, second, unix) as server:
            for sock in (first, second):
                assert f"[INFO] Listening on http://127.0.0.1:{port_of(sock)}\n" in server.log
                assert (await (await ask_for_health(port_of(sock))).read_response())[0] == 200
            async with aiohttp.ClientSession("http://x", connector=aiohttp.UnixConnector(path)) as http:
                async with http.get("/health") as response:
                    assert response.status == 200
                async with http.ws_connect("/ws?client_id=alice"):
                    pass
            assert f"[INFO] Listening on unix:{path}\n" in server.log
            assert server.stop() == 0
            assert "Traceback" not in server.log
            assert os.listdir(tmp_path) == ["s"], "the file belongs to systemd"


@on_one_loop
async def test_a_restart_refuses_no_connection(path: str) -> None:
    """A client that connects while no server runs gets its answer from the next one."""
    with listening() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        port = port_of(tcp)
        with ActivatedServer(tcp, unix) as server:
            assert (await (await ask_for_health(port)).read_response())[0] == 200
            assert server.stop() == 0
            waiting = [await ask_for_health(port) for _ in range(50)]
            websocket = asyncio.ensure_future(RawClient.connect(port))
            over_unix = asyncio.ensure_future(health_over_unix(path))
            await asyncio.sleep(0.1)
            assert not websocket.done()
            with ActivatedServer(tcp, unix) as following:
                for client in waiting:
                    assert (await client.read_response())[0] == 200
                assert await over_unix == 200
                await (await websocket).send_text({"type": "ping"})
                assert (await websocket.result().receive())["type"] == "pong"
                assert following.stop() == 0


async def health_over_unix(path: str) -> int:
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession("http://x", connector=connector) as http, http.get("/health") as response:
        return response.status


@on_one_loop
async def test_while_it_shuts_down_new_connections_wait_for_the_next_one() -> None:
    with listening() as tcp, ActivatedServer(tcp) as server:
        client = await RawClient.connect(port_of(tcp))
        server.process.send_signal(signal.SIGTERM)
        assert await client.close_code() == 1001  # it comes after the server has stopped accepting
        late = await ask_for_health(port_of(tcp))
        assert server.wait() == 0
        with ActivatedServer(tcp):
            assert (await late.read_response())[0] == 200


def test_the_process_that_reads_the_settings_inherits_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPY)
    told = tmp_path / "told"
    with listening() as tcp:
        inode = os.fstat(tcp.fileno()).st_ino
        paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
        with ActivatedServer(tcp, PYTHONPATH=paths, SPY=str(told), LISTEN_FDNAMES="http") as server:
            found = json.loads(told.read_text())
            assert server.stop() == 0
    assert "PYTHONPATH" in found["variables"]
    assert not [name for name in found["variables"] if name.startswith("LISTEN_")]
    assert f"socket:[{inode}]" not in found["links"]


def test_the_variables_of_another_process_do_not_count() -> None:
    with ServerProcess(environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"}) as server:
        assert "taken over" not in server.log
        assert server.stop() == 0


@pytest.mark.parametrize("kind", ["a file", "datagrams"])
def test_what_can_not_be_listened_on_stops_the_start(kind: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, open(os.devnull) as file:
        process = launch([datagrams if kind == "datagrams" else file.fileno()])
        _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert told.startswith("pubsub: LISTEN_FDS: descriptor 3: got ")
    assert told.count("\n") == 1


def test_only_what_other_machines_reach_is_warned_of() -> None:
    with listening() as tcp, ActivatedServer(tcp) as server:
        assert server.stop() == 0
        assert "Anyone" not in server.log
    with socket.create_server(("0.0.0.0", 0)) as tcp, ActivatedServer(tcp) as server:
        assert server.stop() == 0
        assert "Anyone who reaches 0.0.0.0 may" in server.log


def activate_by_systemd(port: int) -> subprocess.Popen[bytes]:
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", f"--setenv=PYTHONPATH={REPOSITORY}"]
    return subprocess.Popen([*command, sys.executable, "-m", "pubsub", "serve"], stderr=subprocess.PIPE)


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
@on_one_loop
async def test_under_systemds_own_hand() -> None:
    port = free_port()
    with activate_by_systemd(port) as process:
        try:
            assert process.stderr is not None
            while b"Listening on" not in (line := process.stderr.readline()):
                assert line, "the server has ended"
            async with asyncio.timeout(PATIENCE):
                client = await ask_for_health(port)  # its connection starts the server
                assert (await client.read_response())[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0
        finally:
            process.kill()
