"""Section 1 of the contract over real sockets, row by row: handshake, requests, errors, payloads, order."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pubsub.core.broker import Broker
from pubsub.protocol.frames import BINARY, FIN, TEXT
from tests.harness import (
    Client,
    ForkedServer,
    Json,
    RawClient,
    Server,
    masked_frame,
    new_id,
    on_one_loop,
    publish_request,
    run_server,
)

ID = "550e8400-e29b-41d4-a716-446655440000"
SUBSCRIBE: Json = {"type": "subscribe", "topic": "orders", "client_id": "c"}
UNSUBSCRIBE: Json = {"type": "unsubscribe", "topic": "orders", "client_id": "c"}
PUBLISH: Json = {"type": "publish", "topic": "orders", "message": {"id": ID, "payload": 1}}
PING: Json = {"type": "ping"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server() as server:
        await server.create("orders")
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


def without_ts(message: Json) -> Json:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", message["ts"])
    return {name: value for name, value in message.items() if name != "ts"}


async def refusal(client: Client, request: Json | str) -> Json:
    """Send ``request`` and return its error; the connection must stay."""
    await client.send(request)
    error = without_ts(await client.receive())
    assert error["type"] == "error", error
    assert error["error"].keys() == {"code", "message"}
    await client.sync()
    return error


# The handshake


async def test_a_client_without_a_name_gets_one(server: Server) -> None:
    names = set()
    for query in ("", "?client_id="):
        async with server.http.ws_connect(f"/ws{query}") as socket:
            name = socket._response.headers["X-Client-Id"]
            assert re.fullmatch(r"client-[0-9a-f]{12}", name)
            names.add(name)
    assert len(names) == 2


async def test_a_client_that_names_itself_is_not_named(server: Server) -> None:
    async with server.http.ws_connect("/ws?client_id=mine") as socket:
        assert "X-Client-Id" not in socket._response.headers


@pytest.mark.parametrize(
    ("query", "known_as"), [("", "first"), ("?client_id=url", "url")], ids=["unnamed", "named in the URL"]
)
async def test_who_is_unnamed_takes_the_first_name_that_it_sends(
    server: Server, query: str, known_as: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pubsub")
    async with server.http.ws_connect(f"/ws{query}") as socket:
        client = Client(socket)
        await client.subscribe("orders", client_id="first")
        await client.subscribe("orders", client_id="second")
    subscribed = [record.getMessage() for record in caplog.records if "subscribed" in record.getMessage()]
    assert subscribed == [f"Client {known_as} subscribed to topic orders"] * 2


def handshake(**changes: str | None) -> bytes:
    fields = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
    return f"GET /ws HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


REFUSED_HANDSHAKES = {
    "no upgrade": (handshake(Upgrade=None, Connection=None), 400),
    "another upgrade": (handshake(Upgrade="h2c"), 400),
    "no connection field": (handshake(Connection="keep-alive"), 400),
    "version 8": (handshake(Sec_WebSocket_Version="8"), 426),
    "no version": (handshake(Sec_WebSocket_Version=None), 426),
    "no key": (handshake(Sec_WebSocket_Key=None), 400),
    "a key that is no base64": (handshake(Sec_WebSocket_Key="****"), 400),
    "a key of 15 bytes": (handshake(Sec_WebSocket_Key="YWJjZGVmZ2hpamtsbW5v"), 400),
    "frames before the answer": (handshake() + masked_frame(FIN | TEXT, b'{"type":"ping"}'), 400),
}


@pytest.mark.parametrize("case", REFUSED_HANDSHAKES)
@on_one_loop
async def test_row_15_a_handshake_that_is_wrong_is_refused_in_json(server: Server, case: str) -> None:
    sent, status = REFUSED_HANDSHAKES[case]
    client = await RawClient.connect_tcp(server.port)
    await client.send(sent)
    head = await client.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"Content-Type: application/json" in head
    assert (b"Sec-WebSocket-Version: 13" in head) == (status == 426)
    size = int(re.findall(rb"Content-Length: (\d+)", head)[0])
    body = await client.read_until(b"}")
    assert len(body) == size
    assert json.loads(body).keys() == {"error"}
    assert server.connections == 0


async def test_row_15_other_methods_than_get_are_refused(server: Server) -> None:
    async with server.http.post("/ws") as response:
        assert response.status == 405
        assert (await response.json()).keys() == {"error"}


async def test_a_browser_that_offers_compression_is_served_without(server: Server) -> None:
    client = await RawClient.connect_tcp(server.port)
    await client.send(handshake(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
    head = await client.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in head.lower()
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()


# Requests and their answers


async def test_the_answers_have_the_contracts_shapes(client: Client) -> None:
    await client.send(SUBSCRIBE | {"request_id": "r1"})
    ack = without_ts(await client.receive())
    assert ack.pop("epoch")
    assert ack == {"type": "ack", "request_id": "r1", "topic": "orders", "status": "ok", "seq": 0}
    await client.send(PUBLISH | {"request_id": "r2"})
    event, ack = sorted([without_ts(message) for message in await client.receive_many(2)], key=lambda m: -len(m))
    event, ack = (event, ack) if event["type"] == "event" else (ack, event)
    assert ack == {"type": "ack", "request_id": "r2", "topic": "orders", "status": "ok", "seq": 1}
    assert event == {"type": "event", "topic": "orders", "message": {"id": ID, "payload": 1}, "seq": 1}
    await client.send(PING | {"request_id": "r3"})
    assert without_ts(await client.receive()) == {"type": "pong", "request_id": "r3"}
    await client.send(UNSUBSCRIBE | {"request_id": "r4"})
    ack = without_ts(await client.receive())
    assert ack == {"type": "ack", "request_id": "r4", "topic": "orders", "status": "ok"}


@pytest.mark.parametrize("request_", [SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PING, {"type": "nonsense"}])
@on_one_loop
async def test_without_a_request_id_the_answer_has_none(client: Client, request_: Json) -> None:
    await client.send(request_)
    assert "request_id" not in await client.receive()


@pytest.mark.parametrize("request_", [SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PING])
@pytest.mark.parametrize("request_id", ["", "x" * 128, 'é\U0001f600\n"\\\u0000'])
@on_one_loop
async def test_the_request_id_comes_back_as_it_was(client: Client, request_: Json, request_id: str) -> None:
    await client.send(request_ | {"request_id": request_id})
    answer = await client.receive()
    assert answer["type"] in ("ack", "pong")
    assert answer["request_id"] == request_id


async def test_a_request_id_of_128_characters_beyond_the_basic_plane_is_allowed(client: Client) -> None:
    await client.send(PING | {"request_id": "\U0001f600" * 128})
    assert (await client.receive())["type"] == "pong"


async def test_a_request_id_of_129_characters_is_refused_and_comes_back_all_the_same(client: Client) -> None:
    error = await refusal(client, PING | {"request_id": "x" * 129})
    assert error["error"]["code"] == "BAD_REQUEST"
    assert "request_id" in error["error"]["message"]
    assert error["request_id"] == "x" * 129


@pytest.mark.parametrize("request_", [SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PING])
@on_one_loop
async def test_unknown_fields_are_ignored(client: Client, request_: Json) -> None:
    await client.send(request_ | {"future": {"deep": [1, None]}, "Type": "x"})
    assert (await client.receive())["type"] in ("ack", "pong")


async def test_unknown_fields_of_a_message_are_ignored(client: Client) -> None:
    await client.send(PUBLISH | {"message": {"id": ID, "payload": 1, "future": 2}})
    assert (await client.receive())["type"] == "ack"


@pytest.mark.parametrize("last_n", [0, 1, 10**9, 10**30])
@on_one_loop
async def test_any_last_n_from_0_on_is_allowed(client: Client, last_n: int) -> None:
    await client.publish("orders", 1)
    await client.subscribe("orders", last_n=last_n)
    await client.sync()
    assert len(client.others) == min(last_n, 1)


def without(request: Json, field: str) -> Json:
    return {name: value for name, value in request.items() if name != field}


def with_message(**changes: Any) -> Json:
    return PUBLISH | {"message": {"id": ID, "payload": 1} | changes}


# A request, and the field that its error must name.
BAD_REQUESTS: dict[str, tuple[Json, str]] = {
    "no type": ({}, "type"),
    "unknown type": ({"type": "nonsense"}, "type"),
    "type in another case": ({"type": "Ping"}, "type"),
    **{
        f"type {value!r}": ({"type": value}, "type") for value in (1, None, ["ping"], {"a": 1}, "", True)
    },
    **{
        f"{request['type']} without {field}": (without(request, field), field)
        for request in (SUBSCRIBE, UNSUBSCRIBE, PUBLISH)
        for field in request
        if field != "type"
    },
    **{
        f"{request['type']} with {field} {value!r}": (request | {field: value}, field)
        for request in (SUBSCRIBE, UNSUBSCRIBE, PUBLISH)
        for field in request
        if field != "type"
        for value in (1, None, ["x"], True)
    },
    **{
        f"topic {name[:9]!r}": (request | {"topic": name}, "topic")
        for request in (SUBSCRIBE, UNSUBSCRIBE, PUBLISH)
        for name in ("", "a b", ".", "a..b", ".a", "a.", "ä", "a\n", "x" * 256)
    },
    "message a string": (PUBLISH | {"message": "x"}, "message"),
    "topic an object": (SUBSCRIBE | {"topic": {"name": "orders"}}, "topic"),
    "client_id empty": (SUBSCRIBE | {"client_id": ""}, "client_id"),
    **{
        f"last_n {value!r}": (SUBSCRIBE | {"last_n": value}, "last_n")
        for value in (-1, 1.5, "1", None, True, [1], -(10**30))
    },
    **{
        f"request_id {value!r}": (PING | {"request_id": value}, "request_id")
        for value in (1, None, ["r"], {"a": 1}, False)
    },
    "no message.id": (PUBLISH | {"message": {"payload": 1}}, "message.id"),
    "no message.payload": (PUBLISH | {"message": {"id": ID}}, "message.payload"),
    "empty message": (PUBLISH | {"message": {}}, "message.id"),
    **{
        f"message.id {value!r}": (with_message(id=value), "message.id")
        for value in (
            1,
            None,
            "",
            "x",
            f"{{{ID}}}",
            f"urn:uuid:{ID}",
            ID.replace("-", ""),
            ID[:-1],
            ID + "0",
            ID + "\n",
            " " + ID,
            ID.replace("5", "g"),
            ID.replace("-", "_"),
            ID.replace("5", "\u0665"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_REQUESTS)
@on_one_loop
async def test_what_is_wrong_is_refused_by_name(client: Client, case: str) -> None:
    request, field = BAD_REQUESTS[case]
    error = await refusal(client, request)
    assert error["error"]["code"] == "BAD_REQUEST"
    assert re.search(rf"(?<![\w.]){re.escape(field)}(?!\w)", error["error"]["message"]), error


@pytest.mark.parametrize("request_", [SUBSCRIBE, UNSUBSCRIBE, PUBLISH])
@on_one_loop
async def test_a_topic_that_does_not_exist_is_not_found(client: Client, request_: Json) -> None:
    error = await refusal(client, request_ | {"topic": "nowhere", "request_id": "r"})
    assert error == {
        "type": "error",
        "request_id": "r",
        "error": {"code": "TOPIC_NOT_FOUND", "message": "Topic 'nowhere' does not exist"},
    }


NOT_OBJECTS = ["", " ", "x", "ping", "null", "true", "1", '"ping"', "[]", '[{"type":"ping"}]', "{", '{"type":"ping"',
               '{"type":"ping"}x', '{"type":"ping"}{"type":"ping"}', "{'type':'ping'}", '{"type":"ping",}',
               '{type:"ping"}', '\ufeff{"type":"ping"}', '{"type":"ping"}\0', '{"type":"pi\nng"}',
               '{"type":"ping"/**/}', '{"type":NaN}', "[" * 100_000, '{"a":' * 100_000]  # fmt: skip


@pytest.mark.parametrize("text", NOT_OBJECTS, ids=[text[:20] for text in NOT_OBJECTS])
@on_one_loop
async def test_what_is_no_json_object_is_refused(client: Client, text: str) -> None:
    error = await refusal(client, text)
    assert error["error"]["code"] == "BAD_REQUEST"
    assert "request_id" not in error


@pytest.mark.parametrize("payload", [b"", b'{"type":"ping"}', b"\xff" * 1000])
@on_one_loop
async def test_row_6_a_binary_frame_is_refused_and_the_connection_stays(server: Server, payload: bytes) -> None:
    client = await RawClient.connect(server.port)
    await client.send(masked_frame(FIN | BINARY, payload))
    assert (await client.receive())["error"]["code"] == "BAD_REQUEST"
    await client.send_text(PING)
    assert (await client.receive())["type"] == "pong"


DEEP = "[" * 100_000 + "]" * 100_000
WRONG_BUT_NAMED = {
    "unknown type": '{"type":"nonsense","request_id":"r"}',
    "no type": '{"request_id":"r"}',
    "type of another kind": '{"request_id":"r","type":[{"request_id":"no"}]}',
    "everything wrong": '{"type":"publish","topic":1,"message":[],"request_id":"r","client_id":{}}',
    "before": '{"request_id":"r","type":"publish","topic":"nowhere"}',
    "another one within": '{"type":"subscribe","topic":{"request_id":"no"},"request_id":"r"}',
    "not found": json.dumps(PUBLISH | {"topic": "nowhere", "request_id": "r"}),
    "bad id": json.dumps(with_message(id="x") | {"request_id": "r"}),
    "spelled with an escape": '{"type":"nonsense","request\\u005fid":"\\u0072"}',
    "many digits": json.dumps(PUBLISH | {"request_id": "r"}).replace('"payload": 1', f'"payload": {"1" * 5000}'),
    "a huge number elsewhere": '{"type":"nonsense","request_id":"r","x":1e999999}',
    "deep, behind it": f'{{"type":"nonsense","request_id":"r","x":{DEEP}}}',
    "deep, before it": f'{{"x":{DEEP},"type":"ping","request_id":"r"}}',
    "deep, another one within": f'{{"x":[{{"request_id":"no"}},{DEEP}],"y":"request_id","request_id":"r"}}',
    "deep, a string like a bracket": f'{{"x":{DEEP},"]":"}}\\"{{","request_id":"r"}}',
    "deep payload": json.dumps(PUBLISH | {"request_id": "r"}).replace('"payload": 1', f'"payload": {DEEP}'),
    "deep objects": '{"request_id":"r","x":' + '{"a":' * 50_000 + "1" + "}" * 50_001,
    "deep, spelled with an escape": f'{{"x":{DEEP},"request\\u005fid":"r"}}',
    "deep, twice": f'{{"request_id":"first","x":{DEEP},"request_id":"r"}}',
}


@pytest.mark.parametrize("case", WRONG_BUT_NAMED)
@on_one_loop
async def test_an_error_names_its_request_whatever_else_is_wrong(client: Client, case: str) -> None:
    assert (await refusal(client, WRONG_BUT_NAMED[case]))["request_id"] == "r"


def fail_with_secret(*arguments: object) -> None:
    raise KeyError("secret")


async def test_a_failure_of_the_server_shows_nothing_and_costs_nobody_else_anything(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client("other") as other:
        await other.subscribe("orders")
        with monkeypatch.context() as broken:
            broken.setattr(Broker, "publish", fail_with_secret)
            error = await refusal(client, PUBLISH | {"request_id": "r"})
        assert error.pop("request_id") == "r"
        assert error["error"]["code"] == "INTERNAL"
        assert "secret" not in json.dumps(error)
        assert "KeyError" not in json.dumps(error)
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.exc_info
        assert record.exc_info[0] is KeyError
        await client.publish("orders", "after")
        assert (await other.receive())["message"]["payload"] == "after"


# Payloads

PAYLOADS = ["1.0e5", "1E400", "-0", "-0.0", "0.10", "1e-7", "123456789012345678901234567890", "1" * 4300,
            "0." + "1" * 5000, "null", "true", '""', "{}", "[]", '{"b":1,"a":2}', '{"a":1,"a":2,"a":1}', '"\\u00e9"',
            '"é"', '"\\/"', '"/"', '"\\ud83d\\ude00"', '"\U0001f600"', '"\\u0000"', '"\u2028\u007f"',
            '{ "a" : [ 1,\t2 ,\r\n3 ] }', '"' + "1" * 5000 + '"', '"</script>"', "[" * 200 + "]" * 200,
            '{"type":"error","seq":0}', '"' + "é" * 100_000 + '"']  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS, ids=[payload[:20] for payload in PAYLOADS])
@on_one_loop
async def test_a_payload_passes_through_byte_for_byte(server: Server, payload: str) -> None:
    client = await RawClient.connect(server.port)
    await client.subscribe("orders")
    await client.send_text(f'{{"type":"publish","topic":"orders","message":{{"payload": {payload} ,"id":"{ID}"}}}}')
    live = await read_event(client)
    assert f'"payload":{payload}'.encode() in live
    again = await RawClient.connect(server.port)
    await again.send_text(SUBSCRIBE | {"last_n": 1})
    assert await read_event(again) == live, "the replay has the same bytes"
    await client.send_text({"type": "history", "topic": "orders", "last_n": 1})
    while b'"history"' not in (reply := (await client.read_frame() or (0, b""))[1]):
        pass
    assert live in reply, "the history has the same bytes"


async def read_event(client: RawClient) -> bytes:
    while (frame := await client.read_frame()) is not None:
        if b'"type":"event"' in frame[1]:
            return frame[1]
    raise AssertionError("closed instead of an event")


REFUSED_PAYLOADS = ["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1e", "-", "0x10", "1_000", "tru", "None",
                    "'x'", '"\\q"', '"\\x41"', '"\\u12"', '"a\tb"', '"a\nb"', '"\0"', '"\\ud800"', '"\\udc00"',
                    '"\\ud800x"', '"\\ud800\\u0041"', '"\\ude00\\ud83d"', '{"\\ud800":1}', "[1,]", '{"a":1,}',
                    '{"a" 1}', "{a:1}", "{1:2}", "[1 2]", "[", '"', "", "1 2", "/**/1", "1" * 5000, "-" + "1" * 5000,
                    f'{{"a":[1,{"1" * 5000}]}}', DEEP, '{"a":' * 50_000 + "1" + "}" * 50_000]  # fmt: skip


@pytest.mark.parametrize("payload", REFUSED_PAYLOADS, ids=[payload[:20] for payload in REFUSED_PAYLOADS])
@on_one_loop
async def test_a_payload_that_others_could_not_parse_is_refused(server: Server, client: Client, payload: str) -> None:
    request = f'{{"type":"publish","topic":"orders","message":{{"id":"{ID}","payload":{payload}}}}}'
    assert (await refusal(client, request))["error"]["code"] == "BAD_REQUEST"
    assert (await server.get("/stats"))["topics"]["orders"]["messages"] == 0


@pytest.mark.parametrize("innermost", ["1", '"' + "1" * 5000 + '"'], ids=["small", "digits"])
@on_one_loop
async def test_what_is_nested_deep_is_refused_or_can_be_parsed_by_others(innermost: str) -> None:
    with ForkedServer() as server:
        await server.create("orders")
        subscriber = await RawClient.connect(server.port)
        await subscriber.subscribe("orders")
        client = await RawClient.connect(server.port)
        for depth in range(900, 1010):
            payload = "[" * depth + innermost + "]" * depth
            await client.send_text(
                f'{{"type":"publish","topic":"orders","message":{{"id":"{ID}","payload":{payload}}}}}'
            )
            answer = await client.receive()
            assert answer["type"] == "ack" or answer["error"]["code"] == "BAD_REQUEST", f"{answer} at {depth}"
            if answer["type"] == "ack":
                event = await read_event(subscriber)
                assert await asyncio.to_thread(parse_deep_in_a_program, event, calls=50), f"nested {depth} deep"


def parse_deep_in_a_program(text: bytes, *, calls: int) -> object:
    """Parse it as a client does: below some function calls."""
    return parse_deep_in_a_program(text, calls=calls - 1) if calls else json.loads(text)


@pytest.mark.parametrize("payload", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"'])
@on_one_loop
async def test_a_payload_in_invalid_utf8_ends_the_connection_with_1007(server: Server, payload: bytes) -> None:
    await server.create("others")
    async with server.client("other") as other:
        await other.subscribe("orders")
        client = await RawClient.connect(server.port)
        head = f'{{"type":"publish","topic":"orders","message":{{"id":"{ID}","payload":'.encode()
        await client.send(masked_frame(FIN | TEXT, head + payload + b"}}"))
        assert await client.close_code() == 1007
        await other.sync()
        assert other.others == []


@pytest.mark.parametrize(
    "id_", [ID, ID.upper(), "00000000-0000-0000-0000-000000000000", "F" * 8 + "-ffff-FFFF-ffff-" + "f" * 12]
)
@on_one_loop
async def test_a_uuid_in_either_case_is_taken_and_passed_on_as_it_is(client: Client, id_: str) -> None:
    await client.subscribe("orders")
    await client.send(with_message(id=id_))
    messages = await client.receive_many(2)
    assert [message["message"]["id"] for message in messages if message["type"] == "event"] == [id_]


# Order


async def test_an_ack_then_the_replay_then_what_is_live(server: Server) -> None:
    """Rules 1 and 2: clients subscribe while publishers flood the topic; each gets every event exactly once."""
    await server.create("flooded")
    flooding = True

    async def flood() -> None:
        async with server.client("flooder") as flooder:
            while flooding:
                await flooder.publish("flooded", 1)

    async def follow(number: int) -> None:
        last_n = 5 * (number % 4)
        async with server.client(f"follower-{number}") as follower:
            ack = await follower.subscribe("flooded", last_n=last_n)
            assert follower.others == [], "nothing comes before the ack"
            seqs = [(await follower.receive())["seq"] for _ in range(100)]
            first = max(1, ack["seq"] - last_n + 1)
            assert seqs == list(range(first, first + 100))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(flood())
        async with asyncio.TaskGroup() as followers:
            for number in range(12):
                followers.create_task(follow(number))
        flooding = False


@pytest.mark.parametrize("last_n", [0, 1, 3, 5, 100])
@on_one_loop
async def test_what_is_replayed_is_the_newest_oldest_first(server: Server, client: Client, last_n: int) -> None:
    server.publish_locally("orders", [0, 1, 2, 3, 4])
    ack = await client.subscribe("orders", last_n=last_n)
    await client.sync()
    assert ack["seq"] == 5
    assert [event["message"]["payload"] for event in client.others] == list(range(5))[5 - min(last_n, 5) :]
    assert [event["seq"] for event in client.others] == list(range(1, 6))[5 - min(last_n, 5) :]


async def test_a_replay_is_bounded_by_what_is_kept() -> None:
    async with run_server(ring_buffer_size=3) as server, server.client() as client:
        await server.create("orders")
        server.publish_locally("orders", [0, 1, 2, 3, 4])
        await client.subscribe("orders", last_n=5)
        await client.sync()
        assert [event["seq"] for event in client.others] == [3, 4, 5]


async def test_pipelined_requests_are_answered_in_order_with_events_in_their_places(server: Server) -> None:
    """Rules 3 and 4: all requests come in one piece, so that one tick serves them all."""
    client = await RawClient.connect(server.port)
    requests = [PUBLISH, SUBSCRIBE, PUBLISH, PUBLISH, UNSUBSCRIBE, PUBLISH, SUBSCRIBE | {"last_n": 2}, PUBLISH,
                SUBSCRIBE | {"last_n": 1}, SUBSCRIBE, PUBLISH, UNSUBSCRIBE, UNSUBSCRIBE, PUBLISH, PING]  # fmt: skip
    sent = [masked_frame(FIN | TEXT, json.dumps(r | {"request_id": str(i)}).encode()) for i, r in enumerate(requests)]
    await client.send(b"".join(sent))
    messages: list[Json] = []
    while not messages or messages[-1]["type"] != "pong":
        messages.append(await client.receive())
    answers = [message for message in messages if "request_id" in message]
    assert [answer["request_id"] for answer in answers] == [str(number) for number in range(len(requests))]
    assert [answer["seq"] for answer in answers if "seq" in answer and "epoch" not in answer] == [1, 2, 3, 4, 5, 6, 7]
    # The ack of a publish may come before or after its event; those of subscribe and unsubscribe have fixed places.
    subscribed = ["1", "4", "6", "8", "9", "11", "12"]
    steps: list[str | int] = [
        message.get("request_id") or message["seq"]
        for message in messages
        if message.get("request_id") in (None, *subscribed)
    ]
    assert steps == ["1", 2, 3, "4", "6", 3, 4, 5, "8", 5, "9", 6, "11", "12"]


async def test_topic_deleted_comes_after_the_last_event_and_ends_the_subscription(server: Server) -> None:
    async with server.client() as client:
        await client.subscribe("orders")
        server.publish_locally("orders", [1, 2])
        async with server.http.delete("/topics/orders") as response:
            assert response.status == 200
        *events, deleted = await client.receive_many(3)
        assert [event["seq"] for event in events] == [1, 2]
        assert without_ts(deleted) == {"type": "info", "topic": "orders", "msg": "topic_deleted"}
        await server.create("orders")
        await client.publish("orders", "new life")
        await client.sync()
        assert client.others == []
        assert (await server.get("/topics"))["topics"] == [{"name": "orders", "subscribers": 0}]


async def test_a_topic_made_again_has_another_epoch_and_counts_anew(server: Server, client: Client) -> None:
    server.publish_locally("orders", [1, 2])
    before = await client.subscribe("orders")
    async with server.http.delete("/topics/orders"):
        pass
    await server.create("orders")
    after = await client.subscribe("orders")
    assert (before["seq"], after["seq"]) == (2, 0)
    assert before["epoch"] != after["epoch"]
    assert (await client.publish("orders", 1))["seq"] == 1


async def test_acks_come_in_the_order_of_the_publishes_with_their_seq(server: Server) -> None:
    """Rule 5, for two publishers at once that do not wait for acks."""
    count = 500

    async def publish_all(name: str) -> list[int]:
        async with server.client(name) as publisher:
            for number in range(count):
                await publisher.send(publish_request("orders", [name, number]) | {"request_id": str(number)})
            acks = await publisher.receive_many(count)
            assert [ack["request_id"] for ack in acks] == [str(number) for number in range(count)]
            return [ack["seq"] for ack in acks]

    async with server.client() as subscriber:
        await subscriber.subscribe("orders")
        results = await asyncio.gather(publish_all("a"), publish_all("b"))
        events = await subscriber.receive_many(2 * count)
    for name, seqs in zip("ab", results, strict=True):
        assert seqs == sorted(seqs)
        own = [event for event in events if event["message"]["payload"][0] == name]
        assert [event["seq"] for event in own] == seqs, "an ack has the seq of its own message"
        assert [event["message"]["payload"][1] for event in own] == list(range(count))


async def test_an_ack_comes_when_the_message_is_in_the_topic(server: Server, client: Client) -> None:
    seq = (await client.publish("orders", "there"))["seq"]
    async with server.client("other") as other:
        assert (await other.subscribe("orders", last_n=1))["seq"] == seq
        assert (await other.receive())["message"]["payload"] == "there"


async def test_nobody_gets_what_is_not_theirs(server: Server) -> None:
    await server.create("trades")
    async with server.client("a") as orders, server.client("b") as trades, server.client("c") as nothing:
        await orders.subscribe("orders")
        await trades.subscribe("trades")
        await nothing.publish("orders", "for a")
        await nothing.publish("trades", "for b")
        assert (await orders.receive())["message"]["payload"] == "for a"
        assert (await trades.receive())["message"]["payload"] == "for b"
        for client in (orders, trades, nothing):
            await client.sync()
            assert client.others == []


async def test_the_foreign_client_of_aiohttp_closes_well(server: Server) -> None:
    async with server.http.ws_connect("/ws") as socket:
        await socket.send_str(json.dumps(PING | {"request_id": new_id()}))
        assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT
        assert await socket.close(code=4321)
        assert socket.close_code == 4321
