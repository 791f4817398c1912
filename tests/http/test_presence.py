"""``GET /topics/{name}/presence``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.harness import Json, Server, on_one_loop, run_server
from tests.streams import Stream


async def ask(server: Server, path: str, headers: dict[str, str] | None = None) -> tuple[int, Json]:
    async with server.http.get(path, headers=headers) as response:
        return response.status, await response.json()


@on_one_loop
async def test_the_clients_of_a_topic() -> None:
    async with run_server() as server, server.client("bob") as bob, server.client("alice") as alice:
        await server.create("room.1", presence=True)
        assert await ask(server, "/topics/room.1/presence") == (200, {"topic": "room.1", "count": 0, "clients": []})
        for client in (alice, bob):
            await client.subscribe("room.*")
        async with server.client("alice") as again:
            await again.subscribe("room.1")
            assert await ask(server, "/topics/room.1/presence") == (
                200,
                {
                    "topic": "room.1",
                    "count": 2,
                    "clients": [{"client_id": "alice", "connections": 2}, {"client_id": "bob", "connections": 1}],
                },
            )


@on_one_loop
async def test_a_topic_without_presence_or_without_existence() -> None:
    async with run_server() as server:
        await server.create("plain")
        assert await ask(server, "/topics/plain/presence") == (
            400,
            {"error": "topic: 'plain' was created without the option presence"},
        )
        assert await ask(server, "/topics/nowhere/presence") == (404, {"error": "topic not found"})
        for wrong in ("*", "a.%3E", "a..b"):
            assert (await ask(server, f"/topics/{wrong}/presence"))[0] == 400


@on_one_loop
async def test_who_may_subscribe_may_ask() -> None:
    settings: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET}
    async with run_server(**settings) as server:
        body = {"name": "room.1", "presence": True}
        async with server.http.post("/topics", json=body, headers={"X-API-Key": "ops-key"}) as response:
            assert response.status == 201
        for key in ("ops-key", "shop-key", "board-key"):
            assert (await ask(server, "/topics/room.1/presence", {"X-API-Key": key}))[0] == 200
        for subscribe, status in ((["room.*"], 200), (["room.1"], 200), (["room.2"], 403), ([], 403)):
            token = bearer(make_token(subscribe=subscribe))
            assert (await ask(server, "/topics/room.1/presence", token))[0] == status
        assert (await ask(server, "/topics/room.1/presence"))[0] == 401


@pytest.mark.parametrize("path", ["/topics/room.1/events?client_id=alice", "/events?topic=room.*&client_id=alice"])
@on_one_loop
async def test_a_stream_is_a_connection_of_its_client(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.core.presence.AWAY", 0.05)
    async with run_server() as server:
        await server.create("room.1", presence=True)
        stream = await Stream.open(server.port, path)
        await stream.info("subscribed")
        async with server.client("bob") as bob:
            await bob.subscribe("room.1")
            joined = await stream.info("joined")
            assert joined == {
                "type": "info", "topic": "room.1", "msg": "joined", "client_id": "bob", "ts": joined["ts"]
            }  # fmt: skip
            answer = await bob.ask({"type": "presence", "topic": "room.1"})
            assert [each["client_id"] for each in answer["clients"]] == ["alice", "bob"]
            await bob.ask({"type": "unsubscribe", "topic": "room.1", "client_id": "bob"})
            assert (await stream.info("left"))["client_id"] == "bob"
            await bob.subscribe("room.1")
            stream.client.close()
            left = await bob.receive()
            assert (left["msg"], left["client_id"]) == ("left", "alice")
