"""Names of publishers in events, and publishes at an expected ``seq``, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.credentials import bearer, make_token
from tests.harness import Client, Server, on_one_loop, publish_request, run_server
from tests.websocket.test_authentication import connected, guarded


async def create(server: Server, headers: dict[str, str] | None = None, **options: Any) -> None:
    async with server.http.post("/topics", json={"name": "t"} | options, headers=headers) as response:
        assert response.status == 201, await response.text()


def senders(messages: list[Any]) -> list[str | None]:
    return [message.get("from") for message in messages]


async def test_events_name_their_publishers_live_replayed_and_in_the_history(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path)) as server:
        await create(server, sender=True, durable=True)
        async with server.client("alice") as alice, server.client("bob é\u2028") as bob:
            await alice.subscribe("t")
            await alice.publish("t", 1)
            await bob.ask(publish_request("t", 2) | {"from": "alice", "client_id": "alice"})
            events = [message for message in [*alice.others, await alice.receive()] if message["type"] == "event"]
    assert senders(events) == ["alice", "bob é\u2028"]
    async with run_server(data_dir=str(tmp_path)) as server, server.client("carol") as carol:
        assert senders((await carol.ask({"type": "history", "topic": "t", "after": 0}))["messages"]) == senders(events)
        await carol.subscribe("t", last_n=2)
        assert [await carol.receive(), await carol.receive()] == events


@on_one_loop
async def test_a_client_without_a_name_has_that_of_the_server_until_it_sends_one() -> None:
    async with run_server() as server, server.client(None) as client:
        await create(server, sender=True)
        await client.publish("t", 1)
        await client.subscribe("t", last_n=1, client_id="dave")
        await client.publish("t", 2)
        first, second = senders([message for message in client.others if message["type"] == "event"])
        assert first is not None
        assert first.startswith("client-")
        assert second == "dave"


@on_one_loop
async def test_with_tokens_nobody_has_the_name_of_another() -> None:
    async with guarded() as server:
        await create(server, bearer(make_token("ops", admin=True)), sender=True)
        token = make_token("alice", subscribe=["t"], publish=["t"])
        async with connected(server, token) as alice:
            await alice.subscribe("t", client_id="alice")
            await alice.ask(publish_request("t", 1) | {"from": "bob", "client_id": "bob"})
            error = await alice.ask({"type": "subscribe", "topic": "t", "client_id": "bob"})
            assert error["error"]["code"] == "FORBIDDEN"
            await alice.publish("t", 2)
            async with server.http.post(
                "/topics/t/messages", json={"payload": 3, "from": "bob"}, headers=bearer(token)
            ) as response:
                assert response.status == 200
            await alice.sync()
            events = [message for message in alice.others if message["type"] == "event"]
    assert senders(events) == ["alice"] * 3


@on_one_loop
async def test_a_conflict_tells_the_seq_of_the_topic_and_costs_the_client_nothing() -> None:
    async with run_server() as server, server.client("alice") as client:
        await create(server)
        await client.publish("t", 1)
        answer = await client.ask(publish_request("t", 2) | {"expect_seq": 0})
        assert answer["type"] == "error"
        assert answer["error"] == {
            "code": "CONFLICT",
            "message": "expect_seq: expected 0, but the seq of the topic is 1",
            "seq": 1,
        }
        assert (await client.ask(publish_request("t", 2) | {"expect_seq": 1}))["seq"] == 2


ROUNDS = 5
CLIENTS = 20


async def count_up(client: Client) -> None:
    """Add one to the value of the topic, ROUNDS times."""
    for _ in range(ROUNDS):
        answer: Any = {"type": "error"}
        while answer["type"] == "error":
            newest = (await client.ask({"type": "history", "topic": "t", "last_n": 1}))["messages"]
            seq, value = (newest[0]["seq"], newest[0]["message"]["payload"]) if newest else (0, 0)
            answer = await client.ask(publish_request("t", value + 1) | {"expect_seq": seq})
            assert answer["type"] == "ack" or answer["error"]["code"] == "CONFLICT", answer


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "durable"])
async def test_clients_that_change_one_value_at_once_lose_no_update(durable: bool, tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path)) as server:
        await create(server, history=1000, durable=durable)

        async def race(number: int) -> None:
            async with server.client(f"c{number}") as client:
                await count_up(client)

        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(race(number))
        async with server.client("reader") as reader:
            answer = await reader.ask({"type": "history", "topic": "t", "last_n": 1})
    assert [(event["seq"], event["message"]["payload"]) for event in answer["messages"]] == [
        (CLIENTS * ROUNDS, CLIENTS * ROUNDS)
    ]
