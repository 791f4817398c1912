"""Options of topics over REST: valid options, the options in answers, and errors for wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Client, RawClient, on_one_loop, publish_request, run_server

DEFAULTS = {"history": 100, "ttl_sec": None, "durable": False, "dedup_sec": None, "overflow": "drop_oldest",
            "sender": False, "presence": False, "dead_letter": None}  # fmt: skip


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"history": 0},
        {"history": 1_000_000},
        {"ttl_sec": 0.5},
        {"ttl_sec": 86_400},
        {"dedup_sec": 60},
        {"durable": True, "history": 5_000_000},
        {"durable": False},
        {"sender": True},
        {"presence": True, "durable": True},
        *({"overflow": policy} for policy in ("drop_oldest", "drop_newest", "latest", "disconnect")),
        {"history": 7, "ttl_sec": 3, "durable": True, "dedup_sec": 4, "overflow": "latest"},
        DEFAULTS,  # an answer's options can be sent again
    ],
    ids=str,
)
@on_one_loop
async def test_what_was_chosen_comes_back(chosen: dict[str, Any], tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path)) as server:
        async with server.http.post("/topics", json={"name": "t"} | chosen) as response:
            assert (response.status, await response.json()) == (201, {"status": "created", "topic": "t"})
        shown = await server.get("/topics/t")
        assert shown["options"] == DEFAULTS | chosen
        assert len(shown.pop("epoch")) == 10
        del shown["options"]
        assert shown == {"name": "t", "seq": 0, "messages": 0, "subscribers": 0, "bytes": 0}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"history": -1}, "history: expected a whole number >= 0, got -1"),
        ({"history": 1.5}, "history: expected a whole number, got 1.5"),
        ({"history": "5"}, "history: expected a whole number, got '5'"),
        ({"history": 1_000_001}, "history: expected at most 1000000 of a topic that is not durable, got 1000001"),
        ({"history": 1_000_000_001, "durable": True}, "history: expected a whole number <= 1000000000, got 1000000001"),
        ({"ttl_sec": 0}, "ttl_sec: expected a number > 0.0, got 0"),
        ({"ttl_sec": True}, "ttl_sec: expected a number, got true"),
        ({"dedup_sec": -3}, "dedup_sec: expected a number > 0.0, got -3"),
        ({"dedup_sec": 1e12}, "dedup_sec: expected a number <= 315576000.0, got 1000000000000.0"),
        ({"durable": "yes"}, "durable: expected a boolean, got 'yes'"),
        ({"durable": None}, "durable: expected a boolean, got null"),
        (
            {"overflow": "explode"},
            "overflow: expected one of drop_oldest, drop_newest, latest, disconnect, got 'explode'",
        ),
        ({"overflow": None}, "overflow: expected a string, got null"),
        ({"sender": "alice"}, "sender: expected a boolean, got 'alice'"),
        ({"presence": 1}, "presence: expected a boolean, got 1"),
        ({"retention": 5}, "'retention': unknown here"),
    ],
    ids=str,
)
@on_one_loop
async def test_an_option_that_is_unknown_or_makes_no_sense_is_named(option: dict[str, Any], told: str) -> None:
    async with run_server() as server:
        async with server.http.post("/topics", json={"name": "t"} | option) as response:
            assert (response.status, await response.json()) == (400, {"error": told})
        assert (await server.get("/topics"))["topics"] == []


async def test_a_topic_shows_what_it_has() -> None:
    async with run_server(ring_buffer_size=2) as server:
        await server.create("t")
        async with server.client() as client:
            ack = await client.subscribe("t")
            for payload in range(3):
                await client.publish("t", payload)
            shown = await server.get("/topics/t")
            events = [message for message in client.others if message["type"] == "event"]
    assert shown["epoch"] == ack["epoch"]
    assert (shown["seq"], shown["messages"], shown["subscribers"]) == (3, 3, 1)
    assert sum(len(json.dumps(event, separators=(",", ":"))) for event in events[-2:]) <= shown["bytes"] < 500


async def test_a_topic_that_does_not_exist_has_nothing_to_show() -> None:
    async with run_server() as server:
        async with server.http.get("/topics/none") as response:
            assert (response.status, await response.json()) == (404, {"error": "topic not found"})
        for name in ("im%20possible", "%ff"):
            async with server.http.get(f"/topics/{name}") as response:
                assert response.status == 400
                assert (await response.json())["error"].startswith("topic: expected 1 to 255")


async def test_a_durable_topic_that_can_t_be_stored_is_refused_and_health_says_why() -> None:
    async with run_server() as server:  # its data_dir cannot be created
        async with server.http.post("/topics", json={"name": "t", "durable": True}) as response:
            assert response.status == 503
            assert (await response.json())["error"].startswith("not stored")
        health = await server.get("/health")
        assert (health["status"], health["topics"]) == ("degraded", 0)
        assert "Not a directory" in health["reason"]
        await server.create("t")


async def test_row_32_disconnect_closes_a_subscriber_at_the_first_overflow(caplog: pytest.LogCaptureFixture) -> None:
    """The server closes it at once, not after WRITE_WAIT_SEC; a subscriber that keeps up is not affected."""
    async with run_server(send_buffer=1 << 14, write_wait_sec=3600) as server:
        async with server.http.post("/topics", json={"name": "t", "overflow": "disconnect"}) as response:
            assert response.status == 201
        stalled = await RawClient.connect(server.port, receive_buffer=1 << 12)
        await stalled.subscribe("t")
        async with server.client() as healthy:
            await healthy.subscribe("t")
            await flood_until(healthy, lambda: server.connections == 1)
            assert (await healthy.ask({"type": "ping"}))["type"] == "pong"
    assert "Slow consumer detected: client_id=raw" in caplog.text


async def flood_until(client: Client, end: Any) -> None:
    """Publish long messages and read them, one at a time, until ``end`` is true."""
    while not end():
        await client.send(publish_request("t", "x" * 8000))
        for _ in range(2):
            await client.receive()


@pytest.mark.parametrize("policy", ["drop_newest", "latest"])
async def test_row_32_a_stopped_subscriber_is_told_its_gap_and_order_holds(policy: str) -> None:
    async with run_server(send_buffer=1 << 14, write_wait_sec=3600) as server:
        async with server.http.post("/topics", json={"name": "t", "overflow": policy}) as response:
            assert response.status == 201
        stalled = await RawClient.connect(server.port, receive_buffer=1 << 12)
        await stalled.subscribe("t")
        server.publish_locally("t", ["x" * 8000] * 500)
        server.publish_locally("t", ["x" * 8000] * 200)
        rows = (await server.get("/clients"))["clients"]
        assert rows[0]["queued"] == (1 if policy == "latest" else 100)
        assert rows[0]["dropped"] > 0
        known = 0
        while known < 700:
            message = await stalled.receive()
            first, last = (message["seq"],) * 2 if message["type"] == "event" else gap_of(message)
            assert first == known + 1
            known = last
        assert rows[0]["subscriptions"] == ["t"]


def gap_of(message: dict[str, Any]) -> tuple[int, int]:
    assert message["msg"] == "dropped"
    assert message["count"] == message["to_seq"] - message["from_seq"] + 1
    return message["from_seq"], message["to_seq"]
