"""Section 10 of the contract over real sockets: who is in a topic, and what its subscribers are told of others."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.credentials import bearer, make_token
from tests.harness import Client, Json, RawClient, Server, on_one_loop, run_server
from tests.http.test_rules import serve
from tests.websocket.test_authentication import authenticate, code, connected, guarded


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes away has left soon."""
    monkeypatch.setattr("pubsub.core.presence.AWAY", 0.05)


def info(msg: str, client_id: str, topic: str = "room.1") -> Json:
    return {"type": "info", "topic": topic, "msg": msg, "client_id": client_id}


async def receive(client: Client) -> Json:
    message = await client.receive()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", message.pop("ts"))
    return message


async def present(client: Client, topic: str = "room.1") -> Json:
    answer = await client.ask({"type": "presence", "topic": topic})
    assert answer["type"] == "presence", answer
    return {each["client_id"]: each["connections"] for each in answer["clients"]}


async def enter(client: Client, name: str, topic: str = "room.1") -> None:
    await client.subscribe(topic, client_id=name)


async def test_clients_join_and_leave(impatient: None) -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("room.1", presence=True)
        await enter(alice, "alice")
        async with server.client("bob") as bob:
            await enter(bob, "bob")
            assert await receive(alice) == info("joined", "bob")
            await alice.send({"type": "presence", "topic": "room.1", "request_id": "p1"})
            assert await receive(alice) == {
                "type": "presence",
                "request_id": "p1",
                "topic": "room.1",
                "count": 2,
                "clients": [{"client_id": "alice", "connections": 1}, {"client_id": "bob", "connections": 1}],
            }
            assert bob.others == []
        assert await receive(alice) == info("left", "bob")
        assert await present(alice) == {"alice": 1}


async def test_a_client_that_comes_back_has_not_left() -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("room.1", presence=True)
        await enter(alice, "alice")
        for _ in range(3):
            async with server.client("bob") as bob:
                await enter(bob, "bob")
        async with server.client("carol") as carol:
            await enter(carol, "carol")
            assert [await receive(alice), await receive(alice)] == [info("joined", "bob"), info("joined", "carol")]
            assert (await present(carol)).keys() == {"alice", "bob", "carol"}


@on_one_loop
async def test_every_way_to_go_is_told(impatient: None) -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("room.1", presence=True)
        await enter(alice, "alice")

        async def told(name: str) -> None:
            assert [await receive(alice), await receive(alice)] == [info("joined", name), info("left", name)]

        async with server.client("bob") as bob:
            await enter(bob, "bob", "room.*")
            await bob.ask({"type": "unsubscribe", "topic": "room.*", "client_id": "bob"})
            await told("bob")
        raw = await RawClient.connect(server.port, path="/ws?client_id=cut")
        await raw.subscribe("room.1")
        raw.reset()
        await told("cut")
        async with server.client("dave") as dave:
            await enter(dave, "dave")
            async with server.http.delete("/clients/dave") as response:
                assert response.status == 200
            assert await dave.closed() == 4403
        await told("dave")


@on_one_loop
async def test_a_connection_has_the_name_that_it_takes_with_its_first_subscribe() -> None:
    async with run_server() as server, server.client("alice") as alice, server.client(None) as other:
        await server.create("room.1", presence=True)
        await enter(alice, "alice")
        await other.ask({"type": "presence", "topic": "room.1"})
        await enter(other, "erin")
        await enter(other, "frank", "room.*")
        assert await receive(alice) == info("joined", "erin")
        assert await present(other) == {"alice": 1, "erin": 1}


@on_one_loop
async def test_filters_do_not_apply() -> None:
    async with run_server() as server, server.client("alice") as alice, server.client("bob") as bob:
        await server.create("room.1", presence=True)
        await alice.subscribe("room.1", client_id="alice", filter="payload == 1")
        await enter(bob, "bob")
        assert await receive(alice) == info("joined", "bob")


@on_one_loop
async def test_the_end_of_a_topic_and_of_the_server_are_told_and_nothing_else() -> None:
    async with run_server() as server, server.client("alice") as alice, server.client("bob") as bob:
        await server.create("room.1", "room.2", presence=True)
        for client, name in ((alice, "alice"), (bob, "bob")):
            await enter(client, name, "room.*")
        joined = sorted([await receive(alice), await receive(alice)], key=lambda told: told["topic"])
        assert joined == [info("joined", "bob", f"room.{number}") for number in (1, 2)]
        async with server.http.delete("/topics/room.1") as response:
            assert response.status == 200
        for client in (alice, bob):
            assert (await receive(client))["msg"] == "topic_deleted"
        await asyncio.gather(server.runner.cleanup(), alice.closed(), bob.closed())
        assert [message["msg"] for message in alice.others + bob.others] == ["draining", "draining"]


@on_one_loop
async def test_a_rule_gives_topics_presence(tmp_path: Path) -> None:
    rules = [{"pattern": "room.*", "create": True, "options": {"presence": True}}]
    async with serve(tmp_path, rules) as server, server.client("alice") as alice, server.client("bob") as bob:
        await enter(alice, "alice")
        await enter(bob, "bob")
        assert await receive(alice) == info("joined", "bob")
        assert await present(bob) == {"alice": 1, "bob": 1}


# With authentication


async def guarded_room(server: Server) -> None:
    async with server.http.post(
        "/topics", json={"name": "room.1", "presence": True}, headers=bearer(make_token("ops", admin=True))
    ) as response:
        assert response.status == 201


@on_one_loop
async def test_with_authentication_a_client_is_who_it_is() -> None:
    async with guarded() as server, connected(server, make_token("alice", subscribe=["room.*"])) as alice:
        await guarded_room(server)
        await enter(alice, "alice")
        async with connected(server, make_token("bob", subscribe=["room.1"])) as bob:
            forged = await bob.ask({"type": "subscribe", "topic": "room.1", "client_id": "carol"})
            assert code(forged) == "FORBIDDEN"
            await enter(bob, "bob")
            assert await receive(alice) == info("joined", "bob")
            assert await present(bob) == {"alice": 1, "bob": 1}
        async with connected(server, make_token("dave", subscribe=["other"], publish=["room.1"])) as dave:
            for topic in ("room.1", "room.2"):
                assert code(await dave.ask({"type": "presence", "topic": topic})) == "FORBIDDEN"
            assert code(await dave.ask({"type": "presence", "topic": "room.*"})) == "BAD_REQUEST"


@on_one_loop
async def test_who_may_no_longer_subscribe_leaves_and_a_renewal_that_changes_nothing_is_not_told(
    impatient: None,
) -> None:
    async with guarded() as server, connected(server, make_token("alice", subscribe=["room.*"])) as alice:
        await guarded_room(server)
        await enter(alice, "alice")
        async with connected(server, make_token("bob", subscribe=["room.*", "x"])) as bob:
            await enter(bob, "bob", "room.*")
            assert await receive(alice) == info("joined", "bob")
            for rights in (["room.*", "x"], ["room.*"], ["room.1"]):
                assert (await authenticate(bob, make_token("bob", subscribe=rights)))["type"] == "ack"
                await bob.sync()
                assert await present(bob) == {"alice": 1, "bob": 1}
            await authenticate(bob, make_token("bob", subscribe=["x"]))
            assert await receive(alice) == info("left", "bob")
            assert await present(alice) == {"alice": 1}
