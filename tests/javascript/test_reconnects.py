"""The JavaScript client over cuts, kills, restarts, shutdowns and partitions: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from msgspec import Raw

from pubsub.core.event import make_event
from pubsub.core.journal import StoredTopic
from pubsub.http.app_keys import BROKER
from pubsub.protocol.requests import Message
from tests.faults import FaultyLine
from tests.harness import ForkedServer, Json, eventually, free_port, new_id, on_one_loop, run_server
from tests.javascript.node import Node, run_node
from tests.javascript.test_client import both, payloads, start

pytestmark = on_one_loop

WATCH = "{onState: (change) => changes.push(change)"


def watching(transport: str) -> str:
    """The options of a client whose changes of state are in ``changes``."""
    return WATCH + (", WebSocket: null}" if "null" in transport else "}")


async def reopened(node: Node, times: int) -> None:
    """Wait until the client has opened so many connections."""
    await node.run(f"await until(() => changes.filter(({{state}}) => state === 'open').length >= {times})")


@both
async def test_a_subscription_resumes_after_a_cut(transport: str) -> None:
    async with run_server() as server, FaultyLine.to(server.port) as line, run_node() as node:
        await server.create("orders", "quiet")
        await start(node, f"http://127.0.0.1:{line.port}", watching(transport))
        await node.run(
            "globalThis.items = collect(globalThis.sub = client.subscribe('orders'));"
            "globalThis.others = collect(globalThis.quiet = client.subscribe('quiet'));"
            "await sub.ready; await quiet.ready"
        )
        server.publish_locally("orders", [1, 2])
        assert await payloads(node, 2) == [1, 2]
        for number in range(1, 4):
            line.stall()
            line.cut()
            server.publish_locally("orders", [10 * number, 10 * number + 1])
            if number == 2:
                server.publish_locally("quiet", ["first"])
            line.heal()
            assert (await payloads(node, 2 + 2 * number))[-2:] == [10 * number, 10 * number + 1]
        assert await payloads(node, 8) == [1, 2, 10, 11, 20, 21, 30, 31]
        assert await payloads(node, 1, "others") == ["first"]
        await node.run("client.close()")


@both
async def test_a_pattern_resumes_each_topic_and_takes_in_what_appeared(transport: str) -> None:
    async with run_server() as server, FaultyLine.to(server.port) as line, run_node() as node:
        await server.create("a.old", "a.gone")
        await start(node, f"http://127.0.0.1:{line.port}", watching(transport))
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('a.*')); await sub.ready")
        server.publish_locally("a.old", [1])
        assert await payloads(node, 1) == [1]
        line.stall()
        line.cut()
        await server.create("a.new")
        server.publish_locally("a.new", ["new 1", "new 2"])
        server.publish_locally("a.old", [2])
        async with server.http.delete("/topics/a.gone") as response:
            assert response.status == 200
        line.heal()
        await reopened(node, 2)
        server.publish_locally("a.old", [3])
        found = await payloads(node, 5)
        assert [each for each in found if isinstance(each, int)] == [1, 2, 3]
        assert [each for each in found if isinstance(each, str)] == ["new 1", "new 2"]
        # Of a topic that is gone the position stays: if it is created again, that is told.
        assert set(await node.run("return sub.position")) == {"a.old", "a.gone", "a.new"}
        await node.run("client.close()")


async def test_a_pattern_without_a_topic_resumes_too() -> None:
    async with run_server() as server, FaultyLine.to(server.port) as line, run_node() as node:
        await start(node, f"http://127.0.0.1:{line.port}", watching("{}"))
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('a.*')); await sub.ready")
        line.stall()
        line.cut()
        await server.create("a.new")
        server.publish_locally("a.new", [1, 2])
        line.heal()
        await reopened(node, 2)
        assert await payloads(node, 2) == [1, 2]
        await node.run("client.close()")


@both
async def test_publishes_are_repeated_with_their_ids(transport: str) -> None:
    """Each answer is swallowed, so every publish is sent again; the topic takes each once."""
    async with run_server() as server, FaultyLine.to(server.port) as line, run_node() as node:
        await server.create("orders", dedup_sec=60)
        await start(node, f"http://127.0.0.1:{line.port}", watching(transport))
        await node.run("await client.publish('orders', 0)")
        line.swallows = True
        await node.run("globalThis.publishing = client.publishMany('orders', [1, 2, 3])")
        await asyncio.sleep(0)
        line.cut()
        line.heal()
        published = await node.run("return await publishing")
        assert [each["seq"] for each in published] == [2, 3, 4]
        assert (await server.get("/topics/orders"))["seq"] == 4
        await node.run("client.close()")


@pytest.mark.parametrize("number", [SIGKILL, SIGTERM], ids=lambda number: number.name)
@both
async def test_acknowledged_messages_survive_restarts(transport: str, number: Any, tmp_path: Path) -> None:
    """A durable topic, a publisher and a subscriber, and a server that is killed, or shut down, twice."""
    port = free_port()
    flags = ("--port", str(port), "--data-dir", str(tmp_path), "--reconnect-spread-sec", "0.1")
    async with run_node() as node:
        with ExitStack() as servers:
            server = servers.enter_context(ForkedServer(*flags))
            await start(node, server.url, transport.replace("{", "{answerTimeout: 60, "))
            await node.run(
                "await client.createTopic('orders', {durable: true, dedup_sec: 60, history: 100000});"
                "globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready;"
                "globalThis.acked = []; globalThis.going = true;"
                "globalThis.publishing = (async () => {"
                "    for (let i = 0; going; i++) { await client.publish('orders', i); acked.push(i); }"
                "})()"
            )
            for _ in range(2):
                before = await node.run("return acked.length")
                await node.run(f"await until(() => acked.length > {before + 20})")
                await asyncio.to_thread(server.stop, number)
                server = servers.enter_context(ForkedServer(*flags))
            await node.run("const before = acked.length; await until(() => acked.length > before + 20)")
            await node.run("going = false; await publishing; await until(() => items.length >= acked.length)")
            assert await node.run("return acked.every((each, i) => each === i)")
            assert await node.run("return items.map((item) => item.payload)") == await node.run("return acked")
            await node.run("client.close()")
            server.stop()


async def test_a_shutdown_tells_when_to_reconnect(tmp_path: Path) -> None:
    port = free_port()
    flags = ("--port", str(port), "--reconnect-spread-sec", "1")
    with ExitStack() as servers:
        server = servers.enter_context(ForkedServer(*flags))
        async with run_node() as node:
            await start(node, server.url, watching("{}"))
            await reopened(node, 1)
            await asyncio.to_thread(server.stop)
            servers.enter_context(ForkedServer(*flags))
            await reopened(node, 2)
            changes = await node.run("return changes.map(({state, error, retrySec}) => [state, error?.name, retrySec])")
            (_, name, pause) = changes[1]
            assert name == "Unreachable"
            assert 0 < pause <= 1
            await node.run("client.close()")


async def test_a_partition_is_noticed_after_two_silent_heartbeats() -> None:
    async with run_server() as server, FaultyLine.to(server.port) as line, run_node() as node:
        await server.create("orders")
        await start(node, f"http://127.0.0.1:{line.port}", WATCH + ", heartbeat: 0.2, answerTimeout: 1}")
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        line.stall()
        await node.run("await until(() => changes.some(({error}) => error?.message === 'no sign of life'))")
        server.publish_locally("orders", [1])
        line.cut()
        line.heal()
        assert await payloads(node, 1) == [1]
        await node.run("client.close()")


async def test_a_topic_that_is_created_again_is_told() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url)
        await node.run(
            "globalThis.items = collect(globalThis.sub = client.subscribe('orders', {notices: true})); await sub.ready"
        )
        server.publish_locally("orders", [1])
        assert await payloads(node, 1) == [1]
        old = await node.run("return sub.position.orders.epoch")
        async with server.http.delete("/topics/orders"):
            pass
        await node.run("await until(() => items.at(-1).kind === 'topic_deleted')")
        assert await node.run("return sub.position") == {"orders": {"epoch": old, "seq": 1}}
        await server.create("orders")
        server.publish_locally("orders", [2])
        items: list[Json] = await node.run("await until(() => items.length >= 4); return items")
        gap, event = items[2:]
        assert (gap["type"], gap["reason"], gap["fromSeq"]) == ("gap", "created_again", None)
        assert (event["payload"], event["seq"]) == (2, 1)
        assert gap["epoch"] == event["epoch"] != old
        await node.run("client.close()")


async def test_a_topic_goes_on_behind_what_the_engine_of_several_servers_lost() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url)
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        server.publish_locally("orders", [1, 2, 3])
        assert await payloads(node, 3) == [1, 2, 3]
        broker = server.app[BROKER]
        topic = broker.topic("orders")
        renewed = broker.renew(topic, StoredTopic("orders", "f", topic.options, topic.log, seq=2))
        broker.deliver(renewed, [make_event("orders", Message(new_id(), Raw(b'"new"')), 3, "2025-08-25T10:00:00Z")])
        items: list[Json] = await node.run("await until(() => items.length >= 5); return items")
        gap, event = items[3:]
        assert (gap["reason"], gap["epoch"], gap["fromSeq"], gap["toSeq"]) == ("created_again", "f", None, 2)
        assert (event["payload"], event["epoch"], event["seq"]) == ("new", "f", 3)
        assert await node.run("return sub.position") == {"orders": {"epoch": "f", "seq": 3}}
        await node.run("client.close()")


async def test_nothing_is_left_after_a_client_that_never_connected() -> None:
    """``run_node`` checks that Node ends."""
    async with run_node() as node:
        await start(node, f"http://127.0.0.1:{free_port()}", WATCH + ", answerTimeout: 0.3}")
        await node.run("globalThis.sub = client.subscribe('orders'); await until(() => changes.length > 2)")
        name = await node.run("return (await client.publish('orders', 1).catch((error) => error)).name")
        assert name == "AnswerTimeout"
        await node.run("client.close()")
        assert await node.run("return (await sub.ready.catch((error) => error)).name") == "Disconnected"
        assert (
            await node.run("return (await client.publish('orders', 1).catch((error) => error)).name") == "Disconnected"
        )


async def test_a_client_that_is_closed_leaves_no_connection() -> None:
    async with run_server() as server:
        await server.create("orders")
        async with run_node() as node:
            await start(node, server.url)
            await node.run("await client.subscribe('orders').ready; await client.subscribe('*').ready")
            assert server.connections == 2
            await node.run("client.close()")
            await eventually(lambda: server.connections == 0)


async def test_a_silent_stream_is_noticed_though_calls_are_answered() -> None:
    """Each connection is stalled when it is a stream; REST calls take others."""
    async with run_server(ping_period_sec=0.1) as server, run_node() as node:
        await server.create("orders")
        await node.run(
            "globalThis.silent = false; const {fetch} = globalThis;"
            "globalThis.fetch = async (url, options) => {"
            "    const response = await fetch(url, options);"
            "    if (!/\\/events/.test(url)) return response;"
            "    const quiet = new TransformStream({transform(chunk, out) { if (!silent) out.enqueue(chunk); }});"
            "    return new Response(response.body.pipeThrough(quiet));"
            "}"
        )
        await start(node, server.url, WATCH + ", WebSocket: null, heartbeat: 0.5, answerTimeout: 2}")
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        told = "changes.some(({error}) => error?.message.includes('silent stream'))"
        await node.run(f"silent = true; await until(() => {told})")
        server.publish_locally("orders", [1])
        await node.run("silent = false")
        assert await payloads(node, 1) == [1]
        await node.run("client.close()")
