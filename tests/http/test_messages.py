"""``/topics/{name}/messages``: what is kept is read over REST as it was published."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.harness import Json, Server, on_one_loop, run_server

PATH = "/topics/orders/messages"
ADMIN = {"X-API-Key": "ops-key"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server(ring_buffer_size=10) as server:
        await server.create("orders")
        yield server


async def ask(
    server: Server, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
) -> tuple[int, Json]:
    """Return the status and the JSON of the answer. ``body``: bytes, or what becomes JSON."""
    sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    async with server.http.request(method, path, data=sent, headers=headers) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


# Reading


async def read(server: Server, query: str) -> Json:
    status, answer = await ask(server, "GET", f"{PATH}?{query}")
    assert status == 200, answer
    return answer


def seqs(answer: Json) -> list[int]:
    return [event["seq"] for event in answer["messages"]]


async def test_read_what_is_kept(server: Server) -> None:
    server.publish_locally("orders", list(range(15)))
    async with server.client() as client:
        asked = {"type": "history", "topic": "orders", "last_n": 3}
        expected = await client.ask(asked)
    answer = await read(server, "last_n=3")
    assert answer == {name: expected[name] for name in ("topic", "epoch", "messages", "complete")}
    assert [event["message"]["payload"] for event in answer["messages"]] == [12, 13, 14]
    assert answer["epoch"] == (await server.get("/topics/orders"))["epoch"]


@pytest.mark.parametrize(
    ("query", "expected", "complete"),
    [
        ("last_n=0", [], True),
        ("last_n=1", [15], True),
        ("last_n=10", list(range(6, 16)), True),
        ("last_n=11", list(range(6, 16)), False),
        ("last_n=8&limit=2", [14, 15], True),
        ("after=0", list(range(6, 16)), False),
        ("after=5", list(range(6, 16)), True),
        ("after=5&limit=3", [6, 7, 8], True),
        ("after=0&limit=3", [6, 7, 8], False),
        ("after=14&limit=1000", [15], True),
        ("after=15", [], True),
        ("after=100", [], True),
        (f"after={'9' * 30}", [], True),
        (f"last_n={'9' * 30}", list(range(6, 16)), False),
    ],
)
@on_one_loop
async def test_what_is_asked_for_is_answered(server: Server, query: str, expected: list[int], complete: bool) -> None:
    server.publish_locally("orders", list(range(15)))
    answer = await read(server, query)
    assert (seqs(answer), answer["complete"]) == (expected, complete)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "after or last_n: expected one of them"),
        ("limit=5", "after or last_n: expected one of them"),
        ("after=1&last_n=1", "after or last_n: expected one of them"),
        ("last_n=-1", "last_n: expected a whole number >= 0, got '-1'"),
        ("after=x", "after: expected a whole number, got 'x'"),
        ("after=1&limit=0", "limit: expected a whole number >= 1, got '0'"),
        ("after=1&limit=1001", "limit: expected a whole number <= 1000, got '1001'"),
        ("last_n=1&lastn=1", "'lastn': unknown here"),
        ("after=1&after=2", "'after': expected once"),
    ],
)
@on_one_loop
async def test_a_wrong_question_is_refused_by_name(server: Server, query: str, told: str) -> None:
    assert await ask(server, "GET", f"{PATH}?{query}") == (400, {"error": told})


async def test_no_topic_no_messages(server: Server) -> None:
    assert await ask(server, "GET", "/topics/none/messages?last_n=1") == (404, {"error": "topic not found"})
    status, answer = await ask(server, "GET", "/topics/a..b/messages?last_n=1")
    assert status == 400
    assert answer.keys() == {"error"}


async def test_an_answer_has_a_limit_in_bytes(server: Server) -> None:
    server.publish_locally("orders", ["x" * 1_000_000] * 10)
    status, answer = await ask(server, "GET", f"{PATH}?last_n=10")
    assert status == 429
    assert "ask for about 8 messages" in answer["error"]
    assert seqs(await read(server, "last_n=8")) == list(range(3, 11))


async def test_messages_on_disk_are_read_too(tmp_path: Path) -> None:
    async with run_server(ring_buffer_size=5, data_dir=str(tmp_path)) as server:
        await ask(server, "POST", "/topics", {"name": "orders", "durable": True, "history": 1000})
        async with server.client() as client:
            for number in range(40):
                await client.publish("orders", number)
        assert seqs(await read(server, "after=3&limit=30")) == list(range(4, 34))
        assert seqs(await read(server, "last_n=40")) == list(range(1, 41))


async def test_who_may_not_subscribe_may_not_read() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        await ask(server, "POST", "/topics", {"name": "orders"}, headers=ADMIN)
        for headers, expected in (
            ({}, 401),
            (bearer(make_token(publish=["orders"])), 403),
            (bearer(make_token(subscribe=["orders"])), 200),
            (bearer(make_token(admin=True)), 200),
            ({"X-API-Key": "board-key"}, 200),
            ({"X-API-Key": "shop-key"}, 200),
        ):
            assert (await ask(server, "GET", f"{PATH}?last_n=1", headers=headers))[0] == expected, headers
        stranger = bearer(make_token(subscribe=["trades"]))
        told = [await ask(server, "GET", f"/topics/{name}/messages?last_n=1", headers=stranger)
                for name in ("orders", "no-topic")]  # fmt: skip
        assert [status for status, _ in told] == [403, 403]
        assert told[0][1]["error"].replace("orders", "no-topic") == told[1][1]["error"]
