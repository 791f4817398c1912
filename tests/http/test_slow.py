"""``GET /slow``: the subscribers that lag most, with the topics in which they do."""

from __future__ import annotations

import asyncio

import pytest

from pubsub.http import slow
from pubsub.http.app_keys import SERVICES
from tests.harness import Json, RawClient, Server, eventually, on_one_loop, run_server

LARGE = "x" * 600_000  # more than a socket and the write buffer take


async def stalled(server: Server, name: str, *topics: str) -> RawClient:
    client = await RawClient.connect(server.port, receive_buffer=4096, path=f"/ws?client_id={name}")
    for topic in topics:
        await client.subscribe(topic)
    return client


async def slow_rows(server: Server, query: str = "") -> list[Json]:
    return list((await server.get(f"/slow{query}"))["slow"])


@on_one_loop
async def test_the_worst_come_first_by_client_and_topic() -> None:
    async with run_server(subscriber_queue_size=100, send_buffer=4096) as server, server.client("healthy") as healthy:
        await server.create("a", "b", "first")
        await healthy.subscribe("a")
        await stalled(server, "alice", "first", "a", "b")
        await stalled(server, "bob", "first", "b")
        assert await slow_rows(server) == []
        server.publish_locally("first", [LARGE])
        await eventually(lambda: len(server.app[SERVICES].timers.blocked) == 2)
        server.publish_locally("a", [1] * 7)
        server.publish_locally("b", [1] * 3)
        await healthy.receive_many(7)
        rows = await slow_rows(server)
        assert [(row["client_id"], row["topic"], row["queued"]) for row in rows] == [
            ("alice", "a", 7), ("alice", "b", 3), ("bob", "b", 3),
        ]  # fmt: skip
        assert all(0 <= row["lag_sec"] <= 10 for row in rows)
        assert [7 * 100 < rows[0]["lag_bytes"] < 7 * 200, rows[1]["lag_bytes"], rows[2]["lag_bytes"]] == [
            True, rows[1]["lag_bytes"], rows[1]["lag_bytes"],
        ]  # fmt: skip


@on_one_loop
async def test_the_newest_value_that_waits_counts_as_one() -> None:
    async with run_server(send_buffer=4096) as server:
        await server.create("first")
        await server.create("sensor", overflow="latest")
        await stalled(server, "alice", "first", "sensor")
        server.publish_locally("first", [LARGE])
        await eventually(lambda: bool(server.app[SERVICES].timers.blocked))
        server.publish_locally("sensor", [1, 2, 3])
        await asyncio.sleep(0)
        ((topic, queued),) = [(row["topic"], row["queued"]) for row in await slow_rows(server)]
        assert (topic, queued) == ("sensor", 1)


@on_one_loop
async def test_no_more_rows_than_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "SHOWN", 2)
    monkeypatch.setattr(slow, "ENTRIES_AT_ONCE", 1)
    async with run_server(send_buffer=4096) as server:
        await server.create("first", "a")
        for number in range(4):
            await stalled(server, f"c{number}", "first", "a")
        server.publish_locally("first", [LARGE])
        await eventually(lambda: len(server.app[SERVICES].timers.blocked) == 4)
        for _ in range(3):
            server.publish_locally("a", [1])
            await asyncio.sleep(0)
        assert [row["queued"] for row in await slow_rows(server)] == [3, 3]


@on_one_loop
async def test_the_worst_of_one_topic_is_found_behind_longer_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "SHOWN", 1)
    monkeypatch.setattr(slow, "ENTRIES_AT_ONCE", 1)
    async with run_server(send_buffer=4096) as server:
        await server.create("first", "second", "busy", "quiet")
        await stalled(server, "early", "first", "quiet")
        await stalled(server, "none", "first", "busy")
        server.publish_locally("first", [LARGE])
        await eventually(lambda: len(server.app[SERVICES].timers.blocked) == 2)
        server.publish_locally("quiet", [1] * 3)
        await asyncio.sleep(0)
        await stalled(server, "late", "second", "busy", "quiet")
        server.publish_locally("second", [LARGE])
        await eventually(lambda: len(server.app[SERVICES].timers.blocked) == 3)
        server.publish_locally("quiet", [1] * 2)
        server.publish_locally("busy", [1] * 9)
        await asyncio.sleep(0)
        assert sorted(each.subscriber.queued for each in server.app[SERVICES].timers.blocked) == [5, 9, 11]
        (found,) = await slow_rows(server, "?topic=quiet")
        assert (found["client_id"], found["topic"], found["queued"]) == ("early", "quiet", 5)
        (found,) = await slow_rows(server, "?topic=busy")
        assert (found["topic"], found["queued"]) == ("busy", 9)
        assert await slow_rows(server, "?topic=nobody.there") == []


@pytest.mark.parametrize(
    "query", ["topic=", "topic=a..b", "topic=a.*", "topic=%00", f"topic={'a' * 256}", "topics=a", "topic=a&topic=b"]
)
@on_one_loop
async def test_a_topic_that_cannot_be_is_refused(query: str) -> None:
    async with run_server() as server, server.http.get(f"/slow?{query}") as response:
        assert response.status == 400
        assert "topic" in (await response.json())["error"]
