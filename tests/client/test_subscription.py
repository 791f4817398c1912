"""Subscriptions as users see them, with real servers: iteration, types, loading, overlaps, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import pydantic
import pytest
from aiohttp import web

from pubsub.client import Client, Event, Gap, Item, Notice, PayloadError, Position, Subscription, TopicNotFound
from tests.client.servers import next_request, scripted, send_ack, send_event, silent, transport_of
from tests.harness import PATIENCE, Server, eventually, on_one_loop, run_server

T = TypeVar("T")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server() as running:
        await running.create("t", "o.eu", "o.us")
        yield running


async def take(events: Subscription[T], count: int) -> list[Item[T]]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(events) for _ in range(count)]


def payloads(items: list[Item[T]]) -> list[T]:
    found = [item.payload for item in items if isinstance(item, Event)]
    assert len(found) == len(items), items
    return found


async def subscribers(client: Client, number: int) -> None:
    """Wait until the topic has so many subscribers."""
    async with asyncio.timeout(PATIENCE):
        while (await client.topic("t")).subscribers != number:
            pass


async def test_the_iteration_ends_with_the_subscription(server: Server) -> None:
    async with Client(server.url) as client:
        async with client.subscribe("t", last_n=3) as events:
            await client.publish_many("t", [1, 2])
            await events.close()
            await events.close()
            assert payloads([item async for item in events]) == [1, 2]
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_a_task_that_iterates_ends_when_the_client_is_closed(server: Server) -> None:
    async def listen(client: Client, found: list[Any]) -> None:
        async with client.subscribe("t") as events:
            found += [item async for item in events]

    found: list[Any] = []
    async with Client(server.url) as client:
        listening = asyncio.create_task(listen(client, found))
        await subscribers(client, 1)
        await client.publish("t", 1)
    async with asyncio.timeout(PATIENCE):
        await listening
    assert payloads(found) == [1]


async def test_an_iteration_that_is_cancelled_loses_nothing(server: Server) -> None:
    async with Client(server.url) as client, client.subscribe("t") as events:
        for number in range(20):
            waiting = asyncio.create_task(anext(events))
            await asyncio.sleep(0)
            publishing = asyncio.create_task(client.publish("t", number))
            for _ in range(number):
                await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
            await publishing
            await asyncio.wait([waiting])
            found = await anext(events) if waiting.cancelled() else waiting.result()
            assert payloads([found]) == [number]


async def test_a_subscribe_that_is_cancelled_leaves_no_subscription(server: Server) -> None:
    async with Client(server.url) as client:
        for turns in range(12):
            entering = asyncio.create_task(client.subscribe("t").__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            entering.cancel()
            events = (await asyncio.gather(entering, return_exceptions=True))[0]
            if isinstance(events, Subscription):
                await events.close()
            await subscribers(client, 0)
        async with client.subscribe("t") as again:
            await client.publish("t", 1)
            assert payloads(await take(again, 1)) == [1]


async def test_a_publish_that_is_cancelled_frees_its_place(server: Server) -> None:
    async with Client(server.url, max_outgoing=1) as client:
        for turns in range(8):
            publishing = asyncio.create_task(client.publish("t", turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        assert (await client.publish("t", "last")).seq <= 9


@pytest.mark.parametrize("number", [1, 2])
async def test_one_task_at_a_time_waits(server: Server, number: int) -> None:
    async with Client(server.url) as client, client.subscribe("t") as events:
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task already waits"):
            await anext(events)
        await client.publish("t", 1)
        assert payloads([await waiting]) == [1]


@on_one_loop
async def test_the_ways_not_to_use_it(server: Server) -> None:
    client = Client(server.url)
    with pytest.raises(RuntimeError, match="use a client in 'async with"):
        await client.publish("t", 1)
    with pytest.raises(RuntimeError, match="use a client in 'async with"):
        client.subscribe("t")
    async with client:
        events = client.subscribe("t")
        with pytest.raises(RuntimeError, match="use a subscription in 'async with"):
            await anext(events)
        with pytest.raises(RuntimeError, match="use a subscription in 'async with"):
            _ = events.position
        async with events:
            with pytest.raises(RuntimeError, match="can be entered once"):
                async with events:
                    pass
            with pytest.raises(RuntimeError, match="there is nothing to load"):
                await events.reload()
        with pytest.raises(RuntimeError, match="can be entered once"):
            async with events:
                pass
        with pytest.raises(RuntimeError, match="can be entered once"):
            async with client:
                pass
        with pytest.raises(ValueError, match="resume: expected positions by topic"):
            client.subscribe("t", resume={"t": {"seq": 1}})
        with pytest.raises(ValueError, match="resume and last_n have no effect"):
            client.subscribe("t", last_n=1, load=hang)
        with pytest.raises(TypeError):
            client.subscribe("t", type=3)


class Order(msgspec.Struct):
    amount: int


@dataclass
class PlainOrder:
    amount: int


class ModelOrder(pydantic.BaseModel):
    amount: int


@pytest.mark.parametrize("kind", [Order, PlainOrder, ModelOrder])
@on_one_loop
async def test_payloads_have_the_type_that_was_asked_for(server: Server, kind: type[Any]) -> None:
    async with Client(server.url) as client, client.subscribe("t", type=kind) as events:
        await client.publish("t", kind(amount=5))
        assert payloads(await take(events, 1)) == [kind(amount=5)]
        await client.publish_many("t", [{"amount": "many"}, {"amount": 7}])
        with pytest.raises(PayloadError, match="topic t, seq 2: ") as raised:
            await take(events, 1)
        assert raised.value.event is not None
        assert raised.value.event.seq == 2
        assert payloads(await take(events, 1)) == [kind(amount=7)]


async def test_a_state_is_loaded_behind_the_position_and_loaded_again(server: Server) -> None:
    stored: list[int] = []

    async with Client(server.url) as client:

        async def put(number: int) -> None:
            stored.append(number)
            await client.publish("t", number)

        async def load() -> list[int]:
            await put(len(stored))  # while the state is read
            return list(stored)

        await put(-1)
        async with client.subscribe("t", load=load) as events:
            assert events.state == [-1, 1]
            assert payloads(await take(events, 1)) == [1]  # it came later than the position; the state may have it
            await put(2)
            await put(3)
            await events.reload()
            assert events.state == [-1, 1, 2, 3, 4]
            await put(5)
            assert payloads(await take(events, 2)) == [4, 5]


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("no state today")


async def test_a_load_that_raises_or_is_cancelled_leaves_no_subscription(server: Server) -> None:
    async with Client(server.url) as client:
        with pytest.raises(RuntimeError, match="no state today"):
            async with client.subscribe("t", load=fail):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), client.subscribe("t", load=hang):
                pass
        await subscribers(client, 0)


async def test_several_subscriptions_to_the_same_topics(server: Server) -> None:
    async with Client(server.url, client_id="alice") as client:
        async with (
            client.subscribe("o.eu") as name,
            client.subscribe("o.eu") as again,
            client.subscribe("o.*") as pattern,
            client.subscribe("o.>", filter="payload > 1") as filtered,
            client.subscribe("o.us") as other,
        ):
            assert server.connections == 4  # `other` shares that of `name` and not that of a pattern
            for number in (1, 2):
                await client.publish("o.eu", number)
                await client.publish("o.us", 10 * number)
            assert payloads(await take(name, 2)) == payloads(await take(again, 2)) == [1, 2]
            assert sorted(payloads(await take(pattern, 4))) == [1, 2, 10, 20]
            assert sorted(payloads(await take(filtered, 3))) == [2, 10, 20]
            assert payloads(await take(other, 2)) == [10, 20]
            rows = (await server.get("/clients"))["clients"]
            assert {row["client_id"] for row in rows} == {"alice"}
        await eventually(lambda: server.connections == 1)
        async with client.subscribe("o.*") as pattern, client.subscribe("o.eu", last_n=2) as replayed:
            assert payloads(await take(replayed, 2)) == [1, 2]
            await client.publish("o.eu", 3)
            assert payloads(await take(replayed, 1)) == payloads(await take(pattern, 1)) == [3]


async def test_a_refused_subscription_that_overlaps_leaves_no_connection(server: Server) -> None:
    async with Client(server.url) as client, client.subscribe("o.>"):
        with pytest.raises(TopicNotFound):
            async with client.subscribe("o.none"):
                pass
        await eventually(lambda: server.connections == 1)


async def test_own_messages_are_left_out_in_every_connection(server: Server) -> None:
    async with (
        Client(server.url) as client,
        Client(server.url) as other,
        client.subscribe("t", echo=False) as one,
        client.subscribe("t", echo=False) as two,
    ):
        await client.publish_many("t", [1, 2])
        await other.publish("t", 3)
        assert payloads(await take(one, 1)) == payloads(await take(two, 1)) == [3]
        assert one.position["t"].seq == 3


async def test_notices_of_a_topic(server: Server) -> None:
    await server.create("room", presence=True)
    async with (
        Client(server.url, client_id="alice") as alice,
        Client(server.url, client_id="bob") as bob,
        alice.subscribe("room", notices=True) as events,
        bob.subscribe("room"),
    ):
        assert await take(events, 1) == [Notice("joined", "room", client_id="bob")]
        assert (await alice.presence("room")).count == 2
        await alice.delete_topic("room")
        assert await take(events, 1) == [Notice("topic_deleted", "room")]
        await alice.create_topic("room")
        await bob.publish("room", 1)
        gap, event = await take(events, 2)
        assert isinstance(gap, Gap)
        assert gap.reason == "created_again"
        assert payloads([event]) == [1]


async def test_a_consumer_that_publishes_while_its_queue_is_full(server: Server) -> None:
    await server.create("big", history=1000)
    async with Client(server.url, max_incoming=4) as client, client.subscribe("big") as events:
        server.publish_locally("big", list(range(200)))
        found = []
        async with asyncio.timeout(PATIENCE):
            async for item in events:
                assert isinstance(item, Event), item
                found.append(item.payload)
                await client.publish("t", item.payload)
                if len(found) == 200:
                    break
        assert found == list(range(200))
        assert (await client.topic("t")).seq == 200


async def test_a_full_queue_stops_the_reading() -> None:
    sent = asyncio.Event()
    transports: list[asyncio.Transport] = []

    async def script(websocket: web.WebSocketResponse) -> None:
        transports.append(transport_of(websocket))
        await send_ack(websocket, await next_request(websocket), epoch="e", seq=0)
        for seq in range(1, 400):
            await send_event(websocket, seq, "x" * 65536)
        sent.set()
        await silent(websocket)

    async with (
        scripted(script) as server,
        Client(server.url, max_incoming=2) as client,
        client.subscribe("t") as events,
    ):
        await anext(events)
        await eventually(lambda: transports[0].get_write_buffer_size() > 0)
        assert not sent.is_set()  # 26 MB do not fit into the buffers of the kernel
        for seq in range(2, 400):
            item = await anext(events)
            assert isinstance(item, Event)
            assert item.seq == seq
        await sent.wait()


async def test_positions_can_be_kept_as_json(server: Server) -> None:
    async with Client(server.url) as client, client.subscribe("o.*") as events:
        await client.publish("o.eu", 1)
        await take(events, 1)
        kept = msgspec.json.encode({topic: each.to_json() for topic, each in events.position.items()})
        assert kept == msgspec.json.encode(events.position)
        assert set(msgspec.json.decode(kept)) == {"o.eu", "o.us"}
        assert isinstance(events.position["o.us"], Position)


async def test_a_program_that_waits_for_an_item_behind_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.client.stalls.PATIENCE_SEC", 0.01)
    async with run_server(ring_buffer_size=1000) as server, Client(server.url, max_incoming=2) as client:
        await server.create("orders", "replies")
        async with client.subscribe("orders") as orders, client.subscribe("replies") as replies:
            server.publish_locally("orders", list(range(50)))
            server.publish_locally("replies", list(range(50)))
            for number in range(50):
                assert payloads(await take(orders, 1)) == [number]
                assert payloads(await take(replies, 1)) == [number]
