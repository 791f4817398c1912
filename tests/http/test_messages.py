"""``/topics/{name}/messages``: messages are published, read and purged over REST."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from msgspec import Raw

from pubsub.core.broker import Broker
from pubsub.http.app_keys import BROKER
from pubsub.http.messages import CHECKED_AT_ONCE, make_publishes
from pubsub.journals.store import Store
from pubsub.journals.writer import Writer
from pubsub.protocol.calls import NewMessage
from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.faults import StillDisk
from tests.harness import PATIENCE, Json, Server, eventually, new_id, on_one_loop, run_server

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


# Publishing


async def publish(server: Server, body: object, headers: dict[str, str] | None = None) -> Json:
    status, answer = await ask(server, "POST", PATH, body, headers=headers)
    assert status == 200, answer
    return answer


@on_one_loop
async def test_publish_one(server: Server) -> None:
    async with server.client() as client:
        await client.subscribe("orders")
        for seq in (1, 2):
            message = {"id": new_id(), "payload": {"order_id": "ORD-123"}}
            assert await publish(server, message) == {
                "status": "published", "topic": "orders", "seq": seq, "id": message["id"],
            }  # fmt: skip
            event = await client.receive()
            assert (event["type"], event["seq"], event["message"]) == ("event", seq, message)


@on_one_loop
async def test_publish_a_list(server: Server) -> None:
    messages = [{"id": new_id(), "payload": number} for number in range(5)]
    await publish(server, {"payload": "first"})
    async with server.client() as client:
        await client.subscribe("orders")
        assert await publish(server, messages) == {
            "status": "published", "topic": "orders", "seq": [2, 3, 4, 5, 6], "id": [each["id"] for each in messages],
        }  # fmt: skip
        events = await client.receive_many(5)
        assert [event["message"] for event in events] == messages
        assert [event["seq"] for event in events] == [2, 3, 4, 5, 6]
    answer = await publish(server, messages[:1])
    assert (answer["seq"], answer["id"]) == ([7], [messages[0]["id"]]), "a list of one is answered by lists"


@on_one_loop
async def test_the_server_makes_ids(server: Server) -> None:
    given = new_id()
    answer = await publish(server, [{"payload": 1}, {"payload": 2, "id": given}, {"payload": 3}])
    one = await publish(server, {"payload": 4})
    made = [answer["id"][0], answer["id"][2], one["id"]]
    assert answer["id"][1] == given
    assert len(set(made)) == 3
    assert all(str(uuid.UUID(each, version=4)) == each for each in made)
    kept = (await read(server, "last_n=10"))["messages"]
    assert [event["message"]["id"] for event in kept] == [*answer["id"], one["id"]]


@on_one_loop
async def test_a_payload_is_passed_on_byte_for_byte(server: Server) -> None:
    payloads = [b'{"a" : 1.0,"a":99.50, "b":[ ]}', b'"\\u00e4\xc3\xa4\\/"', b"-0.0", b"1e400", b"null", b" [1 ]"]
    spelled = b"[" + b", ".join(b'{ "payload":%b}' % each for each in payloads) + b"]"
    await publish(server, spelled)
    await publish(server, b'{"payload":%b }' % payloads[0])
    async with server.http.get(f"{PATH}?last_n=10") as response:
        text = await response.read()
    for each in payloads:
        assert b'"payload":%b}' % each.strip() in text
    assert text.count(payloads[0]) == 2


@on_one_loop
async def test_a_repeated_id_is_a_duplicate(server: Server) -> None:
    await ask(server, "POST", "/topics", {"name": "once", "dedup_sec": 60})
    path, (first, second) = "/topics/once/messages", (new_id(), new_id())
    once = {"status": "published", "topic": "once"}
    assert await ask(server, "POST", path, {"id": first, "payload": 1}) == (200, once | {"seq": 1, "id": first})
    again = {"id": first.upper(), "payload": 2}
    assert await ask(server, "POST", path, again) == (
        200, once | {"seq": 1, "id": first.upper(), "duplicate": True},
    )  # fmt: skip
    many = [{"id": second, "payload": 3}, {"id": first, "payload": 4}, {"id": second, "payload": 5}]
    assert await ask(server, "POST", path, many) == (
        200, once | {"seq": [2, 1, 2], "id": [second, first, second], "duplicate": [False, True, True]},
    )  # fmt: skip
    _, kept = await ask(server, "GET", f"{path}?last_n=10")
    assert [event["message"]["payload"] for event in kept["messages"]] == [1, 3]


@on_one_loop
async def test_a_message_may_have_a_time_to_live(server: Server) -> None:
    await publish(server, [{"payload": "short", "ttl_sec": 0.01}, {"payload": "long", "ttl_sec": 1000}])
    async with asyncio.timeout(PATIENCE):
        while len((await read(server, "last_n=2"))["messages"]) > 1:
            pass
    kept = await read(server, "last_n=2")
    assert ([event["message"]["payload"] for event in kept["messages"]], kept["complete"]) == (["long"], False)


@on_one_loop
async def test_a_message_may_expect_a_seq(server: Server) -> None:
    await publish(server, {"payload": 1, "expect_seq": 0})
    stale = {"payload": 2, "expect_seq": 0}
    assert await ask(server, "POST", PATH, stale) == (
        409, {"error": "expect_seq: expected 0, but the seq of the topic is 1", "seq": 1},
    )  # fmt: skip
    one_is_stale = [{"payload": 2, "expect_seq": 1}, {"payload": 3, "expect_seq": 1}]
    assert await ask(server, "POST", PATH, one_is_stale) == (
        409, {"error": "[1].expect_seq: expected 1, but the seq of the topic is 2", "seq": 2},
    )  # fmt: skip
    assert (await publish(server, [{"payload": 2, "expect_seq": 1}, {"payload": 3, "expect_seq": 2}]))["seq"] == [2, 3]
    assert seqs(await read(server, "last_n=10")) == [1, 2, 3]


GOOD = '{"payload":1}'
BAD = [
    ("", "not JSON: Input data was truncated"),
    ("x", "not JSON: invalid character (byte 0)"),
    ("3", "the message: expected a JSON object or a list of them, got 3"),
    ("null", "the message: expected a JSON object or a list of them, got null"),
    ("{}", "payload: required, but missing"),
    ('{"id":"550e8400-e29b-41d4-a716-446655440000"}', "payload: required, but missing"),
    ('{"payload":}', "not JSON: invalid character (byte 11)"),
    ('{"payload":1}{}', "not JSON: trailing characters (byte 14)"),
    ('{"payload":1,"id":5}', "id: expected a string, got 5"),
    ('{"payload":1,"id":null}', "id: expected a string, got null"),
    ('{"payload":1,"id":"x"}', "id: expected a UUID (8-4-4-4-12 hex digits), got 'x'"),
    ('{"payload":1,"ttl_sec":0}', "ttl_sec: expected a number > 0.0, got 0"),
    ('{"payload":1,"ttl_sec":"5"}', "ttl_sec: expected a number, got '5'"),
    ('{"payload":1,"expect_seq":-1}', "expect_seq: expected a whole number >= 0, got -1"),
    ('{"payload":1,"expect_seq":1.5}', "expect_seq: expected a whole number, got 1.5"),
    ('{"payload":%s}' % ("[" * 600 + "]" * 600), "payload: expected at most 512 levels of nesting"),
    ('{"payload":%s}' % ("9" * 5000), "payload: expected numbers of at most 4300 digits"),
    ("[]", "the list: expected 1 to 1000 messages, got 0"),
    (f"[{','.join([GOOD] * 1001)}]", "the list: expected 1 to 1000 messages, got 1001"),
    (f"[{GOOD},3]", "[1]: expected a JSON object, got 3"),
    (f"[[{GOOD}]]", "[0]: expected a JSON object, got [{'\"payload\":1'}]".replace("'", "")),
    (f"[{GOOD},{GOOD},{{}}]", "[2].payload: required, but missing"),
    (f'[{GOOD},{{"payload":1,"id":7}}]', "[1].id: expected a string, got 7"),
    (f'[{GOOD},{{"payload":1,"id":"7"}}]', "[1].id: expected a UUID (8-4-4-4-12 hex digits), got '7'"),
    (f'[{GOOD},{{"payload":1,"ttl_sec":-1}},{{}}]', "[1].ttl_sec: expected a number > 0.0, got -1"),
    (f'[{GOOD},{{"payload":{"[" * 600 + "]" * 600}}}]', "[1].payload: expected at most 512 levels of nesting"),
    (f"[{GOOD},]", "not JSON: trailing comma in array (byte 15)"),
    (f"[{GOOD}", "not JSON: Input data was truncated"),
]


@pytest.mark.parametrize(("body", "told"), BAD, ids=[ascii(body[:32]) for body, _ in BAD])
@on_one_loop
async def test_a_bad_body_is_refused_whole_and_says_where(server: Server, body: str, told: str) -> None:
    assert await ask(server, "POST", PATH, body.encode()) == (400, {"error": told})
    assert (await server.get("/topics/orders"))["seq"] == 0


@pytest.mark.parametrize("body", [b"\xff", b'{"payload":"\xff"}', b'[{"payload":"\\ud800"}]'], ids=ascii)
@on_one_loop
async def test_what_is_no_text_is_refused(server: Server, body: bytes) -> None:
    status, answer = await ask(server, "POST", PATH, body)
    assert status == 400
    assert answer.keys() == {"error"}
    assert (await server.get("/topics/orders"))["seq"] == 0


@on_one_loop
async def test_a_body_has_the_limit_of_every_message() -> None:
    async with run_server(max_message_bytes=4096) as server:
        await server.create("orders")
        body = json.dumps([{"payload": "x" * 100}] * 30)
        assert (await ask(server, "POST", PATH, body.ljust(4096).encode()))[0] == 200
        assert (await ask(server, "POST", PATH, body.ljust(4097).encode()))[0] == 413
        assert (await server.get("/topics/orders"))["seq"] == 30


@on_one_loop
async def test_a_list_of_the_limit_is_published(server: Server) -> None:
    answer = await publish(server, [{"payload": number} for number in range(1000)])
    assert answer["seq"] == list(range(1, 1001))
    assert len(set(answer["id"])) == 1000


@on_one_loop
async def test_unknown_fields_are_ignored_as_over_the_websocket(server: Server) -> None:
    assert (await publish(server, {"payload": 1, "seq": 9, "topic": "trades", "message": {}}))["seq"] == 1


@on_one_loop
async def test_no_topic_no_publish(server: Server) -> None:
    for body in ({"payload": 1}, [{"payload": 1}]):
        assert await ask(server, "POST", "/topics/none/messages", body) == (404, {"error": "topic not found"})
        assert (await ask(server, "POST", "/topics/a..b/messages", body))[0] == 400


@on_one_loop
async def test_a_rule_may_create_the_topic(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('[{"pattern":"room.*","create":true,"options":{"history":7}}]')
    async with run_server(topic_rules_file=str(rules)) as server:
        path = "/topics/room.1/messages"
        status, answer = await ask(server, "POST", path, {"payload": 1, "expect_seq": 3})
        assert (status, answer["error"]) == (409, "expect_seq: expected 3, but the seq of the topic is 0")
        status, answer = await ask(server, "POST", path, [{"payload": 1, "expect_seq": 3}, {"payload": 2}])
        assert (status, answer["error"][:14]) == (409, "[0].expect_seq")
        assert await server.get("/topics") == {"topics": []}
        status, answer = await ask(server, "POST", path, [{"payload": 1}, {"payload": 2}])
        assert (status, answer["seq"]) == (200, [1, 2])
        assert (await server.get("/topics/room.1"))["options"]["history"] == 7
        assert (await ask(server, "POST", "/topics/hall.1/messages", {"payload": 1}))[0] == 404


@on_one_loop
async def test_large_payloads_are_checked_in_slices(server: Server) -> None:
    """Other clients are served between two slices: here between two messages."""
    served = 0

    async def serve_others() -> None:
        nonlocal served
        while True:
            served += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(serve_others())
    message = NewMessage(payload=Raw(b'"%b"' % (b"x" * CHECKED_AT_ONCE)))
    assert len(await make_publishes("orders", [message] * 20)) == 20
    assert served >= 20
    others.cancel()


# Rights and rates


@on_one_loop
async def test_who_may_publish() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        await ask(server, "POST", "/topics", {"name": "orders"}, headers=ADMIN)
        for headers, expected in (
            ({}, 401),
            ({"X-API-Key": "wrong"}, 401),
            ({"X-API-Key": "board-key"}, 403),
            (bearer(make_token(subscribe=["orders"])), 403),
            (bearer(make_token(admin=True)), 403),
            (bearer(make_token(publish=["trades"])), 403),
            (bearer(make_token(publish=["order"])), 403),
            (bearer(make_token(publish=["orders"])), 200),
            (bearer(make_token(publish=["*"])), 200),
            ({"X-API-Key": "shop-key"}, 200),
            (ADMIN, 200),
        ):
            for body in ({"payload": 1}, [{"payload": 1}]):
                assert (await ask(server, "POST", PATH, body, headers=headers))[0] == expected, headers
        stranger = bearer(make_token(publish=["trades"]))
        told = [await ask(server, "POST", f"/topics/{name}/messages", {"payload": 1}, headers=stranger)
                for name in ("orders", "no-topic")]  # fmt: skip
        assert told[0][1]["error"].replace("orders", "no-topic") == told[1][1]["error"]
        assert (await ask(server, "GET", "/topics/orders", headers=ADMIN))[1]["seq"] == 8


@on_one_loop
async def test_a_publisher_is_known_by_its_key_or_token() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        await ask(server, "POST", "/topics", {"name": "orders", "sender": True}, headers=ADMIN)
        await publish(server, {"payload": 1, "from": "mallory"}, {"X-API-Key": "shop-key"})
        await publish(server, [{"payload": 2}], bearer(make_token("alice", publish=["orders"])))
        _, kept = await ask(server, "GET", f"{PATH}?last_n=2", headers=ADMIN)
        assert [event["from"] for event in kept["messages"]] == ["shop", "alice"]


@on_one_loop
async def test_each_message_of_a_list_counts_for_the_rate() -> None:
    async with run_server(rate_limit_msgs_per_sec=0.001, rate_limit_burst=10) as server:
        for name in ("orders", "trades"):
            server.app[BROKER].create_topic(name)
        too_many = await ask(server, "POST", PATH, [{"payload": 1}] * 11)
        assert too_many == (429, {"error": "the rate allows lists of at most 10 messages, got 11"})
        assert (await publish(server, [{"payload": 1}] * 8))["seq"] == list(range(1, 9))
        async with server.http.post(PATH, json=[{"payload": 1}] * 2) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) > 0
        assert server.app[BROKER].topic("orders").seq == 8


# Durable topics


@pytest.fixture
async def durable(tmp_path: Path) -> AsyncIterator[Server]:
    async with run_server(data_dir=str(tmp_path)) as server:
        await ask(server, "POST", "/topics", {"name": "orders", "durable": True})
        await server.create("memory")
        yield server


@on_one_loop
async def test_a_durable_message_is_answered_once_it_is_stored(
    durable: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await publish(durable, {"payload": 1}))["seq"] == 1
    disk = StillDisk(monkeypatch, Writer, "write")
    asking = asyncio.create_task(ask(durable, "POST", PATH, [{"payload": 2}, {"payload": 3}]))
    await eventually(disk.asked.is_set)
    assert (await ask(durable, "POST", "/topics/memory/messages", {"payload": 1}))[0] == 200
    assert (await durable.get("/topics/orders"))["seq"] == 1
    assert not asking.done()
    disk.works.set()
    status, answer = await asking
    assert (status, answer["seq"]) == (200, [2, 3])


@on_one_loop
async def test_what_cannot_be_stored_is_a_503(durable: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(Store, "insert", fail)
        for body in ({"payload": 1}, [{"payload": 1}, {"payload": 2}]):
            assert (await ask(durable, "POST", PATH, body))[0] == 503
    assert (await publish(durable, [{"payload": 1}]))["seq"] == [1]


async def test_a_full_journal_makes_publishers_wait(durable: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = StillDisk(monkeypatch, Writer, "write")
    body = {"payload": "x" * 900_000}
    asking = [asyncio.create_task(ask(durable, "POST", PATH, body)) for _ in range(30)]
    journal = durable.app[BROKER].durable_journal
    assert journal is not None
    await eventually(lambda: journal.full)
    assert (await ask(durable, "POST", "/topics/memory/messages", [{"payload": 1}]))[0] == 200
    disk.works.set()
    answers = [await each for each in asking]
    assert {status for status, _ in answers} == {200}
    assert sorted(answer["seq"] for _, answer in answers) == list(range(1, 31))


# Purging


@on_one_loop
async def test_purge_forgets_what_is_kept(server: Server) -> None:
    server.publish_locally("orders", list(range(15)))
    before = await server.get("/topics/orders")
    assert await ask(server, "DELETE", PATH) == (200, {"status": "purged", "topic": "orders", "messages": 10})
    after = await server.get("/topics/orders")
    assert after == before | {"bytes": 0}
    answer = await read(server, "last_n=5")
    assert (answer["messages"], answer["complete"], answer["epoch"]) == ([], False, before["epoch"])
    assert await ask(server, "DELETE", PATH) == (200, {"status": "purged", "topic": "orders", "messages": 0})
    assert (await publish(server, {"payload": 1}))["seq"] == 16
    assert await ask(server, "DELETE", "/topics/none/messages") == (404, {"error": "topic not found"})


@on_one_loop
async def test_purge_forgets_what_is_on_disk(durable: Server) -> None:
    await publish(durable, [{"payload": number} for number in range(200)])
    assert await ask(durable, "DELETE", PATH) == (200, {"status": "purged", "topic": "orders", "messages": 100})
    assert (await read(durable, "after=0"))["messages"] == []
    assert (await publish(durable, {"payload": 1}))["seq"] == 201


@on_one_loop
async def test_only_admins_purge() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        await ask(server, "POST", "/topics", {"name": "orders"}, headers=ADMIN)
        for headers, expected in (
            ({}, 401),
            ({"X-API-Key": "board-key"}, 403),
            ({"X-API-Key": "shop-key"}, 403),
            (bearer(make_token(subscribe=["orders"], publish=["orders"])), 403),
            (bearer(make_token(admin=True)), 200),
            (ADMIN, 200),
        ):
            assert (await ask(server, "DELETE", PATH, headers=headers))[0] == expected, headers


# Reading


async def read(server: Server, query: str) -> Json:
    status, answer = await ask(server, "GET", f"{PATH}?{query}")
    assert status == 200, answer
    return answer


def seqs(answer: Json) -> list[int]:
    return [event["seq"] for event in answer["messages"]]


@on_one_loop
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


@on_one_loop
async def test_no_topic_no_messages(server: Server) -> None:
    assert await ask(server, "GET", "/topics/none/messages?last_n=1") == (404, {"error": "topic not found"})
    status, answer = await ask(server, "GET", "/topics/a..b/messages?last_n=1")
    assert status == 400
    assert answer.keys() == {"error"}


@on_one_loop
async def test_an_answer_has_a_limit_in_bytes(server: Server) -> None:
    server.publish_locally("orders", ["x" * 1_000_000] * 10)
    status, answer = await ask(server, "GET", f"{PATH}?last_n=10")
    assert status == 429
    assert "ask for about 8 messages" in answer["error"]
    assert seqs(await read(server, "last_n=8")) == list(range(3, 11))


@on_one_loop
async def test_messages_on_disk_are_read_too(tmp_path: Path) -> None:
    async with run_server(ring_buffer_size=5, data_dir=str(tmp_path)) as server:
        await ask(server, "POST", "/topics", {"name": "orders", "durable": True, "history": 1000})
        async with server.client() as client:
            for number in range(40):
                await client.publish("orders", number)
        assert seqs(await read(server, "after=3&limit=30")) == list(range(4, 34))
        assert seqs(await read(server, "last_n=40")) == list(range(1, 41))


@on_one_loop
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


@on_one_loop
async def test_a_filter_chooses_what_is_read(server: Server) -> None:
    await publish(server, [{"payload": {"amount": number, "currency": "EU"[number % 2]}} for number in range(8)])
    assert seqs(await read(server, "last_n=2&filter=payload.amount%3C5")) == [4, 5]
    params = quote('{"currency":"U"}')
    answer = await read(server, f"after=0&limit=3&filter=payload.currency%3D%3Dparams.currency&params={params}")
    assert (seqs(answer), answer["complete"]) == ([2, 4, 6], True)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("filter=payload.amount+%3E", "filter: "),
        ("filter=1", "filter: "),
        ("filter=" + "x" * 513, "filter: "),
        ("params={}", "params: expected beside a filter"),
        ("filter=true&params=5", "params: expected an object"),
        ("filter=true&params={", "params: expected an object"),
        ("filter=true&params=%ff", "params: expected an object"),
        ("filter=true&filter=false", "'filter': expected once"),
    ],
    ids=ascii,
)
@on_one_loop
async def test_a_wrong_filter_is_refused_by_name(server: Server, query: str, told: str) -> None:
    status, answer = await ask(server, "GET", f"{PATH}?last_n=1&{query}")
    assert status == 400
    assert answer["error"].startswith(told)


@on_one_loop
async def test_the_filter_of_a_token_holds_for_what_is_read() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        await ask(server, "POST", "/topics", {"name": "orders"}, headers=ADMIN)
        await publish(server, [{"payload": {"tenant": "acme" if seq % 3 else "other"}} for seq in range(1, 10)], ADMIN)
        alice = bearer(make_token(subscribe=["orders"], filters={"*": "payload.tenant == 'acme'"}))
        for query, expected in (
            ("after=0", [1, 2, 4, 5, 7, 8]),
            ("after=2&limit=2", [4, 5]),
            ("last_n=3", [5, 7, 8]),
            ("last_n=3&filter=true", [5, 7, 8]),
            ("last_n=3&filter=payload.tenant=='other'", []),
            ("last_n=3&filter=payload.tenant=='acme'||true", [5, 7, 8]),
        ):
            status, answer = await ask(server, "GET", f"{PATH}?{query}", headers=alice)
            assert (status, seqs(answer)) == (200, expected), query
        _, all_of_it = await ask(server, "GET", f"{PATH}?after=0", headers=ADMIN)
        assert len(all_of_it["messages"]) == 9


@on_one_loop
async def test_publishers_wait_for_filters(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Callable[[], None]] = []
    monkeypatch.setattr(Broker, "filters_busy", property(lambda _: not waiting))
    monkeypatch.setattr(Broker, "call_when_filtered", lambda _, callback: waiting.append(callback))
    asking = asyncio.create_task(ask(server, "POST", PATH, {"payload": 1}))
    await eventually(lambda: bool(waiting))
    assert (await server.get("/topics/orders"))["seq"] == 0
    waiting[0]()
    assert (await asking)[0] == 200
