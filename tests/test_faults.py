"""Faulty networks between the server and some clients: these recover or are closed, and others are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults import FaultyLine
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    ForkedServer,
    Json,
    RawClient,
    Server,
    ServerProcess,
    clean_environment,
    eventually,
    masked_frame,
    on_one_loop,
    publish_request,
    run_server,
)
from tests.websocket.test_slow_subscribers import Delivery

BEAT = {"ping_period_sec": 0.1, "pong_wait_sec": 1.5}
SMALL_BUFFER = 1 << 15
PAYLOAD = "x" * 8000


class Listener:
    """A client that always reads and answers heartbeats; its Delivery checks the events of ``orders``."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self.delivery = Delivery("orders")
        self.answers: list[Json] = []
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None

    async def listen(self) -> None:
        try:
            async for frame in self._websocket:
                message = json.loads(frame.data)
                self.delivery.take(message)
                if message["type"] not in ("event", "info"):
                    self.answers.append(message)
        except AssertionError as failure:
            self.failure = failure
        finally:
            self.ended.set()

    async def ask(self, request: Json) -> Json:
        before = len(self.answers)
        await self._websocket.send_json(request)
        await eventually(lambda: len(self.answers) > before)
        return self.answers[-1]

    async def has(self, seq: int) -> None:
        """Wait for the event ``seq`` and all events before it."""
        await eventually(lambda: self.failure is not None or self.delivery.next_seq > seq)
        assert self.failure is None


@contextlib.asynccontextmanager
async def listening(server: Server, port: int, *, after: int = 0) -> AsyncIterator[Listener]:
    """Run a listener to ``orders`` through ``port``; it expects the events after ``after``."""
    async with server.http.ws_connect(f"http://127.0.0.1:{port}/ws?client_id=listener", max_msg_size=0) as websocket:
        listener = Listener(websocket)
        listener.delivery.next_seq = after + 1
        task = asyncio.create_task(listener.listen())
        try:
            assert (await listener.ask({"type": "subscribe", "topic": "orders", "client_id": "c"}))["type"] == "ack"
            yield listener
            assert listener.failure is None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def publish(publisher: Listener, count: int) -> int:
    """Publish one by one, each after the last one's acknowledgement; return the last ``seq``."""
    seq = 0
    for _ in range(count):
        ack = await publisher.ask(publish_request("orders", PAYLOAD))
        seq = ack["seq"]
    return seq


@contextlib.asynccontextmanager
async def faulty(**settings: float) -> AsyncIterator[tuple[Server, FaultyLine, Listener]]:
    """Run a server, a proxy to it without a fault yet, and a good client that publishes on a direct connection."""
    async with run_server(send_buffer=SMALL_BUFFER, ring_buffer_size=1000, **settings) as server:
        await server.create("orders")
        async with FaultyLine.to(server.port) as line, listening(server, server.port) as good:
            yield server, line, good


async def test_a_long_line_loses_nothing() -> None:
    async with faulty() as (server, line, good), listening(server, line.port) as far:
        line.delay = 0.05
        last = await publish(good, 30)
        await far.has(last)
        await good.has(last)
        assert far.delivery.gaps == []


async def test_row_35_a_slow_line_is_alive_and_a_stalled_one_is_not() -> None:
    """A client at 1 Mbit/s that always lags stays; a client that reads nothing is closed. Others get every event."""
    async with (
        faulty(subscriber_queue_size=5, write_wait_sec=2, ping_period_sec=0.5, pong_wait_sec=2) as (server, line, good),
        listening(server, line.port) as slow,
        FaultyLine.to(server.port) as dead_line,
        listening(server, dead_line.port) as dead,
    ):
        line.rate = 128_000
        dead_line.stall()
        last = 0
        while server.connections == 3:
            last = await publish(good, 10)
            await asyncio.sleep(0)
        await good.has(last)
        assert good.delivery.gaps == []
        assert slow.delivery.next_seq <= last, "it lags"
        assert not slow.ended.is_set()
        line.rate = 0
        await slow.has(last)
        assert slow.delivery.gaps, "it is told of the events that its queue could not hold"
        dead_line.cut()
        await dead.ended.wait()


async def test_who_answers_nothing_is_dropped_by_the_heartbeat() -> None:
    """A black hole receives all data of the server, and never sends anything."""
    async with faulty(**BEAT) as (server, line, good), listening(server, line.port):
        line.swallows = True
        await eventually(lambda: server.connections == 1)
        assert (await server.get("/health"))["subscribers"] == 1
        await good.has(await publish(good, 3))


async def test_a_short_partition_is_not_noticed() -> None:
    async with faulty() as (server, line, good), listening(server, line.port) as far:
        line.stall()
        last = await publish(good, 5)
        await good.has(last)
        assert far.delivery.next_seq == 1
        line.heal()
        await far.has(last)
        assert far.delivery.gaps == []


async def test_row_41_what_a_long_partition_hid_is_had_from_history() -> None:
    async with faulty(**BEAT) as (server, line, good):
        async with listening(server, line.port) as far:
            await far.has(await publish(good, 3))
            line.stall()
            await eventually(lambda: server.connections == 1)
            last = await publish(good, 5)
            line.cut()
            await far.ended.wait()
            seen = far.delivery.next_seq - 1
        line.heal()
        async with listening(server, line.port, after=last) as back:
            history = await back.ask({"type": "history", "topic": "orders", "after": seen})
            assert [event["seq"] for event in history["messages"]] == list(range(seen + 1, last + 1))
            assert history["complete"] is True
            await back.has(await publish(good, 1))


async def test_a_reset_in_the_middle_of_a_frame_leaves_nothing_behind() -> None:
    async with faulty() as (server, line, good):
        half = await RawClient.connect(line.port)
        await half.subscribe("orders")
        await half.send(masked_frame(0x81, json.dumps(publish_request("orders", PAYLOAD)).encode())[:-100])
        await half.send_text({"type": "ping"})  # for the server, this is the rest of the frame
        line.cut()
        await eventually(lambda: server.connections == 1)
        last = await publish(good, 1)
        await good.has(last)
        assert last == 1, "the half message was not published"
        assert (await server.get("/stats"))["topics"]["orders"] == {"messages": 1, "subscribers": 1}


@pytest.mark.parametrize("fault", ["stalled", "swallowing", "throttled", "in mid-frame"])
@on_one_loop
async def test_row_48_sigterm_in_the_middle_of_a_fault(fault: str) -> None:
    """The process ends in time with status 0, and a good client gets a close frame."""
    with ForkedServer("--shutdown-timeout-sec", "2", "--reconnect-spread-sec", "0") as server:
        await server.create("orders")
        async with FaultyLine.to(server.port) as line:
            faulty_client = await RawClient.connect(line.port)
            await faulty_client.subscribe("orders")
            good = await RawClient.connect(server.port)
            await good.subscribe("orders")
            line.swallows = fault == "swallowing"
            line.rate = 1000 if fault == "throttled" else 0
            if fault == "stalled":
                line.stall()
            if fault == "in mid-frame":
                await faulty_client.send(masked_frame(0x81, b"x" * 1000)[:500])
            for _ in range(20):
                await good.send_text(publish_request("orders", PAYLOAD))
            server.process.send_signal(signal.SIGTERM)
            told = [message async for message in good.read_messages()]
            assert [message["msg"] for message in told if message["type"] == "info"] == ["draining"]
            acked = [message["seq"] for message in told if message["type"] == "ack"]
            assert [message["seq"] for message in told if message["type"] == "event"] == acked
            assert await asyncio.to_thread(server.wait) == 0
            assert "Traceback" not in server.log


STOPPED = 30
READERS = f"""
import asyncio, sys
from tests.harness import RawClient
from tests.websocket.test_slow_subscribers import Delivery

async def main():
    port, last = map(int, sys.argv[1:])
    clients = [await RawClient.connect(port, receive_buffer={SMALL_BUFFER}) for _ in range({STOPPED})]
    for client in clients:
        await client.subscribe("orders")
    print("subscribed", flush=True)
    deliveries = [Delivery("orders") for _ in clients]
    await asyncio.gather(*(each.follow(client, last) for each, client in zip(deliveries, clients)))
    print(sum(bool(each.gaps) for each in deliveries))

asyncio.run(main())
"""


@on_one_loop
async def test_row_32_and_33_stopped_readers() -> None:
    """Readers stopped by SIGSTOP: memory stays limited, a good client is not affected, each reader gets its gap."""
    queue, size, count = 20, 30_000, 400
    with ForkedServer("--subscriber-queue-size", str(queue), "--ring-buffer-size", "10") as server:
        await server.create("orders")
        good = await RawClient.connect(server.port)
        await good.subscribe("orders")
        command = [sys.executable, "-c", READERS, str(server.port), str(count)]
        with start(command) as readers:
            assert readers.stdout is not None
            assert await asyncio.to_thread(readers.stdout.readline) == "subscribed\n"
            readers.send_signal(signal.SIGSTOP)
            before, delivery = peak_memory(server), Delivery("orders")
            try:
                for _ in range(count):
                    await good.send_text(publish_request("orders", "x" * size))
                    await delivery.follow(good, delivery.next_seq)
                rows = await clients_of(server)
            finally:
                readers.send_signal(signal.SIGCONT)
            assert sum(row["dropped"] > 0 for row in rows) == STOPPED
            assert delivery.gaps == []
            shared = 2 * (queue + 10) * size  # the queues share the same messages
            assert peak_memory(server) - before < STOPPED * 320 * 1024 + shared + 10_000_000
            output, _ = await asyncio.to_thread(readers.communicate, timeout=3 * PATIENCE)
            assert output == f"{STOPPED}\n", "each was told its gap, and has all other events in order"


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=REPOSITORY, env=clean_environment(), stdout=subprocess.PIPE, text=True)


def peak_memory(server: ServerProcess) -> int:
    """Return the highest memory of the process in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def clients_of(server: ServerProcess) -> list[Json]:
    asking = await RawClient.connect_tcp(server.port)
    status, answer = await asking.request("GET", "/clients")
    assert status == 200
    return [row for row in answer["clients"] if row["subscriptions"]]
