"""docs/guarantees.md: each row of its tables on publishing twice and on subscribing, tried with the Python client.

The server runs in a thread. A call of ``Publisher`` blocks this loop, so a client here cannot reconnect meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from pubsub.client import Client, Event, Position, Publisher, Subscription
from pubsub.client.testing import LocalServer, running_server
from tests.harness import PATIENCE, new_id, on_one_loop
from tests.test_docs import section, table

PAGE = "docs/guarantees.md"
Promise = Callable[[LocalServer, Client], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with running_server() as running:
        yield running


def rows(heading: str, *header: str) -> list[str]:
    return [row[0] for row in table(section(PAGE, heading), *header)]


async def take(events: Subscription[Any], count: int) -> list[Any]:
    """Return the next items: the payload of each event, and the gaps as they are."""
    items = [await anext(events) for _ in range(count)]
    return [item.payload if isinstance(item, Event) else item for item in items]


def publish(server: LocalServer, topic: str, *payloads: Any, ttl_sec: float | None = None) -> None:
    """Publish while no client of this loop can do anything."""
    with Publisher(server.url) as publisher:
        publisher.publish_many(topic, payloads, ttl_sec=ttl_sec)


async def stays_connected(server: LocalServer, client: Client) -> None:
    server.create_topic("connected")
    publish(server, "connected", "before")
    async with client.subscribe("connected") as events:
        publish(server, "connected", *range(200))
        assert await take(events, 200) == [*range(200)]


async def replay_meets_live(server: LocalServer, client: Client) -> None:
    server.create_topic("met")
    publish(server, "met", *range(50))
    async with client.subscribe("met", last_n=10) as events:
        publish(server, "met", *range(50, 60))
        assert await take(events, 20) == [*range(40, 60)]


async def reconnects_in_time(server: LocalServer, client: Client) -> None:
    server.create_topic("in_time")
    async with client.subscribe("in_time") as events:
        server.disconnect_all()
        publish(server, "in_time", *range(100))
        assert await take(events, 100) == [*range(100)]


async def reconnects_too_late(server: LocalServer, client: Client) -> None:
    server.create_topic("late", history=3)
    async with client.subscribe("late") as events:
        server.disconnect_all()
        publish(server, "late", *range(10))
        gap, *kept = await take(events, 4)
        assert (gap.from_seq, gap.to_seq, gap.count, gap.reason) == (1, 7, 7, "lost")
        assert kept == [7, 8, 9]


async def durable_topic_after_a_restart(server: LocalServer, client: Client) -> None:
    server.create_topic("durable", durable=True)
    async with client.subscribe("durable") as events:
        publish(server, "durable", 1)
        server.restart()
        publish(server, "durable", 2)
        assert await take(events, 2) == [1, 2]


async def memory_topic_after_a_restart(server: LocalServer, client: Client) -> None:
    server.create_topic("memory")
    async with client.subscribe("memory") as events:
        publish(server, "memory", 1)
        assert await take(events, 1) == [1]
        server.restart()
        server.create_topic("memory")
        publish(server, "memory", 2)
        gap, first = await take(events, 2)
        assert (gap.reason, gap.from_seq, gap.count) == ("created_again", None, None)
        assert first == 2


async def killed_with_a_saved_position(server: LocalServer, client: Client) -> None:
    server.create_topic("saved")
    async with client.subscribe("saved") as events:
        publish(server, "saved", 1, 2)
        assert await take(events, 1) == [1]
        saved = {topic: position.to_json() for topic, position in events.position.items()}
    async with Client(server.url) as later, later.subscribe("saved", resume=saved) as events:
        assert await take(events, 1) == [2]


async def messages_expire(server: LocalServer, client: Client) -> None:
    server.create_topic("expiring")
    epoch = (await client.topic("expiring")).epoch
    publish(server, "expiring", 1, 2, ttl_sec=0.001)
    while (await client.history("expiring")).events:
        pass
    publish(server, "expiring", 3)
    async with client.subscribe("expiring", resume={"expiring": Position(epoch, 0)}) as events:
        gap, kept = await take(events, 2)
        assert (gap.from_seq, gap.to_seq, gap.count) == (1, 2, 2)
        assert kept == 3


async def topic_is_purged(server: LocalServer, client: Client) -> None:
    server.create_topic("purged")
    async with client.subscribe("purged") as events:
        publish(server, "purged", 1)
        assert await take(events, 1) == [1]
        position = events.position
    publish(server, "purged", 2, 3)
    assert await client.purge("purged") == 3
    publish(server, "purged", 4)
    async with client.subscribe("purged", resume=position) as events:
        gap, kept = await take(events, 2)
        assert (gap.from_seq, gap.to_seq, kept) == (2, 3, 4)


async def with_a_filter(server: LocalServer, client: Client) -> None:
    server.create_topic("filtered")
    async with client.subscribe("filtered", filter="payload > 10") as events:
        publish(server, "filtered", 11, 1, 2, 12)
        server.disconnect_all()
        publish(server, "filtered", 3, 13)
        assert await take(events, 3) == [11, 12, 13]


async def by_a_pattern(server: LocalServer, client: Client) -> None:
    server.create_topic("pattern.a")
    async with client.subscribe("pattern.*") as events:
        publish(server, "pattern.a", 1, 2)
        server.create_topic("pattern.b")
        publish(server, "pattern.b", 3)
        assert sorted(await take(events, 3)) == [1, 2, 3]


SUBSCRIBING: dict[str, Promise] = {
    "you stay connected and read": stays_connected,
    "with `last_n` or `resume`": replay_meets_live,
    "you reconnect, and the topic still keeps what you missed (`history`, `ttl_sec`)": reconnects_in_time,
    "you reconnect later than that": reconnects_too_late,
    "the server was restarted: durable topic": durable_topic_after_a_restart,
    "the server was restarted: topic in memory": memory_topic_after_a_restart,
    "your process is killed": killed_with_a_saved_position,
    "messages expire (`ttl_sec`) before you get them": messages_expire,
    "an administrator purges the topic": topic_is_purged,
    "with a `filter`": with_a_filter,
    "a pattern": by_a_pattern,
}


@pytest.mark.parametrize("row", rows("Subscribing", "Situation", "What you get"))
@pytest.mark.timeout(PATIENCE)
@on_one_loop
async def test_a_subscriber_gets_what_the_page_says(row: str, server: LocalServer) -> None:
    async with Client(server.url) as client:
        await SUBSCRIBING[row](server, client)


@pytest.mark.parametrize(("row", "options"), [("with `dedup_sec`", {"dedup_sec": 60}), ("without", {})])
@on_one_loop
async def test_a_message_that_is_sent_twice(row: str, options: dict[str, Any], server: LocalServer) -> None:
    assert row in rows("Publishing", "Topic", "A message that is sent twice with the same id")
    topic = f"twice.{len(options)}"
    server.create_topic(topic, **options)
    async with Client(server.url) as client:
        id_ = new_id()
        first, second = [await client.publish(topic, "paid", id=id_) for _ in range(2)]
    assert (first.seq, second.seq, second.duplicate) == ((1, 1, True) if options else (1, 2, False))
    assert len(server.published(topic)) == (1 if options else 2)
