"""The contract's section on shutdown: messages to clients, their order, time limits, exit status and log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from signal import SIGINT, SIGTERM, Signals

import pytest

from pubsub.lifecycle import close_clients
from pubsub.protocol.frames import CLOSE, FIN, TEXT
from tests.harness import (
    PATIENCE,
    ForkedServer,
    Json,
    RawClient,
    ServerProcess,
    frame_header,
    masked_frame,
    on_one_loop,
    publish_request,
    run_server,
)

PAYLOAD = "x" * 40_000
STALLING = 250  # events of PAYLOAD: more than all buffers of the kernels and of the server
GOING_AWAY = (1001).to_bytes(2, "big")
SIGNALS = pytest.mark.parametrize("number", [SIGTERM, SIGINT])


async def subscriber(port: int, name: str = "raw", *, receive_buffer: int | None = None) -> RawClient:
    client = await RawClient.connect(port, path=f"/ws?client_id={name}", receive_buffer=receive_buffer)
    await client.subscribe("orders")
    return client


async def publish(port: int, count: int) -> None:
    """Publish one by one, each after the last one's acknowledgement."""
    client = await RawClient.connect(port, path="/ws?client_id=publisher")
    for _ in range(count):
        await client.send_text(publish_request("orders", PAYLOAD))
        assert (await client.receive())["type"] == "ack"
    client.close()


async def read_until_close(client: RawClient, pause: float = 0) -> list[Json]:
    """Read up to the server's close frame (1001) and answer it; return the messages. ``pause``: after each frame."""
    messages: list[Json] = []
    while (frame := await client.read_frame()) is not None:
        if frame[0] == FIN | CLOSE:
            assert frame[1][:2] == GOING_AWAY
            await client.send(masked_frame(FIN | CLOSE, GOING_AWAY))
            return messages
        if frame[0] == FIN | TEXT:
            messages.append(json.loads(frame[1]))
        await asyncio.sleep(pause)
    raise AssertionError(f"cut off without a close frame, after {len(messages)} messages")


def is_draining(message: Json) -> bool:
    return message.get("msg") == "draining"


@SIGNALS
@on_one_loop
async def test_each_client_is_told_when_to_come_back_and_closed_with_1001(number: Signals) -> None:
    spread = 1000
    with ServerProcess("--reconnect-spread-sec", str(spread), "--shutdown-timeout-sec", "60") as server:
        await server.create("orders")
        clients = [await subscriber(server.port, f"client-{number}") for number in range(8)]
        server.process.send_signal(number)
        told = []
        for client in clients:
            (draining,) = await read_until_close(client)
            assert draining.keys() == {"type", "msg", "reconnect_after_ms", "ts"}
            assert (draining["type"], draining["msg"]) == ("info", "draining")
            told.append(draining["reconnect_after_ms"])
        assert server.wait() == 0, "the server does not wait for a client that has answered"
        assert all(type(after) is int and 0 <= after <= spread * 1000 for after in told)
        assert len(set(told)) == len(told), "each client gets another time"
        assert min(told) < spread * 500 < max(told), "spread over the time"
        assert "Traceback" not in server.log
        assert not re.search("cut off", server.log, re.IGNORECASE)


@on_one_loop
async def test_the_server_leaves_at_once_when_nobody_is_there() -> None:
    with ServerProcess("--shutdown-timeout-sec", "60") as server:
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < PATIENCE


@on_one_loop
async def test_row_48_what_is_queued_comes_before_the_close() -> None:
    with ForkedServer("--subscriber-queue-size", str(STALLING)) as server:
        await server.create("orders")
        lagging = await subscriber(server.port, receive_buffer=1 << 16)
        await publish(server.port, STALLING)
        server.process.send_signal(SIGTERM)
        messages = await read_until_close(lagging)
        assert [message["seq"] for message in messages if "seq" in message] == list(range(1, STALLING + 1))
        (told_at,) = [index for index, message in enumerate(messages) if is_draining(message)]
        assert told_at < STALLING, "the time to reconnect comes first, then the queued events"
        assert server.wait() == 0


@on_one_loop
async def test_who_reads_slowly_has_the_whole_shutdown_timeout() -> None:
    with ForkedServer("--subscriber-queue-size", str(STALLING), "--shutdown-timeout-sec", "30") as server:
        await server.create("orders")
        slow = await subscriber(server.port, receive_buffer=4096)
        slow.read_size = 1 << 16
        count = STALLING // 2
        await publish(server.port, count)
        server.process.send_signal(SIGTERM)
        messages = await read_until_close(slow, pause=0.01)
        assert [message["seq"] for message in messages if "seq" in message] == list(range(1, count + 1))
        assert server.wait() == 0


def cut_off(log: str) -> list[int]:
    """Return the number of clients in each log line about aborted connections."""
    return [int(count) for count in re.findall(r"(?i)cut off[^\n]*?\b(\d+) client", log)]


@SIGNALS
@on_one_loop
async def test_a_stalled_client_is_cut_off_in_time_and_counted(number: Signals) -> None:
    with ForkedServer("--subscriber-queue-size", str(STALLING), "--shutdown-timeout-sec", "2") as server:
        await server.create("orders")
        await subscriber(server.port, "stalled", receive_buffer=4096)
        answering = await subscriber(server.port, "answering")
        silent = await subscriber(server.port, "silent")
        reading = asyncio.ensure_future(read_until_close(answering))
        await publish(server.port, STALLING)
        started = time.monotonic()
        server.process.send_signal(number)
        assert any(map(is_draining, await reading))
        assert await silent.close_code() == 1001  # it reads everything, but never answers the server's close frame
        assert server.wait() == 0
        assert time.monotonic() - started < 4, "2 s, and 2 s for a busy machine"
        assert cut_off(server.log) == [1]


async def test_a_stalled_client_with_little_before_it_is_counted_too(caplog: pytest.LogCaptureFixture) -> None:
    async with run_server(shutdown_timeout_sec=2, send_buffer=1 << 16) as server:
        await server.create("orders")
        stalled = await subscriber(server.port, receive_buffer=1 << 16)
        server.publish_locally("orders", [PAYLOAD] * 10)
        await close_clients(server.app)
        received = 0
        while more := await stalled.read_some():
            received += len(more)
        assert received < 10 * len(PAYLOAD), "the answer was cut off"
        assert cut_off(caplog.text) == [1]


@on_one_loop
async def test_row_48_while_it_shuts_down_it_takes_nobody_new_and_health_says_so() -> None:
    with ForkedServer("--subscriber-queue-size", str(STALLING), "--shutdown-timeout-sec", "3") as server:
        await server.create("orders")
        await subscriber(server.port, "stalled", receive_buffer=4096)
        told = await subscriber(server.port, "told")
        await publish(server.port, STALLING)
        open_before = await RawClient.connect_tcp(server.port)
        assert (await open_before.request("GET", "/health"))[0] == 200
        handshaking = await RawClient.connect_tcp(server.port)
        server.process.send_signal(SIGTERM)
        assert any(map(is_draining, await read_until_close(told)))
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect_tcp(server.port)
        status, health = await open_before.request("GET", "/health")
        assert status == 503
        assert health.keys() == {"uptime_sec", "topics", "subscribers", "status"}
        assert health["status"] == "draining"
        await handshaking.send(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await handshaking.read_response())[0] == 503
        assert server.wait() == 0


@on_one_loop
async def test_with_drain_sec_it_goes_on_serving_first() -> None:
    with ForkedServer("--drain-sec", "1.5", "--shutdown-timeout-sec", "60") as server:
        await server.create("orders")
        early = await subscriber(server.port, "early")
        server.process.send_signal(SIGTERM)
        server.read_log_until("SIGTERM")
        probe = await RawClient.connect_tcp(server.port)
        status, health = await probe.request("GET", "/health")
        assert (status, health["status"]) == (503, "draining")
        late = await subscriber(server.port, "late")
        await publish(server.port, 1)
        for client in (early, late):
            event, draining = await read_until_close(client)
            assert event["type"] == "event", "it is still served"
            assert is_draining(draining)
        assert server.wait() == 0


@pytest.mark.parametrize(("phase", "number"), [("drain", SIGTERM), ("closing", SIGINT)])
@on_one_loop
async def test_row_48_a_second_signal_ends_at_once(phase: str, number: Signals) -> None:
    wait = ("--drain-sec", "10") if phase == "drain" else ("--shutdown-timeout-sec", "10")
    with ForkedServer("--subscriber-queue-size", str(STALLING), *wait) as server:
        await server.create("orders")
        if phase == "closing":
            await subscriber(server.port, "stalled", receive_buffer=4096)
            await publish(server.port, STALLING)
        server.process.send_signal(SIGTERM)
        server.read_log_until("SIGTERM")
        assert server.stop(number) != 0, "it ignored the second signal"


BUSY_HTTP = {
    "idle between requests": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "silent": b"",
    "half a head": b"GET /health HTTP/1.1\r\nHo",
}


@on_one_loop
async def test_idle_http_connections_do_not_delay_it() -> None:
    with ForkedServer("--shutdown-timeout-sec", "60", "--read-timeout-sec", "60") as server:
        for sent in BUSY_HTTP.values():
            client = await RawClient.connect_tcp(server.port)
            await client.send(sent)
        await (await RawClient.connect_tcp(server.port)).request("GET", "/health")  # by now the others have been read
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < PATIENCE
        assert "Traceback" not in server.log


STUCK_HTTP = {
    "a body that does not come": (b"POST /topics HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 1),
    "answers that are not read": (b"GET /topics HTTP/1.1\r\nHost: x\r\n\r\n", 5000),
}


@pytest.mark.parametrize("kind", STUCK_HTTP)
@on_one_loop
async def test_http_that_does_not_end_is_cut_off_in_time(kind: str) -> None:
    sent, repeated = STUCK_HTTP[kind]
    limits = ("--shutdown-timeout-sec", "1.5", "--read-timeout-sec", "60", "--write-timeout-sec", "60")
    with ForkedServer(*limits) as server:
        await server.create(*("x" * 250 + str(number) for number in range(50)))
        client = await RawClient.connect_tcp(server.port, receive_buffer=4096)
        await client.send(sent * repeated)
        await (await RawClient.connect_tcp(server.port)).request("GET", "/health")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 4, "1.5 s, and 2.5 s for a busy machine"
        assert "Traceback" not in server.log


@on_one_loop
async def test_row_48_a_client_that_floods_does_not_delay_it() -> None:
    with ForkedServer("--shutdown-timeout-sec", "2") as server:
        await server.create("orders")
        client = await RawClient.connect(server.port)
        flooding = asyncio.ensure_future(flood(client))
        await client.receive()
        started = time.monotonic()
        server.process.send_signal(SIGTERM)
        assert is_draining((await read_without_answer(client))[-1])
        flooding.cancel()
        assert server.wait() == 0
        assert time.monotonic() - started < 4, "2 s, and 2 s for a busy machine"
        assert "Traceback" not in server.log


async def flood(client: RawClient) -> None:
    frame = masked_frame(FIN | TEXT, b'{"type":"ping"}') * 20
    while True:
        await client.send(frame)
        await asyncio.sleep(0)


async def read_without_answer(client: RawClient) -> list[Json]:
    return [message async for message in client.read_messages()]


@on_one_loop
async def test_a_message_that_has_begun_does_not_delay_it() -> None:
    with ForkedServer("--shutdown-timeout-sec", "60") as server:
        client = await RawClient.connect(server.port)
        await client.send(frame_header(FIN | TEXT, 1000, masked=True) + b"1234{")
        client_2 = await RawClient.connect(server.port)
        await client_2.send_text({"type": "ping"})
        assert (await client_2.receive())["type"] == "pong"
        started = time.monotonic()
        server.process.send_signal(SIGTERM)
        await read_until_close(client_2)
        assert server.wait() == 0
        assert time.monotonic() - started < PATIENCE


@on_one_loop
async def test_row_48_under_load_nothing_that_was_acknowledged_is_lost() -> None:
    with ForkedServer("--subscriber-queue-size", "100000", "--shutdown-timeout-sec", "20") as server:
        await server.create("orders")
        following = asyncio.ensure_future(read_until_close(await subscriber(server.port)))
        publishing = [asyncio.ensure_future(publish_till_closed(server.port)) for _ in range(4)]
        await asyncio.to_thread(server.read_log_until, "Client connected: publisher")
        probe = await RawClient.connect(server.port, path="/ws?client_id=probe")
        await probe.subscribe("orders")
        while (await probe.receive()).get("seq", 0) < 500:
            pass
        server.process.send_signal(SIGTERM)
        acknowledged = [seq for seqs in await asyncio.gather(*publishing) for seq in seqs]
        delivered = [message["seq"] for message in await following if message["type"] == "event"]
        probe.close()
        assert delivered == list(range(1, len(delivered) + 1))
        assert max(acknowledged) <= len(delivered)
        assert server.wait() == 0


async def publish_till_closed(port: int) -> list[int]:
    """Publish with ten in flight; return the ``seq`` of each acknowledged message."""
    client = await RawClient.connect(port, path="/ws?client_id=publisher")
    acknowledged: list[int] = []
    for _ in range(10):
        await client.send_text(publish_request("orders", "x"))
    with contextlib.suppress(ConnectionError):
        async for message in client.read_messages():
            if message["type"] == "ack":
                acknowledged.append(message["seq"])
                await client.send_text(publish_request("orders", "x"))
    client.close()
    return acknowledged
