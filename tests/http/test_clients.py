"""``GET /clients`` in pages, and ``DELETE /clients/{client_id}``."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.credentials import API_KEYS
from tests.harness import RawClient, eventually, on_one_loop, run_server
from tests.streams import Stream


@on_one_loop
async def test_a_row_for_each_connection() -> None:
    async with run_server() as server, server.client("alice") as alice, server.client("bob"):
        await server.create("a", "b")
        await alice.subscribe("b", client_id="alice")
        await alice.subscribe("a", client_id="alice")
        page = await server.get("/clients")
        assert page["next"] is None
        row, other = page["clients"]
        assert set(row) == {
            "client_id", "transport", "connected_sec", "subscriptions", "queued", "dropped", "bytes_in", "bytes_out",
            "stalled_sec", "round_trip_ms",
        }  # fmt: skip
        assert (row["transport"], row["stalled_sec"], row["round_trip_ms"]) == ("websocket", 0, None)
        assert (row["client_id"], row["subscriptions"], row["queued"], row["dropped"]) == ("alice", ["b", "a"], 0, 0)
        assert (other["client_id"], other["subscriptions"]) == ("bob", [])
        assert row["bytes_in"] > other["bytes_in"] > 0


@on_one_loop
async def test_pages_show_everyone_once_while_others_come_and_go() -> None:
    async with run_server() as server, contextlib.AsyncExitStack() as stack:
        for number in range(5):
            await stack.enter_async_context(server.client(f"c{number}"))
        first = await server.get("/clients?limit=2")
        async with server.client("late"):
            second = await server.get(f"/clients?limit=2&cursor={first['next']}")
            third = await server.get(f"/clients?limit=2&cursor={second['next']}")
        rows = first["clients"] + second["clients"] + third["clients"]
        assert [row["client_id"] for row in rows] == ["c0", "c1", "c2", "c3", "c4", "late"]
        assert third["next"] is None
        assert (await server.get("/clients?cursor=999999"))["clients"] == []


@on_one_loop
async def test_pages_of_the_clients_whose_names_begin_alike() -> None:
    async with run_server() as server, contextlib.AsyncExitStack() as stack:
        for name in ("shop-1", "bank-1", "shop-2", "shop-3"):
            await stack.enter_async_context(server.client(name))
        first = await server.get("/clients?prefix=shop-&limit=2")
        second = await server.get(f"/clients?prefix=shop-&limit=2&cursor={first['next']}")
        assert [row["client_id"] for row in first["clients"]] == ["shop-1", "shop-2"]
        assert [row["client_id"] for row in second["clients"]] == ["shop-3"]
        assert second["next"] is None
        assert (await server.get("/clients?prefix=none"))["clients"] == []


@on_one_loop
async def test_clients_that_have_gone_are_listed_newest_first_with_the_reason() -> None:
    async with run_server() as server:
        for name in ("alice", "bob", "carol"):
            async with server.client(name):
                pass
            await eventually(lambda: server.connections == 0)
        first = await server.get("/clients?ended=true&limit=2")
        second = await server.get(f"/clients?ended=true&limit=2&cursor={first['next']}")
        assert [row["client_id"] for row in first["clients"]] == ["carol", "bob"]
        (row,), following = second["clients"], second["next"]
        assert following is None
        assert row["ended_at"] >= row["connected_at"] > "2025"
        del row["ended_at"], row["connected_at"]
        assert row == {
            "client_id": "alice", "transport": "websocket", "ending": "closed_by_client", "code": None,
            "reason": "closed by the client with 1000", "dropped": 0,
        }  # fmt: skip
        assert [row["client_id"] for row in (await server.get("/clients?ended=true&prefix=b"))["clients"]] == ["bob"]
    async with run_server(trace_keep_sec=0) as server:
        async with server.client("alice"):
            pass
        await eventually(lambda: server.connections == 0)
        assert (await server.get("/clients?ended=true"))["clients"] == []


@on_one_loop
async def test_one_client_with_its_connections_and_those_that_it_had() -> None:
    async with run_server() as server, server.client("alice"), server.client("bob"):
        async with server.client("alice"):
            found = await server.get("/clients/alice?limit=1")
            assert (found["client_id"], len(found["connections"]), found["ended"]) == ("alice", 1, [])
            found = await server.get(f"/clients/alice?limit=1&cursor={found['next']}")
            assert (len(found["connections"]), found["next"]) == (1, None)
        await eventually(lambda: server.connections == 2)
        async with server.http.delete("/clients/bob") as response:
            assert response.status == 200
        await eventually(lambda: server.connections == 1)
        (ended,) = (await server.get("/clients/bob"))["ended"]
        assert (ended["ending"], ended["code"]) == ("disconnected", 4403)
        assert len((await server.get("/clients/alice"))["ended"]) == 1
        async with server.http.get("/clients/nobody") as response:
            assert (response.status, await response.json()) == (404, {"error": "client not found"})


@on_one_loop
async def test_a_stream_is_a_client_too() -> None:
    async with run_server() as server:
        await server.create("a")
        stream = await Stream.open(server.port, "/topics/a/events?client_id=alice")
        (row,) = (await server.get("/clients/alice"))["connections"]
        assert (row["transport"], row["subscriptions"], row["round_trip_ms"]) == ("sse", ["a"], None)
        stream.client.close()


BAD_QUERIES = (
    *("limit=0", "limit=1001", "limit=x", "limit=1.5", "cursor=-1", "cursor=x", "cursor=", "ended=maybe", "nothing=1"),
    "prefix=" + 256 * "x",
)


@pytest.mark.parametrize("query", BAD_QUERIES)
@on_one_loop
async def test_a_page_that_makes_no_sense(query: str) -> None:
    async with run_server() as server, server.http.get(f"/clients?{query}") as response:
        assert response.status == 400
        assert query.partition("=")[0] in (await response.json())["error"]


@on_one_loop
async def test_row_23_a_client_is_disconnected_within_a_second() -> None:
    """Stalled clients too."""
    async with run_server(send_buffer=4096, api_keys=API_KEYS) as server, server.client("bob") as bob:
        ops = {"X-API-Key": "ops-key"}
        async with server.http.post("/topics", json={"name": "a"}, headers=ops) as response:
            assert response.status == 201
        stalled = await RawClient.connect(server.port, receive_buffer=4096, path="/ws?client_id=alice")
        await stalled.subscribe("a")
        async with server.client("alice") as alice:
            server.publish_locally("a", ["x" * 1_000_000])
            async with server.http.delete("/clients/alice", headers={"X-API-Key": "shop-key"}) as response:
                assert response.status == 403
            async with server.http.delete("/clients/alice", headers=ops) as response:
                assert await response.json() == {"status": "disconnected", "client_id": "alice", "connections": 2}
            async with asyncio.timeout(1):
                assert await alice.closed() == 4403
                await eventually(lambda: server.connections == 1)
        await bob.sync()
        async with server.http.delete("/clients/alice", headers=ops) as response:
            assert (response.status, await response.json()) == (404, {"error": "client not found"})


@on_one_loop
async def test_a_name_may_be_anything() -> None:
    name = "a%2Fb%20c%3F"
    async with (
        run_server() as server,
        server.http.ws_connect(f"/ws?client_id={name}"),
        server.http.delete(f"/clients/{name}") as response,
    ):
        assert (await response.json())["client_id"] == "a/b c?"
