"""Streams of one topic over real sockets: the head, what comes, resume, and everything that is refused before."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pubsub.http.health import STATE
from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.harness import Json, RawClient, Server, eventually, on_one_loop, publish_request, run_server
from tests.streams import Stream

OPS = {"X-API-Key": "ops-key"}
BOARD = {"X-API-Key": "board-key"}
BOTH: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET}
PATH = "/topics/orders/events"


async def refusal(stream: Stream) -> str:
    """The text of the error that came in place of a stream."""
    size = int(stream.headers["Content-Length"])
    error: Json = json.loads(await stream.client.read_bytes(size))
    assert list(error) == ["error"]
    return str(error["error"])


async def create(server: Server, name: str, **headers: str) -> None:
    async with server.http.post("/topics", json={"name": name}, headers=headers) as response:
        assert response.status == 201


async def test_a_stream_begins_with_its_position_and_brings_each_event() -> None:
    async with run_server() as server:
        await server.create("orders")
        server.publish_locally("orders", [0])
        stream = await Stream.open(server.port, PATH)
        assert stream.status == 200
        subscribed = await stream.info("subscribed")
        assert subscribed.keys() == {"type", "topic", "msg", "epoch", "seq", "ts"}
        assert (subscribed["topic"], subscribed["seq"]) == ("orders", 1)
        assert stream.last_id == f"{subscribed['epoch']}:1"
        server.publish_locally("orders", [{"n": number} for number in range(3)])
        for seq in (2, 3, 4):
            block = await stream.next()
            assert (block.event, block.id) == ("message", f"{subscribed['epoch']}:{seq}")
            assert block.data.keys() == {"type", "topic", "message", "seq", "ts"}
            assert (block.data["topic"], block.data["seq"]) == ("orders", seq)
            assert block.data["message"]["payload"] == {"n": seq - 2}


@on_one_loop
async def test_the_head_keeps_caches_and_buffers_away() -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await Stream.open(server.port, PATH)
        name = stream.headers.pop("X-Client-Id")
        assert re.fullmatch("client-[0-9a-f]{12}", name)
        assert stream.headers.pop("Date").endswith("GMT")
        assert stream.headers == {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "Connection": "close",
            "Server": "pubsub",
        }
        named = await Stream.open(server.port, f"{PATH}?client_id=alice%0d%0aX:%20y")
        assert "X-Client-Id" not in named.headers
        assert "X" not in named.headers
        rows = (await server.get("/clients"))["clients"]
        assert [row["client_id"] for row in rows] == [name, "alice\r\nX: y"]
        assert [row["subscriptions"] for row in rows] == [["orders"], ["orders"]]
        assert all(row["bytes_out"] > 0 for row in rows)
        assert (await server.get("/health"))["subscribers"] == 2
        assert (await server.get("/topics"))["topics"] == [{"name": "orders", "subscribers": 2}]


@on_one_loop
async def test_each_client_gets_a_time_to_reconnect_of_its_own() -> None:
    async with run_server(reconnect_spread_sec=1000) as server:
        await server.create("orders")
        streams = [await Stream.open(server.port, PATH) for _ in range(8)]
        for stream in streams:
            await stream.next()
        times = {stream.retry for stream in streams}
        assert len(times) == len(streams)
        assert all(1000 <= time <= 1_001_000 for time in times)
        assert min(times) < 500_000 < max(times)


@pytest.mark.parametrize("path", [PATH, "/events?topic=orders"])
async def test_last_n_and_resume_bring_everything_once(path: str) -> None:
    join = "&" if "?" in path else "?"
    async with run_server() as server:
        await server.create("orders")
        server.publish_locally("orders", list(range(10)))
        stream = await Stream.open(server.port, f"{path}{join}last_n=3")
        await stream.info("subscribed")
        first_id = stream.last_id
        assert await stream.payloads(3) == [7, 8, 9]
        stream.close()
        server.publish_locally("orders", [10, 11])
        resumed = await Stream.open(server.port, f"{path}{join}last_n=7", last_id=stream.last_id)
        recovered = await resumed.info("recovered")
        assert recovered.keys() == {"type", "topic", "msg", "recovered", "epoch", "seq", "ts"}
        assert (recovered["recovered"], recovered["seq"]) == (True, 12)
        assert resumed.last_id == stream.last_id, "it is where it was"
        assert await resumed.payloads(2) == [10, 11]
        by_query = await Stream.open(server.port, f"{path}{join}last_event_id={first_id}")
        await by_query.info("recovered")
        assert await by_query.payloads(5) == [7, 8, 9, 10, 11]
        both = await Stream.open(server.port, f"{path}{join}last_event_id={first_id}", last_id=resumed.last_id)
        await both.info("recovered")
        server.publish_locally("orders", [12])
        assert await both.payloads(1) == [12], "the header wins"


@on_one_loop
async def test_a_client_that_is_cut_off_before_its_first_event_misses_none() -> None:
    async with run_server() as server:
        await server.create("orders")
        server.publish_locally("orders", [0, 1])
        stream = await Stream.open(server.port, PATH)
        await stream.info("subscribed")
        stream.close()
        server.publish_locally("orders", [2, 3])
        again = await Stream.open(server.port, PATH, last_id=stream.last_id)
        assert (await again.info("recovered"))["recovered"] is True
        assert await again.payloads(2) == [2, 3]


@on_one_loop
async def test_a_position_that_is_gone_brings_what_is_kept_and_tells_the_gap() -> None:
    async with run_server(ring_buffer_size=5) as server:
        await server.create("orders")
        server.publish_locally("orders", [0, 1])
        stream = await Stream.open(server.port, f"{PATH}?last_n=2")
        await stream.info("subscribed")
        assert await stream.payloads(2) == [0, 1]
        server.publish_locally("orders", list(range(2, 20)))
        late = await Stream.open(server.port, PATH, last_id=stream.last_id)
        assert (await late.info("recovered"))["recovered"] is False
        gap = await late.info("dropped")
        assert (gap["from_seq"], gap["to_seq"], gap["count"]) == (3, 15, 13)
        assert await late.payloads(5) == [15, 16, 17, 18, 19]
        stranger = await Stream.open(server.port, PATH, last_id="0123456789:7")
        assert (await stranger.info("recovered"))["recovered"] is False
        assert (await stranger.info("dropped"))["to_seq"] == 15
        assert await stranger.payloads(5) == [15, 16, 17, 18, 19]


@on_one_loop
async def test_an_event_is_one_line_however_its_publisher_wrote_it() -> None:
    async with run_server() as server, server.client() as publisher:
        await server.create("orders")
        stream = await Stream.open(server.port, PATH)
        await stream.info("subscribed")
        for payload in ('{"a":\n1,\r\n"b":\r[2]}', '"\\n\u2028"'):
            text = publish_request("orders", "PAYLOAD")
            await publisher.send(json.dumps(text).replace('"PAYLOAD"', payload))
        assert await stream.payloads(2) == [{"a": 1, "b": [2]}, "\n\u2028"]


LONG = "9" * 5000
BAD = {
    f"{PATH}?last_n=-1": "last_n: expected a whole number",
    f"{PATH}?last_n=many": "last_n: expected a whole number",
    f"{PATH}?last_n=1&last_n=2": "'last_n': expected once",
    f"{PATH}?lastn=1": "'lastn': unknown here",
    f"{PATH}?topic=trades": "'topic': unknown here",
    f"{PATH}?last_event_id=nonsense": "Last-Event-ID: expected the id of an event of this stream",
    f"{PATH}?last_event_id=e:{LONG}": "Last-Event-ID: expected",
    f"{PATH}?last_event_id=%FF%00": "Last-Event-ID: expected",
    f"{PATH}?client_id={'x' * 256}": "client_id: expected at most 255 characters",
    "/topics/a%20b/events": "topic: expected",
    "/events": "topic: required, but missing",
    "/events?topic=": "topic: expected",
    "/events?topics=orders": "'topics': unknown here",
}


@on_one_loop
async def test_what_is_wrong_is_named_before_the_stream_begins() -> None:
    async with run_server() as server:
        await server.create("orders")
        for path, text in BAD.items():
            stream = await Stream.open(server.port, path)
            assert stream.status == 400, path
            assert text in await refusal(stream), path
        for value in ("nonsense", "\u00ff:1", "e:1:2", LONG):
            stream = await Stream.open(server.port, PATH, last_id=value)
            assert stream.status == 400
            assert "Last-Event-ID: expected" in await refusal(stream)
        twice = await RawClient.connect_tcp(server.port)
        await twice.send(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: e:1\r\nLast-Event-ID: e:2\r\n\r\n".encode())
        assert (await twice.read_response())[0] == 400
        body = await RawClient.connect_tcp(server.port)
        assert await body.request("GET", PATH, b"{}") == (400, {"error": "body: expected none"})
        assert (await Stream.open(server.port, "/topics/nowhere/events")).status == 404
        assert server.connections == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@on_one_loop
async def test_a_stream_is_only_read(method: str) -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await Stream.open(server.port, PATH, method=method)
        assert stream.status == 405
        assert stream.headers["Allow"] == "GET,HEAD"


async def test_head_tells_what_a_get_would() -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await Stream.open(server.port, PATH, method="HEAD")
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert await stream.client.read_all() == b""
        assert (await Stream.open(server.port, "/topics/nowhere/events", method="HEAD")).status == 404
        assert server.connections == 0


@on_one_loop
async def test_a_client_of_http_1_0_is_served() -> None:
    async with run_server() as server:
        await server.create("orders")
        client = await RawClient.connect_tcp(server.port)
        await client.send(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
        stream = Stream(client, (await client.read_until(b"\r\n\r\n")).decode())
        await stream.info("subscribed")
        server.publish_locally("orders", [1])
        assert await stream.payloads(1) == [1]


async def test_what_stands_behind_the_request_is_never_served() -> None:
    behind = b"DELETE /topics/orders HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    async with run_server() as server:
        await server.create("orders")
        client = await RawClient.connect_tcp(server.port)
        await client.send(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + behind)
        stream = Stream(client, (await client.read_until(b"\r\n\r\n")).decode())
        await stream.info("subscribed")
        await client.send(behind)
        server.publish_locally("orders", [1])
        assert await stream.payloads(1) == [1]
        assert [each["name"] for each in (await server.get("/topics"))["topics"]] == ["orders"]


async def test_who_was_disconnected_is_asked_not_to_come_back() -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await Stream.open(server.port, f"{PATH}?client_id=alice")
        await stream.info("subscribed")
        async with server.http.delete("/clients/alice") as response:
            assert (await response.json())["connections"] == 1
        (last,) = await stream.rest()
        assert (last.event, last.id, last.data["msg"]) == ("info", "disconnected", "disconnected")
        again = await Stream.open(server.port, PATH, last_id=stream.last_id)
        assert again.status == 204
        assert server.connections == 0


# Rights


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 401),
        ("", {"X-API-Key": "wrong"}, 401),
        ("", BOARD, 200),
        ("?client_id=board", BOARD, 200),
        ("?client_id=alice", BOARD, 403),
        ("", bearer(make_token(subscribe=["orders"])), 200),
        ("", bearer(make_token(subscribe=["trades.*"], publish=["orders"])), 403),
        ("", bearer("nonsense"), 401),
        (f"?token={make_token(subscribe=['orders'])}", {}, 200),
        (f"?token={make_token(subscribe=['orders'])}&client_id=alice", {}, 200),
        (f"?token={make_token(subscribe=['orders'])}&client_id=bob", {}, 403),
        (f"?token={make_token(admin=True)}", {}, 200),
        (f"?token={make_token()}", {}, 403),
        ("?token=nonsense", {}, 401),
        ("?token=", {}, 401),
        (f"?token={make_token(exp=1)}", {}, 401),
    ],
)
@pytest.mark.parametrize("settings", [BOTH, {"jwt_secret": SECRET}], ids=["keys and tokens", "tokens"])
@on_one_loop
async def test_rights(query: str, headers: dict[str, str], status: int, settings: dict[str, Any]) -> None:
    if headers.keys() & {"X-API-Key"} and "api_keys" not in settings:
        status = 401
    async with run_server(**settings) as server:
        await create(server, "orders", **OPS)
        stream = await Stream.open(server.port, PATH + query, headers=headers)
        assert stream.status == status
        if status == 401:
            assert stream.headers["WWW-Authenticate"] == "Bearer"
        if status != 200:
            assert await refusal(stream)


@on_one_loop
async def test_with_keys_alone_a_stream_needs_one_and_a_token_is_none() -> None:
    async with run_server(api_keys=API_KEYS) as server:
        await create(server, "orders", **OPS)
        assert (await Stream.open(server.port, PATH, headers=BOARD)).status == 200
        assert (await Stream.open(server.port, PATH)).status == 401
        assert (await Stream.open(server.port, f"{PATH}?token={make_token(admin=True)}")).status == 401


@on_one_loop
async def test_a_page_of_a_foreign_origin_gets_no_stream() -> None:
    foreign, listed = {"Origin": "https://evil.example"}, {"Origin": "https://shop.example"}
    async with run_server(allowed_origins="https://shop.example") as server:
        await server.create("orders")
        assert (await Stream.open(server.port, PATH, headers=foreign)).status == 403
        assert (await Stream.open(server.port, PATH, headers={"Sec-Fetch-Site": "cross-site"})).status == 403
        shared = await Stream.open(server.port, PATH, headers=listed)
        assert shared.status == 200
        assert shared.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert shared.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Client-Id"
        assert shared.headers["Vary"] == "Origin"
        refused = await Stream.open(server.port, "/topics/nowhere/events", headers=listed)
        assert refused.headers["Access-Control-Allow-Origin"] == "https://shop.example", "a page reads its error"
        own = await Stream.open(server.port, PATH, headers={"Origin": "http://localhost"})
        assert own.status == 200
        assert "Access-Control-Allow-Origin" not in own.headers
    async with run_server() as server:
        await server.create("orders")
        rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
        assert (await Stream.open(server.port, PATH, headers=rebound)).status == 403


# Limits


async def test_streams_count_as_connections() -> None:
    async with run_server(max_connections=3, max_connections_per_client=2) as server:
        await server.create("orders")
        alice = f"{PATH}?client_id=alice"
        streams = [await Stream.open(server.port, alice) for _ in range(2)]
        over = await Stream.open(server.port, alice)
        assert (over.status, "MAX_CONNECTIONS_PER_CLIENT" in await refusal(over)) == (429, True)
        async with server.client("bob"):
            full = await Stream.open(server.port, PATH)
            assert (full.status, "MAX_CONNECTIONS" in await refusal(full)) == (503, True)
            streams.pop().close()
            await eventually(lambda: server.connections == 2)
            assert (await Stream.open(server.port, alice)).status == 200


@on_one_loop
async def test_each_request_for_a_stream_counts_for_the_rate_of_its_client() -> None:
    async with run_server(rate_limit_msgs_per_sec=0.001, rate_limit_burst=2) as server:
        await server.create("orders")
        for client, statuses in (("alice", (200, 200, 429)), ("bob", (200, 200, 429))):
            for status in statuses:
                stream = await Stream.open(server.port, f"{PATH}?client_id={client}")
                assert stream.status == status
        assert int(stream.headers["Retry-After"]) > 0


@on_one_loop
async def test_while_it_shuts_down_a_client_is_told_to_come_back_later() -> None:
    async with run_server() as server:
        await server.create("orders")
        server.app[STATE].closing = True
        stream = await Stream.open(server.port, PATH)
        assert (stream.status, stream.headers["Content-Type"]) == (200, "text/event-stream")
        (draining,) = await stream.rest()
        assert draining.data["msg"] == "draining"
        assert draining.retry == draining.data["reconnect_after_ms"] >= 1000
        assert server.connections == 0
