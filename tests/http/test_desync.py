"""Request smuggling: every byte of an HTTP connection is a part of an answered request, or the server drops it.

Bytes after a request that ends the connection, ``Upgrade`` above all, must not become a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from pubsub.http.app_keys import BROKER
from tests.harness import RawClient, Server, on_one_loop, run_server
from tests.http.test_pipeline import Stream
from tests.http.test_tls import tls_server
from tests.websocket.test_contract import handshake

VICTIM = "victim"  # a topic; a smuggled request would delete it
SMUGGLED = b"DELETE /topics/victim HTTP/1.1\r\nHost: x\r\n\r\n"
BEHIND = {
    "a request": SMUGGLED,
    "a body that looks like one": b"POST /topics HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED),
    "noise": b"\x00\xffnonsense\r\n\r\n",
    "one byte": b"D",
}


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def old(sent: bytes) -> bytes:
    return sent.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)


H2C = ("Connection: Upgrade", "Upgrade: h2c")
TO_WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket")
BODY = b'{"name":"made"}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"

# Requests that end their connection, each with the status of its only answer.
LAST = {
    "h2c": (head("GET /health", *H2C), 200),
    "h2c and its settings": (head("GET /health", *H2C, "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"), 200),
    "an odd protocol": (head("GET /health", "Connection: upgrade", "Upgrade: TLS/1.0, websocket"), 200),
    "an upgrade of nothing": (head("GET /health", "Connection: Upgrade", "Upgrade:"), 200),
    "an upgrade that Connection does not name": (head("GET /health", "Upgrade: h2c"), 200),
    "a WebSocket elsewhere": (head("GET /health", *TO_WEBSOCKET), 200),
    "an upgrade of nothing that is there": (head("GET /nowhere", *H2C), 404),
    "an upgrade with a wrong method": (head("PUT /health", *H2C), 405),
    "an upgrade with HEAD": (head("HEAD /health", *H2C), 200),
    "an upgrade of everything": (head("OPTIONS *", *H2C), 404),
    "an upgrade with an expectation": (head("GET /health", *H2C, "Expect: miracles"), 417),
    "an upgrade of HTTP/1.0": (old(head("GET /health", "Connection: Upgrade, keep-alive", "Upgrade: h2c")), 200),
    "an upgrade with a body": (head("POST /topics", *H2C, LENGTH) + BODY, 201),
    "an upgrade with chunks": (head("POST /topics", *H2C, CHUNKED) + CHUNKS, 201),
    "an upgrade with a body that nobody reads": (head("GET /health", *H2C, LENGTH) + BODY, 200),
    "CONNECT": (head("CONNECT x:80"), 404),
    "CONNECT with a length": (head("CONNECT x:80", LENGTH), 404),
    "Connection: close": (head("GET /health", "Connection: close"), 200),
    "HTTP/1.0": (old(head("GET /health")), 200),
    "a handshake by HTTP/1.0": (old(handshake()), 400),
    "a handshake by HTTP/1.0 that is to stay": (old(handshake(Connection="keep-alive, Upgrade")), 400),
    "a handshake with a body": (handshake(Content_Length="3") + b"abc", 400),
    "a handshake with chunks": (handshake(Transfer_Encoding="chunked") + b"3\r\nabc\r\n0\r\n\r\n", 400),
    "a handshake with no chunks": (handshake(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400),
    "a handshake of an old version": (handshake(Sec_WebSocket_Version="8"), 426),
    "a handshake without a key": (handshake(Sec_WebSocket_Key=None), 400),
    "a body that is none": (head("POST /topics", "Content-Encoding: gzip", LENGTH) + BODY, 400),
    "a body that is none, unread": (head("GET /health", "Content-Encoding: gzip", LENGTH) + BODY, 200),
}  # fmt: skip


async def statuses(client: RawClient) -> list[int]:
    """Return the statuses of all answers up to the end of the connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", await client.read_all())]


async def connect(server: Server) -> RawClient:
    server.app[BROKER].create_topic(VICTIM)
    return await RawClient.connect_tcp(server.port)


def has_victim(server: Server) -> bool:
    return any(topic.name == VICTIM for topic in server.app[BROKER].topics)


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("last", LAST)
@on_one_loop
async def test_row_64_nothing_behind_the_last_request_is_read(last: str, behind: str) -> None:
    sent, status = LAST[last]
    async with run_server() as server:
        client = await connect(server)
        await client.send(sent + BEHIND[behind] + SMUGGLED)
        assert await statuses(client) == [status]
        assert has_victim(server)


@pytest.mark.parametrize("last", LAST)
async def test_row_64_nothing_behind_the_last_request_is_read_with_tls(last: str, tmp_path: Path) -> None:
    sent, status = LAST[last]
    async with tls_server(tmp_path) as server:
        server.app[BROKER].create_topic(VICTIM)
        client = await Stream.connect(server.port, tls=True)
        await client.send(sent + BEHIND["a body that looks like one"] + SMUGGLED)
        assert await client.statuses() == [status]
        assert has_victim(server)
        client.abort()


@pytest.mark.parametrize("last", LAST)
async def test_row_64_the_last_request_is_answered_and_closed(last: str) -> None:
    """The last request comes after another one, which is answered first, and also byte by byte."""
    sent, status = LAST[last]
    async with run_server() as server:
        client = await connect(server)
        await client.send(head("GET /stats") + sent)
        assert await statuses(client) == [200, status]
        client = await RawClient.connect_tcp(server.port)
        with contextlib.suppress(ConnectionError):  # the server may refuse a body before its end
            for number in range(len(sent)):
                await client.send(sent[number : number + 1])
                await asyncio.sleep(0)
        assert await statuses(client) == [status if status != 201 else 409]


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"f\r\n" + BODY + b"zz\r\n"])
@pytest.mark.parametrize(("line", "status"), [("POST /topics", 400), ("GET /health", 200), ("GET /nowhere", 404)])
@on_one_loop
async def test_row_64_a_body_that_is_none_has_one_answer(line: str, status: int, chunks: bytes) -> None:
    """The server reads the head before the chunks come; some routes read the chunks, others do not."""
    async with run_server() as server:
        client = await connect(server)
        await client.send(head(line, CHUNKED, "Expect: 100-continue"))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(chunks + SMUGGLED)
        assert await statuses(client) == [status]
        assert has_victim(server)


@pytest.mark.parametrize("noise", [b"nonsense\r\n\r\n", b"\x00", b"GET /health HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00"])
@on_one_loop
async def test_row_64_a_request_before_noise_is_answered(noise: bytes) -> None:
    async with run_server() as server:
        client = await connect(server)
        await client.send(head("GET /stats") + head("GET /nowhere") + noise + SMUGGLED)
        assert await statuses(client) == [200, 404, 400]
        assert has_victim(server)
