"""The asynchronous client with real servers: it connects, publishes, subscribes and resumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest
from msgspec import Raw

from pubsub.client import (
    BadRequest,
    Client,
    Event,
    OutgoingFull,
    PayloadError,
    Position,
    Presence,
    PresentClient,
    Published,
    State,
    StateChange,
    Subscription,
    TopicExists,
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


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"max_outgoing": 0}, "max_outgoing: expected at least 1, got 0"),
        ({"max_incoming": -1}, "max_incoming: expected at least 1, got -1"),
        ({"answer_timeout": 0}, "answer_timeout: expected seconds above 0, got 0"),
        ({"heartbeat": float("nan")}, "heartbeat: expected seconds above 0, got nan"),
        ({"api_key": "a\r\nb"}, "api_key: expected printable ASCII characters"),
    ],
)
def test_options_that_are_out_of_range(option: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Client("http://localhost", **option)


async def test_outgoing_publishes_have_a_limit(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url, max_outgoing=2, when_full="raise") as client:
        publishing = [asyncio.create_task(client.publish("orders", number)) for number in range(3)]
        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        assert isinstance(outcomes[2], OutgoingFull)
        assert [each.seq for each in outcomes if isinstance(each, Published)] == [1, 2]
        assert len(await client.publish_many("orders", range(10))) == 10  # these wait for each other


async def test_a_list_ends_with_its_first_failure(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url) as client:
        with pytest.raises(PayloadError, match="payload: expected what can be written as JSON"):
            await client.publish_many("orders", [1, object(), 3])
        with pytest.raises(TopicNotFound) as raised:
            await client.publish_many("none", range(100))
        assert raised.value.index == 0
        assert (await client.topic("orders")).seq == 1
        assert await client.publish_many("orders", []) == []


async def test_a_list_that_is_cancelled_is_not_sent_on(server: Server) -> None:
    await server.create("orders")
    async with Client(server.url, max_outgoing=1) as client:
        publishing = asyncio.create_task(client.publish_many("orders", range(1000)))
        async with asyncio.timeout(PATIENCE):
            while not (await client.topic("orders")).seq:
                pass
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        seq = (await client.publish("orders", "last")).seq
        assert seq < 1000


async def test_questions_about_a_topic(server: Server) -> None:
    async with Client(server.url, client_id="alice") as client:
        await client.create_topic("room", presence=True, history=5000)
        with pytest.raises(TopicExists, match="topic already exists"):
            await client.create_topic("room")
        await client.publish_many("room", range(2500))
        whole = await client.history("room", limit=10_000)
        assert [event.payload for event in whole.events] == list(range(2500))
        assert whole.complete
        some = await client.history("room", after=10, limit=1200, type=int)
        assert [event.payload for event in some.events] == list(range(10, 1210))
        assert [event.payload for event in (await client.history("room", last_n=3)).events] == [2497, 2498, 2499]
        async with client.subscribe("room"):
            assert await client.presence("room") == Presence("room", 1, [PresentClient("alice", 1)])
        assert (await client.topic("room")).options["presence"] is True
        assert [each.name for each in await client.topics("ro")] == ["room"]
        assert await client.purge("room") == 2500
        assert not (await client.history("room")).complete
        await client.delete_topic("room")
        for question in (client.history("room"), client.presence("room"), client.topic("room"), client.purge("room")):
            with pytest.raises(TopicNotFound):
                await question
        assert await client.ping() > 0
