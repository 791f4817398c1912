"""Streams of several topics and patterns, and filters: exact resume by a cursor wherever the stream was cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from pubsub.core import joining
from pubsub.http.app_keys import BROKER, STREAMS
from pubsub.sse import cursors, opening
from pubsub.sse.cursors import MOST_IN_ID
from tests.credentials import SECRET, make_token
from tests.harness import PATIENCE, RawClient, Server, eventually, on_one_loop, run_server
from tests.http.test_sse import refusal
from tests.streams import Block, Stream

BOTH = "/events?topic=orders&topic=trades"


def query(*topics: str, **parameters: Any) -> str:
    return "/events?" + urlencode([("topic", topic) for topic in topics] + list(parameters.items()))


async def infos(stream: Stream, msg: str, count: int) -> list[Any]:
    return [await stream.info(msg) for _ in range(count)]


async def events(stream: Stream, count: int) -> list[tuple[str, int]]:
    """The topic and ``seq`` of the next events, between which no info comes."""
    found = []
    for _ in range(count):
        block = await stream.next()
        assert block.event == "message", block
        found.append((block.data["topic"], block.data["seq"]))
    return found


async def delete(server: Server, path: str) -> None:
    async with server.http.delete(path) as response:
        assert response.status == 200


async def test_a_stream_of_several_topics_brings_each_and_resumes() -> None:
    async with run_server() as server:
        await server.create("orders", "trades", "others")
        server.publish_locally("trades", [0, 1])
        stream = await Stream.open(server.port, BOTH + "&last_n=1")
        assert stream.status == 200
        first, second = await infos(stream, "subscribed", 2)
        assert first.keys() == {"type", "topic", "msg", "epoch", "seq", "ts"}
        assert [(each["topic"], each["seq"]) for each in (first, second)] == [("orders", 0), ("trades", 2)]
        assert await events(stream, 1) == [("trades", 2)]
        for topic in ("orders", "trades", "others"):
            server.publish_locally(topic, [2, 3])
        assert sorted(await events(stream, 4)) == [("orders", 1), ("orders", 2), ("trades", 3), ("trades", 4)]
        assert len(stream.last_id) < 1024
        stream.close()
        server.publish_locally("orders", [4])
        again = await Stream.open(server.port, BOTH + "&last_n=100", last_id=stream.last_id)
        recovered = await infos(again, "recovered", 2)
        assert [(each["topic"], each["recovered"], each["seq"]) for each in recovered] == [
            ("orders", True, 3),
            ("trades", True, 4),
        ]
        assert await events(again, 1) == [("orders", 3)]
        (row,) = (await server.get("/clients"))["clients"]
        assert row["subscriptions"] == ["orders", "trades"]


@pytest.mark.parametrize("most", [MOST_IN_ID, 1])
async def test_a_stream_may_be_cut_off_anywhere(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Each id that came is resumed from: what comes then is exactly what followed it, of every topic."""
    monkeypatch.setattr(cursors, "MOST_IN_ID", most)
    topics = ["room.a", "room.b", "room.c"]
    async with run_server() as server:
        await server.create(*topics)
        server.publish_locally("room.a", ["before"])
        stream = await Stream.open(server.port, query("room.*"))
        await stream.info("subscribed")
        blocks = [Block(id=stream.last_id)]
        for number in range(30):
            server.publish_locally(random.choice(topics), [number] * random.randint(1, 3))
            if number % 3 == 0:
                await asyncio.sleep(0)  # a tick has several batches, of several topics
        async for block in stream.blocks():
            blocks.append(block)
            if sum(server.app[BROKER].topic(topic).seq for topic in topics) == len(blocks):
                break
        stream.close()
        for cut, last in enumerate(blocks):
            assert last.id is not None
            resumed = await Stream.open(server.port, query("room.*"), last_id=last.id)
            assert (await resumed.info("recovered"))["recovered"] is True
            rest = [(block.data["topic"], block.data["seq"]) for block in blocks[cut + 1 :]]
            found = await events(resumed, len(rest))
            for topic in topics:
                assert of(topic, found) == of(topic, rest)
            resumed.close()


def of(topic: str, found: Sequence[tuple[str, int]]) -> list[int]:
    return [seq for name, seq in found if name == topic]


@on_one_loop
async def test_a_cursor_goes_from_stream_to_stream() -> None:
    """A client that is cut off again and again gets each message once."""
    topics = [f"room.{number}" for number in range(5)]
    got: dict[str, list[int]] = {topic: [] for topic in topics}
    last_id = ""
    async with run_server() as server:
        await server.create(*topics)
        for number in range(40):
            stream = await Stream.open(server.port, query("room.*"), last_id=last_id)
            await stream.info("recovered" if last_id else "subscribed")
            server.publish_locally(topics[number % 5], [number])
            server.publish_locally(topics[number % 3], [number])
            for topic, seq in await events(stream, number % 3):
                got[topic].append(seq)
            last_id = stream.last_id
            stream.close()
        stream = await Stream.open(server.port, query("room.*"), last_id=last_id)
        await stream.info("recovered")
        for topic, seq in await events(stream, 80 - sum(map(len, got.values()))):
            got[topic].append(seq)
        assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in got.values())


@pytest.mark.parametrize("path", ["/topics/room.*/events", "/topics/room.%3E/events", "/events?topic=room.*"])
@on_one_loop
async def test_a_pattern_takes_in_topics_that_come_later(path: str) -> None:
    async with run_server() as server:
        await server.create("room.a")
        stream = await Stream.open(server.port, path)
        subscribed = await stream.info("subscribed")
        assert subscribed["topics"].keys() == {"room.a"}
        assert subscribed["topics"]["room.a"]["seq"] == 0
        assert "epoch" not in subscribed
        await server.create("room.b")
        created = await stream.info("topic_created")
        assert created["topic"] == "room.b"
        server.publish_locally("room.b", [1])
        assert await events(stream, 1) == [("room.b", 1)]
        stream.close()
        await eventually(lambda: server.connections == 0)
        await server.create("room.c")
        for topic in ("room.a", "room.b", "room.c"):
            server.publish_locally(topic, [2])
        again = await Stream.open(server.port, path, last_id=stream.last_id)
        recovered = await again.info("recovered")
        assert recovered["recovered"] is True
        assert {name: each["recovered"] for name, each in recovered["topics"].items()} == {
            "room.a": True, "room.b": True, "room.c": True,
        }  # fmt: skip
        assert sorted(await events(again, 3)) == [("room.a", 1), ("room.b", 2), ("room.c", 1)]


@on_one_loop
async def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    async with run_server() as server:
        await server.create("orders", "trades")
        stream = await Stream.open(server.port, BOTH)
        await infos(stream, "subscribed", 2)
        server.publish_locally("orders", [1, 2, 3])
        await events(stream, 3)
        stream.close()
        await delete(server, "/topics/orders")
        await server.create("orders")
        server.publish_locally("orders", [1])
        again = await Stream.open(server.port, BOTH, last_id=stream.last_id)
        assert [each["recovered"] for each in await infos(again, "recovered", 2)] == [False, True]
        assert await events(again, 1) == [("orders", 1)]


@on_one_loop
async def test_a_cursor_outlives_its_stream_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a stream of many topics."""
    monkeypatch.setattr(cursors, "KEPT_SEC", 0.2)
    monkeypatch.setattr(cursors, "MOST_IN_ID", 1)
    async with run_server() as server:
        await server.create("orders", "trades")
        stream = await Stream.open(server.port, BOTH)
        await infos(stream, "subscribed", 2)
        assert len(server.app[STREAMS].cursors) == 1
        stream.close()
        await eventually(lambda: server.connections == 0)
        assert len(server.app[STREAMS].cursors) == 1
        await eventually(lambda: len(server.app[STREAMS].cursors) == 0)


@on_one_loop
async def test_a_cursor_that_is_not_known_brings_all_that_is_kept() -> None:
    async with run_server(ring_buffer_size=2) as server:
        await server.create("orders", "trades")
        server.publish_locally("orders", [1, 2, 3])
        for unknown in ("0123456789abcdef.1f.7", "0123456789abcdef", "e:1", "of another version"):
            stream = await Stream.open(server.port, BOTH, last_id=unknown)
            assert [each["recovered"] for each in await infos(stream, "recovered", 2)] == [False, False]
            assert (await stream.info("dropped"))["count"] == 1
            assert await events(stream, 2) == [("orders", 2), ("orders", 3)]


@on_one_loop
async def test_a_gap_between_two_streams_is_told() -> None:
    async with run_server(ring_buffer_size=2) as server:
        await server.create("orders", "trades")
        stream = await Stream.open(server.port, BOTH)
        await infos(stream, "subscribed", 2)
        server.publish_locally("orders", [1])
        await events(stream, 1)
        stream.close()
        server.publish_locally("orders", [2, 3, 4])
        server.publish_locally("trades", [1])
        again = await Stream.open(server.port, BOTH, last_id=stream.last_id)
        assert [each["recovered"] for each in await infos(again, "recovered", 2)] == [False, True]
        gap = await again.info("dropped")
        assert (gap["topic"], gap["from_seq"], gap["to_seq"]) == ("orders", 2, 2)
        assert sorted(await events(again, 3)) == [("orders", 3), ("orders", 4), ("trades", 1)]


async def test_topics_end_one_by_one_and_the_stream_with_the_last() -> None:
    async with run_server() as server:
        await server.create("orders", "trades")
        stream = await Stream.open(server.port, BOTH)
        await infos(stream, "subscribed", 2)
        server.publish_locally("trades", [1])
        await events(stream, 1)
        await delete(server, "/topics/orders")
        assert (await stream.info("topic_deleted"))["topic"] == "orders"
        again = await Stream.open(server.port, BOTH, last_id=stream.last_id)
        await again.info("recovered")
        assert (await again.info("topic_deleted"))["topic"] == "orders", "it is told that it is gone"
        server.publish_locally("trades", [2])
        assert await events(again, 1) == [("trades", 2)]
        await delete(server, "/topics/trades")
        for each in (stream, again):
            assert (await each.rest())[-1].data["topic"] == "trades"
        assert (await Stream.open(server.port, BOTH, last_id=stream.last_id)).status == 404
        assert (await Stream.open(server.port, BOTH)).status == 404
        await eventually(lambda: server.connections == 0)


@on_one_loop
async def test_a_pattern_without_a_topic_waits_for_one() -> None:
    async with run_server() as server:
        stream = await Stream.open(server.port, query("room.*"))
        assert (await stream.info("subscribed"))["topics"] == {}
        await server.create("room.a")
        await stream.info("topic_created")
        await delete(server, "/topics/room.a")
        await stream.info("topic_deleted")
        await server.create("room.a")
        await stream.info("topic_created")
        server.publish_locally("room.a", [1])
        assert await events(stream, 1) == [("room.a", 1)]


@on_one_loop
async def test_a_message_that_several_subscriptions_reach_comes_once() -> None:
    async with run_server() as server:
        await server.create("room.a", "room.b")
        server.publish_locally("room.a", [0])
        stream = await Stream.open(server.port, query("room.a", "room.*", "room.a", ">", last_n=1))
        for name in ("room.a", "room.*", ">"):
            assert (await stream.info("subscribed"))["topic"] == name
        server.publish_locally("room.a", [1])
        server.publish_locally("room.b", [1])
        assert sorted(await events(stream, 3)) == [("room.a", 1), ("room.a", 2), ("room.b", 1)]
        server.publish_locally("room.b", [2])
        again = await Stream.open(server.port, query("room.a", "room.*"), last_id=stream.last_id)
        await infos(again, "recovered", 2)
        assert await events(again, 1) == [("room.b", 2)]


# Filters


@pytest.mark.parametrize("path", ["/topics/orders/events?", "/events?topic=orders&topic=trades&"])
@on_one_loop
async def test_a_filter_holds_for_what_is_replayed_live_and_resumed(path: str) -> None:
    wanted = urlencode({"filter": "payload.n % params.by == 0", "params": '{"by": 3}'})
    async with run_server() as server:
        await server.create("orders", "trades")
        server.publish_locally("orders", [{"n": number} for number in range(10)])
        stream = await Stream.open(server.port, f"{path}{wanted}&last_n=2")
        await infos(stream, "subscribed", path.count("topic=") or 1)
        assert await stream.payloads(2) == [{"n": 6}, {"n": 9}]
        server.publish_locally("orders", [{"n": number} for number in range(10, 14)])
        assert await stream.payloads(1) == [{"n": 12}]
        server.publish_locally("orders", [{"n": number} for number in range(14, 20)])
        again = await Stream.open(server.port, f"{path}{wanted}", last_id=stream.last_id)
        await infos(again, "recovered", path.count("topic=") or 1)
        assert await again.payloads(2) == [{"n": 15}, {"n": 18}]


@on_one_loop
async def test_a_filter_that_lets_nothing_through_loses_no_position() -> None:
    """Heartbeats bring a new id: what did not match may go without making a gap."""
    path = "/topics/orders/events?filter=payload"
    async with run_server(ring_buffer_size=5, ping_period_sec=0.1) as server:
        await server.create("orders")
        stream = await Stream.open(server.port, path)
        epoch = (await stream.info("subscribed"))["epoch"]
        server.publish_locally("orders", [False] * 20)
        async for block in stream.blocks():
            if block.id == f"{epoch}:20":
                assert (block.data, block.comments) == (None, ["ping"])
                break
        stream.close()
        server.publish_locally("orders", [False, True])
        again = await Stream.open(server.port, path, last_id=stream.last_id)
        assert (await again.info("recovered"))["recovered"] is True
        assert (await again.next()).data["seq"] == 22


@on_one_loop
async def test_a_heartbeat_without_a_filter_brings_no_id() -> None:
    async with run_server(ping_period_sec=0.1) as server:
        await server.create("orders")
        plain = await Stream.open(server.port, "/topics/orders/events")
        await plain.info("subscribed")
        assert await plain.client.read_upto(b"\n\n") == b": ping\n\n"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"filter": "payload."}, "filter: "),
        ({"filter": "1 + 1"}, "filter: "),
        ({"filter": "x" * 600}, "filter: "),
        ({"filter": ""}, "filter: "),
        ({"params": "{}"}, "params: expected beside a filter"),
        ({"filter": "true", "params": "["}, "params: expected an object"),
        ({"filter": "true", "params": "[]"}, "params: expected an object"),
        ({"filter": "true", "params": ""}, "params: expected an object"),
        ({"filter": "true", "params": f'{{"a":"{"x" * 4096}"}}'}, "params: expected an object of at most"),
    ],
)
@on_one_loop
async def test_a_filter_that_is_wrong_is_refused(parameters: dict[str, str], text: str) -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await Stream.open(server.port, f"/topics/orders/events?{urlencode(parameters)}")
        assert stream.status == 400
        assert (await refusal(stream)).startswith(text)


# Clients of a topic, rights and limits


@on_one_loop
async def test_a_stream_is_a_client_of_its_topic() -> None:
    async with run_server() as server:
        async with server.http.post("/topics", json={"name": "room.1", "presence": True}) as response:
            assert response.status == 201
        alice = await Stream.open(server.port, "/topics/room.1/events?client_id=alice")
        await alice.info("subscribed")
        bob = await Stream.open(server.port, query("room.*", client_id="bob"))
        await bob.info("subscribed")
        assert (await alice.info("joined"))["client_id"] == "bob"
        present = await server.get("/topics/room.1/presence")
        assert present["clients"] == [{"client_id": each, "connections": 1} for each in ("alice", "bob")]


@on_one_loop
async def test_the_filters_of_a_token_hold_for_streams() -> None:
    rights = {"subscribe": ["orders"], "filters": {"orders": "payload.tenant == 'acme'"}}
    token = make_token(pubsub=rights)
    async with run_server(jwt_secret=SECRET) as server:
        await server.create("orders")
        server.publish_locally("orders", [{"tenant": tenant} for tenant in ("acme", "other")])
        path = f"/topics/orders/events?token={token}&last_n=10"
        stream = await Stream.open(server.port, path)
        await stream.info("subscribed")
        server.publish_locally("orders", [{"tenant": tenant, "n": 1} for tenant in ("other", "acme")])
        assert await stream.payloads(2) == [{"tenant": "acme"}, {"tenant": "acme", "n": 1}]
        wanted = quote("payload.tenant == 'other' || payload.n == 1")
        again = await Stream.open(server.port, f"{path}&filter={wanted}", last_id="0:0")
        await again.info("recovered")
        assert await again.payloads(1) == [{"tenant": "acme", "n": 1}]


@on_one_loop
async def test_a_token_gets_the_part_of_a_pattern_that_it_may() -> None:
    token = make_token(subscribe=["room.a", "room.c"])
    async with run_server(jwt_secret=SECRET) as server:
        await server.create("room.a", "room.b")
        stream = await Stream.open(server.port, query("room.*", token=token))
        assert (await stream.info("subscribed"))["topics"].keys() == {"room.a"}
        await server.create("room.c", "room.d")
        await stream.info("topic_created")
        for name in ("room.b", "room.d", "room.c"):
            server.publish_locally(name, [1])
        assert await events(stream, 1) == [("room.c", 1)]
        for other in (query("hall.*", token=token), query("room.a", "room.b", token=token)):
            assert (await Stream.open(server.port, other)).status == 403


@on_one_loop
async def test_a_cursor_of_another_client_gives_nothing_that_the_token_does_not() -> None:
    async with run_server(jwt_secret=SECRET) as server:
        await server.create("room.a", "room.b")
        alice = await Stream.open(server.port, query("room.*", token=make_token(subscribe=["room.*"])))
        await alice.info("subscribed")
        for name in ("room.a", "room.b"):
            server.publish_locally(name, [1])
        await events(alice, 2)
        mallory = make_token("mallory", subscribe=["room.a"])
        stolen = await Stream.open(server.port, query("room.*", token=mallory), last_id=alice.last_id)
        assert (await stolen.info("recovered"))["topics"].keys() == {"room.a"}
        for name in ("room.b", "room.a"):
            server.publish_locally(name, [2])
        found = await events(stolen, 1)
        assert of("room.b", found) == []


@on_one_loop
async def test_what_is_wrong_leaves_nothing_behind() -> None:
    async with run_server(max_subscriptions_per_connection=3) as server:
        await server.create("a", "b", "c", "d")
        wrong = [
            (query("a", "b", "nowhere"), 404, "topic not found"),
            (query("a", "b.*.", "c"), 400, "topic: expected a pattern"),
            (query("a", "b*"), 400, "topic: expected a pattern"),
            (query("a", ">.b"), 400, "topic: expected a pattern"),
            (query("a", "b", "c", "d"), 429, "MAX_SUBSCRIPTIONS_PER_CONNECTION"),
            (query(*["a"] * 101), 400, "topic: expected"),
            (query("a", "b", last_event_id="x" * 1025), 400, "Last-Event-ID: expected"),
            (f"/topics/a.*/events?last_event_id={'x' * 1025}", 400, "Last-Event-ID: expected"),
            ("/events?topic=a&last_event_id=0123456789abcdef", 400, "Last-Event-ID: expected"),
            (f"/events?topic={quote('a/../b')}&topic=b", 400, "topic: expected"),
        ]
        for path, status, text in wrong:
            stream = await Stream.open(server.port, path)
            assert stream.status == status, path
            assert text in await refusal(stream), path
        assert (await server.get("/health"))["subscribers"] == 0
        assert all(topic["subscribers"] == 0 for topic in (await server.get("/topics"))["topics"])
        assert len(server.app[STREAMS].cursors) == 0
        assert (await Stream.open(server.port, query("a", "b"), method="HEAD")).status == 200
        assert len(server.app[STREAMS].cursors) == 0
        assert (await server.get("/health"))["subscribers"] == 0


@on_one_loop
async def test_an_id_that_stops_a_client_stops_it_for_several_topics_too() -> None:
    async with run_server() as server:
        await server.create("orders", "trades")
        assert (await Stream.open(server.port, BOTH, last_id="disconnected")).status == 204


async def next_tick_in_which(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it must see the very tick
            await asyncio.sleep(0)


async def test_a_stream_that_begins_in_slices_begins_with_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics appear, get messages and end while the subscriptions of the stream begin."""
    monkeypatch.setattr(joining, "ENTERED", 1)
    monkeypatch.setattr(opening, "NOTED", 1)
    async with run_server() as server:
        await server.create(*(f"room.{number}" for number in range(20)), "hall.0")
        opened = asyncio.create_task(Stream.open(server.port, query("hall.*", "room.*")))
        broker = server.app[BROKER]
        await next_tick_in_which(lambda: broker.subscriber_count == 1)
        assert not server.connections, "it has only begun to begin"
        made: list[str] = []
        while not server.connections:
            for hall in ("hall", "room") if len(made) < 10 else ():
                name = f"{hall}.new{len(made)}"
                broker.create_topic(name)
                server.publish_locally(name, [1, 2])
                made.append(name)
            server.publish_locally("room.7", ["live"])
            if len(made) == 2:
                broker.delete_topic(made[0])
            await asyncio.sleep(0)
        stream = await opened
        lasting = [*made[1:], "room.7", "hall.0"]
        for name in lasting:
            server.publish_locally(name, ["last"])
        starts: dict[str, int] = {}
        for _ in range(2):
            subscribed = await stream.info("subscribed")
            starts |= {name: position["seq"] for name, position in subscribed["topics"].items()}
        got: dict[str, list[int]] = {name: [] for name in (*made, *lasting)}
        while any(got[name][-1:] != [broker.topic(name).seq] for name in lasting):
            block = await stream.next()
            if block.event == "message":
                got[block.data["topic"]].append(block.data["seq"])
            elif block.data["msg"] == "topic_created":
                starts[block.data["topic"]] = 0
        for name in lasting:
            assert got[name] == list(range(starts[name] + 1, broker.topic(name).seq + 1))


async def test_a_client_that_leaves_while_its_stream_begins_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ENTERED", 1)
    async with run_server() as server:
        await server.create(*(f"room.{number}" for number in range(50)))
        client = await RawClient.connect_tcp(server.port)
        await client.send(f"GET {query('room.*')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await next_tick_in_which(lambda: server.app[BROKER].subscriber_count == 1)
        client.reset()
        await eventually(lambda: server.app[BROKER].subscriber_count == 0)
        await eventually(lambda: not len(server.app[STREAMS].cursors))
        assert server.connections == 0
