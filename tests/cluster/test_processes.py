"""Servers in processes of their own on a real Redis: they answer for each other, end, are killed and are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
import pytest

from tests.forked import PRELUDE
from tests.harness import PATIENCE, Client, ForkedServer, Json
from tests.redis.driver import prefixes
from tests.redis.programs import RedisServer

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

QUIET = 0.3  # seconds in which nothing is to be told


class QuickServer(ForkedServer):
    """It notices in tenths of a second what others notice in seconds."""

    http: aiohttp.ClientSession

    def __init__(self, *flags: str) -> None:
        super().__init__(*flags, environment={PRELUDE: "tests.cluster.quick_server"})

    async def get(self, path: str) -> Json:
        async with self.http.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()  # type: ignore[no-any-return]

    async def send(self, method: str, path: str, body: Any = None) -> tuple[int, Json]:
        async with self.http.request(method, path, json=body) as response:
            return response.status, await response.json()

    @contextlib.asynccontextmanager
    async def client(self, client_id: str, *topics: str) -> AsyncIterator[Client]:
        async with self.http.ws_connect(f"/ws?client_id={client_id}", autoping=False) as socket_:
            client = Client(socket_)
            for topic in topics:
                await client.subscribe(topic, client_id=client_id)
            yield client

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, url: str, *flags: str) -> AsyncIterator[Self]:
        with await asyncio.to_thread(cls, "--journal-url", url, *flags) as server:
            async with aiohttp.ClientSession(server.url) as server.http:
                yield server


@pytest.fixture
async def url(redis_server: RedisServer) -> str:
    return redis_server.url(f"cluster-{next(prefixes)}")


@contextlib.asynccontextmanager
async def run_two(url: str, *flags: str) -> AsyncIterator[tuple[QuickServer, QuickServer]]:
    async with QuickServer.run(url, *flags) as one, QuickServer.run(url, *flags) as other:
        yield one, other


async def until(server: QuickServer, path: str, **wanted: Any) -> Json:
    """Ask until the answer has these values."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await server.get(path)
            if {name: answer.get(name) for name in wanted} == wanted:
                return answer
            await asyncio.sleep(0.02)


async def test_two_servers(redis_server: RedisServer, url: str) -> None:
    """One test for all of it, to start few servers."""
    async with run_two(url, "--max-connections-per-client", "2") as (one, other):
        await until(one, "/health", servers=2)
        await check_answers(one, other)
        await one.send("POST", "/topics", {"name": "people", "presence": True})
        async with one.client("x", "people") as x, other.client("y", "people"):
            assert (await x.receive())["client_id"] == "y"
            await stop_for_a_while(one, other, x)
            await stop_redis_for_a_while(one, redis_server, x)
        await end(one, other, signal.SIGKILL)
        async with QuickServer.run(url, "--shutdown-timeout-sec", "1") as third:
            await end(one, third, signal.SIGTERM)


async def check_answers(one: QuickServer, other: QuickServer) -> None:
    """Each of them speaks for both."""
    await one.create("room")
    assert (await other.send("POST", "/topics", {"name": "late", "presence": True}))[0] == 201
    async with one.client("x", "room", "late") as x, other.client("y", "room", "late") as y:
        assert (await x.receive())["client_id"] == "y"
        for server in (one, other):
            assert (await server.get("/topics/room"))["subscribers"] == 2
            assert (await server.get("/topics/room?scope=server"))["subscribers"] == 1
            assert [row["client_id"] for row in (await server.get("/clients?limit=1"))["clients"]] in (["x"], ["y"])
            assert (await server.get("/topics/late/presence"))["count"] == 2
        assert (await one.send("POST", "/topics/room/messages", {"payload": 1}))[1]["seq"] == 1
        await y.receive()
        for server in (one, other):
            trace = await server.get("/clients/y/trace?topic=room&seq=1")
            assert [row["outcome"] for row in trace["connections"]] == ["sent"]
        async with one.client("y"):
            await until(one, "/clients/y")
            await refused(other, "y")
        status, answer = await one.send("DELETE", "/clients/y")
        assert (status, answer["connections"]) == (200, 1)
        assert await y.closed() == 4403
        assert [(await x.receive()).get("msg") for _ in range(2)] == [None, "left"]


async def stop_for_a_while(one: QuickServer, other: QuickServer, x: Client) -> None:
    """A server that is dead for some time comes again with its clients."""
    other.process.send_signal(signal.SIGSTOP)
    assert (await one.get("/topics"))["missing"]
    left = await x.receive()
    assert (left["msg"], left["client_id"]) == ("left", "y")
    assert "missing" not in await one.get("/topics")
    other.process.send_signal(signal.SIGCONT)
    joined = await x.receive()
    assert (joined["msg"], joined["client_id"]) == ("joined", "y")
    for server in (one, other):
        await until(server, "/topics/people/presence", count=2)


async def stop_redis_for_a_while(one: QuickServer, redis_server: RedisServer, x: Client) -> None:
    """Nobody is declared dead, and nobody leaves."""
    redis_server.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(1.4)  # longer than until a silent server is dead
        assert (await one.get("/health"))["servers"] == 2
        assert (await one.get("/topics/people/presence"))["count"] == 2
    finally:
        redis_server.signal(signal.SIGCONT)
    await until(one, "/health", status=None, servers=2)
    assert (await one.send("POST", "/topics/people/messages", {"payload": 1}))[0] == 200
    assert (await x.receive())["type"] == "event"
    await asyncio.sleep(QUIET)
    await x.sync()
    assert [message["msg"] for message in x.others if message.get("msg") in ("joined", "left")] == []


async def refused(server: QuickServer, client_id: str) -> None:
    """Wait until a server refuses one more connection of a client, which others have to tell it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with server.client(client_id):
                    await asyncio.sleep(0.02)
            except aiohttp.WSServerHandshakeError:
                return


async def end(watched: QuickServer, other: QuickServer, how: signal.Signals) -> None:
    """Clients that reconnect to another server in time have not left; the others leave."""
    topic = f"end.{how.name.lower()}"
    await watched.send("POST", "/topics", {"name": topic, "presence": True})
    async with watched.client("watcher", topic) as watcher:
        async with other.client("moves", topic), other.client("goes", topic):
            assert {(await watcher.receive())["client_id"] for _ in range(2)} == {"moves", "goes"}
            other.process.send_signal(how)
            async with watched.client("moves", topic):
                left = await watcher.receive()
                assert (left["msg"], left["client_id"]) == ("left", "goes")
                await until(watched, "/health", servers=1)
                assert (await watched.get(f"/topics/{topic}/presence"))["count"] == 2
            await asyncio.to_thread(other.wait)
        left = await watcher.receive()
        assert (left["msg"], left["client_id"]) == ("left", "moves")
