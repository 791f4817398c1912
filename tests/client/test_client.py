"""The asynchronous client with real servers: it connects, publishes, subscribes and resumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from pubsub.client import Client, Event, Position, State, Subscription, TopicNotFound
from tests.harness import PATIENCE, Server, run_server

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
