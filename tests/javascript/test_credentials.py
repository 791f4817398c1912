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


# Gives the `tokens` one after another, and the last one again and again.
NEXT_TOKEN = """
globalThis.tokens = given;
globalThis.getToken = async () => tokens.length > 1 ? tokens.shift() : tokens[0];
"""


def renewing(transport: str, more: str = "") -> str:
    """The options of a client that gets its tokens from ``getToken``."""
    return transport.replace("{", "{token: getToken, onState: (change) => changes.push(change), " + more)


@both
async def test_a_token_is_renewed_before_it_expires(transport: str) -> None:
    """To the client's clock the first token is about to expire, while to that of the server it is not."""
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await server.create("orders", "others")
        both_topics, one_topic = ["orders", "others"], ["others"]
        tokens = [make_token(subscribe=both_topics, exp=time.time() + 1000), make_token(subscribe=one_topic)]
        await node.run(NEXT_TOKEN + "const {now} = Date; Date.now = () => now() + 998_000", given=tokens)
        await start(node, server.url, renewing(transport, "heartbeat: 2, "))
        await node.run("globalThis.orders = client.subscribe('orders'); globalThis.others = client.subscribe('others')")
        await node.run("await orders.ready; await others.ready")
        assert await node.run("return (await orders.next().catch((error) => error)).name") == "Forbidden"
        server.publish_locally("others", [1])
        assert await node.run("return (await others.next()).value.payload") == 1
        if "null" not in transport:
            assert await node.run("return changes.map(({state}) => state)") == ["open"]
        await node.run("client.close()")


@both
async def test_an_expired_token_costs_a_reconnect_and_nothing_else(transport: str) -> None:
    async with run_server(jwt_secret=SECRET) as server, run_node() as node:
        await server.create("orders")
        await node.run(NEXT_TOKEN, given=[short_token(1), TOKEN])
        await start(node, server.url, renewing(transport))
        await node.run("globalThis.items = collect(globalThis.sub = client.subscribe('orders')); await sub.ready")
        await node.run("await until(() => tokens.length === 1 && client.state === 'open')")
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
        told = await node.run(
            "return changes.filter(({error}) => error?.name === 'TokenError').map(({error}) => error.message)"
        )
        assert told == ["token: no", "token: undefined", "token: expected text, got number", "no answer in time"]
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
