"""Dead letters on a real server: what slow and absent clients lose, after a crash too, and its second delivery."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pubsub.http.app_keys import BROKER, DEAD_LETTERS
from tests.credentials import API_KEYS
from tests.harness import (
    PATIENCE,
    ForkedServer,
    Json,
    RawClient,
    Server,
    eventually,
    new_id,
    on_one_loop,
    run_server,
)

BULKY = "x" * 2000
DEAD = {"history": 100_000}


async def letters_in(server: Server, topic: str = "orders.dead") -> list[Json]:
    kept = await server.get(f"/topics/{topic}/messages?last_n=1000")
    return [event["message"]["payload"] for event in kept["messages"]]


async def redrive(server: Server, topic: str = "orders.dead", **body: Any) -> tuple[int, Json]:
    async with server.http.post(f"/topics/{topic}/redrive", json=body) as response:
        return response.status, await response.json()


async def stall(server: Server, topic: str = "orders") -> RawClient:
    """A client that is subscribed and does not read."""
    raw = await RawClient.connect(server.port, receive_buffer=4096, path="/ws?client_id=alice")
    await raw.subscribe(topic)
    return raw


async def flood(server: Server, count: int = 300, topic: str = "orders") -> None:
    server.publish_locally(topic, [{"n": number, "bulk": BULKY} for number in range(count)])
    await asyncio.sleep(0)


async def written(server: Server, topic: str = "orders.dead") -> None:
    letters = server.app[DEAD_LETTERS]
    await eventually(lambda: letters.written > 0 and not letters._gathering and not letters._letters)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server(send_buffer=4096, subscriber_queue_size=10, dead_letters_per_sec=2) as running:
        await running.create("orders.dead", **DEAD)
        await running.create("orders", dead_letter="orders.dead", history=1000)
        yield running


async def test_the_option_comes_back_and_is_checked(server: Server) -> None:
    assert (await server.get("/topics/orders"))["options"]["dead_letter"] == "orders.dead"
    assert (await server.get("/topics/orders.dead"))["options"]["dead_letter"] is None
    for name, dead in (("a", "none"), ("a", "a"), ("a", "orders"), ("orders.dead", "a"), ("a", 5), ("a", "")):
        async with server.http.post("/topics", json={"name": name, "dead_letter": dead}) as response:
            assert response.status in (400, 409), (name, dead)
            assert "dead_letter" in (await response.json())["error"] or name == "orders.dead"


async def test_what_a_slow_client_loses_is_one_letter_and_can_be_sent_again(server: Server) -> None:
    raw = await stall(server)
    for _ in range(4):
        await flood(server)
    await written(server)
    (letter,) = await letters_in(server)
    assert (letter["reason"], letter["topic"], letter["client_id"]) == ("overflow", "orders", "alice")
    told: list[Json] = []
    while not told or told[-1].get("seq") != 1200:
        told.append(await raw.receive())
    gaps = [message for message in told if message.get("msg") == "dropped"]
    assert letter["count"] == sum(gap["count"] for gap in gaps) == 1200 - len(told) + len(gaps)
    assert (letter["from_seq"], letter["to_seq"]) == (gaps[0]["from_seq"], gaps[-1]["to_seq"])
    lost = [message["seq"] for message in letter["messages"]]
    assert lost == list(range(letter["from_seq"], letter["from_seq"] + len(lost)))
    status, outcome = await redrive(server)
    assert (status, outcome) == (
        200,
        {
            "status": "redriven",
            "letters": 1,
            "messages": len(lost),
            "skipped": letter["count"] - len(lost),
        },
    )
    again = [await raw.receive() for _ in lost]
    assert [event["message"]["id"] for event in again] == [event["message"]["id"] for event in letter["messages"]]
    assert [event["seq"] for event in again] == [1200 + number for number in range(1, len(lost) + 1)]


async def test_what_waited_for_a_client_that_left_is_a_letter(server: Server) -> None:
    raw = await stall(server)
    await flood(server, 200)
    await eventually(lambda: any(True for _ in server.app[DEAD_LETTERS]._gathering))
    raw.reset()
    await written(server)
    reasons = {letter["reason"]: letter["count"] for letter in await letters_in(server)}
    assert reasons["disconnected"] == 10
    assert reasons["overflow"] > 10


async def test_many_clients_are_counted_in_one_letter(server: Server) -> None:
    clients = [await stall(server) for _ in range(3)]
    others = [await RawClient.connect(server.port, receive_buffer=4096, path=f"/ws?client_id=c{n}") for n in range(4)]
    for raw in others:
        await raw.subscribe("orders")
    for _ in range(2):
        await flood(server)
    await written(server)
    found = await letters_in(server)
    assert len(found) == 3
    assert [letter["client_id"] is None for letter in found] == [False, False, True]
    assert sum(letter["count"] for letter in found) == sum(server.app[BROKER].losses.counts.values())
    assert clients


async def test_a_redrive_skips_what_is_gone_and_reads_nothing_else() -> None:
    async with run_server() as server:
        await server.create("orders.dead", "orders")
        event = {"type": "event", "topic": "orders", "message": {"id": new_id(), "payload": 1}, "seq": 4, "ts": "now"}
        letter = {
            "reason": "overflow",
            "topic": "orders",
            "client_id": "alice",
            "from_seq": 1,
            "to_seq": 4,
            "count": 4,
            "messages": [event],
        }
        gone = letter | {"topic": "gone", "count": 1}
        bad = letter | {"messages": [event | {"message": {"id": "none", "payload": 1}}]}
        server.publish_locally("orders.dead", [letter, "no letter", {"topic": 5}, gone, bad, letter])
        assert await redrive(server) == (200, {"status": "redriven", "letters": 3, "messages": 1, "skipped": 7})
        kept = (await server.get("/topics/orders/messages?last_n=10"))["messages"]
        assert [each["message"] for each in kept] == [event["message"]]
        assert (await redrive(server, after=1, limit=1))[1]["letters"] == 1
        assert (await redrive(server, after=6))[1]["letters"] == 0


async def test_a_second_redrive_within_dedup_sec_lets_nothing_in_twice() -> None:
    async with run_server() as server:
        await server.create("dead")
        await server.create("orders", dedup_sec=60, sender=True)
        events = [
            {"type": "event", "topic": "orders", "message": {"id": new_id(), "payload": n}, "seq": n, "from": sender}
            for n, sender in enumerate(("ann", "bob", "bob", "ann"), 1)
        ]
        letter = {"reason": "expired", "topic": "orders", "client_id": "c", "from_seq": 1, "to_seq": 4, "count": 4}
        server.publish_locally("dead", [letter | {"messages": events}])
        for _ in range(2):
            assert (await redrive(server, "dead"))[1]["messages"] == 4
        kept = (await server.get("/topics/orders/messages?last_n=10"))["messages"]
        assert [(each["seq"], each["from"]) for each in kept] == [(1, "ann"), (2, "bob"), (3, "bob"), (4, "ann")]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"after": -1}, 400, "after"),
        ({"limit": 0}, 400, "limit"),
        ({"limit": 1001}, 400, "limit"),
        ({"limit": "all"}, 400, "limit"),
        ({"first": 1}, 400, "first"),
        ([], 400, "object"),
    ],
)
async def test_a_redrive_names_what_is_wrong(body: Any, status: int, text: str) -> None:
    async with run_server() as server:
        await server.create("dead")
        async with server.http.post("/topics/dead/redrive", json=body) as response:
            assert response.status == status
            assert text in (await response.json())["error"]


async def test_a_redrive_needs_the_topic_and_an_admin() -> None:
    async with run_server(api_keys=API_KEYS) as server:
        for key, status in (("ops-key", 404), ("shop-key", 403), ("board-key", 403), ("", 401)):
            async with server.http.post("/topics/dead/redrive", headers={"X-API-Key": key} if key else {}) as response:
                assert response.status == status


@on_one_loop
async def test_letters_in_a_durable_topic_survive_a_crash_and_are_written_at_a_shutdown(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path), "--subscriber-queue-size", "5", "--shutdown-timeout-sec", "2")
    with ForkedServer(*flags) as process:
        async with aiohttp.ClientSession(process.url) as http:
            for options in (
                {"name": "dead", "durable": True},
                {"name": "orders", "durable": True, "dead_letter": "dead"},
            ):
                assert (await http.post("/topics", json=options)).status == 201
            raw = await RawClient.connect(process.port, receive_buffer=4096)
            await raw.subscribe("orders")
            body = [{"payload": "x" * 20_000} for _ in range(40)]
            async with asyncio.timeout(PATIENCE):
                while True:
                    assert (await http.post("/topics/orders/messages", json=body)).status == 200
                    if (await (await http.get("/topics/dead")).json())["seq"]:
                        break
                    await asyncio.sleep(0.05)  # letters are gathered for a second
        process.stop(signal.SIGKILL)
    with ForkedServer(*flags) as process:
        async with aiohttp.ClientSession(process.url) as http:
            kept = await (await http.get("/topics/dead/messages?last_n=100")).json()
            (before,) = {event["message"]["payload"]["reason"] for event in kept["messages"]}
            assert before == "overflow"
            raw = await RawClient.connect(process.port, receive_buffer=4096)
            await raw.subscribe("orders")
            for _ in range(20):
                assert (await http.post("/topics/orders/messages", json=body)).status == 200
        assert process.stop() == 0
    with ForkedServer(*flags) as process:
        async with aiohttp.ClientSession(process.url) as http:
            kept = await (await http.get("/topics/dead/messages?last_n=100")).json()
            assert {event["message"]["payload"]["reason"] for event in kept["messages"]} == {"overflow", "disconnected"}
