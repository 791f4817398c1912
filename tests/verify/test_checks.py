"""Each check fails where a proxy changes or loses what it checks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from yarl import URL

from pubsub.client.credentials import Credentials
from pubsub.client.errors import PubsubError
from pubsub.verify import client_checks, idle_checks, rest_checks, stream_checks, websocket_checks
from pubsub.verify.deployment import Deployment
from pubsub.verify.http import Address
from pubsub.verify.outcomes import CheckFailed, CheckSkipped
from tests.harness import PATIENCE, Server, on_one_loop, run_server

SIZE = 5000
Change = Callable[[bytes], bytes]
Run = Callable[[Deployment], Awaitable[str]]


@contextlib.asynccontextmanager
async def changing(server: Server, change: Change, *, keeps: bool = False) -> AsyncIterator[Deployment]:
    """Run a proxy that changes what the server sends. ``keeps``: it does not tell the server that a client left."""
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sink = await asyncio.open_connection("127.0.0.1", server.port)
        writers.extend((writer, sink))
        tasks.append(asyncio.create_task(copy(upstream, writer, change)))
        tasks.append(asyncio.create_task(copy(reader, sink, lambda sent: sent, keeps=keeps)))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    deployment = Deployment(Address(URL(f"http://127.0.0.1:{port}"), None), Credentials(), SIZE)
    try:
        yield deployment
    finally:
        await deployment.clean()
        proxy.close()
        for each in writers:
            each.transport.abort()
        await asyncio.gather(*tasks)


async def copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Change, *, keeps: bool = False
) -> None:
    with contextlib.suppress(ConnectionError):
        while (sent := await reader.read(1 << 20)) and not writer.is_closing():
            writer.write(change(sent))
            await writer.drain()
    if not keeps:
        writer.transport.abort()


def replacing(before: bytes, after: bytes) -> Change:
    assert len(before) == len(after), "frames and bodies keep their length"
    return lambda sent: sent.replace(before, after)


def without_close_frame(sent: bytes) -> bytes:
    return b"" if sent.startswith(b"\x88") else sent


@pytest.mark.parametrize(
    ("run", "change", "told"),
    [
        (rest_checks.rest, replacing(b"already exists", b"already exist!"), "expected"),
        (rest_checks.rest, replacing(b'"payload":1}', b'"payload":2}'), "expected what was published"),
        (rest_checks.rest, replacing(b'"name":"verify', b'"name":"Verify'), "expected the new topic"),
        (rest_checks.coding, replacing(b"Content-Encoding: gzip", b"X-ntent-Encoding: gzip"), "differs"),
        (websocket_checks.messages, replacing(b"1.50", b"1.51"), "a message has changed on its way"),
        (websocket_checks.messages, replacing(b"NOT_FOUND", b"NOT_LOUND"), "a publish to no topic: expected"),
        (websocket_checks.large, replacing(b'"xxxx', b'"xyxx'), "a large message has changed"),
        (websocket_checks.limits, without_close_frame, "the connection ended without a close frame"),
        (websocket_checks.limits, replacing(b"\x03\xf1", b"\x03\xf2"), "expected the close code 1009"),
        (websocket_checks.resume, replacing(b'"recovered":true', b'"recovered":null'), "expected a resume"),
        (websocket_checks.resume, replacing(b'"seq":4,', b'"seq":3,'), "expected each message once and in order"),
        (websocket_checks.compression, replacing(b"\xc1\x7e", b"\x81\x7e"), "expected an event"),
        (client_checks.order, replacing(b'"seq":7,', b'"seq":8,'), "99 of 100 messages came within"),
        (client_checks.order, replacing(b'"payload":[1,7]', b'"payload":[1,9]'), "in another order"),
        (client_checks.gaps, replacing(b'"from_seq":3', b'"from_seq":4'), "expected a gap of 13 messages"),
        (stream_checks.stream, replacing(b"text/event-stream", b"text/event-streem"), "expected a stream of events"),
        (stream_checks.stream, replacing(b'"subscribed"', b'"subscribet"'), "expected the info"),
        (stream_checks.stream_resume, replacing(b'"payload":"c"', b'"payload":"d"'), "expected an event with 'c'"),
    ],
)
@on_one_loop
async def test_what_is_changed_is_found(run: Run, change: Change, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_checks, "RECEIVE_SEC", 0.5)
    async with run_server(compression="on", compression_min_bytes=1000) as server, changing(server, change) as proxied:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((CheckFailed, PubsubError), match=told):
                await run(proxied)


@on_one_loop
async def test_connection_that_a_proxy_keeps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_checks, "LEAVE_SEC", 0.2)
    async with run_server() as server, changing(server, lambda sent: sent, keeps=True) as proxied:
        with pytest.raises(CheckFailed, match="later the server still has the connection"):
            await websocket_checks.leave(proxied)


@on_one_loop
async def test_idle_connection_that_was_never_made_is_a_failure() -> None:
    async with run_server() as server, changing(server, lambda sent: b"") as proxied:
        for watch in (idle_checks.heartbeat, idle_checks.stream_heartbeat):
            with pytest.raises((CheckFailed, PubsubError), match=r"no answer within|closed without an answer"):
                await watch(proxied, 0.1)


@on_one_loop
async def test_idle_connection_without_a_whole_period_is_skipped() -> None:
    async with run_server(ping_period_sec=30) as server, changing(server, lambda sent: sent) as proxied:
        for watch in (idle_checks.heartbeat, idle_checks.stream_heartbeat):
            with pytest.raises(CheckSkipped, match="still open after 0 s, with 0 of 2 heartbeats; --seconds 65"):
                await watch(proxied, 0.2)
