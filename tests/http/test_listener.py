"""The limit of connections, over real sockets: idle connections are evicted, and leave no memory or descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from certificate import trusting, write_certificate

from pubsub.app import create_app
from pubsub.http.request_handler import TimedRequestHandler
from pubsub.lifecycle import listen
from tests.auth.test_jwks import by_old, provider
from tests.credentials import bearer
from tests.harness import PATIENCE, Server, eventually, make_settings, run_server
from tests.http.test_tls import tls_server

ROOM = 8  # limit of connections; the server accepts the same number at once
KINDS = pytest.mark.parametrize("kind", ["plain", "tls"])
BODY = b'{"name":"orders"}'
POST = b"POST /topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
GARBAGE = b"no TLS, and no HTTP"


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.lifecycle.sockets_of_machine", lambda: ROOM)


@contextlib.asynccontextmanager
async def narrow_server(kind: str, folder: Path, **chosen: Any) -> AsyncIterator[Server]:
    """Run a server in this loop, with time limits that no test reaches."""
    settings = {"read_timeout_sec": 300.0, "idle_timeout_sec": 300.0} | chosen
    if kind == "plain":
        async with run_server(**settings) as server:
            yield server
    else:
        async with tls_server(folder, **settings) as server:
            yield server


async def connect(kind: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=trusting() if kind == "tls" else None)


def connect_at_once(port: int, count: int) -> list[socket.socket]:
    """Open connections that the kernel has accepted and the server has not, because the loop does not run meanwhile."""
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


async def flood(server: Server, sent: bytes = b"") -> None:
    """Open many connections that send no request, and wait until a later request is answered."""
    clients = connect_at_once(server.port, 10 * ROOM)
    for client in clients:
        with contextlib.suppress(ConnectionError):
            client.sendall(sent)
    await server.get("/health")
    for client in clients:
        client.close()


def handlers(server: Server) -> list[TimedRequestHandler]:
    assert server.runner.server is not None
    return [each for each in server.runner.server.connections if isinstance(each, TimedRequestHandler)]


def sockets() -> int:
    """Count the open sockets of this process; the loop opens files of other kinds at any time."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of listdir itself
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def ends(client: socket.socket) -> bool:
    """Wait until the server has closed the connection."""
    client.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionResetError):
        while client.recv(1 << 16):
            pass
    return True


def living(name: str) -> int:
    """Count the objects of a class and its subclasses, including garbage that is not collected yet."""
    kinds = Counter(map(type, gc.get_objects()))
    return sum(count for kind, count in kinds.items() if name in (base.__name__ for base in kind.__mro__))


async def is_served(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).split()[1] in {b"200", b"201"}


@KINDS
@pytest.mark.parametrize("sent", [b"", GARBAGE], ids=["silent", "garbage"])
async def test_row_58_of_a_flood_nothing_stays(kind: str, sent: bytes, tmp_path: Path) -> None:
    async with narrow_server(kind, tmp_path) as server:
        await server.get("/health")
        gc.collect()
        before = sockets(), living("TimedRequestHandler")
        for _ in range(10):
            await flood(server, sent)
        await eventually(lambda: sockets() <= before[0])
        await eventually(lambda: gc.collect() >= 0 and living("TimedRequestHandler") <= before[1])
        await server.get("/health")
        assert len(handlers(server)) == 1


async def test_row_58_of_clients_that_come_through_the_handshake_as_they_make_way_nothing_stays(tmp_path: Path) -> None:
    async with narrow_server("tls", tmp_path) as server:
        await server.get("/health")
        before = sockets()
        for _ in range(5):
            coming = [connect("tls", server.port) for _ in range(5 * ROOM)]
            for client in await asyncio.gather(*coming, return_exceptions=True):
                if not isinstance(client, BaseException):
                    client[1].transport.abort()
        await eventually(lambda: sockets() <= before)
        await server.get("/health")
        assert len(handlers(server)) == 1


@pytest.mark.parametrize("sent", [b"", GARBAGE], ids=["hang-up", "garbage"])
async def test_row_58_a_handshake_that_ended_keeps_no_buffer_until_the_collector_runs(
    sent: bytes, tmp_path: Path
) -> None:
    """The buffer has 256 KiB in asyncio; it belongs to the SSLProtocol."""
    async with narrow_server("tls", tmp_path) as server:
        await server.get("/health")
        gc.collect()
        gc.disable()
        try:
            before, idle = living("SSLProtocol"), sockets()
            for _ in range(10):
                with socket.create_connection(("127.0.0.1", server.port)) as client:
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    assert await asyncio.to_thread(ends, client)
            await eventually(lambda: sockets() == idle)
            await eventually(lambda: living("SSLProtocol") <= before)
        finally:
            gc.enable()


@KINDS
async def test_row_58_what_connects_as_the_server_ends_leaves_nothing(kind: str, tmp_path: Path) -> None:
    cert_file, key_file = map(str, write_certificate(tmp_path, "localhost"))
    tls = {"tls_cert_file": cert_file, "tls_key_file": key_file} if kind == "tls" else {}
    settings = make_settings(read_timeout_sec=300.0, **tls)
    app = create_app(settings)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, settings)
    clients = connect_at_once(listener.sockets[0].getsockname()[1], ROOM // 2)
    before = sockets()
    try:
        await eventually(lambda: sockets() == before + len(clients))
    finally:
        listener.close()
        async with asyncio.timeout(PATIENCE):
            await listener.wait_closed()
            await runner.cleanup()
    await eventually(lambda: sockets() == before - 1)
    for client in clients:
        client.close()


@KINDS
async def test_row_62_a_request_whose_key_is_being_fetched_is_answered(kind: str, tmp_path: Path) -> None:
    async with provider() as source:
        source.may_answer.clear()
        async with narrow_server(kind, tmp_path, jwt_jwks_url=source.url) as server:
            asking = asyncio.ensure_future(server.http.get("/topics", headers=bearer(by_old())))
            await eventually(lambda: source.asked == 1 and any(each.is_busy for each in handlers(server)))
            async with aiohttp.ClientSession(server.http._base_url, connector=connector(kind)) as http:
                for _ in range(10):
                    await flood(Server(server.app, server.runner, server.port, http))
            source.may_answer.set()
            async with asyncio.timeout(PATIENCE):
                assert (await asking).status == 200


def connector(kind: str) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(ssl=trusting() if kind == "tls" else True)


@KINDS
async def test_row_62_an_upload_is_answered(kind: str, tmp_path: Path) -> None:
    async with narrow_server(kind, tmp_path) as server:
        reader, writer = await connect(kind, server.port)
        writer.write(POST + BODY[:5])
        await eventually(lambda: any(each.is_busy for each in handlers(server)))
        for _ in range(10):
            await flood(server)
        writer.write(BODY[5:])
        await is_served(reader)
        writer.close()


@KINDS
async def test_row_62_a_request_that_the_server_has_not_read_is_answered(kind: str, tmp_path: Path) -> None:
    async with narrow_server(kind, tmp_path) as server:
        reader, writer = await connect(kind, server.port)
        await eventually(lambda: len(handlers(server)) == 1)
        flooding = connect_at_once(server.port, 2 * ROOM)
        writer.write(POST + BODY)
        await is_served(reader)
        writer.close()
        for each in flooding:
            each.close()


@KINDS
async def test_requests_that_never_end_keep_nobody_out(kind: str, tmp_path: Path) -> None:
    async with narrow_server(kind, tmp_path) as server:
        slow = [await connect(kind, server.port) for _ in range(ROOM)]
        for _, writer in slow:
            writer.write(POST)
        await eventually(lambda: sum(each.is_busy for each in handlers(server)) == ROOM)
        for _ in range(10):
            await server.get("/health")
            await flood(server)
        for _, writer in slow:
            writer.transport.abort()


@KINDS
async def test_who_waits_for_the_client_to_take_the_rest_makes_way_too(kind: str, tmp_path: Path) -> None:
    """aiohttp has closed such a connection and forgotten it; its descriptor stays until the client has read all."""
    async with narrow_server(kind, tmp_path) as server:
        await server.get("/health")
        idle, (kept,) = sockets(), handlers(server)
        stalled = [await connect(kind, server.port) for _ in range(ROOM - 1)]
        await eventually(lambda: len(handlers(server)) == ROOM)
        for reader, _ in stalled:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
        closed = [each for each in handlers(server) if each is not kept]
        for handler in closed:
            assert handler.transport is not None
            handler.transport.write(bytes(16 << 20))
            handler.force_close()
        await flood(server)
        await eventually(lambda: not set(closed) & set(handlers(server)))
        for _, writer in stalled:
            writer.transport.abort()
        await eventually(lambda: sockets() <= idle)
