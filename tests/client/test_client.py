"""The asynchronous client with real servers: it connects, publishes, subscribes and resumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest
from msgspec import Raw

from pubsub.client import (
    BadRequest,
    Client,
    Event,
    Position,
    State,
    StateChange,
    Subscription,
    TopicNotFound,
    Unreachable,
)
from tests.harness import PATIENCE, Server, free_port, run_server

T = TypeVar("T")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server() as running:
        yield running


async def take(events: Subscription[T], count: int) -> list[Event[T]]:
    """Take the next items, which have to be events."""
    taken: list[Event[T]] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            item = await anext(events)
            assert isinstance(item, Event), item
            taken.append(item)
    return taken


async def test_what_is_published_is_received(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url, client_id="alice") as client:
        assert (client.state, client.client_id) == (State.OPEN, "alice")
        async with client.subscribe("orders") as events:
            published = await client.publish("orders", {"amount": 5})
            (event,) = await take(events, 1)
            assert (event.topic, event.seq, event.id, event.payload) == ("orders", 1, published.id, {"amount": 5})
            assert events.position == {"orders": Position(event.epoch, 1)}
    assert client.state is State.CLOSED


async def test_many_are_published_in_order(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url) as client, client.subscribe("orders", type=int) as events:
        published = await client.publish_many("orders", range(300))
        assert [each.seq for each in published] == list(range(1, 301))
        assert [event.payload for event in await take(events, 300)] == list(range(300))


async def test_a_later_subscription_resumes(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url) as client:
        async with client.subscribe("orders") as events:
            await client.publish_many("orders", [1, 2, 3])
            await take(events, 2)
            position = events.position
        await client.publish("orders", 4)
        async with client.subscribe("orders", resume={"orders": position["orders"].to_json()}) as events:
            assert [event.payload for event in await take(events, 2)] == [3, 4]


async def test_a_topic_that_does_not_exist(server: Server) -> None:
    async with Client(server.url) as client:
        with pytest.raises(TopicNotFound, match="'orders' does not exist"):
            await client.publish("orders", 1)
        with pytest.raises(TopicNotFound, match="'orders' does not exist"):
            async with client.subscribe("orders"):
                pass


async def test_one_attempt_to_connect() -> None:
    changes: list[StateChange] = []
    with pytest.raises(Unreachable, match=r"^cannot reach http://127.0.0.1:\d+: Connection refused$"):
        async with Client(f"http://127.0.0.1:{free_port()}", connect_timeout=0, on_state=changes.append):
            pass
    assert changes[0].state is State.CLOSED, "it has not tried again"


async def test_one_attempt_is_enough(server: Server) -> None:
    async with Client(server.url, connect_timeout=0) as client:
        assert client.state is State.OPEN


async def test_error_of_many_has_the_index_of_the_first(server: Server) -> None:
    await server.create("orders")
    deep = Raw(b"[" * 600 + b"]" * 600)
    async with Client(server.url) as client:
        with pytest.raises(BadRequest) as refused:
            await client.publish_many("orders", [1, 2, deep, deep, 3])
        assert refused.value.index == 2
        assert [event.payload for event in (await client.history("orders")).events][:2] == [1, 2]


async def test_history_has_payloads_of_a_type(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url) as client:
        await client.publish("orders", Raw(b"1.50"))
        (raw,) = (await client.history("orders", last_n=1, type=Raw)).events
        assert bytes(raw.payload) == b"1.50"


async def test_ping_is_answered(server: Server) -> None:
    async with Client(server.url) as client:
        assert 0 < await client.ping() < PATIENCE
