"""Tokens on a WebSocket: the first message, renewal, expiry, permissions for topics, rates; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.auth.test_tokens import BAD_TOKENS
from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.harness import (
    Client,
    Json,
    RawClient,
    Server,
    ServerProcess,
    eventually,
    new_id,
    on_one_loop,
    publish_request,
    run_server,
)


@contextlib.asynccontextmanager
async def guarded(*topics: str, **settings: Any) -> AsyncIterator[Server]:
    """Run a server that requires tokens, with topics."""
    async with run_server(jwt_secret=SECRET, **settings) as server:
        for topic in topics:
            headers = bearer(make_token("ops", admin=True))
            async with server.http.post("/topics", json={"name": topic}, headers=headers) as response:
                assert response.status == 201
        yield server


@contextlib.asynccontextmanager
async def connected(server: Server, token: str) -> AsyncIterator[Client]:
    async with server.http.ws_connect(f"/ws?token={token}", autoping=False, max_msg_size=0) as websocket:
        yield Client(websocket)


async def authenticate(client: Client, token: str) -> Json:
    return await client.ask({"type": "auth", "token": token})


def code(answer: Json) -> str | None:
    return answer["error"]["code"] if answer["type"] == "error" else None


async def test_the_first_message_says_who_it_is() -> None:
    async with guarded("a") as server, server.client(None) as client:
        ack = await authenticate(client, make_token(subscribe=["a"], publish=["a"]))
        assert ack == {"type": "ack", "request_id": "ask-1", "status": "ok", "ts": ack["ts"]}
        await client.subscribe("a", client_id="alice")
        await client.publish("a", 1)


async def test_what_is_sent_behind_it_waits_for_it() -> None:
    async with guarded("a") as server:
        client = await RawClient.connect(server.port, path="/ws")
        await client.send_text({"type": "auth", "token": make_token(publish=["a"])})
        for payload in range(3):
            await client.send_text(publish_request("a", payload))
        assert [(await client.receive())["type"] for _ in range(4)] == ["ack"] * 4


@pytest.mark.parametrize(
    "first",
    [{"type": "ping"}, {"type": "subscribe", "topic": "a", "client_id": "alice"}, {"type": "auth"}, "{", "[]", b"\0"]
    + [{"type": "auth", "token": token} for token in (7, ["eyJhbGciOiJIUzI1NiJ9"])],
)
@on_one_loop
async def test_anything_else_ends_it(first: Any) -> None:
    async with guarded("a") as server, server.client(None) as client:
        if isinstance(first, bytes):
            await client.websocket.send_bytes(first)
        else:
            await client.send(first)
        assert await client.closed() == 4401
        assert [code(told) for told in client.others] == ["UNAUTHORIZED"]
        assert "eyJ" not in str(client.others)


IN_JSON = {name: bad for name, bad in BAD_TOKENS.items() if name != "lone surrogate"}  # JSON cannot hold it


@pytest.mark.parametrize(("token", "told"), IN_JSON.values(), ids=IN_JSON)
@on_one_loop
async def test_row_21_a_bad_token_ends_it(token: str, told: str) -> None:
    async with guarded() as server, server.client(None) as client:
        await client.send({"type": "auth", "token": token, "request_id": "r"})
        assert await client.closed() == 4401
        (error,) = client.others
        assert error["error"] == {"code": "UNAUTHORIZED", "message": told}
        assert error["request_id"] == "r"


async def test_who_says_nothing_is_sent_away() -> None:
    async with guarded(auth_wait_sec=0.3) as server, server.client(None) as client:
        began = time.monotonic()
        assert await client.closed() == 4401
        assert 0.25 < time.monotonic() - began < 2
        assert client.others[0]["error"] == {"code": "UNAUTHORIZED", "message": "token: missing"}


async def test_who_is_known_may_say_nothing() -> None:
    async with guarded(auth_wait_sec=0.1) as server, connected(server, make_token()) as client:
        await asyncio.sleep(0.5)
        await client.sync()


async def test_row_22_a_token_expires() -> None:
    async with guarded("a") as server:
        expires = time.time() + 1.2
        async with connected(server, make_token(exp=expires)) as client:
            assert await client.closed() == 4401
            assert -0.1 < time.time() - expires < 1
            assert client.others[0]["error"] == {"code": "UNAUTHORIZED", "message": "token: expired"}


async def test_row_22_a_new_token_keeps_it_open() -> None:
    async with guarded("a") as server, connected(server, make_token(exp=time.time() + 1.2)) as client:
        assert (await authenticate(client, make_token(publish=["a"])))["type"] == "ack"
        await asyncio.sleep(1.7)
        await client.publish("a", 1)


async def test_a_shorter_token_counts_too() -> None:
    async with guarded() as server, connected(server, make_token()) as client:
        await authenticate(client, make_token(exp=time.time() + 0.8))
        assert await client.closed() == 4401


async def test_a_bad_renewal_ends_it() -> None:
    async with guarded() as server, connected(server, make_token()) as client:
        await client.send({"type": "auth", "token": make_token(exp=1)})
        assert await client.closed() == 4401


async def test_a_renewal_of_someone_else_is_refused() -> None:
    async with guarded("a") as server, connected(server, make_token("alice", publish=["a"])) as client:
        assert code(await authenticate(client, make_token("bob"))) == "FORBIDDEN"
        await client.publish("a", 1)


async def test_a_name_in_the_url_must_be_ones_own() -> None:
    async with guarded() as server, server.client("bob") as client:
        assert code(await authenticate(client, make_token("alice"))) == "FORBIDDEN"
        assert (await authenticate(client, make_token("bob")))["type"] == "ack"


async def test_a_renewal_changes_rights_at_once() -> None:
    async with guarded("a", "b") as server, connected(server, make_token(subscribe=["*"], publish=["*"])) as client:
        for topic in ("a", "b"):
            await client.subscribe(topic, client_id="alice")
        await client.send({"type": "auth", "token": make_token(subscribe=["b"], publish=["b"]), "request_id": "r"})
        ack, info = await client.receive_many(2)
        assert (ack["type"], ack.get("topic")) == ("ack", None)
        assert info == {"type": "info", "topic": "a", "msg": "unsubscribed", "reason": "forbidden", "ts": info["ts"]}
        assert code(await client.ask(publish_request("a", 1))) == "FORBIDDEN"
        server.publish_locally("a", [1])
        await client.publish("b", 2)
        assert [each["topic"] for each in client.others] == ["b"]


def requests(topic: str, client_id: str = "alice") -> list[Json]:
    named = {"topic": topic, "client_id": client_id}
    return [
        {"type": "subscribe", **named},
        {"type": "subscribe", "last_n": 5, **named},
        {"type": "unsubscribe", **named},
        {"type": "history", "topic": topic, "last_n": 5},
        {"type": "history", "topic": topic, "after": 0},
        {"type": "publish", "topic": topic, "message": {"id": new_id(), "payload": 1}},
    ]


async def test_row_25_forbidden_is_said_before_anything_is_known() -> None:
    """The error text is the same for an existing topic and for an unknown one."""
    token = make_token(subscribe=["mine"], publish=["mine"])
    async with guarded("there", "mine") as server, connected(server, token) as client:
        for there, gone in zip(requests("there"), requests("gone"), strict=True):
            told = [(await client.ask(each))["error"] for each in (there, gone)]
            assert told[0]["code"] == "FORBIDDEN"
            assert told[0]["message"].replace("there", "gone") == told[1]["message"]
        for each in requests("mine"):
            assert code(await client.ask(each)) is None
        for each in requests("a..b"):
            assert code(await client.ask(each)) == "BAD_REQUEST"


async def test_subscribing_and_publishing_are_two_rights() -> None:
    async with guarded("a") as server:
        async with connected(server, make_token(subscribe=["a"])) as client:
            assert [code(await client.ask(each)) for each in requests("a")] == [None] * 5 + ["FORBIDDEN"]
        async with connected(server, make_token(publish=["a"])) as client:
            assert [code(await client.ask(each)) for each in requests("a")] == ["FORBIDDEN"] * 5 + [None]


async def test_a_foreign_client_id_is_forbidden() -> None:
    async with guarded("a") as server, connected(server, make_token(subscribe=["a"])) as client:
        for each in requests("a", client_id="bob")[:3]:
            assert code(await client.ask(each)) == "FORBIDDEN"


async def test_an_open_server_wants_no_token() -> None:
    async with run_server() as server, server.client() as client:
        assert code(await authenticate(client, make_token())) == "BAD_REQUEST"
        await client.sync()


async def test_row_36_a_flood_is_refused_then_ended() -> None:
    async with run_server(rate_limit_msgs_per_sec=1, rate_limit_burst=5) as server, server.client() as client:
        answers = [await client.ask({"type": "ping"}) for _ in range(6)]
        assert [each["type"] for each in answers] == ["pong"] * 5 + ["error"]
        assert code(answers[5]) == "RATE_LIMITED"
        assert 0 < answers[5]["error"]["retry_after_ms"] <= 1000
        for number in range(20):
            await client.send("nonsense" if number % 2 else {"type": "ping"})
        assert await client.closed() == 1008
        assert {code(each) for each in client.others} == {"RATE_LIMITED"}


async def test_row_36_a_client_has_one_rate_over_all_its_connections() -> None:
    async with guarded(rate_limit_msgs_per_sec=0.1, rate_limit_burst=2) as server:
        async with connected(server, make_token()) as one, connected(server, make_token()) as two:
            answers = [await each.ask({"type": "ping"}) for each in (one, two, one)]
            assert [code(each) for each in answers] == [None, None, "RATE_LIMITED"]
        async with connected(server, make_token("bob")) as bob:
            await bob.sync()


async def test_row_36_what_a_connection_has_drawn_and_not_used_is_its_client_s_again() -> None:
    """A connection takes ten requests at a time from a burst of 1,000."""
    async with guarded(rate_limit_msgs_per_sec=0.1, rate_limit_burst=1000) as server:
        for _ in range(150):
            async with connected(server, make_token()) as client:
                await client.sync()
            await eventually(lambda: server.connections == 0)
        async with connected(server, make_token()) as client:
            await client.sync()


async def test_a_stranger_cannot_spend_the_rate_of_others() -> None:
    async with guarded(rate_limit_msgs_per_sec=0.1, rate_limit_burst=1) as server:
        for _ in range(5):
            async with server.client("alice") as client:
                await client.send({"type": "ping"})
                await client.closed()
        async with connected(server, make_token("alice")) as client:
            await client.sync()


async def test_row_36_subscriptions_have_a_quota() -> None:
    async with run_server(max_subscriptions_per_connection=2) as server, server.client() as client:
        await server.create("a", "b", "c")
        for topic in ("a", "b", "a"):
            await client.subscribe(topic)
        error = await client.ask({"type": "subscribe", "topic": "c", "client_id": "tester"})
        assert error["error"] == {
            "code": "LIMIT_EXCEEDED",
            "message": "the connection has its 2 subscriptions (MAX_SUBSCRIPTIONS_PER_CONNECTION)",
        }
        await client.ask({"type": "unsubscribe", "topic": "a", "client_id": "tester"})
        await client.subscribe("c")


async def test_a_clients_connections_have_a_quota_for_the_first_message_too() -> None:
    async with guarded(max_connections_per_client=1) as server:
        async with connected(server, make_token()), server.client(None) as late:
            assert code(await authenticate(late, make_token())) == "LIMIT_EXCEEDED"
            assert (await authenticate(late, make_token("bob")))["type"] == "ack"
        await eventually(lambda: server.connections == 0)
        async with connected(server, make_token()) as client:
            assert (await authenticate(client, make_token()))["type"] == "ack"


async def test_a_name_in_the_url_is_no_second_connection() -> None:
    async with guarded(max_connections_per_client=1) as server, server.client("alice") as client:
        assert (await authenticate(client, make_token("alice")))["type"] == "ack"
        async with server.client("alice") as late:
            assert code(await authenticate(late, make_token("alice"))) == "LIMIT_EXCEEDED"


async def test_a_stranger_cannot_spend_the_connections_of_others() -> None:
    """The stranger has only given a client id, without a proof that the id is its own."""
    async with guarded(max_connections_per_client=1, auth_wait_sec=60) as server:
        async with server.client("alice"), server.client("alice"), connected(server, make_token("alice")) as alice:
            await alice.sync()
        await eventually(lambda: server.connections == 0)


async def test_bad_tokens_leave_nothing_behind() -> None:
    async with guarded(auth_wait_sec=60) as server:
        for _ in range(50):
            async with server.client(None) as client:
                await client.send({"type": "auth", "token": "x"})
                await client.closed()
        await eventually(lambda: server.connections == 0)


@on_one_loop
async def test_row_24_nothing_of_a_token_or_key_is_in_the_log_of_a_whole_process() -> None:
    """In all debug modes, the log contains no good or bad token, and no input that is not HTTP."""
    good, bad = make_token(subscribe=["a"], filler="swordfish"), f"{make_token()[:-9]}swordfish"
    secrets = {SECRET, "ops-key", "swordfish", good.split(".")[1], good.split(".")[2], bad.split(".")[1]}
    environment = {
        "JWT_SECRET": SECRET,
        "API_KEYS": API_KEYS,
        "MODE": "debug",
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONDEVMODE": "1",
    }
    head = (
        "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    answers = b""
    with ServerProcess(environment=environment) as server:

        async def say(text: str) -> None:
            nonlocal answers
            client = await RawClient.connect_tcp(server.port)
            await client.send(text.encode("utf-8", "surrogateescape"))
            answers += await client.read_some()
            client.close()

        for token in (good, bad):
            await say(f"GET /ws?token={token} HTTP/1.1\r\n{head}\r\n")
            await say(f"GET /ws?x=1&token={token}%ff&token={token} HTTP/1.1\r\n{head}\r\n")
            await say(f"GET /ws HTTP/1.1\r\n{head}Authorization: Bearer {token}\r\n\r\n")
            await say(f"GET /topics?token={token} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
            await say(f"GET /topics HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {token}\r\nX-API-Key: ops-key\r\n\r\n")
            for broken in ("\x00", "\n ", "\x7f", "\udcff", "swordfish" * 2000):
                await say(f"GET /ws HTTP/1.1\r\n{head}Authorization: Bearer {token}{broken}\r\n\r\n")
                await say(f"GET /ws?token={token}{broken} HTTP/1.1\r\n{head}\r\n")
                await say(f"GET /ws HTTP/1.1\r\n{head}Authorization {token}{broken}\r\n\r\n")
            client = await RawClient.connect(server.port, path="/ws")
            for each in (token, [token], bad):
                await client.send_text({"type": "auth", "token": each})
            assert await client.close_code() == 4401
        assert server.stop() == 0
    assert "Client connected: alice" in server.log
    assert "/ws?token=***" in server.log
    assert not [secret for secret in secrets if secret in server.log]
    assert not [secret for secret in secrets if secret.encode() in answers]
