"""``GET /admin/topics`` and ``/admin/clients``: search, order, pages."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from pubsub.http.ranking import SORTED_AT_ONCE, find_page, rows_of
from pubsub.protocol.dashboard import TopicRanking
from tests.credentials import API_KEYS
from tests.harness import on_one_loop, run_server


def names(page: dict[str, Any]) -> list[str]:
    return [topic["name"] for topic in page["topics"]]


@on_one_loop
async def test_topics_are_searched_and_sorted() -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("orders.eu", "orders.us", "Border", "rooms")
        server.publish_locally("orders.us", [1, 2, 3])
        server.publish_locally("rooms", [1])
        await alice.subscribe("rooms", client_id="alice")
        assert names(await server.get("/admin/topics")) == ["Border", "orders.eu", "orders.us", "rooms"]
        found = await server.get("/admin/topics?search=ORDER&order=desc")
        assert (names(found), found["found"]) == (["orders.us", "orders.eu", "Border"], 3)
        assert names(await server.get("/admin/topics?sort=messages&order=desc&limit=2")) == ["orders.us", "rooms"]
        assert names(await server.get("/admin/topics?sort=subscribers&order=desc&limit=1")) == ["rooms"]
        second = await server.get("/admin/topics?limit=3&page=2")
        assert (names(second), second["found"]) == (["rooms"], 4)
        assert names(await server.get("/admin/topics?page=1000000")) == []
        described = (await server.get("/admin/topics?search=rooms"))["topics"][0]
        assert described == await server.get("/topics/rooms")


@on_one_loop
async def test_clients_are_searched_and_sorted() -> None:
    async with run_server() as server, contextlib.AsyncExitStack() as stack:
        for client_id in ("bob", "alice", "Bobby"):
            await stack.enter_async_context(server.client(client_id))
        order = "client_id&order=asc"
        found = await server.get(f"/admin/clients?sort={order}")
        assert [row["client_id"] for row in found["clients"]] == ["Bobby", "alice", "bob"]
        found = await server.get(f"/admin/clients?search=bob&sort={order}")
        assert ([row["client_id"] for row in found["clients"]], found["found"]) == (["Bobby", "bob"], 2)
        for sort in ("connected_sec", "queued", "dropped", "stalled_sec", "round_trip_ms"):
            assert (await server.get(f"/admin/clients?sort={sort}"))["found"] == 3


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "page=0", "page=x", "sort=bytes", "order=up", "page=1000001", "page=1&page=2", "x=1",
     "search=" + "a" * 256],
)  # fmt: skip
@pytest.mark.parametrize("path", ["topics", "clients"])
@on_one_loop
async def test_a_ranking_that_is_not_valid(query: str, path: str) -> None:
    async with run_server() as server, server.http.get(f"/admin/{path}?{query}") as response:
        assert response.status == 400
        assert query.partition("=")[0] in (await response.json())["error"]


@on_one_loop
async def test_keys_that_read_may_ask_and_others_may_not() -> None:
    async with run_server(api_keys=API_KEYS) as server:
        for key, status in {"board-key": 200, "": 401, "wrong": 401}.items():
            for path in ("topics", "clients", "overview", "storage", "settings"):
                async with server.http.get(f"/admin/{path}", headers={"X-API-Key": key}) as response:
                    assert response.status == status


@on_one_loop
async def test_many_rows_are_sorted_in_slices() -> None:
    """Others run meanwhile: no slice is longer than SORTED_AT_ONCE rows."""
    rows = [SimpleNamespace(name=f"t{number:05}", at=number * 7919 % 10_007) for number in range(10_000)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    wanted = rows_of(TopicRanking(order="desc", page=150, limit=50))
    page = await find_page(rows, lambda _: True, lambda row: row.at, descending=True, rows=wanted)
    other.cancel()
    assert turns >= 2 * len(rows) // SORTED_AT_ONCE - 2
    assert [row.at for row in page.rows] == sorted((row.at for row in rows), reverse=True)[149 * 50 : 150 * 50]
    assert page.found == 10_000
