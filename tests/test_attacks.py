"""Attacks on a server: a good client is served meanwhile, SIGTERM ends the server in time, and its memory is limited.

An attack is a coroutine that runs until it is cancelled; several run at once, against a server in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pubsub.protocol.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT
from tests.harness import (
    PATIENCE,
    ForkedServer,
    RawClient,
    ServerProcess,
    eventually,
    frame_header,
    masked_frame,
    on_one_loop,
    publish_request,
    run_server,
)

ATTACKERS = 8
SMALL_BUFFER = 1 << 16
ASK = masked_frame(FIN | TEXT, b'{"type":"ping","request_id":"%b"}' % (b"x" * 100))
HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
SUBSCRIBE = b'{"type":"subscribe","topic":"orders","client_id":"x","last_n":100}'

Attack = Callable[[int], Coroutine[Any, Any, None]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


async def send_for_ever(client: RawClient, sent: bytes, pause: float = 0) -> None:
    """Send until the server closes the connection; wait if the server does not read."""
    with contextlib.suppress(ConnectionError):
        while True:
            await client.send(sent)
            await asyncio.sleep(pause)


@attack
async def row_9_endless_empty_fragments(port: int) -> None:
    while True:
        client = await RawClient.connect(port)
        await client.send(masked_frame(TEXT, b""))
        await send_for_ever(client, masked_frame(CONTINUATION, b"") * 1000)
        client.close()


@attack
async def row_12_pings_whose_pongs_nobody_reads(port: int) -> None:
    client = await RawClient.connect(port, receive_buffer=SMALL_BUFFER)
    await send_for_ever(client, masked_frame(FIN | PING, b"x" * 125) * 100)


@attack
async def requests_whose_answers_nobody_reads(port: int) -> None:
    client = await RawClient.connect(port, receive_buffer=SMALL_BUFFER)
    await send_for_ever(client, ASK * 100)


@attack
async def history_that_nobody_reads(port: int) -> None:
    client = await RawClient.connect(port, receive_buffer=SMALL_BUFFER)
    await send_for_ever(client, masked_frame(FIN | TEXT, b'{"type":"history","topic":"orders","last_n":1000}'))


@attack
async def row_13_a_byte_at_a_time(port: int) -> None:
    while True:
        client = await RawClient.connect(port)
        await client.send(frame_header(FIN | TEXT, 1000, masked=True))
        await send_for_ever(client, b"x", pause=0.01)
        client.close()


@attack
async def row_14_silent_connections(port: int) -> None:
    while True:
        for client in [await RawClient.connect_tcp(port) for _ in range(100)]:
            await asyncio.sleep(0.01)
            client.close()


@attack
async def row_14_heads_that_do_not_end(port: int) -> None:
    while True:
        client = await RawClient.connect_tcp(port)
        await send_for_ever(client, HEAD, pause=0.01)
        client.close()


@attack
async def bodies_that_do_not_end(port: int) -> None:
    while True:
        client = await RawClient.connect_tcp(port)
        await client.send(b"POST /topics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await send_for_ever(client, b"1\r\nx\r\n", pause=0.01)
        client.close()


@attack
async def row_16_requests_in_a_pipeline_that_nobody_reads(port: int) -> None:
    client = await RawClient.connect_tcp(port, receive_buffer=SMALL_BUFFER)
    await send_for_ever(client, (HEAD + b"\r\n") * 100)


@attack
async def row_34_subscribers_that_stop_reading(port: int) -> None:
    client = await RawClient.connect(port, receive_buffer=4096)
    await client.send(masked_frame(FIN | TEXT, SUBSCRIBE) * 20)
    await asyncio.Event().wait()


@attack
async def row_36_subscriptions_that_come_and_go(port: int) -> None:
    client = await RawClient.connect(port)
    churn = masked_frame(FIN | TEXT, SUBSCRIBE.replace(b"100", b"0")) + masked_frame(
        FIN | TEXT, SUBSCRIBE.replace(b"subscribe", b"unsubscribe", 1)
    )
    reading = asyncio.ensure_future(client.is_gone())
    await send_for_ever(client, churn * 50)
    await reading


@attack
async def messages_of_the_largest_size(port: int) -> None:
    client = await RawClient.connect(port)
    reading = asyncio.ensure_future(client.is_gone())
    await send_for_ever(client, masked_frame(FIN | TEXT, b'{"type":"nonsense","x":"%b"}' % (b"x" * 1_000_000)))
    await reading


@attack
async def binary_and_broken_frames(port: int) -> None:
    for sent in itertools.cycle([masked_frame(FIN | BINARY, b"\xff"), masked_frame(FIN | 3, b""), b"\xff" * 1000]):
        client = await RawClient.connect(port)
        await client.send(sent)
        await client.read_some()
        client.close()


@attack
async def resets_in_the_middle_of_a_frame(port: int) -> None:
    while True:
        client = await RawClient.connect(port)
        await client.send(masked_frame(FIN | TEXT, SUBSCRIBE) + frame_header(FIN | TEXT, 1000, masked=True) + b"half")
        await client.read_some()
        client.reset()


@attack
async def half_closed_connections(port: int) -> None:
    while True:
        client = await RawClient.connect(port)
        await client.send(ASK * 10)
        client.half_close()
        await client.is_gone()
        client.close()


@attack
async def handshakes_that_leave_before_the_answer(port: int) -> None:
    while True:
        client = await RawClient.connect_tcp(port)
        await client.send(
            HEAD.replace(b"/health", b"/ws") + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        client.reset()
        await asyncio.sleep(0)


class GoodClient:
    """A client that publishes and gets its own events, during any attack."""

    def __init__(self, client: RawClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, port: int, topic: str) -> GoodClient:
        client = await RawClient.connect(port, path="/ws?client_id=good")
        await client.subscribe(topic)
        return cls(client)

    async def is_served(self, topic: str) -> None:
        payload = str(uuid.uuid4())
        await self._client.send_text(publish_request(topic, payload))
        seen = [await self._client.receive(), await self._client.receive()]
        assert {message["type"] for message in seen} == {"ack", "event"}
        assert payload in json.dumps(seen)

    async def close_code(self) -> int | None:
        code = await self._client.close_code()
        self._client.close()
        return code


@contextlib.asynccontextmanager
async def attacked_by(function: Attack, port: int) -> AsyncIterator[None]:
    attacks = [asyncio.ensure_future(function(port)) for _ in range(ATTACKERS)]
    try:
        yield
    finally:
        for each in attacks:
            each.cancel()
        await asyncio.gather(*attacks, return_exceptions=True)


def memory(server: ServerProcess) -> int:
    """Return the resident memory of the server in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


MEMORY = 150 << 20  # limit for each attack, in addition to the memory of the idle server


@pytest.mark.parametrize("name", ATTACKS)
@on_one_loop
async def test_in_the_middle_of_an_attack_the_good_are_served_and_sigterm_ends_it_all(name: str) -> None:
    limits = ("--shutdown-timeout-sec", "1.5", "--read-timeout-sec", "0.3", "--write-wait-sec", "0.3")
    with ForkedServer(*limits) as server:
        await server.create("orders", "good")
        good = await GoodClient.connect(server.port, "good")
        filler = await RawClient.connect(server.port, path="/ws?client_id=filler")
        for _ in range(50):
            await filler.send_text(publish_request("orders", "x" * 10_000))
            assert (await filler.receive())["type"] == "ack"
        before = memory(server)
        async with attacked_by(ATTACKS[name], server.port):
            for _ in range(10):
                async with asyncio.timeout(PATIENCE):
                    await good.is_served("good")
                await asyncio.sleep(0.05)  # so that the attack lasts longer than the time limits
            assert memory(server) - before < MEMORY
            newcomer = await GoodClient.connect(server.port, "orders")
            await newcomer.is_served("orders")
            server.process.send_signal(signal.SIGTERM)
            assert await good.close_code() == 1001
        assert await asyncio.to_thread(server.wait) == 0
        assert "Traceback" not in server.log


@on_one_loop
async def test_row_9_300_000_empty_fragments_end_with_the_messages_time_and_take_no_memory() -> None:
    with ForkedServer("--read-timeout-sec", "2") as server:
        client = await RawClient.connect(server.port)
        other = await RawClient.connect(server.port)
        before = memory(server)
        closed = asyncio.ensure_future(client.close_code())
        await client.send(masked_frame(TEXT, b""))
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                await client.send(masked_frame(CONTINUATION, b"") * 1000)
                await other.send_text({"type": "ping"})
                assert (await other.receive())["type"] == "pong"
        assert memory(server) - before < 10 << 20
        assert await closed == 1008


async def test_row_12_whoever_reads_no_pongs_is_read_no_further_and_dropped_in_the_end() -> None:
    async with run_server(pong_wait_sec=1.5, ping_period_sec=0.5, send_buffer=SMALL_BUFFER) as server:
        client = await RawClient.connect(server.port, receive_buffer=SMALL_BUFFER)
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while sent < 1_000_000:
                    await client.send(masked_frame(FIN | PING, b"x" * 125) * 100)
                    sent += 100
        assert sent < 200_000, "25 MB: the server continued to read"
        await eventually(lambda: server.connections == 0)


async def test_a_client_with_much_to_say_lets_others_have_their_turns() -> None:
    """Of 20,000 requests in one piece, some still wait when a later request of another client has its answer."""
    async with run_server() as server, server.client() as other:
        client = await RawClient.connect(server.port)
        answers = 0

        async def count_answers() -> None:
            nonlocal answers
            while answers < 20_000:
                assert (await client.receive())["type"] == "pong"
                answers += 1

        counting = asyncio.ensure_future(count_answers())
        sending = asyncio.ensure_future(client.send(masked_frame(FIN | TEXT, b'{"type":"ping"}') * 20_000))
        await eventually(lambda: answers > 0)
        await other.sync()
        assert answers < 20_000
        await sending
        await counting


@pytest.mark.parametrize("control", [PING, PONG])
async def test_a_flood_of_control_frames_is_no_message_that_does_not_end(control: int) -> None:
    """Proof by order: another client, whose message does not end, is closed while this one is still served."""
    async with run_server(read_timeout_sec=0.3) as server:
        flooding, stuck = await RawClient.connect(server.port), await RawClient.connect(server.port)
        await stuck.send(masked_frame(TEXT, b" "))
        closed = asyncio.ensure_future(stuck.close_code())
        flood = masked_frame(FIN | control, b"") * 250
        await flooding.send(flood[:3])
        while not closed.done():
            await flooding.send(flood[3:] + flood[:3])
            if control == PING:
                await flooding.read_some()
            await asyncio.sleep(0)
        assert await closed == 1008
        await flooding.send(flood[3:] + masked_frame(FIN | CLOSE, b"\x0f\xa1"))
        assert await flooding.close_code() == 4001


async def test_row_34_whoever_stops_reading_and_is_sent_away_is_gone_in_a_second() -> None:
    async with run_server(send_buffer=SMALL_BUFFER, subscriber_queue_size=10_000) as server:
        await server.create("orders")
        stopped = await RawClient.connect(server.port, receive_buffer=SMALL_BUFFER, path="/ws?client_id=stopped")
        await stopped.subscribe("orders")
        server.publish_locally("orders", ["x" * 10_000] * 200)
        async with server.http.delete("/clients/stopped") as response:
            assert response.status == 200
        async with asyncio.timeout(3):  # a second, and two for a busy machine
            await eventually(lambda: server.connections == 0)


@on_one_loop
async def test_row_49_a_thousand_clients_that_come_back_at_once_are_all_served() -> None:
    with ForkedServer() as server:
        await server.create("orders")

        async def reconnect(number: int) -> RawClient:
            client = await RawClient.connect(server.port, path=f"/ws?client_id=c{number}")
            await client.subscribe("orders")
            return client

        async with asyncio.timeout(30):
            clients = await asyncio.gather(*map(reconnect, range(1000)))
            await clients[0].send_text(publish_request("orders", 1))
            for client in clients[1:]:
                assert (await client.receive())["seq"] == 1
