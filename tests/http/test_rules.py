"""Rules for topics over real sockets: ``GET /rules``, creation at first use, deletion when idle, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pubsub.http.app_keys import BROKER
from pubsub.journals.writer import Writer
from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.faults import StillDisk
from tests.harness import PATIENCE, Client, Server, eventually, on_one_loop, publish_request, run_server
from tests.streams import Stream

RULES: list[dict[str, Any]] = [
    {"pattern": "room.main", "create": False, "options": {}},
    {"pattern": "room.*", "create": True, "options": {"history": 50, "overflow": "latest"}},
    {"pattern": "log.>", "create": True, "options": {"durable": True, "history": 5000}},
    {"pattern": "brief.*", "create": True, "delete_idle_sec": 0.2},
    {"pattern": "kept.*", "create": True, "delete_idle_sec": 0.2, "options": {"durable": True}},
]


@contextlib.asynccontextmanager
async def serve(directory: Path, rules: Any = RULES, **settings: Any) -> AsyncIterator[Server]:
    file = directory / "rules.json"
    file.write_text(json.dumps(rules))
    async with run_server(topic_rules_file=str(file), data_dir=str(directory / "data"), **settings) as server:
        yield server


@on_one_loop
async def test_admins_see_the_rules_as_the_file_has_them_without_defaults(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        shown = [{"pattern": "room.main"}, *RULES[1:]]
        async with server.http.get("/rules") as response:
            assert await response.text() == json.dumps({"rules": shown}, separators=(",", ":"))
    async with run_server() as server:
        assert await server.get("/rules") == {"rules": []}


@on_one_loop
async def test_only_admins_see_the_rules(tmp_path: Path) -> None:
    async with serve(tmp_path, api_keys=API_KEYS, jwt_secret=SECRET) as server:
        for headers, status in [
            ({}, 401),
            ({"X-API-Key": "board-key"}, 403),
            ({"X-API-Key": "shop-key"}, 403),
            ({"X-API-Key": "ops-key"}, 200),
            (bearer(make_token(subscribe=[">"], publish=[">"])), 403),
            (bearer(make_token(admin=True)), 200),
        ]:
            async with server.http.get("/rules", headers=headers) as response:
                assert response.status == status


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        ({}, {"history": 50, "overflow": "latest"}),
        ({"history": 7}, {"history": 7, "overflow": "latest"}),
        ({"overflow": "drop_oldest"}, {"history": 50, "overflow": "drop_oldest"}),
        ({"history": None}, {"history": 100, "overflow": "latest"}),
        ({"ttl_sec": 5}, {"history": 50, "overflow": "latest", "ttl_sec": 5}),
    ],
)
@on_one_loop
async def test_options_of_the_request_win_over_those_of_the_rule(
    chosen: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    async with serve(tmp_path) as server:
        async with server.http.post("/topics", json={"name": "room.1"} | chosen) as response:
            assert response.status == 201
        found = (await server.get("/topics/room.1"))["options"]
        assert {name: found[name] for name in options} == options
        async with server.http.post("/topics", json={"name": "room.1"}) as response:
            assert response.status == 409


@on_one_loop
async def test_a_first_use_over_a_websocket_creates_a_topic(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, server.client() as client:
        ack = await client.subscribe("room.1")
        assert ack["seq"] == 0
        assert (await client.publish("room.1", "hello"))["seq"] == 1
        assert (await client.publish("room.2", "hello"))["seq"] == 1
        assert (await client.ask(publish_request("room.main", 1)))["error"]["code"] == "TOPIC_NOT_FOUND"
        assert (await server.get("/topics/room.2"))["options"]["history"] == 50
        assert [row["name"] for row in (await server.get("/topics"))["topics"]] == ["room.1", "room.2"]


@pytest.mark.parametrize("topic", ["room.1", "log.1"])
@on_one_loop
async def test_a_first_use_over_http_creates_a_topic(topic: str, tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        stream = await Stream.open(server.port, f"/topics/{topic}/events")
        assert stream.status == 200
        assert (await stream.info("subscribed"))["seq"] == 0
        for path, seq in [(topic, [1, 2]), (f"{topic}0", [1, 2])]:
            body = [{"payload": "hello"}, {"payload": "again"}]
            async with server.http.post(f"/topics/{path}/messages", json=body) as response:
                assert (response.status, (await response.json())["seq"]) == (200, seq)
        assert await stream.payloads(2) == ["hello", "again"]
        for method, path in [("GET", "messages?last_n=1"), ("DELETE", "messages")]:
            async with server.http.request(method, f"/topics/{topic}00/{path}") as response:
                assert response.status == 404
        assert [each.name for each in server.app[BROKER].topics] == [topic, f"{topic}0"]


@on_one_loop
async def test_only_a_client_that_may_creates_a_topic(tmp_path: Path) -> None:
    async with serve(tmp_path, jwt_secret=SECRET) as server:
        token = make_token(subscribe=["room.1"], publish=["room.2"])
        async with server.http.ws_connect(f"/ws?token={token}") as websocket:
            for request, code in [
                ({"type": "subscribe", "topic": "room.2", "client_id": "alice"}, "FORBIDDEN"),
                (publish_request("room.1", 1), "FORBIDDEN"),
                ({"type": "subscribe", "topic": "room.1", "client_id": "alice"}, None),
                (publish_request("room.2", 1), None),
            ]:
                await websocket.send_json(request)
                answer = await websocket.receive_json(timeout=PATIENCE)
                assert answer.get("error", {}).get("code") == code
        assert [topic.name for topic in server.app[BROKER].topics] == ["room.1", "room.2"]


@on_one_loop
async def test_many_publishers_create_one_durable_topic_and_keep_their_order(tmp_path: Path) -> None:
    count = 300
    async with serve(tmp_path) as server:
        async with server.client("reader") as reader:
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(server.client(f"c{each}")) for each in range(4)]
                await reader.subscribe("log.eu.1")
                acks = await asyncio.gather(*(flood(client, each, count) for each, client in enumerate(clients)))
            assert sorted(seq for seqs in acks for seq in seqs) == list(range(1, 4 * count + 1))
            events = [(await reader.receive())["message"]["payload"] for _ in range(4 * count)]
        for each in range(4):
            assert [number for publisher, number in events if publisher == each] == list(range(count))
        before = await server.get("/topics/log.eu.1")
    async with serve(tmp_path) as server:
        assert await server.get("/topics/log.eu.1") == before | {"subscribers": 0}


async def flood(client: Client, publisher: int, count: int) -> list[int]:
    """Publish without a wait; return the ``seq`` of each ack, which come in order."""
    for number in range(count):
        await client.send(publish_request("log.eu.1", [publisher, number]) | {"request_id": str(number)})
    acks = await client.receive_many(count)
    assert [ack["request_id"] for ack in acks] == [str(number) for number in range(count)]
    seqs = [ack["seq"] for ack in acks]
    assert seqs == sorted(seqs)
    return seqs


@on_one_loop
async def test_a_durable_topic_that_cannot_be_stored_refuses_its_publishes(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no directory")
    async with serve(tmp_path) as server, server.client() as client:
        for number in range(3):
            await client.send(publish_request("log.1", number) | {"request_id": "p"})
        await client.send({"type": "subscribe", "topic": "log.1", "client_id": "tester", "request_id": "s"})
        codes = [(await client.receive())["error"]["code"] for _ in range(4)]
        assert codes == ["INTERNAL"] * 4
        assert server.app[BROKER].topics == []
        (tmp_path / "data").unlink()
        assert (await client.publish("log.1", "again"))["seq"] == 1


@pytest.mark.parametrize("kind", ["brief", "kept"])
@on_one_loop
async def test_a_topic_without_subscriber_and_publish_is_deleted(kind: str, tmp_path: Path) -> None:
    async with serve(tmp_path) as server, server.client() as client:
        epoch = (await client.subscribe(f"{kind}.1"))["epoch"]
        for number in range(2):  # the second one is created once the first one is gone
            await client.publish(f"{kind}.other", number)
            await eventually(lambda: [topic.name for topic in server.app[BROKER].topics] == [f"{kind}.1"])
        await client.ask({"type": "unsubscribe", "topic": f"{kind}.1", "client_id": "tester"})
        await eventually(lambda: server.app[BROKER].topics == [])
        ack = await client.subscribe(f"{kind}.1")
        assert (ack["seq"], ack["epoch"] != epoch) == (0, True)


@on_one_loop
async def test_a_durable_topic_is_deleted_when_it_is_idle_after_a_restart(tmp_path: Path) -> None:
    slow = [RULES[4] | {"delete_idle_sec": 3600}]
    async with serve(tmp_path, slow) as server, server.client() as client:
        await client.publish("kept.1", 1)
    async with serve(tmp_path) as server:
        assert [topic.name for topic in server.app[BROKER].topics] == ["kept.1"]
        await eventually(lambda: server.app[BROKER].topics == [])
    async with serve(tmp_path) as server:
        assert server.app[BROKER].topics == []


@on_one_loop
async def test_a_topic_that_was_created_by_request_is_deleted_too(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        await server.create("brief.1", "room.1")
        await eventually(lambda: [topic.name for topic in server.app[BROKER].topics] == ["room.1"])


@on_one_loop
async def test_a_use_while_the_disk_deletes_the_topic_creates_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path) as server, server.client() as client, server.client() as other:
        epoch = (await client.subscribe("kept.1"))["epoch"]
        await client.publish("kept.1", 1)
        disk = StillDisk(monkeypatch, Writer, "write")
        await client.ask({"type": "unsubscribe", "topic": "kept.1", "client_id": "tester"})
        await eventually(disk.asked.is_set)
        assert server.app[BROKER].topics == []
        for number in range(3):
            await client.send(publish_request("kept.1", number) | {"request_id": str(number)})
        await other.send({"type": "subscribe", "topic": "kept.1", "client_id": "tester", "request_id": "s"})
        await client.sync()
        disk.works.set()
        assert [(await client.receive())["seq"] for _ in range(3)] == [1, 2, 3]
        ack = await other.receive()
        assert (ack["request_id"], ack["epoch"] != epoch) == ("s", True)
