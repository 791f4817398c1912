"""Bad input and bad surroundings: nonsense from the server, limits, callbacks that throw, localStorage that throws."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.harness import on_one_loop, run_server
from tests.javascript.node import run_node
from tests.javascript.test_client import both, payloads, start

pytestmark = on_one_loop

CHANGES = "onState: (change) => changes.push(change)"
OPENED = "await until(() => changes.some(({state}) => state === 'open'))"


@dataclass
class Impostor:
    """A server that answers the first message of a connection as it should, and every later one as ``answer`` says."""

    answer: Callable[[dict[str, Any]], str | int]
    received: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        async for message in socket:
            request_ = json.loads(message.data)
            self.received.append(request_)
            if request_["type"] == "ping":
                await socket.send_json({"type": "pong", "request_id": request_["request_id"]})
                continue
            match self.answer(request_):
                case int(code):
                    await socket.close(code=code)
                case text:
                    await socket.send_str(text)
        return socket

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        """Yield the URL."""
        app = web.Application()
        app.router.add_get("/ws", self.serve)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


NONSENSE = {
    "no JSON": "{",
    "null": "null",
    "a number": "7",
    "a list": "[1]",
    "an event without a topic": '{"type":"event","topic":7}',
    "an ack without a position": '{"type":"ack","request_id":"2","topic":"orders","status":"ok","topics":{"a":null}}',
    "an error that is a text": '{"type":"error","error":"no"}',
    "an error without a code": '{"type":"error","request_id":"2","error":{}}',
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_a_server_fault_and_the_client_goes_on(text: str) -> None:
    def answer(request: dict[str, Any]) -> str:
        if impostor.connections == 1:
            return text
        return json.dumps({"type": "ack", "request_id": request["request_id"], "epoch": "e", "seq": 3})

    impostor = Impostor(answer)
    async with impostor.run() as url, run_node() as node:
        await start(node, url, "{" + CHANGES + "}")
        await node.run("globalThis.sub = client.subscribe('orders'); await sub.ready")
        fault = await node.run("return changes.find(({state}) => state === 'connecting').error.name")
        assert fault == "ServerFault"
        assert await node.run("return sub.position") == {"orders": {"epoch": "e", "seq": 3}}
        await node.run("client.close()")


EVENTS = {
    "of an unknown topic": '{"type":"event","topic":"orders.x","seq":1,"message":{"id":"x","payload":1}}',
    "without a message": '{"type":"event","topic":"orders.eu","seq":9}',
}


@pytest.mark.parametrize("text", EVENTS.values(), ids=EVENTS)
async def test_a_wrong_event_is_a_server_fault_too(text: str) -> None:
    def answer(request: dict[str, Any]) -> str:
        topics = {"orders.eu": {"epoch": "e", "seq": 3}}
        if request["type"] == "subscribe":
            return json.dumps({"type": "ack", "request_id": request["request_id"], "topics": topics})
        return text

    impostor = Impostor(answer)
    async with impostor.run() as url, run_node() as node:
        await start(node, url, "{answerTimeout: 1, " + CHANGES + "}")
        await node.run("await client.subscribe('orders.*').ready; client.publish('orders.eu', 1).catch(() => {})")
        await node.run("await until(() => changes.some(({error}) => error?.name === 'ServerFault'))")
        await node.run("client.close()")


async def test_unknown_messages_and_fields_are_ignored() -> None:
    def answer(request: dict[str, Any]) -> str:
        known = {"type": "ack", "request_id": request["request_id"], "epoch": "e", "seq": 3, "new": [1]}
        return json.dumps(known) if request["type"] == "subscribe" else '{"type":"news","topic":"orders"}'

    impostor = Impostor(answer)
    async with impostor.run() as url, run_node() as node:
        await start(node, url, "{answerTimeout: 1, " + CHANGES + "}")
        await node.run("globalThis.sub = client.subscribe('orders'); await sub.ready")
        name = await node.run("return (await client.publish('orders', 1).catch((error) => error)).name")
        assert name == "AnswerTimeout"
        assert await node.run("return client.state") == "open"
        assert await node.run("return sub.position") == {"orders": {"epoch": "e", "seq": 3}}
        await node.run("client.close()")


@pytest.mark.parametrize("code", [1002, 1007, 1008, 4403])
async def test_a_final_close_code_ends_the_client(code: int) -> None:
    impostor = Impostor(lambda _: code)
    async with impostor.run() as url, run_node() as node:
        await start(node, url, "{" + CHANGES + "}")
        errors = await node.run(
            "const sub = client.subscribe('orders');"
            "const publish = await client.publish('orders', 1).catch((error) => error);"
            "const ready = await sub.ready.catch((error) => error);"
            "return [publish, ready, changes.at(-1).error].map(({name, code}) => [name, code])"
        )
        assert errors == [["Disconnected", code]] * 3
        assert await node.run("return client.state") == "closed"
        assert impostor.connections == 1


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013, 3000])
async def test_any_other_close_code_is_followed_by_another_try(code: int) -> None:
    impostor = Impostor(lambda _: code)
    async with impostor.run() as url, run_node() as node:
        await start(node, url, "{" + CHANGES + "}")
        await node.run("client.subscribe('orders'); await until(() => changes.length > 5)")
        await node.run("client.close()")
    assert impostor.connections > 2


async def test_a_message_that_is_too_big_fails_alone() -> None:
    async with run_server(max_message_bytes=1000) as server, run_node() as node:
        await server.create("orders", dedup_sec=60)
        await start(node, server.url)
        names = await node.run(
            "const publishes = [1, 'x'.repeat(2000), 3].map((payload) => client.publish('orders', payload));"
            "return (await Promise.allSettled(publishes)).map(({value, reason}) => value?.seq ?? reason.name)"
        )
        assert names == [1, "TooBig", 2]
        await node.run("client.close()")


async def test_a_rate_is_waited_out() -> None:
    """100 messages at once for a server that takes five and then 200 a second."""
    async with run_server(rate_limit_msgs_per_sec=200, rate_limit_burst=5) as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, "{clientId: 'alice'}")
        seqs = await node.run("return (await client.publishMany('orders', [...Array(100).keys()])).map(({seq}) => seq)")
        assert sorted(seqs) == list(range(1, 101))
        await node.run("client.close()")


async def test_outgoing_messages_are_bounded() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, "{maxOutgoing: 2, whenFull: 'raise'}")
        names = await node.run(
            "const publishes = [1, 2, 3].map((payload) => client.publish('orders', payload));"
            "return (await Promise.allSettled(publishes)).map(({value, reason}) => value?.seq ?? reason.name)"
        )
        assert names == [1, 2, "OutgoingFull"]
        await node.run("client.close()")
        await start(node, server.url, "{maxOutgoing: 2}")
        seqs = await node.run("return (await client.publishMany('orders', [3, 4, 5, 6, 7])).map(({seq}) => seq)")
        assert seqs == [3, 4, 5, 6, 7]
        await node.run("client.close()")


@both
async def test_callbacks_that_throw_cost_nothing(transport: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        options = "onState: () => { throw new RangeError('state'); }, onError: (error) => errors.push(error.message)"
        await node.run("globalThis.errors = []; globalThis.got = []")
        await start(node, server.url, transport.replace("{", "{" + options + ", "))
        await node.run(
            "globalThis.sub = client.subscribe('orders', {}, async (item) => {"
            "    got.push(item.payload); throw new RangeError(item.payload);"
            "}); await sub.ready"
        )
        server.publish_locally("orders", ["a", "b"])
        await node.run("await until(() => errors.length >= 3)")
        assert await node.run("return [got, errors]") == [["a", "b"], ["state", "a", "b"]]
        assert await node.run("return sub.position.orders.seq") == 2
        await node.run("client.subscribe('nowhere', {}, () => {}); await until(() => errors.length >= 4)")
        assert "not" in await node.run("return errors.at(-1)")
        await node.run("client.close()")


async def test_a_callback_is_awaited() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url)
        await node.run(
            "globalThis.running = 0; globalThis.most = 0; globalThis.got = [];"
            "globalThis.sub = client.subscribe('orders', {}, async (item) => {"
            "    most = Math.max(most, ++running); await new Promise((resolve) => setTimeout(resolve));"
            "    running--; got.push(item.payload);"
            "}); await sub.ready"
        )
        server.publish_locally("orders", [1, 2, 3])
        assert await node.run("await until(() => got.length === 3); return [got, most]") == [[1, 2, 3], 1]
        await node.run("client.close()")


STORAGES = {
    "missing": "delete globalThis.localStorage",
    "throws on use": "Object.defineProperty(globalThis, 'localStorage', {get() { throw Error(); }})",
    "throws on write": "globalThis.localStorage = {getItem: () => null, setItem: () => { throw Error('full'); }}",
    "has nonsense": "globalThis.localStorage = {getItem: () => '{\"orders\":7', setItem: () => {}}",
    "has other JSON": "globalThis.localStorage = {getItem: () => '{\"orders\":null}', setItem: () => {}}",
}


@pytest.mark.parametrize("code", STORAGES.values(), ids=STORAGES)
async def test_a_storage_that_throws_costs_nothing(code: str) -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await node.run("globalThis.errors = [];" + code)
        await start(node, server.url, "{onError: (error) => errors.push(error.name)}")
        await node.run("globalThis.sub = client.subscribe('orders', {persist: 'key'}); globalThis.items = collect(sub)")
        await node.run("await sub.ready; await client.publish('orders', 1)")
        assert await payloads(node, 1) == [1]
        await node.run("client.close()")
        assert await node.run("return errors") == ["StorageError"]


async def test_positions_are_kept_over_a_reload() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await node.run(
            "globalThis.stored = new Map(); globalThis.localStorage = {"
            "    getItem: (key) => stored.get(key) ?? null, setItem: (key, text) => stored.set(key, text)}"
        )
        await start(node, server.url)
        await node.run("globalThis.sub = client.subscribe('orders', {persist: 'key'}); await sub.ready")
        server.publish_locally("orders", [1, 2])
        await node.run("await sub.next(); client.close()")
        await start(node, server.url)
        await node.run("globalThis.items = collect(client.subscribe('orders', {persist: 'key'}))")
        assert await payloads(node, 1) == [2]
        stored = json.loads(
            await node.run("await until(() => stored.get('key').includes(':2')); return stored.get('key')")
        )
        assert stored == {"orders": {"epoch": stored["orders"]["epoch"], "seq": 2}}
        await node.run("client.close()")


async def test_a_payload_that_is_no_json_is_refused_at_once() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url)
        names = await node.run(
            "const loop = {}; loop.loop = loop;"
            "const publishes = [loop, 1n, undefined, 1].map((payload) => client.publish('orders', payload));"
            "return (await Promise.allSettled(publishes)).map(({value, reason}) => value?.seq ?? reason.name)"
        )
        assert names == ["TypeError", "TypeError", "BadRequest", 1]
        await node.run("client.close()")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "nonsense", "/"])
async def test_a_wrong_url_throws_at_once(url: str) -> None:
    async with run_node() as node:
        assert await node.run("try { new Client(url) } catch (error) { return error.name }", url=url) == "TypeError"


async def test_urls_of_the_server_and_its_websocket_mean_the_same() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        for url in (server.url, f"{server.url}/", f"{server.url}/ws", f"ws://127.0.0.1:{server.port}/ws"):
            await start(node, url)
            await node.run("await client.publish('orders', 1); await client.topic('orders'); client.close()")
        await asyncio.sleep(0)


async def test_a_socket_that_closes_at_once_leaves_nothing() -> None:
    """Some classes of WebSockets call ``onclose`` before ``close`` returns."""
    async with run_node() as node:
        await node.run(
            "globalThis.made = 0; globalThis.Hasty = class {"
            "    constructor() { made++; setTimeout(() => this.onopen()); }"
            "    send() {}"
            "    close() { this.onclose({code: 1006}); }"
            "}"
        )
        await start(node, "http://127.0.0.1:9", "{WebSocket: Hasty, answerTimeout: 0.1, " + CHANGES + "}")
        await node.run("await until(() => made >= 1 && changes.length >= 1); client.close()")
        await node.run("globalThis.before = made; await new Promise((resolve) => setTimeout(resolve, 50))")
        assert await node.run("return made === before")
        assert await node.run("return changes.at(-1).state") == "closed"


async def test_failing_tokens_do_not_count_against_web_sockets() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await node.run("globalThis.getToken = () => { if (changes.length < 4) throw Error(); return 'x'; }")
        await start(node, server.url, "{token: getToken, " + CHANGES + "}")
        await node.run("await client.publish('orders', 1)")
        assert await node.run("return client.streams") is False
        await node.run("client.close()")


async def test_a_page_over_http_makes_ids_too() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await node.run(
            "Object.defineProperty(crypto, 'randomUUID', {value: undefined}); globalThis.random = Math.random"
        )
        await start(node, server.url)
        await node.run("Math.random = random")
        ids = await node.run("return (await client.publishMany('orders', [1, 2])).map(({id}) => id)")
        assert len({str(uuid.UUID(each)) for each in ids}) == 2
        await node.run("client.close()")


async def test_consumers_share_the_items() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url)
        await node.run(
            "globalThis.sub = client.subscribe('orders'); globalThis.got = [];"
            "globalThis.take = async () => { for (let i = 0; i < 5; i++) got.push((await sub.next()).value.payload); };"
            "globalThis.taking = Promise.all([take(), take()]); await sub.ready"
        )
        server.publish_locally("orders", list(range(10)))
        assert sorted(await node.run("await taking; return got")) == list(range(10))
        await node.run("client.close()")
