"""The limit of open files: open connections stay served, a new request gets an answer, and no loop spins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from certificate import tls_flags, trusting

from pubsub.system.descriptors import OWN
from tests.harness import PATIENCE, ForkedServer, RawClient, ServerProcess, environment_of, eventually, on_one_loop
from tests.test_attacks import memory

LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
FILES = 128  # limit of open files of the server


@contextlib.contextmanager
def limited_server(loop: str, *flags: str, files: int = FILES) -> Iterator[ServerProcess]:
    """Run a server with a low limit of open files; its soft limit is lower at first."""
    with ForkedServer(*flags, environment=environment_of(loop), files=files) as server:
        yield server


def descriptors(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def cpu_seconds(server: ServerProcess) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def pong_of(client: RawClient) -> None:
    await client.send_text({"type": "ping"})
    assert (await client.receive())["type"] == "pong"


async def is_healthy(port: int) -> None:
    client = await RawClient.connect_tcp(port)
    assert (await client.request("GET", "/health"))[0] == 200
    client.close()


@on_one_loop
async def test_the_limit_is_raised_and_told() -> None:
    with limited_server("uvloop") as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (FILES, FILES)
        assert f"Open files: up to {FILES}, room for 88 WebSocket connections" in server.log


@LOOPS
@on_one_loop
async def test_row_14_silent_connections_make_way_for_who_sends_a_request(loop: str) -> None:
    """2,000 of them connect while the server may open 128 files; the time limit of each is a minute."""
    with limited_server(loop, "--read-timeout-sec", "60") as server:
        subscriber = await RawClient.connect(server.port)
        idle = descriptors(server)
        for number in range(2000):
            await RawClient.connect_tcp(server.port)
            if number % 200 == 0:
                await is_healthy(server.port)
                await pong_of(subscriber)
                await pong_of(await RawClient.connect(server.port))
        assert descriptors(server) <= FILES
        await pong_of(subscriber)
        RawClient.close_all()
        await eventually(lambda: descriptors(server) < idle)
        await is_healthy(server.port)
        assert server.stop() == 0
        assert server.log.count("At the limit of open files") == 1
        assert "Traceback" not in server.log


@LOOPS
@on_one_loop
async def test_row_47_websockets_leave_room_for_http_and_more_are_refused(loop: str) -> None:
    with limited_server(loop) as server:
        clients = [await RawClient.connect(server.port) for _ in range(88)]
        for _ in range(2 * FILES):
            late = await RawClient.connect_tcp(server.port)
            status, answer = await late.request(
                "GET",
                "/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX:",
            )
            assert status == 503
            assert "88 connections" in answer["error"]
        await is_healthy(server.port)
        for client in clients:
            await pong_of(client)
            client.close()
        async with asyncio.timeout(PATIENCE):
            await pong_of(await RawClient.connect(server.port))
        assert server.stop() == 0
        assert "Traceback" not in server.log


@LOOPS
@on_one_loop
async def test_row_47_without_any_descriptor_the_server_waits_and_recovers(loop: str) -> None:
    """The limit is lowered under a running server, as if other programs had used all descriptors of the machine."""
    with limited_server(loop) as server:
        client = await RawClient.connect(server.port)
        limit = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors(server), limit[1]))
        waiting = [await RawClient.connect_tcp(server.port) for _ in range(50)]
        server.read_log_until("Connections wait: Too many open files")
        before = cpu_seconds(server)
        for _ in range(20):
            await pong_of(client)
            await asyncio.sleep(0.05)  # in this time a spinning server would use a second of CPU
        assert cpu_seconds(server) - before < 0.5
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limit)
        for each in waiting:
            assert (await each.request("GET", "/health"))[0] == 200
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert server.log.count("Connections wait") == 1


@on_one_loop
async def test_row_14_a_request_keeps_a_connection_among_silent_ones() -> None:
    """The server evicts the connection that has been idle longest, not the oldest one.

    The server may read a request before it accepts clients that connected earlier: up to two rounds follow it.
    """
    with limited_server("uvloop", "--read-timeout-sec", "60") as server:
        old = await RawClient.connect_tcp(server.port)
        for _ in range(20):
            assert (await old.request("GET", "/health"))[0] == 200
            for _ in range((FILES - OWN) // 3):
                await RawClient.connect_tcp(server.port)
        assert (await old.request("GET", "/health"))[0] == 200


@LOOPS
@on_one_loop
async def test_row_14_silent_tls_handshakes_make_way_too(tmp_path: Path, loop: str) -> None:
    with limited_server(loop, *tls_flags(tmp_path), "--read-timeout-sec", "60") as server:
        connector = aiohttp.TCPConnector(ssl=trusting())
        async with (
            aiohttp.ClientSession(f"https://127.0.0.1:{server.port}", connector=connector) as http,
            http.ws_connect("/ws") as websocket,
        ):
            for _ in range(5):
                for _ in range(FILES):
                    await RawClient.connect_tcp(server.port)
                async with http.get("/health", headers={"Connection": "close"}) as response:
                    assert response.status == 200
            await websocket.send_str('{"type":"ping"}')
            assert (await websocket.receive_json())["type"] == "pong"
        RawClient.close_all()
        await eventually(lambda: descriptors(server) < OWN)
        assert server.stop() == 0
        assert "Traceback" not in server.log


@LOOPS
@on_one_loop
async def test_row_58_handshakes_that_fail_leave_no_memory(tmp_path: Path, loop: str) -> None:
    """2,000 handshakes fail; asyncio allocates 256 KiB for each while it lasts."""
    with limited_server(loop, *tls_flags(tmp_path), "--read-timeout-sec", "60") as server:
        before = memory(server)
        for _ in range(2000 // 50):
            clients = [await RawClient.connect_tcp(server.port) for _ in range(50)]
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\n\r\n")
            for client in clients:
                await client.is_gone()
                client.close()
        assert memory(server) - before < 64 << 20
        assert server.stop() == 0
        assert "Traceback" not in server.log
