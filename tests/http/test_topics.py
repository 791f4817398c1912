"""Section 2 of the contract over real sockets, row by row: exact bodies, statuses, names, counts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from yarl import URL

from pubsub.core.broker import Broker
from pubsub.http.app_keys import BROKER
from tests.harness import Json, RawClient, Server, eventually, on_one_loop, run_server

LIMIT = 4096  # MAX_MESSAGE_BYTES in these tests


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server(max_message_bytes=LIMIT) as server:
        yield server


async def ask(server: Server, method: str, path: str, body: bytes | None = None) -> tuple[int, Json]:
    """Return the status and the JSON of the answer, which is always JSON."""
    async with server.http.request(method, path, data=body) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def create(server: Server, name: str) -> tuple[int, Json]:
    return await ask(server, "POST", "/topics", json.dumps({"name": name}).encode())


# Topics


@on_one_loop
async def test_create(server: Server) -> None:
    assert await create(server, "orders") == (201, {"status": "created", "topic": "orders"})
    assert await create(server, "orders") == (409, {"error": "topic already exists"})
    assert await ask(server, "GET", "/topics") == (200, {"topics": [{"name": "orders", "subscribers": 0}]})


@on_one_loop
async def test_delete(server: Server) -> None:
    await server.create("orders", "trades")
    async with server.client() as client:
        await client.subscribe("orders")
        await client.subscribe("trades")
        assert await ask(server, "DELETE", "/topics/orders") == (200, {"status": "deleted", "topic": "orders"})
        message = await client.receive()
        assert (message["type"], message["topic"], message["msg"]) == ("info", "orders", "topic_deleted")
        assert await ask(server, "DELETE", "/topics/orders") == (404, {"error": "topic not found"})
        assert await ask(server, "GET", "/topics") == (200, {"topics": [{"name": "trades", "subscribers": 1}]})
        assert await create(server, "orders") == (201, {"status": "created", "topic": "orders"})


GOOD_NAMES = ["a", "A", "0", "_", "-", ":", "~", "a.b", "orders.eu.west-1", "a:b~c_d-e", "-.-", "x" * 255,
              ".".join("a" * 128), "aux", "~user"]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_NAMES, ids=lambda name: name[:16])
@on_one_loop
async def test_good_names(server: Server, name: str) -> None:
    assert await create(server, name) == (201, {"status": "created", "topic": name})
    async with server.client() as client:
        await client.subscribe(name)
        assert await ask(server, "GET", "/stats") == (200, {"topics": {name: {"messages": 0, "subscribers": 1}}})
        await client.publish(name, 1)
    assert await ask(server, "DELETE", f"/topics/{name}") == (200, {"status": "deleted", "topic": name})


BAD_NAMES = ["", "x" * 256, ".", "..", "a..b", ".a", "a.", "a b", " a", "a\n", "a\0", "a/b", "a*", "*", ">", "a.>", "ä",
             "\u0660", "a%41", "a\\b", 'a"b', "\ud83d\ude00", "${x}", "a?b", "a#b", "a,b"]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=[ascii(name[:16]) for name in BAD_NAMES])
@on_one_loop
async def test_bad_names(server: Server, name: str) -> None:
    status, body = await create(server, name)
    assert status == 400
    assert body.keys() == {"error"}
    assert await ask(server, "GET", "/topics") == (200, {"topics": []})


@on_one_loop
async def test_a_percent_encoded_name_is_decoded_once(server: Server) -> None:
    await server.create("a:b~c", "a")
    for spelled, name in (("%61%3Ab%7Ec", "a:b~c"), ("%61", "a")):
        async with server.http.delete(URL(f"{server.url}/topics/{spelled}", encoded=True)) as response:
            assert (response.status, await response.json()) == (200, {"status": "deleted", "topic": name})


@pytest.mark.parametrize("name", ["a b", "a/b", "ä", "%", "\0", "a\nb", "%61", "x" * 256, "*", "../health"])
@on_one_loop
async def test_a_name_that_can_be_no_topics_is_not_found_either(server: Server, name: str) -> None:
    """The contract allows 200 and 404; a 400 that names the fault is equally good. No trick deletes a topic."""
    await server.create("a")
    async with server.http.delete(URL(f"{server.url}/topics/{quote(name, safe='')}", encoded=True)) as response:
        assert response.status in (400, 404)
        assert (await response.json()).keys() == {"error"}
    assert await ask(server, "GET", "/topics") == (200, {"topics": [{"name": "a", "subscribers": 0}]})


BAD_BODIES = [b"", b" ", b"x", b"null", b"[]", b'"orders"', b"{", b'{"name":"orders"', b'{"name":"orders"}x',
              b'{"name":"orders",}', b"{'name':'orders'}", b'\xef\xbb\xbf{"name":"orders"}', b'{"name":"\xff"}',
              b"\xff\xfe", b'{"name":"\\ud800"}', b"{}", b'{"topic":"orders"}', b'{"name":1}', b'{"name":null}',
              b'{"name":["orders"]}', b'{"name":true}', b'{"Name":"orders"}', b'{"name":"orders","nonsense":1}',
              b'{"name":"orders","\\n":1}', b"name=orders", b"[" * 4000,
              b'{"name":' + b"[" * 1500 + b"]" * 1500 + b"}"]  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES, ids=[ascii(body[:24]) for body in BAD_BODIES])
@on_one_loop
async def test_bad_bodies(server: Server, body: bytes) -> None:
    status, answer = await ask(server, "POST", "/topics", body)
    assert status == 400
    assert answer.keys() == {"error"}
    assert answer["error"]
    assert "\n" not in answer["error"]
    assert await ask(server, "GET", "/topics") == (200, {"topics": []})


@pytest.mark.parametrize(
    ("body", "named"),
    [(b"{}", "name"), (b'{"name":1}', "name"), (b'{"name":"a b"}', "a b"), (b'{"name":"a","nonsense":1}', "nonsense")],
)
@on_one_loop
async def test_an_error_says_what_is_wrong(server: Server, body: bytes, named: str) -> None:
    assert named in (await ask(server, "POST", "/topics", body))[1]["error"]


@on_one_loop
async def test_an_unknown_option_is_refused_by_name_though_the_rest_is_right(server: Server) -> None:
    status, answer = await ask(server, "POST", "/topics", b'{"name":"orders","histroy":5}')
    assert status == 400
    assert "histroy" in answer["error"]


@on_one_loop
async def test_a_topic_is_made_whatever_content_type_is_claimed(server: Server) -> None:
    for number, content_type in enumerate(("text/plain", "application/x-www-form-urlencoded", "application/json")):
        body = json.dumps({"name": f"t{number}"})
        async with server.http.post("/topics", data=body, headers={"Content-Type": content_type}) as response:
            assert response.status == 201


# Limits


def padded(size: int) -> bytes:
    return b'{"name":"orders"}'.ljust(size)


@on_one_loop
async def test_a_body_of_the_limit_is_taken_and_one_above_is_a_413(server: Server) -> None:
    status, answer = await ask(server, "POST", "/topics", padded(LIMIT + 1))
    assert status == 413
    assert answer.keys() == {"error"}
    assert (await ask(server, "POST", "/topics", padded(LIMIT)))[0] == 201


@on_one_loop
async def test_a_body_in_chunks_above_the_limit_is_a_413(server: Server) -> None:
    client = await RawClient.connect_tcp(server.port)
    await client.send(b"POST /topics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(5):
        await client.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")
    status, answer = await client.read_response()
    assert status == 413
    assert answer.keys() == {"error"}
    await client.send(b"0\r\n\r\n")


# Paths and methods that do not exist

NOT_FOUND = [
    "/nowhere",
    "/topics/",
    "/topics/a/b/c",
    "/Topics",
    "/health/",
    "/stats/x",
    "/ws/",
    "/%00",
    "/\xe4",
]


@pytest.mark.parametrize("path", NOT_FOUND)
@on_one_loop
async def test_unknown_paths_are_a_404_in_json(server: Server, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "PATCH"):
        status, answer = await ask(server, method, path)
        assert status == 404, method
        assert answer.keys() == {"error"}


NOT_ALLOWED = {
    "/topics": {"PUT", "DELETE", "PATCH", "OPTIONS"},
    "/topics/orders": {"POST", "PUT", "PATCH"},
    "/health": {"POST", "PUT", "DELETE"},
    "/stats": {"POST", "PUT", "DELETE"},
    "/ws": {"POST", "PUT", "DELETE"},
}


@pytest.mark.parametrize("path", NOT_ALLOWED)
@on_one_loop
async def test_other_methods_are_a_405_in_json_that_says_which_are_allowed(server: Server, path: str) -> None:
    for method in NOT_ALLOWED[path]:
        async with server.http.request(method, path) as response:
            assert response.status == 405, method
            assert response.content_type == "application/json"
            assert (await response.json()).keys() == {"error"}
            allowed = {name.strip() for name in response.headers["Allow"].split(",")}
        assert allowed
        assert method not in allowed


@on_one_loop
async def test_a_failure_of_the_server_is_a_500_that_shows_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Broker, "create_topic", fail)
    status, answer = await create(server, "orders")
    assert status == 500
    assert answer.keys() == {"error"}
    assert "secret" not in json.dumps(answer)
    assert "KeyError" not in json.dumps(answer)
    assert [record for record in caplog.records if record.exc_info and record.exc_info[0] is KeyError]
    assert (await ask(server, "GET", "/health"))[0] == 200


# Counts


@on_one_loop
async def test_health(server: Server) -> None:
    status, health = await ask(server, "GET", "/health")
    uptime = health.pop("uptime_sec")
    assert (status, health) == (200, {"topics": 0, "subscribers": 0})
    assert type(uptime) is int
    assert 0 <= uptime < 60


@on_one_loop
async def test_subscribers_are_connections(server: Server) -> None:
    """A connection that subscribes twice counts once; /health counts connections with at least one subscription."""
    await server.create("orders", "trades")
    async with server.client("same") as first, server.client("same") as second, server.client("third"):
        for client, topics in ((first, ["orders", "orders", "trades"]), (second, ["orders"])):
            for topic in topics:
                await client.subscribe(topic)
        assert (await server.get("/topics"))["topics"] == [
            {"name": "orders", "subscribers": 2},
            {"name": "trades", "subscribers": 1},
        ]
        health = await server.get("/health")
        assert (health["topics"], health["subscribers"]) == (2, 2)
        await first.ask({"type": "unsubscribe", "topic": "orders", "client_id": "same"})
        await first.ask({"type": "unsubscribe", "topic": "orders", "client_id": "same"})
        assert (await server.get("/stats"))["topics"]["orders"]["subscribers"] == 1
        assert (await server.get("/health"))["subscribers"] == 2
        async with server.http.delete("/topics/trades"):
            pass
        assert (await server.get("/health"))["subscribers"] == 1
    await eventually(lambda: server.connections == 0)
    assert (await server.get("/health"))["subscribers"] == 0


@on_one_loop
async def test_stats_count_all_that_were_ever_published() -> None:
    async with run_server(ring_buffer_size=3) as server:
        await server.create("orders", "trades")
        server.publish_locally("orders", list(range(10)))
        async with server.client() as client:
            await client.subscribe("orders")
            await client.publish("orders", 1)
            await client.ask({"type": "publish", "topic": "orders", "message": {"id": "no UUID", "payload": 1}})
        await eventually(lambda: server.connections == 0)
        assert await server.get("/stats") == {
            "topics": {"orders": {"messages": 11, "subscribers": 0}, "trades": {"messages": 0, "subscribers": 0}}
        }


@on_one_loop
async def test_many_topics_are_listed_right_while_topics_come_and_go(server: Server) -> None:
    names = [f"topic-{number}" for number in range(5000)]
    for name in names:
        server.app[BROKER].create_topic(name)
    assert (await server.get("/topics"))["topics"] == [{"name": name, "subscribers": 0} for name in names]
    assert (await server.get("/stats"))["topics"] == {name: {"messages": 0, "subscribers": 0} for name in names}
    assert (await server.get("/health"))["topics"] == 5000


@on_one_loop
async def test_head_is_get_without_a_body(server: Server) -> None:
    async with server.http.head("/health") as response:
        assert (response.status, await response.read()) == (200, b"")
