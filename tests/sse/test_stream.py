"""The life of a stream over real sockets: heartbeats, backpressure, what the client sends, and each end."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from pathlib import Path
from signal import SIGTERM

import pytest
from certificate import trusting

from pubsub.http.app_keys import CONNECTIONS
from pubsub.sse.stream import EventStream
from tests.credentials import SECRET, make_token
from tests.harness import (
    PATIENCE,
    ForkedServer,
    RawClient,
    Server,
    eventually,
    on_one_loop,
    publish_request,
    run_server,
)
from tests.http.test_tls import tls_server
from tests.streams import Stream
from tests.websocket.test_slow_subscribers import PAYLOAD, SMALL_BUFFER, STALLING, Delivery, flood

PATH = "/topics/orders/events"
SHORT = 0.3  # seconds


async def begun(port: int, path: str = PATH, *, receive_buffer: int | None = None) -> Stream:
    stream = await Stream.open(port, path, receive_buffer=receive_buffer)
    assert stream.status == 200
    await stream.info("subscribed")
    return stream


async def is_gone(server: Server) -> None:
    await eventually(lambda: server.connections == 0)


# Heartbeats and signs of life


async def test_an_idle_stream_gets_comments_and_lives_as_long_as_it_takes_them() -> None:
    async with run_server(ping_period_sec=0.1, pong_wait_sec=SHORT) as server:
        await server.create("orders")
        stream = await begun(server.port)
        for _ in range(10):
            assert await stream.client.read_upto(b"\n\n") == b": ping\n\n"
        server.publish_locally("orders", [1])
        assert await stream.payloads(1) == [1]


async def test_a_client_that_takes_nothing_is_dropped_after_pong_wait(caplog: pytest.LogCaptureFixture) -> None:
    async with run_server(pong_wait_sec=SHORT, write_wait_sec=1000, send_buffer=SMALL_BUFFER) as server:
        await server.create("orders")
        await begun(server.port, receive_buffer=SMALL_BUFFER)
        with caplog.at_level(logging.INFO):
            for _ in range(STALLING):
                server.publish_locally("orders", [PAYLOAD])
                await asyncio.sleep(0)
            await is_gone(server)
        assert "no sign of life for 0.3 s" in caplog.text


# Backpressure


async def test_a_stalled_stream_is_told_each_gap_and_resumes_from_within() -> None:
    queue = 10
    async with (
        run_server(subscriber_queue_size=queue, ring_buffer_size=1000, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        stalled = await begun(server.port, receive_buffer=SMALL_BUFFER)
        await flood(healthy, "orders", STALLING)
        delivery = Delivery("orders")
        while delivery.next_seq <= STALLING:
            delivery.take((await stalled.next()).data)
            assert stalled.last_id.endswith(f":{delivery.events[-1] if delivery.events else 0}")
        (gap,) = delivery.gaps
        assert gap.stop == STALLING - queue + 1
        epoch = stalled.last_id.partition(":")[0]
        resumed = await Stream.open(server.port, PATH, last_id=f"{epoch}:{gap.start - 1}")
        assert (await resumed.info("recovered"))["recovered"] is True
        found = [(await resumed.next()).data["seq"] for _ in range(STALLING - gap.start + 1)]
        assert found == list(range(gap.start, STALLING + 1))


async def test_a_slow_consumer_is_told_and_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async with run_server(subscriber_queue_size=10, write_wait_sec=SHORT, send_buffer=SMALL_BUFFER) as server:
        await server.create("orders")
        stalled = await begun(server.port, receive_buffer=SMALL_BUFFER)
        for _ in range(STALLING):
            server.publish_locally("orders", [PAYLOAD])
            await asyncio.sleep(0)
        await eventually(lambda: "Slow consumer detected" in caplog.text)
        last = (await stalled.rest())[-1]
        assert (last.event, last.data["type"], last.data["error"]["code"]) == ("info", "error", "SLOW_CONSUMER")
        assert last.id is None, "it resumes from the last event that it got"
        await is_gone(server)


async def test_a_slow_consumer_that_never_reads_is_gone_all_the_same() -> None:
    async with run_server(subscriber_queue_size=10, write_wait_sec=SHORT, send_buffer=SMALL_BUFFER) as server:
        await server.create("orders")
        await begun(server.port, receive_buffer=SMALL_BUFFER)
        for _ in range(STALLING):
            server.publish_locally("orders", [PAYLOAD])
            await asyncio.sleep(0)
        await is_gone(server)


async def test_a_long_replay_waits_for_the_client() -> None:
    async with run_server(ring_buffer_size=STALLING, subscriber_queue_size=10, send_buffer=SMALL_BUFFER) as server:
        await server.create("orders")
        for _ in range(STALLING):
            server.publish_locally("orders", [PAYLOAD])
            await asyncio.sleep(0)
        stream = await Stream.open(server.port, f"{PATH}?last_n={STALLING}", receive_buffer=SMALL_BUFFER)
        server.publish_locally("orders", ["last"])
        await stream.info("subscribed")
        payloads = await stream.payloads(STALLING + 1)
        assert payloads == [PAYLOAD] * STALLING + ["last"]


# What the client sends


async def test_what_a_client_sends_is_ignored_and_read_once_in_a_heartbeat() -> None:
    async with run_server(ping_period_sec=1000) as server:
        await server.create("orders")
        stream = await begun(server.port)
        for _ in range(1000):
            stream.client.send_at_once(b"x" * 100_000)
            await asyncio.sleep(0)
        server.publish_locally("orders", [1])
        assert await stream.payloads(1) == [1]
        (row,) = (await server.get("/clients"))["clients"]
        assert row["bytes_in"] < 20_000_000
        stream.client.reset()
        server.publish_locally("orders", [2])
        await is_gone(server)


async def test_after_a_heartbeat_it_is_read_again_so_that_an_end_is_seen() -> None:
    async with run_server(ping_period_sec=0.1, pong_wait_sec=1000) as server:
        await server.create("orders")
        stream = await begun(server.port)
        await stream.client.send(b"GET / HTTP/1.1\r\n\r\n")
        stream.client.half_close()
        await is_gone(server)


@pytest.mark.parametrize("end", ["close", "half_close", "reset"])
async def test_a_client_that_leaves_is_gone_at_once(end: str, caplog: pytest.LogCaptureFixture) -> None:
    async with run_server(ping_period_sec=1000) as server:
        await server.create("orders")
        stream = await begun(server.port)
        with caplog.at_level(logging.INFO):
            getattr(stream.client, end)()
            await is_gone(server)
        assert ("connection reset" if end == "reset" else "the client hung up") in caplog.text
        assert (await server.get("/topics"))["topics"] == [{"name": "orders", "subscribers": 0}]


# Ends


async def test_the_end_of_its_topic_ends_a_stream_after_its_last_event() -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await begun(server.port)
        server.publish_locally("orders", [1, 2])
        async with server.http.delete("/topics/orders") as response:
            assert response.status == 200
        assert await stream.payloads(2) == [1, 2]
        (last,) = await stream.rest()
        assert (last.event, last.data["msg"], last.data["topic"]) == ("info", "topic_deleted", "orders")
        await is_gone(server)
        assert (await Stream.open(server.port, PATH, last_id=stream.last_id)).status == 404


async def test_the_end_of_its_topic_waits_for_a_lagging_client() -> None:
    async with run_server(subscriber_queue_size=STALLING, send_buffer=SMALL_BUFFER) as server:
        await server.create("orders")
        stream = await begun(server.port, receive_buffer=SMALL_BUFFER)
        for _ in range(STALLING):
            server.publish_locally("orders", [PAYLOAD])
            await asyncio.sleep(0)
        async with server.http.delete("/topics/orders") as response:
            assert response.status == 200
        assert server.connections == 1, "it has not taken everything"
        *events, last = await stream.rest()
        assert [block.data["seq"] for block in events] == list(range(1, STALLING + 1))
        assert last.data["msg"] == "topic_deleted"


async def test_a_stream_ends_with_its_token() -> None:
    async with run_server(jwt_secret=SECRET) as server:
        await server.create("orders")
        token = make_token(subscribe=["orders"], exp=time.time() + SHORT)
        stream = await begun(server.port, f"{PATH}?token={token}")
        (last,) = await stream.rest()
        assert (last.event, last.data["error"]["code"]) == ("info", "UNAUTHORIZED")
        assert (await Stream.open(server.port, f"{PATH}?token={token}", last_id=stream.last_id)).status == 401


@on_one_loop
async def test_a_shutdown_tells_when_to_come_back_and_sends_what_is_queued() -> None:
    with ForkedServer("--subscriber-queue-size", str(STALLING), "--reconnect-spread-sec", "1000") as server:
        await server.create("orders")
        idle = await begun(server.port)
        lagging = await begun(server.port, receive_buffer=SMALL_BUFFER)
        publisher = await RawClient.connect(server.port, path="/ws?client_id=publisher")
        for _ in range(STALLING):
            await publisher.send_text(publish_request("orders", PAYLOAD))
            assert (await publisher.receive())["type"] == "ack"
            await idle.next()
        server.process.send_signal(SIGTERM)
        (draining,) = await idle.rest()
        assert (draining.event, draining.data["msg"]) == ("info", "draining")
        assert draining.retry == draining.data["reconnect_after_ms"] == idle.retry
        blocks = await lagging.rest()
        assert [block.data["seq"] for block in blocks if block.event == "message"] == list(range(1, STALLING + 1))
        (told,) = [block for block in blocks if block.event == "info"]
        assert told.retry == told.data["reconnect_after_ms"] != draining.retry
        publisher.close()
        assert server.wait() == 0
        assert "Traceback" not in server.log
        assert "cut off" not in server.log


# TLS, tasks and memory


async def test_a_stream_over_tls(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        await server.create("orders")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(), limit=1 << 24)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b'"msg":"subscribed"')
        server.publish_locally("orders", ["x" * 100_000] * 20)
        async with asyncio.timeout(PATIENCE):
            for _ in range(20):
                await reader.readuntil(b"\nid: ")
        async with server.http.delete("/topics/orders") as response:
            assert response.status == 200
        async with asyncio.timeout(PATIENCE):
            rest = await reader.read()
        assert b'"msg":"topic_deleted"' in rest, "and the end of the stream is that of TLS too, without an error"
        writer.close()
        await is_gone(server)


async def test_a_stream_has_no_task_and_leaves_nothing() -> None:
    async with run_server() as server:
        await server.create("orders")
        tasks = len(asyncio.all_tasks())
        streams = [await begun(server.port) for _ in range(20)]
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        assert all(isinstance(peer, EventStream) for peer in server.app[CONNECTIONS]._open)
        held = server.runner.server
        assert held is not None
        await eventually(lambda: len(held.connections) == 1)  # the test's own
        gc.collect()
        gc.disable()
        try:
            for stream in streams:
                stream.close()
            await is_gone(server)
            await asyncio.sleep(0)
            left = [each for each in gc.get_objects() if isinstance(each, EventStream)]
        finally:
            gc.enable()
        assert not left, "not even for the garbage collector"
