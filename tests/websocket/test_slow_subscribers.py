"""Section 3 of the contract over real sockets: a slow consumer gets gaps or a close, and others are not affected."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pubsub.http.app_keys import BROKER
from pubsub.websocket.transport import WRITE_BUFFER_HIGH
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    Client,
    ForkedServer,
    Json,
    RawClient,
    Server,
    ServerProcess,
    clean_environment,
    environment_of,
    eventually,
    masked_frame,
    on_one_loop,
    publish_request,
    run_server,
)

SMALL_BUFFER = 1 << 16  # of the kernels on both sides, so that a stalled client blocks soon
PAYLOAD = "x" * 8000
STALLING = 100  # events of PAYLOAD: more than all buffers and a queue of 10 hold


@dataclass
class Delivery:
    """The events and gaps of one subscriber and topic: checks that events come once, in order, and gaps are exact."""

    topic: str
    next_seq: int = 1
    events: list[int] = field(default_factory=list)
    gaps: list[range] = field(default_factory=list)

    def take(self, message: Json) -> None:
        if message.get("topic") != self.topic:
            return
        if message["type"] == "event":
            assert message["seq"] == self.next_seq, f"expected {self.next_seq}: {message}"
            self.events.append(message["seq"])
            self.next_seq += 1
        elif message.get("msg") == "dropped":
            assert message["from_seq"] == self.next_seq, f"expected {self.next_seq}: {message}"
            assert message["count"] == message["to_seq"] - message["from_seq"] + 1, message
            assert message.keys() == {"type", "topic", "msg", "count", "from_seq", "to_seq", "ts"}
            self.gaps.append(range(message["from_seq"], message["to_seq"] + 1))
            self.next_seq = message["to_seq"] + 1

    async def follow(self, client: RawClient | Client, last_seq: int) -> None:
        """Read up to the event ``last_seq``."""
        while self.next_seq <= last_seq:
            self.take(await client.receive())


async def flood(client: Client, topic: str, count: int) -> None:
    """Publish ``count`` events one by one; each after ``client``, also a subscriber, got the last one: it keeps up."""
    for _ in range(count):
        ack = await client.publish(topic, PAYLOAD)
        (event,) = client.others
        client.others.clear()
        assert event["seq"] == ack["seq"], "a healthy subscriber gets each event at once"


async def stalled_subscriber(server: Server, *topics: str, name: str = "raw") -> RawClient:
    client = await RawClient.connect(server.port, receive_buffer=SMALL_BUFFER, path=f"/ws?client_id={name}")
    for topic in topics:
        await client.subscribe(topic)
    return client


async def test_a_stalled_subscriber_is_told_each_gap_and_costs_a_healthy_one_nothing() -> None:
    queue = 10
    async with (
        run_server(subscriber_queue_size=queue, ring_buffer_size=1000, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        stalled = await stalled_subscriber(server, "orders")
        delivery = Delivery("orders")
        for rounds in (1, 2):
            await flood(healthy, "orders", STALLING)
            last = rounds * STALLING
            await delivery.follow(stalled, last)
            assert len(delivery.gaps) == rounds, "each gap is told once"
            assert delivery.gaps[-1].stop == last - queue + 1, "the newest are kept, as many as the queue holds"
            assert await history_of(stalled, delivery.gaps[-1]) == list(delivery.gaps[-1])


async def history_of(client: RawClient, gap: range) -> list[int]:
    """Request the events of a gap by ``history``; return each ``seq``."""
    await client.send_text(
        {"type": "history", "topic": "orders", "after": gap.start - 1, "limit": len(gap), "request_id": "h1"}
    )
    reply = await client.receive()
    assert (reply["type"], reply["request_id"], reply["topic"]) == ("history", "h1", "orders")
    assert reply["complete"] is True
    assert {event["type"] for event in reply["messages"]} == {"event"}
    assert {event["message"]["payload"] for event in reply["messages"]} == {PAYLOAD}
    return [event["seq"] for event in reply["messages"]]


async def test_gaps_are_told_topic_by_topic() -> None:
    async with (
        run_server(subscriber_queue_size=10, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        deliveries = {topic: Delivery(topic) for topic in ("orders", "trades")}
        for topic in deliveries:
            await server.create(topic)
            await healthy.subscribe(topic)
        stalled = await stalled_subscriber(server, *deliveries)
        for _ in range(STALLING):
            for topic in deliveries:
                await flood(healthy, topic, 1)
        while any(delivery.next_seq <= STALLING for delivery in deliveries.values()):
            message = await stalled.receive()
            for delivery in deliveries.values():
                delivery.take(message)
        assert [len(delivery.gaps) for delivery in deliveries.values()] == [1, 1]


async def test_a_gap_whose_topic_is_quiet_is_told_all_the_same() -> None:
    """Events of another topic drop the newest event of the quiet topic."""
    async with (
        run_server(subscriber_queue_size=10, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("quiet", "busy")
        await healthy.subscribe("busy")
        stalled = await stalled_subscriber(server, "quiet", "busy")
        await flood(healthy, "busy", STALLING)
        await healthy.publish("quiet", 1)
        await flood(healthy, "busy", STALLING)
        quiet, busy = Delivery("quiet"), Delivery("busy")
        while busy.next_seq <= 2 * STALLING or quiet.next_seq == 1:
            message = await stalled.receive()
            quiet.take(message)
            busy.take(message)
        assert quiet.gaps == [range(1, 2)]


async def test_topic_deleted_comes_behind_what_is_queued() -> None:
    async with (
        run_server(subscriber_queue_size=10, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        stalled = await stalled_subscriber(server, "orders")
        await flood(healthy, "orders", STALLING)
        async with server.http.delete("/topics/orders") as response:
            assert response.status == 200
        assert (await healthy.receive())["msg"] == "topic_deleted"
        await server.create("orders")  # a new epoch: subscribers of the old topic get none of its events
        await healthy.publish("orders", "new life")
        delivery = Delivery("orders")
        await delivery.follow(stalled, STALLING)
        assert len(delivery.gaps) == 1
        deleted = await stalled.receive()
        assert (deleted["type"], deleted["topic"], deleted["msg"]) == ("info", "orders", "topic_deleted")
        await stalled.send_text({"type": "ping", "request_id": "last"})
        assert (await stalled.receive())["type"] == "pong"


async def test_full_and_taking_nothing_is_cut_with_1013(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pubsub")
    async with (
        run_server(subscriber_queue_size=10, write_wait_sec=0.3, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        stalled = await stalled_subscriber(server, "orders", name="sleepy")
        await stalled_subscriber(server, "orders", name="silent")
        started = time.monotonic()
        await flood(healthy, "orders", STALLING)
        await eventually(lambda: caplog.text.count("Slow consumer detected") == 2)
        cut = time.monotonic()
        assert cut - started >= 0.3
        assert "Slow consumer detected: client_id=sleepy" in caplog.text
        assert [message async for message in stalled.read_messages()][-1]["error"]["code"] == "SLOW_CONSUMER"
        await eventually(lambda: server.connections == 1)
        assert time.monotonic() - cut < 2, "closed within a second, and a second for a busy machine"
        assert (await server.get("/stats"))["topics"]["orders"]["subscribers"] == 1
        await flood(healthy, "orders", 1)


async def test_row_33_what_waits_for_500_stalled_subscribers_is_held_once() -> None:
    """Each has a full queue; separate copies would take 80 MB. asyncio's loop copies the bytes that it buffers."""
    count, queue, size = 500, 20, len(PAYLOAD)
    on_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    copied = 0 if on_uvloop else count * (WRITE_BUFFER_HIGH + 4 * size)
    async with (
        run_server(
            subscriber_queue_size=queue, send_buffer=SMALL_BUFFER, ring_buffer_size=10, write_wait_sec=60
        ) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        stalled = [await stalled_subscriber(server, "orders", name=f"s{number}") for number in range(count)]
        before = resident_bytes()
        await flood(healthy, "orders", STALLING)
        grown = resident_bytes() - before
        rows = (await server.get(f"/clients?limit={count + 1}"))["clients"]
        assert sum(row["queued"] == queue and row["dropped"] > 0 for row in rows) == count
        assert grown < copied + count * queue * size / 4
        for each in stalled[::100]:
            delivery = Delivery("orders")
            await delivery.follow(each, STALLING)
            assert len(delivery.gaps) == 1


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_the_close_of_a_slow_consumer_is_1013() -> None:
    async with (
        run_server(subscriber_queue_size=10, write_wait_sec=0.3, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        stalled = await stalled_subscriber(server, "orders")
        await flood(healthy, "orders", STALLING)
        await eventually(lambda: subscribers_now(server) == 1)
        assert await stalled.close_code() == 1013
        assert await stalled.is_gone()


def subscribers_now(server: Server) -> int:
    return server.app[BROKER].subscriber_count


@on_one_loop
async def test_who_is_cut_and_floods_the_server_costs_it_no_memory() -> None:
    with ForkedServer("--subscriber-queue-size", "10", "--write-wait-sec", "0.3") as server:
        await server.create("orders")
        stalled = await RawClient.connect(server.port, receive_buffer=SMALL_BUFFER)
        await stalled.subscribe("orders")
        await publish_many(server.port, "publisher", 200, 40_000)
        before = peak_memory(server)
        with pytest.raises(ConnectionError):
            await send_for_ever(stalled, masked_frame(0x81, b'{"type":"ping"}'.ljust(60_000)) * 4)
        assert peak_memory(server) - before < 15_000_000


async def send_for_ever(client: RawClient, sent: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            await client.send(sent)


def peak_memory(server: ServerProcess) -> int:
    """Return the highest memory of the process in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_stalled_but_not_full_is_not_cut() -> None:
    """Proof by order: a client that stalled later with a full queue is closed, while this one stays."""
    async with (
        run_server(subscriber_queue_size=STALLING, write_wait_sec=0.2, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("little", "much")
        await healthy.subscribe("little")
        await healthy.subscribe("much")
        patient = await stalled_subscriber(server, "little")
        await flood(healthy, "little", STALLING)
        await stalled_subscriber(server, "much")
        await flood(healthy, "much", 3 * STALLING)
        await eventually(lambda: server.connections == 2)
        delivery = Delivery("little")
        await delivery.follow(patient, STALLING)
        assert delivery.gaps == []


async def test_slow_but_alive_is_not_cut() -> None:
    """The client reads a little at a time and its queue is always full; a client that stalled later is closed."""
    async with (
        run_server(subscriber_queue_size=5, write_wait_sec=2, send_buffer=SMALL_BUFFER) as server,
        server.client() as healthy,
    ):
        await server.create("orders")
        await healthy.subscribe("orders")
        slow = await RawClient.connect(server.port, receive_buffer=SMALL_BUFFER // 2)
        await slow.subscribe("orders")
        slow.read_size = 4096
        delivery = Delivery("orders")
        await flood(healthy, "orders", STALLING)
        await stalled_subscriber(server, "orders")
        await flood(healthy, "orders", STALLING)
        async with asyncio.timeout(PATIENCE):
            while server.connections == 3:
                await delivery.follow(slow, delivery.next_seq)
                await flood(healthy, "orders", 1)
                await asyncio.sleep(0.1)  # slow: reading one buffer of the server takes longer than WRITE_WAIT
        published = (await healthy.publish("orders", "last"))["seq"]
        assert delivery.next_seq < published - 5, "it always lagged"
        await delivery.follow(slow, published)
        assert delivery.gaps, "its queue was full"


BURST = 3000


async def burst(port: int, *, publishers: int, size: int) -> None:
    """Send BURST publishes from several connections at once, without waiting for answers."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(publishers):
            tasks.create_task(publish_many(port, f"publisher-{number}", BURST // publishers, size))


async def publish_many(port: int, name: str, count: int, size: int) -> None:
    client = await RawClient.connect(port, path=f"/ws?client_id={name}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all(client, count, size))
        for _ in range(count):
            assert (await client.receive())["type"] == "ack"


async def send_all(client: RawClient, count: int, size: int) -> None:
    for number in range(count):
        await client.send_text(publish_request("orders", "x" * size))
        if number % 20 == 0:
            await asyncio.sleep(0)  # the subscriber in this loop must be able to read


BURSTS = pytest.mark.parametrize(("publishers", "size"), [(1, 100), (1, 1500), (50, 100)])


@BURSTS
async def test_a_burst_loses_nothing_for_a_subscriber_that_reads(publishers: int, size: int) -> None:
    async with run_server(subscriber_queue_size=100) as server, asyncio.TaskGroup() as tasks:
        await server.create("orders")
        subscriber = await RawClient.connect(server.port)
        await subscriber.subscribe("orders")
        delivery = Delivery("orders")
        tasks.create_task(burst(server.port, publishers=publishers, size=size))
        await delivery.follow(subscriber, BURST)
        assert delivery.gaps == []


SUBSCRIBER = """
import asyncio, sys
from tests.harness import RawClient
from tests.websocket.test_slow_subscribers import BURST, Delivery

async def main():
    client = await RawClient.connect(int(sys.argv[1]))
    await client.subscribe("orders")
    print("subscribed", flush=True)
    delivery = Delivery("orders")
    await delivery.follow(client, BURST)
    print(len(delivery.events), delivery.gaps)

asyncio.run(main())
"""


@BURSTS
def test_a_burst_loses_nothing_between_processes(publishers: int, size: int) -> None:
    """Server, subscriber and publishers run in separate processes."""
    with ForkedServer("--subscriber-queue-size", "100") as server:
        asyncio.run(server.create("orders"))
        command = [sys.executable, "-c", SUBSCRIBER, str(server.port)]
        with subprocess.Popen(command, cwd=REPOSITORY, env=clean_environment(), stdout=-1, text=True) as subscriber:
            assert subscriber.stdout is not None
            assert subscriber.stdout.readline() == "subscribed\n"
            asyncio.run(burst(server.port, publishers=publishers, size=size))
            assert subscriber.communicate(timeout=PATIENCE)[0].strip() == f"{BURST} []"


async def test_a_replay_longer_than_the_queue_loses_nothing() -> None:
    kept = 500
    async with (
        run_server(subscriber_queue_size=10, ring_buffer_size=kept, send_buffer=SMALL_BUFFER) as server,
        server.client() as publisher,
    ):
        await server.create("orders")
        server.publish_locally("orders", [PAYLOAD] * kept)
        subscriber = await RawClient.connect(server.port, receive_buffer=SMALL_BUFFER)
        await subscriber.subscribe("orders", last_n=kept)
        for _ in range(10):  # live events, as many as the queue holds, arrive while the replay still waits
            await publisher.publish("orders", PAYLOAD)
        delivery = Delivery("orders")
        await delivery.follow(subscriber, kept + 10)
        assert delivery.gaps == []


END = masked_frame(0x81, b'{"type":"ping","request_id":"end"}')


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@on_one_loop
async def test_row_59_stalled_readers_of_a_long_replay_from_memory_cost_a_write_buffer_each(
    loop: str, tmp_path: Path
) -> None:
    """20 clients request 28 MB each and read nothing. They are slow consumers like any other."""
    flags = ("--ring-buffer-size", "100000", "--write-wait-sec", "1")
    with ForkedServer(*flags, environment=environment_of(loop)) as server:
        await server.create("t")
        publisher = await RawClient.connect(server.port)
        for _ in range(10):
            await publisher.send(masked_frame(0x81, publish_text("t", 700)) * 4000 + END)
            acks = await publisher.read_until(b'"end"')
            assert acks.count(b'"ack"') == 4000
        before = peak_memory(server)
        stalled = [await RawClient.connect(server.port, receive_buffer=1 << 14) for _ in range(20)]
        for client in stalled:
            await client.send_text({"type": "subscribe", "topic": "t", "client_id": "raw", "last_n": 100_000})
        for _ in stalled:
            server.read_log_until("Slow consumer detected: client_id=raw")
        assert peak_memory(server) - before < 20 * 600 * 1024
        assert server.stop() == 0


def publish_text(topic: str, size: int) -> bytes:
    return json.dumps(publish_request(topic, "x" * size)).encode()
