"""The closing handshake: after both close frames the connection ends at once, whatever else has come."""

from __future__ import annotations

import asyncio
import json
from typing import NoReturn

import pytest

from pubsub.http.app_keys import SERVICES
from pubsub.lifecycle import close_clients
from pubsub.protocol.frames import CLOSE, FIN, LONG_TEXT, TEXT
from tests.credentials import SECRET
from tests.harness import PATIENCE, RawClient, Server, eventually, masked_frame, run_server

CLOSED = masked_frame(FIN | CLOSE, (1000).to_bytes(2, "big"))
PAYLOAD = "x" * 10_000
EVENTS = 90  # of PAYLOAD; the buffers of kernels and server hold a third
BUFFER = 1 << 14  # bytes that a kernel buffers for a client that does not read


@pytest.fixture(autouse=True)
def no_end_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server wait for a close frame longer than any test: a connection ends for another reason."""
    monkeypatch.setattr("pubsub.websocket.transport.CLOSE_WAIT", 1000.0)


WRONG = {
    "a code that is reserved": ((1005).to_bytes(2, "big"), 1002),
    "a code that is no code": ((999).to_bytes(2, "big"), 1002),
    "a code of nobody": ((2999).to_bytes(2, "big") + b"reason", 1002),
    "one byte": (b"\x03", 1002),
    "a reason that is not UTF-8": ((1000).to_bytes(2, "big") + b"\xff", 1007),
    "126 bytes": ((1000).to_bytes(2, "big") + b"x" * 124, 1002),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_after_a_close_that_is_wrong(kind: str) -> None:
    payload, code = WRONG[kind]
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(FIN | CLOSE, payload))
        assert await client.close_code() == code
        assert await client.is_gone()


async def test_after_a_close_with_a_reserved_bit() -> None:
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(FIN | 0x40 | CLOSE, b""))
        assert await client.close_code() == 1002
        assert await client.is_gone()


async def test_a_close_with_a_reserved_bit_that_is_not_whole_is_waited_for() -> None:
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(FIN | 0x40 | CLOSE, b"\x03\xe8")[:-1])
        assert await client.close_code() == 1002
        assert server.connections == 1


async def test_a_close_that_is_wrong_and_not_whole_is_waited_for() -> None:
    """An end before the rest has come would be a reset, which can destroy the server's own close frame."""
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(FIN | CLOSE, b"x" * 126)[:-1])
        assert await client.close_code() == 1002
        assert server.connections == 1


async def test_after_a_wrong_close_that_answers_the_servers() -> None:
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        async with server.http.delete("/clients/raw") as answer:
            assert answer.status == 200
        assert await client.close_code() == 4403
        await client.send(masked_frame(FIN | CLOSE, b"\x03"))
        assert await client.is_gone()


FAULTS = {
    "text that is not UTF-8": (masked_frame(FIN | TEXT, b"\xff"), 1007),
    "a fragment that is not UTF-8": (masked_frame(TEXT, b"\xff") + masked_frame(FIN, b"\xff"), 1007),
    "long text that is not UTF-8": (masked_frame(FIN | TEXT, b"\xff" * (LONG_TEXT + 1)), 1007),
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_after_a_close_right_behind_a_fault(kind: str) -> None:
    sent, code = FAULTS[kind]
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await client.send(sent + CLOSED)
        assert await client.close_code() == code
        assert await client.is_gone()


async def test_after_a_close_right_behind_a_request_on_which_the_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    async with run_server() as server:
        client = await RawClient.connect(server.port)
        monkeypatch.setattr("pubsub.websocket.session.Session.receive", fail)
        await client.send(masked_frame(FIN | TEXT, b"{}") + CLOSED)
        assert await client.close_code() == 1011
        assert await client.is_gone()


async def test_after_a_close_right_behind_a_long_message_that_ends_it() -> None:
    """The message waits for its turn, and the close frame after it arrives meanwhile."""
    async with run_server(jwt_secret=SECRET) as server:
        client = await RawClient.connect(server.port, path="/ws")
        request = json.dumps({"type": "ping", "request_id": "x", "more": "x" * LONG_TEXT})
        await client.send(masked_frame(FIN | TEXT, request.encode()) + CLOSED)
        assert await client.close_code() == 4401
        assert await client.is_gone()


async def test_after_the_answer_of_a_client_whose_message_was_not_complete_in_time() -> None:
    async with run_server(read_timeout_sec=0.2) as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(TEXT, b"{"))
        assert await client.close_code() == 1008
        await client.send(CLOSED)
        assert await client.is_gone()


async def test_a_close_of_a_blocked_client_is_answered_at_a_shutdown_and_its_queue_given_up() -> None:
    async with run_server(send_buffer=BUFFER, shutdown_timeout_sec=1000) as server:
        await server.create("orders")
        client = await blocked_subscriber(server)
        await client.send(CLOSED)
        closing = asyncio.ensure_future(close_clients(server.app))
        await asyncio.sleep(0)
        messages = [message async for message in client.read_messages()]
        assert 0 < len(messages) < EVENTS
        assert await client.is_gone()
        async with asyncio.timeout(PATIENCE):
            await closing


async def test_a_close_at_a_shutdown_is_answered_with_one() -> None:
    """The server still has to send its own close frame, which would follow the queue."""
    async with run_server(send_buffer=BUFFER, shutdown_timeout_sec=1000) as server:
        await server.create("orders")
        client = await blocked_subscriber(server)
        closing = asyncio.ensure_future(close_clients(server.app))
        await asyncio.sleep(0)
        await client.send(CLOSED)
        assert await client.close_code() == 1000
        assert await client.is_gone()
        async with asyncio.timeout(PATIENCE):
            await closing


async def test_a_close_of_a_slow_consumer_that_came_before() -> None:
    async with run_server(send_buffer=BUFFER, write_wait_sec=0.2, subscriber_queue_size=10) as server:
        await server.create("orders")
        client = await blocked_subscriber(server)
        await client.send(CLOSED)
        await eventually(lambda: not server.app[SERVICES].timers.blocked)
        assert await client.close_code() == 1013
        assert await client.is_gone()


async def blocked_subscriber(server: Server) -> RawClient:
    """Return a client that is subscribed to ``orders`` and lags by some of EVENTS."""
    client = await RawClient.connect(server.port, receive_buffer=BUFFER)
    await client.subscribe("orders")
    server.publish_locally("orders", [PAYLOAD] * EVENTS)
    await eventually(lambda: bool(server.app[SERVICES].timers.blocked))
    return client
