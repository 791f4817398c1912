"""Two whole servers on one Redis, through its faults: nothing acknowledged is lost, and recovery is automatic."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness import LOCAL, PATIENCE, REPOSITORY, Client, ForkedServer, clean_environment, new_id, on_one_loop
from tests.redis.programs import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer.run(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def servers(redis: RedisServer) -> Iterator[tuple[ForkedServer, ForkedServer]]:
    flags = ("--journal-url", redis.url("t"), "--journal-wait-sec", "1")
    with ForkedServer(*flags) as one, ForkedServer(*flags) as two:
        yield one, two


class Writer:
    """Publishes numbers over REST, one after the other. ``acknowledged``: those that were taken."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._next = 0
        self.acknowledged: list[int] = []
        self.refused = 0

    async def publish(self) -> bool:
        self._next += 1
        body = {"id": new_id(), "payload": self._next}
        async with self._http.post("/topics/t/messages", json=body) as response:
            assert response.status in (200, 503), await response.text()
            if response.status == 200:
                self.acknowledged.append(self._next)
            else:
                assert "error" in await response.json()
                self.refused += 1
            return response.status == 200

    async def publish_until(self, taken: bool) -> None:
        async with asyncio.timeout(3 * PATIENCE):
            while await self.publish() != taken:  # noqa: ASYNC110 - as a client would
                await asyncio.sleep(0.01)


class World:
    """A writer at one server, a subscriber at the other."""

    def __init__(self, one: aiohttp.ClientSession, two: aiohttp.ClientSession, client: Client) -> None:
        self.one, self.two, self.client = one, two, client
        self.writer = Writer(one)

    @classmethod
    @asynccontextmanager
    async def open(cls, servers: tuple[ForkedServer, ForkedServer]) -> AsyncIterator[World]:
        first, second = servers
        async with (
            aiohttp.ClientSession(first.url) as one,
            aiohttp.ClientSession(second.url) as two,
            two.ws_connect("/ws?client_id=tester", autoping=False) as websocket,
        ):
            async with one.post("/topics", json={"name": "t", "history": 1000}) as response:
                assert response.status == 201, await response.text()
            world = cls(one, two, Client(websocket))
            await world.client.subscribe("t")
            yield world

    async def health(self, http: aiohttp.ClientSession) -> Any:
        async with http.get("/health") as response:
            return await response.json()

    async def is_well(self) -> None:
        """Wait until both servers are healthy."""
        async with asyncio.timeout(3 * PATIENCE):
            for http in (self.one, self.two):
                while "status" in await self.health(http):  # noqa: ASYNC110 - another process gives no event
                    await asyncio.sleep(0.02)

    async def kept(self, http: aiohttp.ClientSession) -> list[int]:
        async with http.get("/topics/t/messages?after=0&limit=1000") as response:
            assert response.status == 200, await response.text()
            return [event["message"]["payload"] for event in (await response.json())["messages"]]

    async def hears_all(self) -> list[Any]:
        """All that the subscriber is told, up to the last acknowledged number."""
        told: list[Any] = []
        while not told or told[-1].get("message", {}).get("payload") != self.writer.acknowledged[-1]:
            told.append(await self.client.receive())
        return told


def payloads(told: list[Any]) -> list[int]:
    return [message["message"]["payload"] for message in told if message["type"] == "event"]


async def check(world: World, told: list[Any]) -> None:
    """Nothing that was acknowledged is lost, nothing comes twice, and both servers keep the same."""
    heard = payloads(told)
    assert heard == sorted(set(heard))
    assert set(world.writer.acknowledged) <= set(heard)
    kept = await world.kept(world.one)
    assert kept == await world.kept(world.two)
    assert set(world.writer.acknowledged) <= set(kept)


async def goes_on_without_a_word(world: World) -> None:
    """Publishes work again, nothing is lost, and no client was told of anything."""
    await world.writer.publish_until(taken=True)
    told = await world.hears_all()
    assert [message for message in told if message["type"] == "info"] == []
    await check(world, told)


@on_one_loop
async def test_a_publish_at_one_server_reaches_a_subscriber_at_the_other(
    servers: tuple[ForkedServer, ForkedServer],
) -> None:
    async with World.open(servers) as world:
        for _ in range(50):
            await world.writer.publish()
        told = await world.hears_all()
        assert [(event["seq"], event["message"]["payload"]) for event in told] == [(n, n) for n in range(1, 51)]
        await check(world, told)


@on_one_loop
async def test_a_redis_that_is_killed_and_comes_back_with_its_data(
    servers: tuple[ForkedServer, ForkedServer], redis: RedisServer
) -> None:
    async with World.open(servers) as world:
        for _ in range(20):
            await world.writer.publish()
        redis.kill()
        await world.writer.publish_until(taken=False)
        assert (await world.health(world.one))["status"] == "degraded"
        redis.start()
        await world.writer.publish_until(taken=True)
        await world.is_well()
        await world.writer.publish()
        told = await world.hears_all()
        renewed = [message for message in told if message["type"] == "info"]
        assert [message["msg"] for message in renewed] == ["topic_created"]
        await check(world, told)


@on_one_loop
async def test_a_redis_that_hangs_refuses_in_time_and_goes_on(
    servers: tuple[ForkedServer, ForkedServer], redis: RedisServer
) -> None:
    async with World.open(servers) as world:
        await world.writer.publish()
        redis.signal(signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            assert not await world.writer.publish()
        redis.signal(signal.SIGCONT)
        await goes_on_without_a_word(world)


@on_one_loop
async def test_clients_that_redis_kills_come_back(
    servers: tuple[ForkedServer, ForkedServer], redis: RedisServer
) -> None:
    async with World.open(servers) as world:
        with redis.admin as admin:
            for n in range(60):
                await world.writer.publish()
                if n % 20 == 10:
                    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await goes_on_without_a_word(world)


@on_one_loop
async def test_a_redis_without_memory_refuses_and_recovers(
    servers: tuple[ForkedServer, ForkedServer], redis: RedisServer
) -> None:
    async with World.open(servers) as world:
        await world.writer.publish()
        with redis.admin as admin:
            admin.config_set("maxmemory", 1)
            assert not await world.writer.publish()
            health = await world.health(world.one)
            assert health["status"] == "degraded"
            assert "OOM" in health["reason"]
            assert await world.kept(world.two) == [1]
            admin.config_set("maxmemory", 0)
        await world.writer.publish_until(taken=True)
        await world.is_well()
        await check(world, await world.hears_all())


@on_one_loop
async def test_a_redis_that_lost_everything_is_told(
    servers: tuple[ForkedServer, ForkedServer], redis: RedisServer
) -> None:
    async with World.open(servers) as world:
        await world.writer.publish()
        assert (await world.client.receive())["seq"] == 1
        redis.restart(empty=True)
        deleted = await world.client.receive()
        assert (deleted["type"], deleted["msg"], deleted["topic"]) == ("info", "topic_deleted", "t")
        await world.is_well()
        async with world.two.post("/topics", json={"name": "t"}) as response:
            assert response.status == 201
        await world.client.subscribe("t")
        assert await world.writer.publish()
        assert (await world.client.receive())["seq"] == 1


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("redis://nobody:wrong@127.0.0.1:{port}", "the user or password is wrong"),
        ("redis://127.0.0.1:{port}/x", "JOURNAL_URL: expected the number of a database, got 'x'"),
    ],
)
def test_a_start_that_can_never_work_ends_with_one_line(redis_server: RedisServer, url: str, line: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pubsub", "serve", *LOCAL, "--port", "0", "--journal-url",
         url.format(port=redis_server.port)],
        capture_output=True, text=True, timeout=30, cwd=REPOSITORY, env=clean_environment(), check=False,
    )  # fmt: skip
    assert ended.returncode in (1, 2), ended.stderr
    assert line in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "wrong@" not in ended.stderr
