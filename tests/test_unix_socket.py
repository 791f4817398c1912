"""A whole server on a Unix socket: access, the rows of its clients, and the files that remain after its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from certificate import trusting, write_certificate

from tests.forked import ForkedProcess
from tests.harness import (
    NOWHERE,
    REPOSITORY,
    Client,
    RawClient,
    ServerProcess,
    clean_environment,
    new_id,
    on_one_loop,
    publish_request,
)

NAME = "pubsub.sock"
PAYLOAD = "x" * 40_000


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "pubsub", *flags]


def environment() -> dict[str, str]:
    return clean_environment() | {"PYTHONPATH": str(REPOSITORY)}


class UnixServerProcess(ServerProcess):
    """A server on the socket ``pubsub.sock`` of a directory, or on ``host``."""

    def __init__(self, directory: Path, *flags: str, host: str = f"unix:{NAME}") -> None:
        self.process = ForkedProcess(["--host", host, "--data-dir", NOWHERE, *flags], directory, environment())
        self.log = ""
        self.directory = directory
        self.path = self.read_log_until(r"Listening on (?:https\+)?unix:(.+)")[1]
        if not self.path.startswith("@"):
            self.path = os.path.relpath(directory / self.path)  # a short path, as a socket needs

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession("http://x", connector=aiohttp.UnixConnector(self.path))

    async def raw_client(self, name: str) -> RawClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.setblocking(False)
        client = RawClient(sock)
        await client.send(handshake(name))
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return client


def handshake(name: str) -> bytes:
    return (
        f"GET /ws?client_id={name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnixServerProcess]:
    """A server for the tests that need nothing of their own."""
    with UnixServerProcess(tmp_path_factory.mktemp("shared")) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


async def talk(http: aiohttp.ClientSession) -> None:
    """Create a topic, and publish to it as its subscriber."""
    topic = f"t{new_id()}"
    async with http.post("/topics", json={"name": topic}) as response:
        assert response.status == 201
    async with http.ws_connect("/ws?client_id=tester", autoping=False) as websocket:
        client = Client(websocket)
        await client.subscribe(topic)
        await client.publish(topic, {"a": 1})
        messages = client.others or [await client.receive()]
        assert messages[0]["message"]["payload"] == {"a": 1}


def run(directory: Path, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        command(*flags),
        cwd=directory,
        env=environment() | settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@on_one_loop
async def test_it_serves_rest_and_websocket_and_ends_without_a_trace(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path) as server:
        async with server.session() as http:
            await talk(http)
            async with http.get("/clients") as response:
                assert (await response.json())["clients"] == []
        assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o660
        assert f"[INFO] Listening on unix:{NAME}\n" in server.log
        assert server.stop() == 0
        assert "Anyone" not in server.log, "a Unix socket is protected by its file mode"
        assert "Traceback" not in server.log
        assert not os.listdir(tmp_path)


@on_one_loop
async def test_the_port_does_not_count_and_the_mode_is_that_of_the_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags = ("--port", str(taken.getsockname()[1]), "--socket-mode", "600")
        with UnixServerProcess(tmp_path, *flags) as server:
            assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
            async with server.session() as http:
                await talk(http)


@on_one_loop
async def test_a_clients_row_has_no_traffic(shared: UnixServerProcess) -> None:
    """The kernel counts traffic only for TCP."""
    client = await shared.raw_client("alice")
    async with shared.session() as http, http.get("/clients") as response:
        (row,) = (await response.json())["clients"]
    assert (row["client_id"], row["bytes_in"], row["bytes_out"]) == ("alice", None, None)
    client.close()


@on_one_loop
async def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"@{new_id()}"
    with UnixServerProcess(tmp_path, host=f"unix:{name}") as server:
        assert server.path == name
        server.path = "\0" + name[1:]
        client = await server.raw_client("alice")
        await client.send_text({"type": "ping"})
        assert (await client.receive())["type"] == "pong"
        client.close()
        assert run(tmp_path, "health", HOST=f"unix:{name}").returncode == 0
        assert server.stop() == 0


@on_one_loop
async def test_tls_over_it(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "localhost")
    flags = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with UnixServerProcess(tmp_path, *flags) as server:
        trust = trusting()
        reader, writer = await asyncio.open_unix_connection(server.path, ssl=trust, server_hostname="localhost")
        writer.write(handshake("alice"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()
        well = run(tmp_path, "health", HOST=f"unix:{NAME}", TLS_CERT_FILE=str(certificate), TLS_KEY_FILE=str(key))
        assert (well.returncode, well.stderr) == (0, "")
        assert run(tmp_path, "health", "--url", f"https+unix:{NAME}").returncode == 0
        assert run(tmp_path, "health", "--url", f"unix:{NAME}").returncode == 1
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_health_asks_over_it(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path) as server:
        for flags, settings in ((["--url", f"unix:{NAME}"], {}), ([], {"HOST": f"unix:{NAME}"})):
            well = run(tmp_path, "health", *flags, **settings)
            assert (well.returncode, well.stderr) == (0, "")
            assert json.loads(well.stdout)["topics"] == 0
        assert server.stop() == 0
        gone = run(tmp_path, "health", HOST=f"unix:{NAME}")
        assert (gone.returncode, gone.stdout) == (1, "")
        assert f"unix:{NAME}: " in gone.stderr
        assert gone.stderr.count("\n") == 1


def test_health_of_a_server_that_shuts_down(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path, "--drain-sec", "20") as server:
        server.process.send_signal(signal.SIGTERM)
        server.read_log_until("SIGTERM")
        draining = run(tmp_path, "health", HOST=f"unix:{NAME}")
        assert draining.returncode == 1
        assert "503" in draining.stderr
        assert "draining" in draining.stderr


@on_one_loop
async def test_after_a_kill_the_next_one_replaces_the_file(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path) as server:
        server.process.kill()
        server.process.wait()
        assert os.listdir(tmp_path) == [NAME]
        with UnixServerProcess(tmp_path) as following:
            async with following.session() as http:
                await talk(http)
            assert following.stop() == 0
            assert not os.listdir(tmp_path)


@on_one_loop
async def test_a_second_server_does_not_start_and_the_first_goes_on(shared: UnixServerProcess) -> None:
    refused = run(shared.directory, "serve", "--host", f"unix:{NAME}", "--data-dir", NOWHERE)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (f"pubsub: can't listen on unix:{NAME}: another server listens there")
    async with shared.session() as http:
        await talk(http)


@on_one_loop
async def test_the_file_of_a_server_that_has_replaced_it_stays(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path) as server:
        os.unlink(server.path)
        with UnixServerProcess(tmp_path) as following:
            assert server.stop() == 0
            async with following.session() as http:
                await talk(http)


ERRORS = {
    "a file": ("unix:file", 1, "there is a file that is not a socket"),
    "no directory": ("unix:missing/pubsub.sock", 1, "No such file or directory"),
    "too long": (f"unix:/{'x' * 200}", 2, "expected a path of at most"),
    "empty": ("unix:", 2, "expected a path behind unix:"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_path_that_will_not_do_is_told(kind: str, tmp_path: Path) -> None:
    host, status, told = ERRORS[kind]
    (tmp_path / "file").write_text("important")
    refused = run(tmp_path, "serve", "--host", host, "--data-dir", NOWHERE)
    assert refused.returncode == status
    assert told in refused.stderr.splitlines()[-1]
    assert host in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "file").read_text() == "important"


@on_one_loop
async def test_a_subscriber_that_stalls_is_a_slow_consumer_and_costs_no_other_anything(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path, "--write-wait-sec", "0.3", "--subscriber-queue-size", "10") as server:
        async with server.session() as http, http.post("/topics", json={"name": "orders"}) as response:
            assert response.status == 201
        stalled = await server.raw_client("stalled")
        await stalled.subscribe("orders")
        reading = await server.raw_client("reading")
        await reading.subscribe("orders")
        publisher = await server.raw_client("publisher")
        for seq in range(1, 51):
            await publisher.send_text(publish_request("orders", PAYLOAD))
            assert (await publisher.receive())["type"] == "ack"
            assert (await reading.receive())["seq"] == seq
        await asyncio.to_thread(server.read_log_until, "Slow consumer detected: client_id=stalled")
        assert await stalled.close_code() == 1013
        assert await stalled.is_gone()


@on_one_loop
async def test_a_client_that_takes_nothing_and_says_nothing_is_dropped(tmp_path: Path) -> None:
    """Data that the server sends does not show that the client is alive."""
    with UnixServerProcess(tmp_path, "--ping-period-sec", "0.1", "--pong-wait-sec", "0.5") as server:
        silent = await server.raw_client("silent")
        await asyncio.to_thread(server.read_log_until, "Client disconnected: silent .no sign of life")
        silent.close()


@on_one_loop
async def test_its_clients_are_told_to_come_back_at_a_shutdown(tmp_path: Path) -> None:
    with UnixServerProcess(tmp_path) as server:
        client = await server.raw_client("alice")
        server.process.send_signal(signal.SIGTERM)
        messages = [message async for message in client.read_messages()]
        assert [message.get("msg") for message in messages] == ["draining"]
        client.close()
        assert server.wait() == 0
        with UnixServerProcess(tmp_path) as following:
            (await following.raw_client("alice")).close()
