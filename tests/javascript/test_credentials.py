"""The JavaScript client with tokens and keys: renewed in time, asked for again, and the end where there is no other."""

from __future__ import annotations

import time

from tests.credentials import API_KEYS, SECRET, make_token
from tests.harness import on_one_loop, run_server
from tests.javascript.node import run_node
from tests.javascript.test_client import both, payloads, start

pytestmark = on_one_loop

TOKEN = make_token(subscribe=["orders"], publish=["orders"])


def short_token(seconds: float) -> str:
    return make_token(subscribe=["orders"], publish=["orders"], exp=time.time() + seconds)


@both
async def test_a_token_gives_the_name_and_the_rights(transport: str) -> None:
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        token = make_token("ålice", publish=["orders"], admin=True)
        await start(node, server.url, transport.replace("{", f"{{token: '{token}', "))
        await node.run("await client.createTopic('orders', {sender: true})")
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        await node.run("await client.publish('orders', 1); await until(() => items.length)")
        assert await node.run("return [items[0].sender, client.clientId]") == ["ålice", "ålice"]
        await node.run("client.close()")
        await start(node, server.url, transport.replace("{", f"{{token: '{make_token()}', "))
        failure = await node.run("return (await client.subscribe('others').ready.catch((error) => error)).name")
        assert failure == "Forbidden"
        await node.run("client.close()")


@both
async def test_a_bad_token_without_a_function_is_the_end(transport: str) -> None:
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await start(node, server.url, transport.replace("{", "{token: 'nonsense', onState: (c) => changes.push(c), "))
        await node.run("globalThis.sub = client.subscribe('orders'); await until(() => client.state === 'closed')")
        assert await node.run("return (await sub.ready.catch((error) => error)).name") == "Disconnected"
        assert await node.run("const [{state, error}] = changes; return [state, error.name, error.code]") == [
            "closed", "Disconnected", 4401,
        ]  # fmt: skip


@both
async def test_a_token_is_renewed_before_it_expires(transport: str) -> None:
    """Each token is good for two seconds; the connection, or the stream, outlives the first."""
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await server.create("orders")
        options = "{heartbeat: 0.4, onState: (c) => changes.push(c), token: async () => tokens.shift() ?? last"
        tokens = [short_token(2), TOKEN]
        await node.run(f"globalThis.tokens = {tokens}; globalThis.last = tokens.at(-1)")
        await start(node, server.url, transport.replace("{", options + ", ") if "null" in transport else options + "}")
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        await node.run("await until(() => tokens.length === 0)")
        await node.run("const end = Date.now() + 2100; await until(() => Date.now() > end)")
        await node.run("await client.publish('orders', 1)")
        assert await payloads(node, 1) == [1]
        assert await node.run("return changes.map(({state}) => state)") == ["open"]
        await node.run("client.close()")


@both
async def test_an_expired_token_costs_a_reconnect_and_nothing_else(transport: str) -> None:
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await server.create("orders")
        tokens = [short_token(1), TOKEN]
        await node.run(f"globalThis.tokens = {tokens}; globalThis.last = tokens.at(-1)")
        options = "{onState: (c) => changes.push(c), token: async () => tokens.shift() ?? last"
        await start(node, server.url, transport.replace("{", options + ", ") if "null" in transport else options + "}")
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        await node.run("await until(() => changes.length === 3)")
        await node.run("await client.publish('orders', 1)")
        assert await payloads(node, 1) == [1]
        await node.run("client.close()")


async def test_a_token_function_that_throws_or_hangs_is_told_and_asked_again() -> None:
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await server.create("orders")
        await node.run(
            "globalThis.asked = 0; globalThis.getToken = () => {"
            "    switch (++asked) {"
            "        case 1: throw new RangeError('no');"
            "        case 2: return Promise.reject();"
            "        case 3: return 7;"
            "        case 4: return new Promise(() => {});"
            "        default: return token;"
            "    }"
            "}; globalThis.token = given",
            given=TOKEN,
        )
        await start(node, server.url, "{answerTimeout: 0.2, onState: (c) => changes.push(c), token: getToken}")
        await node.run("await client.subscribe('orders').ready")
        told = await node.run("return changes.map(({state, error}) => [state, error?.name, error?.message])")
        assert told == [
            ["connecting", "TokenError", "token: no"],
            ["connecting", "TokenError", "token: undefined"],
            ["connecting", "TokenError", "token: expected text, got number"],
            ["connecting", "TokenError", "no answer in time"],
            ["open", None, None],
        ]
        await node.run("client.close()")


async def test_a_token_for_a_server_without_tokens_does_no_harm() -> None:
    async with run_server() as server, run_node() as node:
        await server.create("orders")
        await start(node, server.url, "{token: 'any'}")
        await node.run("await client.publish('orders', 1); client.close()")


async def test_an_api_key_is_for_rest() -> None:
    async with run_server(api_keys=API_KEYS) as server, run_node() as node:
        await start(node, server.url, "{apiKey: 'ops-key'}")
        await node.run("await client.createTopic('orders'); await client.publish('orders', 1)")
        assert [each["name"] for each in await node.run("return await client.topics('ord')")] == ["orders"]
        await node.run("client.close()")


async def test_a_renewed_token_with_fewer_rights_ends_a_subscription() -> None:
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await server.create("orders", "others")
        tokens = [make_token(subscribe=["*"], exp=time.time() + 2), make_token(subscribe=["others"])]
        await node.run(f"globalThis.tokens = {tokens}; globalThis.last = tokens.at(-1)")
        await start(node, server.url, "{heartbeat: 0.4, token: async () => tokens.shift() ?? last}")
        failure = await node.run(
            "const sub = client.subscribe('orders'), other = client.subscribe('others');"
            "await sub.ready; await other.ready;"
            "return [(await sub.next().catch((error) => error)).name, other.live]"
        )
        assert failure == ["Forbidden", True]
        await node.run("client.close()")
