"""``GET /clients/{client_id}/trace`` over real sockets: the message, the client's connections, and bad requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import pytest

from pubsub.core import trail
from pubsub.core.trace import Outcome
from pubsub.http.app_keys import BROKER, SERVICES
from pubsub.http.message_search import SEARCHED
from pubsub.http.trace import TRACED_AT_ONCE
from pubsub.protocol.answers import TraceOutcome
from tests.credentials import SECRET, bearer, make_token
from tests.harness import Json, RawClient, Server, eventually, new_id, on_one_loop, run_server
from tests.streams import Stream
from tests.test_docs import section, table

HOSTILE = ["<script>alert(1)</script>", "a/b?c#d", "../trace", "é😀", "%2F%00", "\"';--", "x" * 255]


def test_the_outcomes_are_explained() -> None:
    text = section("docs/protocol.md", "REST", "Why a client did not get a message")
    outcomes_ = {outcome.value for outcome in Outcome}
    assert (
        {name.strip("`") for name, _ in table(text, "`outcome`", "Meaning")} == outcomes_ == set(get_args(TraceOutcome))
    )
    assert f"It remembers {trail.MOST} gaps, and {trail.MOST} subscriptions" in text
    assert f"the newest {SEARCHED:,} messages on disk" in text


async def trace(server: Server, client_id: str, **query: Any) -> Json:
    path = f"/clients/{quote(client_id, safe='')}/trace"
    async with server.http.get(path, params={name: str(value) for name, value in query.items()}) as response:
        assert response.status == 200, await response.text()
        return await response.json()  # type: ignore[no-any-return]


async def outcomes(server: Server, client_id: str, topic: str, count: int) -> list[str]:
    """The outcome of each message at the only connection of a client."""
    found = [await trace(server, client_id, topic=topic, seq=seq) for seq in range(1, count + 1)]
    return [connection["outcome"] for each in found for connection in each["connections"]]


@on_one_loop
async def test_the_shape_of_the_contract() -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("orders")
        await alice.subscribe("orders")
        message = new_id()
        await alice.ask({"type": "publish", "topic": "orders", "message": {"id": message, "payload": 1}})
        by_seq = await trace(server, "alice", topic="orders", seq=1)
        assert by_seq == await trace(server, "alice", topic="orders", message=message)
        assert by_seq == await trace(server, "alice", message=message.upper())
        (row,) = by_seq.pop("connections")
        assert by_seq.pop("published_at").endswith("Z")
        assert by_seq == {"client_id": "alice", "topic": "orders", "message": message, "seq": 1}
        assert row["subscribed_at"] >= row["connected_at"] > "2025"
        assert (row["outcome"], row["detail"]) == ("sent", "it was handed to the socket")
        assert row.keys() == {"outcome", "detail", "subscribed_at", "connected_at"}


@on_one_loop
async def test_each_connection_of_the_client_has_a_row_also_those_that_have_ended() -> None:
    async with run_server() as server, server.client("publisher") as publisher:
        await server.create("orders")
        async with server.client("alice") as first:
            await first.subscribe("orders")
            await publisher.publish("orders", 1)
            await first.receive()
        await eventually(lambda: server.connections == 1)
        async with server.client("alice"):
            stream = await Stream.open(server.port, "/topics/orders/events?client_id=alice")
            await publisher.publish("orders", 2)
            first_rows = (await trace(server, "alice", topic="orders", seq=1))["connections"]
            second_rows = (await trace(server, "alice", topic="orders", seq=2))["connections"]
        assert [row["outcome"] for row in first_rows] == ["sent", "not_subscribed", "not_subscribed"]
        assert [row["outcome"] for row in second_rows] == ["disconnected", "not_subscribed", "sent"]
        assert "closed by the client with 1000" in second_rows[0]["detail"]
        assert [row["subscribed_at"] is None for row in second_rows] == [False, True, False]
        stream.client.close()


@on_one_loop
async def test_a_stalled_client_and_its_end() -> None:
    async with run_server(subscriber_queue_size=5, send_buffer=4096) as server:
        await server.create("orders")
        client = await RawClient.connect(server.port, receive_buffer=4096, path="/ws?client_id=alice")
        await client.subscribe("orders")
        server.publish_locally("orders", ["x" * 600_000])
        await eventually(lambda: bool(server.app[SERVICES].timers.blocked))
        server.publish_locally("orders", list(range(7)))
        await asyncio.sleep(0)
        assert await outcomes(server, "alice", "orders", 8) == ["sent", "dropped", "dropped", *["queued"] * 5]
        client.reset()
        await eventually(lambda: server.connections == 0)
        assert await outcomes(server, "alice", "orders", 8) == ["sent", "dropped", "dropped", *["disconnected"] * 5]


@on_one_loop
async def test_rights_and_filters_of_tokens() -> None:
    async with run_server(jwt_secret=SECRET, api_keys="ops:admin:ops-key") as server:
        server.http.headers["X-API-Key"] = "ops-key"
        await server.create("orders", "secret")
        token = make_token("alice", subscribe=["orders"], filters={"orders": "payload.tenant == 'acme'"})
        async with server.http.ws_connect("/ws", headers=bearer(token)) as socket:
            await socket.send_json({"type": "subscribe", "topic": "orders", "client_id": "alice", "request_id": "r"})
            assert (await socket.receive_json())["type"] == "ack"
            server.publish_locally("orders", [{"tenant": "acme"}, {"tenant": "other"}])
            server.publish_locally("secret", [1])
            assert await outcomes(server, "alice", "orders", 2) == ["sent", "filtered"]
            assert await outcomes(server, "alice", "secret", 1) == ["forbidden"]


@on_one_loop
async def test_a_message_that_is_not_kept_is_known_by_its_seq_alone() -> None:
    async with run_server(ring_buffer_size=2) as server, server.client("alice") as alice:
        await server.create("orders")
        await alice.subscribe("orders")
        server.publish_locally("orders", [1, 2, 3])
        found = await trace(server, "alice", topic="orders", seq=1)
        assert (found["message"], found["published_at"]) == (None, None)
        assert found["connections"][0]["outcome"] == "sent"


# Both are counted back from now, so a busy machine may tell a second earlier the next time.
MOMENTS = {"connected_at": "", "subscribed_at": ""}


@on_one_loop
async def test_messages_on_disk_are_found(tmp_path: Path) -> None:
    async with (
        run_server(ring_buffer_size=2, data_dir=str(tmp_path)) as server,
        server.client("alice") as alice,
    ):
        await server.create("orders", durable=True, history=1000)
        await alice.subscribe("orders", filter="payload > 1")
        ids = [new_id() for _ in range(10)]
        for number, message in enumerate(ids):
            await alice.ask({"type": "publish", "topic": "orders", "message": {"id": message, "payload": number}})
        for number, message in enumerate(ids):
            found = await trace(server, "alice", topic="orders", message=message)
            assert (found["seq"], found["message"]) == (number + 1, message)
            assert found["connections"][0]["outcome"] == ("sent" if number > 1 else "filtered")
            again = await trace(server, "alice", topic="orders", seq=number + 1)
            assert [row | MOMENTS for row in again["connections"]] == [row | MOMENTS for row in found["connections"]]
            assert again | {"connections": []} == found | {"connections": []}
        assert await status(server, "alice", f"message={ids[0]}") == (404, "message not found"), (
            "only rings are searched"
        )


async def status(server: Server, client_id: str, query: str) -> tuple[int, str]:
    async with server.http.get(f"/clients/{client_id}/trace?{query}") as response:
        return response.status, (await response.json())["error"]


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ("", 400, "message or seq: expected one of them"),
        ("topic=orders", 400, "message or seq: expected one of them"),
        ("message=550e8400-e29b-41d4-a716-446655440000&seq=1&topic=orders", 400, "message or seq"),
        ("seq=1", 400, "topic: required beside seq, but missing"),
        ("message=x", 400, "message: expected a UUID"),
        ("topic=orders&seq=x", 400, "seq: expected a whole number"),
        ("topic=orders&seq=-1", 400, "seq: expected"),
        ("topic=orders&seq=1&seq=2", 400, "'seq': expected once"),
        ("topic=orders&seq=1&what=2", 400, "'what': unknown here"),
        ("topic=nowhere&seq=1", 404, "topic not found"),
        ("topic=orders&seq=0", 404, "message not found"),
        ("topic=orders&seq=2", 404, "message not found"),
        ("message=550e8400-e29b-41d4-a716-446655440000", 404, "message not found"),
        ("message=550e8400-e29b-41d4-a716-446655440000&topic=orders", 404, "message not found"),
        ("message=550e8400-e29b-41d4-a716-446655440000&topic=nowhere", 404, "topic not found"),
    ],
)
@on_one_loop
async def test_a_wrong_question(query: str, code: int, told: str) -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("orders")
        await alice.publish("orders", 1)
        found = await status(server, "alice", query)
        assert (found[0], told in found[1]) == (code, True), found


@on_one_loop
async def test_a_client_that_nobody_knows() -> None:
    async with run_server() as server:
        await server.create("orders")
        server.publish_locally("orders", [1])
        assert await status(server, "nobody", "topic=orders&seq=1") == (404, "client not found")


@pytest.mark.parametrize("name", HOSTILE)
@on_one_loop
async def test_a_name_is_only_text(name: str) -> None:
    async with run_server() as server, server.http.ws_connect("/ws", params={"client_id": name}):
        await server.create("orders")
        server.publish_locally("orders", [1])
        found = await trace(server, name, topic="orders", seq=1)
        assert (found["client_id"], len(found["connections"])) == (name, 1)
        async with server.http.get(f"/clients/{quote(name, safe='')}") as response:
            assert response.headers["Content-Type"].startswith("application/json")
            assert (await response.json())["connections"][0]["client_id"] == name


@on_one_loop
async def test_an_id_is_looked_for_in_the_rings_of_all_topics_in_slices() -> None:
    async with run_server() as server, server.client("alice") as alice:
        for number in range(10_000):
            server.app[BROKER].create_topic(f"topic.{number}")
        message = new_id()
        await alice.ask({"type": "publish", "topic": "topic.9999", "message": {"id": message, "payload": message}})
        server.publish_locally("topic.1", [{"id": message}] * 100)
        found = await trace(server, "alice", message=message)
        assert (found["topic"], found["seq"]) == ("topic.9999", 1)


@on_one_loop
async def test_many_connections_of_one_client() -> None:
    async with run_server() as server:
        await server.create("orders")
        for _ in range(TRACED_AT_ONCE + 50):
            client = await RawClient.connect(server.port, path="/ws?client_id=alice")
            await client.subscribe("orders")
        server.publish_locally("orders", [1])
        assert await outcomes(server, "alice", "orders", 1) == ["sent"] * (TRACED_AT_ONCE + 50)
