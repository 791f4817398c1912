"""``GET /topics`` with ``prefix``, ``limit`` or ``after``: sorted pages of topics, with all that is known of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pubsub.core.broker import Broker
from pubsub.http import topics
from pubsub.http.app_keys import BROKER
from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.harness import Json, Server, on_one_loop, run_server

NAMES = ["trades", "orders.eu", "orders", "orders.us", "Orders", "orders-old", "orders.eu.de", "a", "~"]
ADMIN = {"X-API-Key": "ops-key"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server() as server:
        await server.create(*NAMES)
        yield server


async def page(server: Server, **query: Any) -> Json:
    async with server.http.get("/topics", params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()  # type: ignore[no-any-return]


async def names(server: Server, **query: Any) -> list[str]:
    return [row["name"] for row in (await page(server, **query))["topics"]]


async def refused(server: Server, query: str, status: int = 400) -> str:
    async with server.http.get(f"/topics?{query}") as response:
        assert response.status == status
        answer = await response.json()
        assert answer.keys() == {"error"}
        return str(answer["error"])


@on_one_loop
async def test_a_row_is_all_that_is_known_of_a_topic(server: Server) -> None:
    server.publish_locally("orders.eu", [1, 2, 3])
    async with server.client() as client:
        await client.subscribe("orders.eu")
        found = await page(server, prefix="orders.e")
        assert found == {"topics": [await server.get(f"/topics/{name}") for name in ("orders.eu", "orders.eu.de")],
                         "next": None}  # fmt: skip
    row = found["topics"][0]
    assert (row["seq"], row["messages"], row["subscribers"]) == (3, 3, 1)
    assert row["bytes"] > 0
    assert row["options"]["history"] == 100


@on_one_loop
async def test_pages_are_sorted_by_name(server: Server) -> None:
    assert await names(server, limit=100) == sorted(NAMES)
    assert await names(server, after="") == sorted(NAMES)
    assert await names(server, prefix="") == sorted(NAMES)


@pytest.mark.parametrize("size", [1, 2, 3, len(NAMES), len(NAMES) + 1])
@on_one_loop
async def test_pages_that_follow_each_other_have_every_topic_once(server: Server, size: int) -> None:
    found: list[str] = []
    following: str | None = ""
    while following is not None:
        each = await page(server, limit=size, after=following)
        found += [row["name"] for row in each["topics"]]
        following = each["next"]
        assert following is None or (following == found[-1] and len(each["topics"]) == size)
    assert found == sorted(NAMES)


@on_one_loop
async def test_a_prefix_is_a_text_and_no_segment(server: Server) -> None:
    assert await names(server, prefix="orders") == ["orders", "orders-old", "orders.eu", "orders.eu.de", "orders.us"]
    assert await names(server, prefix="orders.") == ["orders.eu", "orders.eu.de", "orders.us"]
    assert await names(server, prefix="orders", after="orders") == names_after("orders")
    assert await names(server, prefix="orders", after="a") == ["orders", *names_after("orders")]
    assert await names(server, prefix="orders", after="trades") == []
    assert await names(server, prefix="nothing") == []
    found = await page(server, prefix="orders.", limit=2)
    assert found["next"] == "orders.eu.de"
    assert (await page(server, prefix="orders.", limit=2, after="orders.eu.de"))["next"] is None


def names_after(name: str) -> list[str]:
    return [each for each in sorted(NAMES) if each.startswith("orders") and each > name]


@on_one_loop
async def test_a_page_may_begin_after_a_topic_that_is_gone(server: Server) -> None:
    async with server.http.delete("/topics/orders.eu"):
        pass
    assert await names(server, after="orders.eu", limit=2) == ["orders.eu.de", "orders.us"]
    assert await names(server, after="orders.f", limit=1) == ["orders.us"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=0", "limit: expected a whole number >= 1, got '0'"),
        ("limit=1001", "limit: expected a whole number <= 1000, got '1001'"),
        ("limit=ten", "limit: expected a whole number, got 'ten'"),
        ("limit=1&limit=2", "'limit': expected once"),
        ("prefix=orders.*", "prefix: expected ASCII letters, digits and _ - . : ~, got 'orders.*'"),
        ("prefix=%C3%A4", "prefix: expected ASCII letters, digits and _ - . : ~, got 'ä'"),
        ("after=a%0A", "after: expected ASCII letters, digits and _ - . : ~, got 'a\\n'"),
        ("prefix=" + "x" * 256, "prefix: expected a string of length <= 255, got"),
        ("prefix=a&cursor=5", "'cursor': unknown here"),
    ],
)
@on_one_loop
async def test_a_wrong_parameter_is_refused_by_name(server: Server, query: str, told: str) -> None:
    assert (await refused(server, query)).startswith(told)


@on_one_loop
async def test_without_a_parameter_of_pages_the_list_is_as_it_was(server: Server) -> None:
    for query in ("", "?scope=server", "?pretty"):
        assert await server.get(f"/topics{query}") == {
            "topics": [{"name": name, "subscribers": 0} for name in NAMES]
        }  # fmt: skip


@on_one_loop
async def test_a_token_sees_only_what_it_may_subscribe_to() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        for name in NAMES:
            async with server.http.post("/topics", json={"name": name}, headers=ADMIN):
                pass
        token = bearer(make_token(subscribe=["orders.*", "trades"]))
        async with server.http.get("/topics?limit=2", headers=token) as response:
            found = await response.json()
        assert [row["name"] for row in found["topics"]] == ["orders.eu", "orders.us"]
        assert found["next"] == "orders.us"
        async with server.http.get("/topics?limit=1&after=orders.us", headers=token) as response:
            found = await response.json()
        assert [row["name"] for row in found["topics"]] == ["trades"]
        assert found["next"] is None, "the others are hidden"


@on_one_loop
async def test_many_topics_are_looked_through_in_slices(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics come and go between the slices."""
    broker, asked = server.app[BROKER], list[int]()
    topics_from = Broker.topics_from

    def watched(self: Broker, first: str, limit: int) -> Any:
        asked.append(limit)
        if len(asked) == 2:
            broker.delete_topic("room.0000")
            broker.create_topic("room.4999")
        return topics_from(self, first, limit)

    for number in range(1000):
        broker.create_topic(f"room.{number * 3:04}")
    monkeypatch.setattr(topics, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(Broker, "topics_from", watched)
    found = await names(server, prefix="room.", limit=1000)
    assert found == [f"room.{number * 3:04}" for number in range(1000)]
    assert set(asked) == {64}
    assert len(asked) >= 1000 // 64
