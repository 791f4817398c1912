"""The JavaScript client in Node against a real server: publish, subscribe, resume, gaps, the limits, the errors."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.harness import on_one_loop, run_server
from tests.javascript.node import NODE, JavaScriptError, Node, run_node

pytestmark = on_one_loop

SSE = "{WebSocket: null}"
both = pytest.mark.parametrize("transport", ["{}", SSE], ids=["websocket", "sse"])

# Collects what a subscription hands out; `until(list, n)` waits for so many items.
COLLECT = """
globalThis.changes = [];
Math.random = () => 0.01; // so that pauses are short
globalThis.collect = (sub) => {
    const items = [];
    (async () => { for await (const item of sub) items.push(item); })().catch((error) => items.push(error));
    return items;
};
const soon = () => new Promise((resolve) => setTimeout(resolve, 2));
globalThis.until = async (condition) => { while (!condition()) await soon(); };
"""


async def start(node: Node, url: str, options: str = "{}") -> None:
    await node.run(COLLECT + f"globalThis.client = new Client(url, {options})", url=url)


async def payloads(node: Node, count: int, items: str = "items") -> list[Any]:
    """Wait for so many items, and return the payloads; of a gap its bounds."""
    found: list[Any] = await node.run(
        f"await until(() => {items}.length >= {count});"
        f"return {items}.map((item) => item.type === 'event' ? item.payload : [item.type, item.fromSeq, item.toSeq])"
    )
    return found


@both
async def test_three_lines_to_publish_and_three_to_receive(transport: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, transport)
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        published = await node.run("return await client.publish('orders', {amount: 5})")
        assert (published["topic"], published["seq"], published["duplicate"]) == ("orders", 1, False)
        many = await node.run("return await client.publishMany('orders', [1, 2, 3])")
        assert [each["seq"] for each in many] == [2, 3, 4]
        assert await payloads(node, 4) == [{"amount": 5}, 1, 2, 3]
        (first, *_) = await node.run("return items")
        assert first == {
            "type": "event", "topic": "orders", "seq": 1, "epoch": first["epoch"], "id": published["id"],
            "payload": {"amount": 5}, "ts": first["ts"], "sender": None,
        }  # fmt: skip
        assert await node.run("return sub.position") == {"orders": {"epoch": first["epoch"], "seq": 4}}
        await node.run("client.close(); await until(() => client.state === 'closed')")


@both
async def test_refusals_have_names(transport: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, transport)
        for code, name in {
            "client.publish('nowhere', 1)": "TopicNotFound",
            "client.publish('orders', 1, {expectSeq: 7})": "Conflict",
            "client.publish('orders', 1, {id: 'x'})": "BadRequest",
            "client.subscribe('nowhere').ready": "TopicNotFound",
            "client.subscribe('orders', {filter: 'payload +'}).ready": "BadRequest",
            "client.subscribe('nowhere').next()": "TopicNotFound",
            "client.history('nowhere', {lastN: 1})": "TopicNotFound",
            "client.presence('orders')": "BadRequest",
            "client.createTopic('orders')": "TopicExists",
            "client.deleteTopic('nowhere')": "TopicNotFound",
        }.items():
            with pytest.raises(JavaScriptError) as caught:
                await node.run(f"return await {code}")
            assert caught.value.name == name, code
        await node.run("client.close()")


@pytest.mark.parametrize("program", sorted({str(NODE), shutil.which("node") or str(NODE)}))
async def test_each_node_works_as_it_comes(program: str) -> None:
    """Node 20 has no WebSocket: there the client uses Server-Sent Events."""
    async with run_server() as server, run_node(program) as node:
        await server.create("orders")
        await start(node, server.url)
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        await node.run("await client.publish('orders', 1)")
        assert await payloads(node, 1) == [1]
        assert await node.run("return client.streams === (globalThis.WebSocket === undefined)")
        await node.run("client.close()")


async def test_a_package_can_bring_the_web_socket() -> None:
    """Its class has the interface of the browsers' one."""
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        own = "class extends WebSocket { static made = 0; constructor(url) { super(url); Own.made++; } }"
        await node.run(f"globalThis.Own = {own}")
        await start(node, server.url, "{WebSocket: Own}")
        await node.run("await client.publish('orders', 1); client.close()")
        assert await node.run("return Own.made") == 1
