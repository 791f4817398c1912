"""Hostile input over real sockets: each gets one error, the connection stays, other clients are not affected."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from types import FrameType
from typing import Any

import pytest

from pubsub.http.app_keys import BROKER
from pubsub.protocol.mistakes import request_id_of
from tests.harness import Client, RawClient, masked_frame, new_id, on_one_loop, publish_request, run_server

DEEP = 100_000


def publish_text(payload: str, message_id: str | None = None, topic: str = "orders") -> str:
    message = f'{{"id":"{message_id or new_id()}","payload":{payload}}}'
    return f'{{"type":"publish","topic":"{topic}","message":{message},"request_id":"r"}}'


REFUSED = {
    "deep brackets": '{"request_id":"r","a":' + "[" * DEEP + "]" * DEEP + "}",
    "deep payload": publish_text("[" * DEEP + "]" * DEEP),
    "digits": publish_text("9" * 5000),
    "unknown type": '{"type":"__proto__","request_id":"r"}',
    "no type": '{"request_id":"r"}',
    "id in braces": publish_text("1", "{550e8400-e29b-41d4-a716-446655440000}"),
    "id without dashes": publish_text("1", "550e8400e29b41d4a716446655440000"),
    "id with a newline": publish_text("1", "550e8400-e29b-41d4-a716-446655440000\\n"),
    "NUL in the topic": publish_text("1", topic="a\\u0000b"),
    "long topic": publish_text("1", topic="x" * 10_000),
    "topic with a newline": publish_text("1", topic="orders\\n"),
    "number for a topic": '{"type":"subscribe","topic":7,"client_id":"c","request_id":"r"}',
    "huge count": '{"type":"subscribe","topic":"orders","client_id":"c","last_n":1e999,"request_id":"r"}',
    "negative count": '{"type":"subscribe","topic":"orders","client_id":"c","last_n":-1,"request_id":"r"}',
}
UNMARKED = {
    "lone surrogate": publish_text('"\\ud800"'),
    "Infinity": publish_text("-Infinity"),
    "NaN": publish_text("NaN"),
    "a list": "[]",
    "a string": '"x"',
    "nothing": "",
    "half": '{"type":"ping"',
    "NaN alone": "NaN",
    "deep and open": "[" * DEEP,
}
TAKEN = {
    "1e999": "1e999",
    "duplicate keys": '{"a":1,"a":2}',
    "__proto__": '{"__proto__":{"admin":true}}',
    "a lone NUL, escaped": '"\\u0000"',
    "markup": '"<script>alert(1)</script>\\u001b[31m"',
}


async def error_of(client: Client, text: str) -> dict[str, Any]:
    await client.send(text)
    answer = await client.receive()
    assert answer["type"] == "error", answer
    return answer


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
@on_one_loop
async def test_row_27_one_error_with_its_request_id(text: str, caplog: pytest.LogCaptureFixture) -> None:
    async with run_server() as server, server.client() as client:
        await server.create("orders")
        answer = await error_of(client, text)
        assert (answer["error"]["code"], answer["request_id"]) == ("BAD_REQUEST", "r")
        await client.sync()
        assert (await server.get("/stats"))["topics"]["orders"]["messages"] == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("text", UNMARKED.values(), ids=UNMARKED)
@on_one_loop
async def test_row_27_one_error_for_what_has_no_mark(text: str) -> None:
    async with run_server() as server, server.client() as client:
        answer = await error_of(client, text)
        assert answer["error"]["code"] == "BAD_REQUEST"
        assert "request_id" not in answer
        await client.sync()


@pytest.mark.parametrize("payload", TAKEN.values(), ids=TAKEN)
@on_one_loop
async def test_row_27_odd_but_valid_payloads_pass_as_they_are(payload: str) -> None:
    async with run_server() as server, server.client() as subscriber:
        await server.create("orders")
        await subscriber.subscribe("orders")
        reader = await RawClient.connect(server.port)
        await reader.subscribe("orders")
        await subscriber.send(publish_text(payload))
        await subscriber.sync()
        frame = await reader.read_frame()
        assert frame is not None
        assert b'"payload":' + payload.encode() + b"}" in frame[1]


async def test_row_27_unknown_fields_are_ignored_and_ids_may_be_upper_case() -> None:
    async with run_server() as server, server.client() as client:
        await server.create("orders")
        request = publish_request("orders", 1) | {"extra": {"deep": []}, "__proto__": 1}
        request["message"]["id"] = new_id().upper()
        assert (await client.ask(request))["type"] == "ack"


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
@on_one_loop
async def test_row_28_bad_utf_8_reaches_nobody(bad: bytes) -> None:
    """On a WebSocket it ends its own connection; over REST it is a 400. Subscribers never get it."""
    async with run_server() as server, server.client() as subscriber:
        await server.create("orders")
        await subscriber.subscribe("orders")
        sender = await RawClient.connect(server.port)
        text = publish_text("PAYLOAD").encode().replace(b"PAYLOAD", b'"' + bad + b'"')
        await sender.send(masked_frame(0x81, text))
        assert await sender.close_code() == 1007
        async with server.http.post("/topics", data=b'{"name":"' + bad + b'"}') as response:
            assert response.status == 400
            assert "UTF-8" in (await response.json())["error"]
        await subscriber.publish("orders", "good")
        assert subscriber.others[0]["message"]["payload"] == "good"


NAMES = [
    "a",
    "a.b",
    "x" * 255,
    "-",
    "_:~",
    "",
    ".",
    "a..b",
    "a.",
    ".a",
    "x" * 256,
    "ä",
    "a\n",
    "a\0b",
    "*",
    "a.>",
    "%61",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@on_one_loop
async def test_row_27_names_are_the_same_by_rest_and_by_websocket(name: str) -> None:
    async with run_server() as server, server.client() as client:
        async with server.http.post("/topics", data=json.dumps({"name": name})) as response:
            made = response.status
        answer = await client.ask({"type": "publish", "topic": name, "message": {"id": new_id(), "payload": 1}})
        assert made in (201, 400)
        assert (answer["type"] == "ack") == (made == 201)
        if made == 400:
            assert answer["error"]["code"] == "BAD_REQUEST"


def test_row_27_a_deep_request_is_looked_at_in_few_steps() -> None:
    """The checks of a MiB take few steps of Python, whatever it contains: each step delays all other clients."""
    worst = ['{"a":' * 200_000, '{"a":' + "[" * 2000 + '"request_id",' * 80_000, '{"a":' + "[" * 2000 + '"",' * 300_000]
    assert [steps_of(text) < 10_000 for text in worst] == [True] * 3


def steps_of(text: str) -> int:
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        request_id_of(text)
    finally:
        sys.settrace(before)
    return steps


async def test_row_36_churn_of_subscriptions_and_topics_leaves_nothing() -> None:
    """A flood of subscribes, unsubscribes and new topics, and clients that vanish in the middle of it."""
    async with run_server() as server, server.client() as witness:
        await server.create("orders")
        await witness.subscribe("orders")
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(churn(server.port, number))
        health = await server.get("/health")
        while health["subscribers"] != 1:
            health = await server.get("/health")
        assert health["topics"] == 1
        assert (await witness.publish("orders", 1))["seq"] == 1
        assert [event["seq"] for event in witness.others] == [1]


async def churn(port: int, number: int) -> None:
    rest, client = await RawClient.connect_tcp(port), await RawClient.connect(port)
    for life in range(20):
        topic = f"churn.{number}.{life}"
        assert (await rest.request("POST", "/topics", json.dumps({"name": topic}).encode()))[0] == 201
        for kind in ("subscribe", "unsubscribe", "subscribe"):
            await client.send_text({"type": kind, "topic": topic, "client_id": "c"})
        assert (await rest.request("DELETE", f"/topics/{topic}"))[0] == 200
    client.reset()


async def test_row_38_health_and_lists_with_ten_thousand_topics() -> None:
    """The server makes them in slices: another client gets many answers before a list is complete."""
    async with run_server() as server, server.client() as client:
        for number in range(10_000):
            server.app[BROKER].create_topic(f"topic.{number}")
        for path, rows in (("/stats", 10_000), ("/topics", 10_000)):
            listing = asyncio.create_task(server.get(path))
            answered = 0
            while not listing.done():
                await client.sync()
                answered += 1
            assert len(listing.result()["topics"]) == rows
            assert answered > 1
        assert (await server.get("/health"))["topics"] == 10_000


async def test_row_30_markup_in_names_is_never_sent_as_a_page() -> None:
    """If a link makes a browser request such a name, the answer that repeats the name is JSON."""
    markup = "%3Cscript%3Ealert(1)%3C%2Fscript%3E"
    async with run_server() as server:
        for path in (f"/topics/{markup}", f"/{markup}", f"/topics?x={markup}", f"/ws?client_id={markup}"):
            for method in ("GET", "DELETE", "POST"):
                async with server.http.request(method, path, data="{}") as response:
                    assert response.content_type == "application/json"
                    await response.json()
