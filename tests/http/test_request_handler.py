"""The time limits of HTTP, and input that is not HTTP, over real sockets. A good client is served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from pubsub.http.app_keys import BROKER
from tests.harness import Pause, RawClient, Server, eventually, on_one_loop, run_server

REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'{"name":"orders"}'
POST = b"POST /topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
SMALL_BUFFER = 1 << 16  # of the kernels on both sides, so that a stalled client blocks soon
NEVER = 300.0  # seconds, for the limits that a test does not use


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that faults of clients cause no traceback and no error in the log."""
    caplog.set_level(logging.WARNING)
    yield
    failures = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert failures == []


@contextlib.asynccontextmanager
async def limited(
    *,
    read_timeout_sec: float = NEVER,
    write_timeout_sec: float = NEVER,
    idle_timeout_sec: float = NEVER,
    send_buffer: int | None = None,
) -> AsyncIterator[Server]:
    """Run a server with one short time limit, and a good client that always sends requests."""
    limits = {
        "read_timeout_sec": read_timeout_sec,
        "write_timeout_sec": write_timeout_sec,
        "idle_timeout_sec": idle_timeout_sec,
    }
    async with run_server(send_buffer=send_buffer, **limits) as server, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask_for_ever(server))
        yield server
        asking.cancel()


async def ask_for_ever(server: Server) -> None:
    while True:
        assert "topics" in await server.get("/health")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", REQUEST[:-2]], ids=["silent", "half a line", "half a head"])
async def test_row_14_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(sent)
        assert await client.is_gone()


async def dribble(client: RawClient, sent: bytes) -> None:
    """Send byte by byte, until the server closes."""
    with contextlib.suppress(ConnectionError):
        for number in range(len(sent)):
            await client.send(sent[number : number + 1])
            await asyncio.sleep(0.05)  # the client's slowness


@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first request", "second request"])
async def test_row_14_a_head_byte_by_byte_ends_the_connection(before: bytes) -> None:
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        if before:
            await client.send(before)
            assert (await client.read_response())[0] == 200
        async with asyncio.TaskGroup() as tasks:
            dribbling = tasks.create_task(dribble(client, REQUEST[:-2] + b"X: " + b"x" * 400))
            assert await client.is_gone()
            dribbling.cancel()


CHUNKED = b"POST /topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"11\r\n" + BODY + b"\r\n0\r\n\r\n"
WHOLE = {
    "a request": [REQUEST],
    "two requests": [REQUEST * 2],
    "a body": [POST + BODY],
    "a body that came later": [POST, BODY],
    "a body that nobody reads": [POST.replace(b"/topics", b"/nowhere"), BODY],
    "chunks": [CHUNKED + CHUNKS],
    "chunks that came later": [CHUNKED, CHUNKS],
}


async def send_apart(server: Server, client: RawClient, segments: list[bytes]) -> None:
    """Send each segment after the server has read the last one: it answers another client in between."""
    for sent in segments:
        await client.send(sent)
        await server.get("/health")


async def read_answers(client: RawClient, sent: list[bytes]) -> None:
    for _ in range(b"".join(sent).count(b"HTTP/1.1\r\n")):
        assert (await client.read_response())[0] in (200, 201, 404, 409)


@pytest.mark.parametrize("begun", [b"G", b"GET /he", REQUEST[:-1], POST + BODY[:1]])
@pytest.mark.parametrize("whole", WHOLE)
@on_one_loop
async def test_row_14_a_request_begun_behind_another_one_must_be_whole_in_time(whole: str, begun: bytes) -> None:
    """The begun request comes in one segment with the end of the other one."""
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        *first, last = WHOLE[whole]
        await send_apart(server, client, [*first, last + begun])
        await read_answers(client, WHOLE[whole])
        assert b" 200 " not in await client.read_all()


@pytest.mark.parametrize("begun", [b"G", b"GET /he", REQUEST + b"GET /he"])
async def test_row_14_a_request_begun_while_another_one_is_served_must_be_whole_in_time(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(monkeypatch)
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(REQUEST.replace(b"/health", b"/stats"))
        await pause.begun.wait()
        await client.send(begun)
        silent = await RawClient.connect_tcp(server.port)
        assert await silent.is_gone()  # a client is not closed while it waits for the server
        pause.released.set()
        for _ in range(1 + begun.count(b"\r\n\r\n")):
            assert (await client.read_response())[0] == 200
        assert await client.is_gone()


@pytest.mark.parametrize("whole", WHOLE)
async def test_behind_a_whole_request_a_connection_may_be_idle_longer_than_a_head_takes(whole: str) -> None:
    """Proof by order, as below."""
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        for _ in range(2):
            await send_apart(server, client, WHOLE[whole])
            await read_answers(client, WHOLE[whole])
            silent = await RawClient.connect_tcp(server.port)
            assert await silent.is_gone()
        await client.send(REQUEST)
        assert (await client.read_response())[0] == 200


async def test_a_request_begun_in_time_may_take_longer_than_a_connection_may_be_idle() -> None:
    """Proof by order: a client that became idle later is closed, while this one is still answered."""
    async with limited(idle_timeout_sec=0.3) as server:
        client, idle = await RawClient.connect_tcp(server.port), await RawClient.connect_tcp(server.port)
        for each in (client, idle):
            await each.send(REQUEST)
            await read_answers(each, [REQUEST])
        await client.send(REQUEST[:10])
        assert await idle.is_gone()
        await client.send(REQUEST[10:])
        assert (await client.read_response())[0] == 200
        assert await client.is_gone()


async def test_a_slow_head_in_time_is_served() -> None:
    async with limited() as server:
        client = await RawClient.connect_tcp(server.port)
        for number in range(len(REQUEST)):
            await client.send(REQUEST[number : number + 1])
            await asyncio.sleep(0)
        assert (await client.read_response())[0] == 200


@pytest.mark.parametrize("path", [b"/topics", b"/nowhere", b"/health"])
@pytest.mark.parametrize("slow", [False, True], ids=["never", "byte by byte"])
async def test_a_body_that_does_not_come_is_a_408_or_the_end(path: bytes, slow: bool) -> None:
    """If the route does not read the body, the answer may come first; but the connection ends."""
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(POST.replace(b"/topics", path).replace(b"Length: ", b"Length: 5"))
        async with asyncio.TaskGroup() as tasks:
            dribbling = tasks.create_task(dribble(client, b" " * 400 if slow else b""))
            if path == b"/topics":
                status, answer = await client.read_response()
                assert status == 408
                assert answer.keys() == {"error"}
            assert await client.is_gone()
            dribbling.cancel()


async def test_an_idle_connection_is_closed() -> None:
    async with limited(idle_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        for _ in range(2):
            await client.send(REQUEST)
            assert (await client.read_response())[0] == 200
        assert await client.is_gone()


async def test_an_idle_connection_may_be_idle_longer_than_a_head_takes() -> None:
    """Proof by order: another client, which is silent, is closed, while this one is still served."""
    async with limited(read_timeout_sec=0.3) as server:
        client = await RawClient.connect_tcp(server.port)
        for _ in range(2):
            await client.send(REQUEST)
            assert (await client.read_response())[0] == 200
            silent = await RawClient.connect_tcp(server.port)
            assert await silent.is_gone()


def fill(server: Server) -> bytes:
    """Make /topics long, 0.8 MB; return the request for it."""
    for number in range(3000):
        server.app[BROKER].create_topic("x" * 240 + str(number))
    return REQUEST.replace(b"/health", b"/topics")


@pytest.mark.parametrize("pipelined", [1, 50], ids=["one answer", "many answers"])
async def test_who_does_not_read_its_answer_is_cut_off(pipelined: int) -> None:
    """The client gets only the bytes in the buffers, then the end of the connection."""
    async with limited(write_timeout_sec=0.3, send_buffer=SMALL_BUFFER) as server:
        client = await connect_beside(server, SMALL_BUFFER)
        await client.send(fill(server) * pipelined)
        await server_has_nobody_else(server)
        received = 0
        while more := await client.read_some():
            received += len(more)
        assert received < len(json.dumps(await server.get("/topics")))


async def test_who_reads_the_end_of_its_answer_never_is_cut_off() -> None:
    """The end is so short that the handler no longer waits for it: it is in the transport's buffer."""
    async with limited(write_timeout_sec=0.3, send_buffer=SMALL_BUFFER) as server:
        client = await connect_beside(server, SMALL_BUFFER)
        for number in range(1000):
            server.app[BROKER].create_topic("x" * 240 + str(number))
        await client.send(REQUEST.replace(b"/health", b"/topics"))
        await server_has_nobody_else(server)


def http_connections(server: Server) -> int:
    assert server.runner.server is not None
    return len(server.runner.server.connections)


async def connect_beside(server: Server, receive_buffer: int | None = None) -> RawClient:
    """Connect, and wait until the server has this connection and that of the good client."""
    client = await RawClient.connect_tcp(server.port, receive_buffer=receive_buffer)
    await eventually(lambda: http_connections(server) == 2)
    return client


async def server_has_nobody_else(server: Server) -> None:
    """Wait until the good client has the only HTTP connection."""
    await eventually(lambda: http_connections(server) == 1)


async def test_who_reads_its_answer_slowly_gets_it_all() -> None:
    async with limited(write_timeout_sec=0.5, send_buffer=SMALL_BUFFER) as server:
        client = await RawClient.connect_tcp(server.port, receive_buffer=SMALL_BUFFER)
        client.read_size = SMALL_BUFFER
        await client.send(fill(server).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while more := await client.read_some():
            received += more
            await asyncio.sleep(0.1)  # the client is slow: the whole takes longer than the limit
        assert len(json.loads(received.partition(b"\r\n\r\n")[2])["topics"]) == 3000


NOT_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "a bad version": b"GET / HTTP/9\r\n\r\n",
    "a bad field": REQUEST[:-2] + b"no colon\r\n\r\n",
    "a bad length": REQUEST[:-2] + b"Content-Length: x\r\n\r\n",
    "two lengths": REQUEST[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunks": REQUEST[:-2] + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a control character": REQUEST[:-2] + b"X: a\0b\r\n\r\n",
    "a bad chunk": b"POST /topics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a frame": b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n",
}


@pytest.mark.parametrize("kind", NOT_HTTP)
@on_one_loop
async def test_what_is_not_http_is_a_400_in_json(kind: str) -> None:
    async with limited() as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(NOT_HTTP[kind])
        status, answer = await client.read_response()
        assert status == 400
        assert answer.keys() == {"error"}
        assert "\n" not in answer["error"]
        assert await client.is_gone()


TOO_LONG = {
    "a path": REQUEST.replace(b"/health", b"/" + b"x" * 100_000),
    "a field": REQUEST[:-2] + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "a field's name": REQUEST[:-2] + b"x" * 100_000 + b": x\r\n\r\n",
    "a field that does not end": REQUEST[:-2] + b"X: " + b"x" * 1_000_000,
}


@pytest.mark.parametrize("kind", TOO_LONG)
@on_one_loop
async def test_a_head_too_large_is_refused(kind: str) -> None:
    async with limited() as server:
        client = await RawClient.connect_tcp(server.port)
        with contextlib.suppress(ConnectionError):
            await client.send(TOO_LONG[kind])
        status, answer = await client.read_response()
        assert status in (400, 414, 431)
        assert answer.keys() == {"error"}
        assert len(json.dumps(answer)) < 1000
        assert await client.is_gone()


async def test_endless_fields_are_refused() -> None:
    async with limited() as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(REQUEST[:-2])
        with contextlib.suppress(ConnectionError):
            for number in range(50_000):
                await client.send(b"X-%d: x\r\n" % number)
        assert await client.is_gone()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with limited() as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(REQUEST + POST + BODY + POST + BODY + REQUEST)
        assert [(await client.read_response())[0] for _ in range(4)] == [200, 201, 409, 200]


@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
@pytest.mark.parametrize("sent", [b"", REQUEST[:20], REQUEST, POST, POST + BODY, NOT_HTTP["noise"]])
async def test_who_leaves_at_any_time_costs_nothing(ending: str, sent: bytes) -> None:
    async with limited(idle_timeout_sec=0.3, read_timeout_sec=0.3) as server:
        client = await connect_beside(server)
        await client.send(sent)
        getattr(client, ending)()
        await server_has_nobody_else(server)


async def test_http_1_0_is_answered_and_closed() -> None:
    async with limited() as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(b"GET /health HTTP/1.0\r\n\r\n")
        assert (await client.read_response())[0] == 200
        assert await client.is_gone()
