"""Pipelined requests: the server serves one at a time and limits their memory; good clients are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from certificate import tls_flags, trusting

from pubsub.http.pipeline import MOST_AHEAD, PipelinedRequestHandler
from tests.harness import PATIENCE, Pause, RawClient, Server, eventually, on_one_loop, run_server
from tests.http.test_tls import tls_server
from tests.system.test_descriptors import LOOPS, limited_server
from tests.test_attacks import memory
from tests.websocket.test_contract import handshake

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = GET.replace(b"/health", b"/stats")
LAST = GET[:-2] + b"Connection: close\r\n\r\n"
READ = 1 << 18  # bytes: the largest read of the loops; with TLS they may buffer twice as much
GREEDY = 15  # clients that do not read
LARGE_HEAD = GET[:-2].replace(b"/health", b"/topics") + (b"X: " + b"x" * 7990 + b"\r\n") * 7 + b"\r\n"
MOST = {False: 1024 << 10, True: 1792 << 10}  # limit of bytes for one client; TLS has 0.7 MiB of its own buffers


class Stream:
    """A client by plain TCP or TLS that can stop reading."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, *, tls: bool) -> Stream:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        context: ssl.SSLContext | None = trusting() if tls else None
        name = "localhost" if tls else None
        return cls(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=1 << 14))

    async def send(self, sent: bytes) -> None:
        self._writer.write(sent)
        await self._writer.drain()

    async def statuses(self) -> list[int]:
        """Return the statuses of all answers up to the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", await self._reader.read())]

    async def ask(self) -> None:
        await self.send(GET)
        async with asyncio.timeout(PATIENCE):
            assert (await self._reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")

    def abort(self) -> None:
        self._writer.transport.abort()


class Greedy:
    """Clients that send large heads for ever and read nothing."""

    def __init__(self, port: int, *, tls: bool) -> None:
        self._port = port
        self._tls = tls
        self._sent = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Greedy:
        self._tasks = [asyncio.create_task(self._send_for_ever()) for _ in range(GREEDY)]
        return self

    async def __aexit__(self, *failure: object) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_for_ever(self) -> None:
        stream = await Stream.connect(self._port, tls=self._tls)
        try:
            while True:
                await stream.send(LARGE_HEAD)
                self._sent += 1
        finally:
            stream.abort()

    async def stalled(self) -> None:
        """Wait until none of them can send any more, while another client gets a hundred answers."""
        other = await Stream.connect(self._port, tls=self._tls)
        before = 0
        while before < self._sent or before < GREEDY:
            before = self._sent
            for _ in range(100):
                await other.ask()
        assert not any(task.done() for task in self._tasks)
        other.abort()


@TLS
@LOOPS
@on_one_loop
async def test_row_63_pipelined_heads_behind_a_response_that_is_not_read(tmp_path: Path, loop: str, tls: bool) -> None:
    flags = ["--write-timeout-sec", "300", "--read-timeout-sec", "300", *(tls_flags(tmp_path) if tls else [])]
    with limited_server(loop, *flags, files=1024) as server:
        await fill(server.port, tls=tls)
        before = memory(server)
        async with Greedy(server.port, tls=tls) as greedy:
            await greedy.stalled()
            assert (memory(server) - before) / GREEDY < MOST[tls]
        assert server.stop() == 0
        assert "Traceback" not in server.log


async def fill(port: int, *, tls: bool) -> None:
    """Make the answers to /topics long, 80 kB, so that the kernel's buffers hold only a few of them."""
    maker = await Stream.connect(port, tls=tls)
    for number in range(300):
        await maker.send(with_length(b'{"name":"%b%d"}' % (b"x" * 240, number)))
    await maker.send(LAST)
    assert await maker.statuses() == [201] * 300 + [200]
    maker.abort()


def with_length(body: bytes, *fields: bytes, path: bytes = b"/topics") -> bytes:
    head = b"".join(b"%b\r\n" % field for field in (b"Host: x", b"Content-Length: %d" % len(body), *fields))
    return b"POST %b HTTP/1.1\r\n%b\r\n%b" % (path, head, body)


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"POST /topics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\nX: y\r\n\r\n" % chunks


LONG = b'{"name":"%b"}' % (b"\r\n\r\n" * 200_000)
MIXED = [
    (GET, 200),
    (with_length(b'{"name":"a"}'), 201),
    (with_length(b'{"name":"a"}'), 409),
    (in_chunks(b'{"name":"b"}', 3), 201),
    (in_chunks(b'{"name":"b"}', 100), 409),
    (with_length(b""), 400),
    (in_chunks(b"", 1), 400),
    (GET.replace(b"GET", b"HEAD"), 200),
    (b"\r\n" + GET, 200),
    (with_length(b"x" * 500, path=b"/nowhere"), 404),
    (with_length(b"x" * 800_000, path=b"/nowhere"), 404),
    (with_length(LONG), 400),
    (with_length(gzip.compress(LONG), b"Content-Encoding: gzip"), 400),
    (with_length(gzip.compress(b'{"name":"c"}'), b"Content-Encoding: gzip"), 201),
    (in_chunks(LONG, 50_000), 400),
    (GET.replace(b"GET ", b"DELETE ").replace(b"/health", b"/topics/a"), 200),
    (LAST, 200),
]


@contextlib.asynccontextmanager
async def running(folder: Path, *, tls: bool) -> AsyncIterator[Server]:
    if tls:
        async with tls_server(folder) as server:
            yield server
    else:
        async with run_server() as server:
            yield server


@TLS
@pytest.mark.parametrize("size", [1013, 65_536, 10_000_000])
async def test_row_16_pipelined_requests_with_bodies_are_answered_in_order(
    tmp_path: Path, tls: bool, size: int
) -> None:
    sent = b"".join(request for request, _ in MIXED)
    async with running(tmp_path, tls=tls) as server:
        client = await Stream.connect(server.port, tls=tls)
        answers = asyncio.ensure_future(client.statuses())
        for start in range(0, len(sent), size):
            await client.send(sent[start : start + size])
        assert await answers == [status for _, status in MIXED]
        client.abort()


async def test_requests_with_bodies_byte_by_byte_are_answered_in_order() -> None:
    short = [(request, status) for request, status in MIXED if len(request) < 10_000]
    async with run_server() as server:
        client = await Stream.connect(server.port, tls=False)
        for request, _ in short:
            for number in range(len(request)):
                await client.send(request[number : number + 1])
                await asyncio.sleep(0)
        assert await client.statuses() == [status for _, status in short]
        client.abort()


def handlers(server: Server) -> list[PipelinedRequestHandler]:
    assert server.runner.server is not None
    return [each for each in server.runner.server.connections if isinstance(each, PipelinedRequestHandler)]


@TLS
@pytest.mark.parametrize("behind", [b"", GET, GET * 100 + b"GET /he"], ids=["nothing", "a request", "many"])
async def test_a_client_that_leaves_while_its_request_is_served_is_noticed(
    tmp_path: Path, tls: bool, behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(monkeypatch)
    async with running(tmp_path, tls=tls) as server:
        client = await Stream.connect(server.port, tls=tls)
        await client.send(SLOW + behind)
        await pause.begun.wait()
        (handler,) = handlers(server)
        client.abort()
        await eventually(lambda: not handler.connected)
        pause.released.set()


@TLS
async def test_row_63_a_client_is_read_no_further_while_its_request_is_served(
    tmp_path: Path, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards every request that it has sent is answered."""
    pause = Pause(monkeypatch)
    count = 200
    async with running(tmp_path, tls=tls) as server:
        client = await Stream.connect(server.port, tls=tls)
        sending = asyncio.ensure_future(client.send(SLOW + LARGE_HEAD * count + LAST))
        await pause.begun.wait()
        (handler,) = handlers(server)
        transport = handler.transport
        assert transport is not None
        await eventually(lambda: not transport.is_reading())
        assert MOST_AHEAD <= handler._ahead < MOST_AHEAD + 2 * READ
        assert len(handler._messages) == 0
        pause.released.set()
        assert await client.statuses() == [200] * (count + 2)
        await sending
        client.abort()


async def test_what_comes_behind_the_last_request_is_dropped_while_that_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server continues to read, without buffering, so that it sees the client's disconnect."""
    pause = Pause(monkeypatch)
    async with run_server() as server:
        client = await Stream.connect(server.port, tls=False)
        await client.send(SLOW[:-2] + b"Upgrade: h2c\r\n\r\n")
        await pause.begun.wait()
        (handler,) = handlers(server)
        await client.send(GET * 500_000)
        assert len(handler._rest) <= 1
        client.abort()
        await eventually(lambda: not handler.connected)
        pause.released.set()


async def test_row_14_a_request_begun_behind_another_one_must_be_whole_in_time_with_tls_too(tmp_path: Path) -> None:
    async with tls_server(tmp_path, read_timeout_sec=0.3) as server:
        for begun in (b"G", GET[:-1], with_length(b"x")[:-1]):
            client = await Stream.connect(server.port, tls=True)
            await client.send(GET + begun)
            assert (await client.statuses())[0] == 200
            client.abort()


async def test_a_handshake_behind_a_request_is_served() -> None:
    async with run_server() as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(GET * 2000 + handshake())
        for _ in range(2000):
            assert (await client.read_response())[0] == 200
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await client.send_text({"type": "ping"})
        assert (await client.receive())["type"] == "pong"


@on_one_loop
async def test_a_connection_has_a_task_from_its_first_request_on() -> None:
    async with run_server() as server:
        held = server.runner.server
        assert held is not None
        before = len(asyncio.all_tasks())
        client = await Stream.connect(server.port, tls=False)
        await eventually(lambda: len(held.connections) == 1)
        await eventually(lambda: len(asyncio.all_tasks()) == before)
        await client.ask()
        await client.ask()
        assert len(asyncio.all_tasks()) == before + 1
        client.abort()
        await eventually(lambda: len(asyncio.all_tasks()) == before)
