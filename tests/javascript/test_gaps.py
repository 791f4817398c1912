"""Events that the JavaScript client did not get: they are fetched, or told as a gap, always in their place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults import FaultyLine
from tests.harness import Json, on_one_loop, run_server
from tests.javascript.node import run_node
from tests.javascript.test_client import both, payloads, start

pytestmark = on_one_loop

SUBSCRIBE = "globalThis.sub = client.subscribe(topic, options ?? {}); await sub.ready;"
NEXT = "const {value} = await sub.next(); return value"


@both
async def test_what_a_slow_consumer_left_out_is_fetched(transport: str) -> None:
    """1,000 messages for a consumer that has room for ten, and takes none before all have come."""
    async with run_server(ring_buffer_size=2000, subscriber_queue_size=2000) as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, transport.replace("{", "{maxIncoming: 10, "))
        await node.run(SUBSCRIBE, topic="orders", options={})
        server.publish_locally("orders", list(range(1000)))
        await node.run("globalThis.last = await client.publish('orders', 'last')")
        await node.run("globalThis.items = collect(sub)")
        assert await payloads(node, 1001) == [*range(1000), "last"]
        await node.run("client.close()")


@both
async def test_what_is_no_longer_kept_is_a_gap_in_its_place(transport: str) -> None:
    async with run_server(ring_buffer_size=20, subscriber_queue_size=2000) as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, transport.replace("{", "{maxIncoming: 10, "))
        await node.run(SUBSCRIBE, topic="orders", options={})
        server.publish_locally("orders", list(range(1, 101)))
        await node.run("await client.publish('orders', 101); globalThis.items = collect(sub)")
        found = await payloads(node, 31)
        assert found == [*range(1, 11), ["gap", 11, 81], *range(82, 102)]
        gap: Json = await node.run("return items[10]")
        assert gap == {
            "type": "gap", "topic": "orders", "epoch": gap["epoch"], "fromSeq": 11, "toSeq": 81, "count": 71,
            "reason": "lost",
        }  # fmt: skip
        assert await node.run("return sub.position.orders.seq") == 101
        await node.run("client.close()")


async def test_without_mending_a_gap_is_told_at_once() -> None:
    async with run_server(ring_buffer_size=2000, subscriber_queue_size=2000) as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, "{maxIncoming: 10}")
        await node.run(SUBSCRIBE, topic="orders", options={"mend": False})
        server.publish_locally("orders", list(range(1, 101)))
        await node.run("await client.publish('orders', 101); globalThis.items = collect(sub)")
        await node.run("await until(() => items.at(-1)?.payload === 101 || items.at(-1)?.toSeq === 101)")
        before, gap, after = (found := await payloads(node, 11))[:10], found[10], found[11:]
        assert (before, after) == ([*range(1, 11)], [*range(gap[2] + 1, 102)])
        assert gap[:2] == ["gap", 11]
        assert await node.run("return items[10].reason") == "dropped"
        await node.run("client.close()")


async def test_a_position_that_is_too_old_is_told() -> None:
    async with run_server(ring_buffer_size=10) as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url)
        epoch = (await server.get("/topics/orders"))["epoch"]
        server.publish_locally("orders", list(range(1, 31)))
        options = {"resume": {"orders": {"epoch": epoch, "seq": 5}}}
        await node.run(SUBSCRIBE + "globalThis.items = collect(sub)", topic="orders", options=options)
        assert await payloads(node, 11) == [["gap", 6, 20], *range(21, 31)]
        await node.run("client.close()")


async def test_a_filter_leaves_no_gaps() -> None:
    async with run_server(ring_buffer_size=2000, subscriber_queue_size=2000) as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, "{maxIncoming: 10}")
        options = {"filter": "payload % params.by == 0", "params": {"by": 3}, "lastN": 2}
        server.publish_locally("orders", [-9, -6, -3, -1])
        await node.run(SUBSCRIBE, topic="orders", options=options)
        server.publish_locally("orders", list(range(1, 301)))
        await node.run("await client.publish('orders', 300); globalThis.items = collect(sub)")
        assert await payloads(node, 103) == [-6, -3, *range(3, 301, 3), 300]
        await node.run("client.close()")


@both
async def test_last_n_and_resume(transport: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        server.publish_locally("orders", [1, 2, 3])
        await start(node, server.url, transport)
        await node.run(SUBSCRIBE, topic="orders", options={"lastN": 2})
        position = await node.run("return sub.position")
        assert position["orders"]["seq"] == 1
        assert (await node.run(NEXT))["payload"] == 2
        position = await node.run("const {position} = sub; sub.close(); return position")
        assert position["orders"]["seq"] == 2
        server.publish_locally("orders", [4])
        await node.run(SUBSCRIBE + "globalThis.items = collect(sub)", topic="orders", options={"resume": position})
        assert await payloads(node, 2) == [3, 4]
        await node.run("client.close()")


@both
async def test_state_and_stream_meet_without_a_hole(transport: str) -> None:
    """Messages come while the state is loaded. The state has some of them; the stream begins where the load began."""
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        server.publish_locally("orders", [1, 2])
        await start(node, server.url, transport)
        await node.run(
            "globalThis.loads = 0;"
            "globalThis.sub = client.subscribe('orders', {load: async () => {"
            "    loads++; await client.publish('orders', 'while loading'); return `state ${loads}`;"
            "}}); await sub.ready; globalThis.items = collect(sub)"
        )
        assert await node.run("return sub.state") == "state 1"
        assert await payloads(node, 1) == ["while loading"]
        server.publish_locally("orders", [3])
        assert await payloads(node, 2) == ["while loading", 3]
        assert await node.run("return await sub.reload()") == "state 2"
        assert await payloads(node, 3) == ["while loading", 3, "while loading"]
        await node.run("client.close()")


async def test_a_load_that_throws_ends_its_subscription_alone() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders", "others")
        await start(node, server.url)
        await node.run("globalThis.items = collect(globalThis.good = client.subscribe('others')); await good.ready")
        failure = await node.run(
            "const sub = client.subscribe('orders', {load: () => { throw new RangeError('no') }});"
            "const first = await sub.ready.catch((error) => error);"
            "return [first.name, await sub.next().catch((error) => error.name), (await sub.next()).done]"
        )
        assert failure == ["RangeError", "RangeError", True]
        server.publish_locally("others", [1])
        assert await payloads(node, 1) == [1]
        await node.run("client.close()")


@both
async def test_own_messages_can_be_left_out(transport: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, transport)
        await node.run(SUBSCRIBE + "globalThis.items = collect(sub)", topic="orders", options={"echo": False})
        await node.run("await client.publishMany('orders', [1, 2])")
        server.publish_locally("orders", [3])
        assert await payloads(node, 1) == [3]
        assert await node.run("return sub.position.orders.seq") == 3
        await node.run("client.close()")


@both
async def test_subscriptions_that_overlap_get_exactly_their_own(transport: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("a.x", "a.y")
        await start(node, server.url, transport)
        await node.run(
            "globalThis.names = ['a.x', 'a.*', 'a.x', '>', 'a.y'];"
            "globalThis.filters = [undefined, 'payload > 1', 'payload < 2', undefined, undefined];"
            "globalThis.subs = names.map((name, i) => client.subscribe(name, {filter: filters[i]}));"
            "for (const sub of subs) await sub.ready;"
            "globalThis.lists = subs.map(collect)"
        )
        server.publish_locally("a.x", [1, 2])
        server.publish_locally("a.y", [3])
        found: list[Any] = await node.run(
            "await until(() => lists.flat().length >= 9);"
            "return lists.map((list) => list.map((item) => item.payload).sort())"
        )
        assert found == [[1, 2], [2, 3], [1], [1, 2, 3], [3]]
        await node.run("for (const sub of subs.slice(1)) sub.close()")
        server.publish_locally("a.x", [5])
        assert await node.run("await until(() => lists[0].length === 3); return client.state") == "open"
        await node.run("client.close()")


async def test_connections_of_overlapping_subscriptions_end_with_them() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("a")
        await start(node, server.url)
        await node.run(
            "globalThis.subs = ['a', 'a', 'a'].map((name) => client.subscribe(name));"
            "for (const sub of subs) await sub.ready"
        )
        assert server.connections == 3
        await node.run("subs[1].close(); await client.publish('a', 1)")
        assert server.connections == 3, "the third one stands behind it"
        await node.run("subs[2].close()")
        await node.run("while ((await client.topic('a')).subscribers > 1);")
        assert server.connections == 1
        await node.run("client.close()")


async def test_a_partitioned_subscription_mends_a_gap_of_many_pages() -> None:
    async with (
        run_server(ring_buffer_size=5000) as server,
        FaultyLine.to(server.port) as line,
        run_node() as node,
    ):
        await server.create("orders")
        await start(node, f"http://127.0.0.1:{line.port}", "{maxIncoming: 100}")
        await node.run(SUBSCRIBE, topic="orders", options={})
        line.stall()
        line.cut()
        server.publish_locally("orders", list(range(3000)))
        line.heal()
        await node.run("globalThis.items = collect(sub)")
        assert await payloads(node, 3000) == list(range(3000))
        await node.run("client.close()")


@pytest.mark.parametrize("options", [{}, {"mend": False}])
async def test_joined_and_left_are_notices(options: Json) -> None:
    async with run_server() as server, run_node() as node, server.client("bob") as bob:
        await server.create("room", presence=True)
        await start(node, server.url, "{clientId: 'alice'}")
        await node.run(SUBSCRIBE + "globalThis.items = collect(sub)", topic="room", options={"notices": True} | options)
        await bob.subscribe("room", client_id="bob")
        (notice,) = await node.run("await until(() => items.length === 1); return items")
        assert notice == {"type": "notice", "kind": "joined", "topic": "room", "clientId": "bob"}
        found = await node.run("return await client.presence('room')")
        assert found == {
            "topic": "room",
            "count": 2,
            "clients": [{"clientId": "alice", "connections": 1}, {"clientId": "bob", "connections": 1}],
        }
        await node.run("client.close()")
