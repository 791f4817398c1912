"""Workers that are killed under load: what was acknowledged comes once, in order, and what is lost is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pubsub.client import Client, Event, Gap, Item, PubsubError
from pubsub.journals.workers.link import MOST_BEHIND
from tests.harness import PATIENCE, eventually, new_id, on_one_loop
from tests.workers.serving import WorkersProcess, by_worker, scrape

WORKERS = 3


class Reader:
    """A client of the Python library that keeps all that a subscription yields."""

    def __init__(self, url: str, topic: str) -> None:
        self.items: list[Item[Any]] = []
        self._url = url
        self._topic = topic
        self.ready = asyncio.Event()

    async def read(self) -> None:
        async with Client(self._url) as client, client.subscribe(self._topic) as items:
            self.ready.set()
            async for item in items:
                self.items.append(item)

    @property
    def facts(self) -> list[Any]:
        """The payloads of the events, and the reasons of the gaps."""
        return [
            item.payload if isinstance(item, Event) else item.reason
            for item in self.items
            if isinstance(item, Event | Gap)
        ]


@contextlib.asynccontextmanager
async def reading(server: WorkersProcess, topic: str) -> AsyncIterator[list[Reader]]:
    """Two readers at each worker."""
    readers = [Reader(server.url, topic) for _ in range(2 * WORKERS)]
    tasks = []
    for reader in readers:
        tasks.append(asyncio.create_task(reader.read()))
        await asyncio.wait_for(reader.ready.wait(), PATIENCE)
    try:
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Load:
    """Numbers published to a topic, one after the other, each again until it is acknowledged."""

    def __init__(self, server: WorkersProcess, topic: str) -> None:
        self.acknowledged = 0
        self._server = server
        self._topic = topic
        self._stop = False

    async def publish(self) -> None:
        async with Client(self._server.url) as client:
            while not self._stop:
                await self._publish(client, self.acknowledged + 1, new_id())
                self.acknowledged += 1

    async def _publish(self, client: Client, number: int, message_id: str) -> None:
        while True:
            try:
                await client.publish(self._topic, number, id=message_id)
            except PubsubError:
                await asyncio.sleep(0.05)
            else:
                return

    async def reach(self, more: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.acknowledged + more
        await eventually(lambda: self.acknowledged >= wanted)

    def stop(self) -> None:
        self._stop = True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkersProcess]:
    data = tmp_path_factory.mktemp("workers") / "data"
    flags = ["--data-dir", str(data), "--reconnect-spread-sec", "0.1", "--journal-wait-sec", "1"]
    with WorkersProcess(WORKERS, *flags) as server:
        yield server


@on_one_loop
async def test_workers_and_their_owner_are_killed_under_load(server: WorkersProcess) -> None:
    async with Client(server.url) as client:
        await client.create_topic("durable", durable=True, dedup_sec=600, history=100_000)
        await client.create_topic("memory")
        await client.publish("memory", "before")
    async with reading(server, "durable") as readers, reading(server, "memory") as others:
        load = Load(server, "durable")
        publishing = asyncio.create_task(load.publish())
        await load.reach(50)
        for worker in (2, 1, 3):
            server.kill(worker)
            await load.reach(50)
            await restarted(server, worker)
        load.stop()
        await publishing
        expected = list(range(1, load.acknowledged + 1))
        await eventually(lambda: all(len(reader.items) >= len(expected) for reader in readers))
        assert [reader.facts for reader in readers] == [expected] * len(readers)
        await check_memory(server, others)
    assert "Traceback" not in server.log


async def restarted(server: WorkersProcess, worker: int) -> None:
    """Wait until a worker that was killed serves again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            samples = await scrape(server.url)
            restarts, up = (by_worker(samples, f"pubsub_worker_{name}") for name in ("restarts_total", "up"))
            if restarts.get(worker) == up.get(worker) == 1:
                return


async def check_memory(server: WorkersProcess, others: list[Reader]) -> None:
    """The topic in memory exists still, with another epoch, and its clients were told."""
    async with Client(server.url) as client:
        await client.publish("memory", "after")
    await eventually(lambda: all(reader.facts[-1:] == ["after"] for reader in others))
    assert [reader.facts for reader in others] == [["created_again", "after"]] * len(others)


@on_one_loop
async def test_a_worker_that_stops_costs_the_owner_little_and_is_healed(server: WorkersProcess) -> None:
    async with Client(server.url) as client:
        await client.create_topic("big", history=1000)
    async with reading(server, "big") as readers:
        pids = server.pids
        os.kill(pids[2], signal.SIGSTOP)
        before = resident(pids[1])
        try:
            async with http_of_a_running_worker(server) as http:
                for _ in range(50):
                    async with http.post("/topics/big/messages", json=[{"payload": "x" * 50_000}] * 20) as response:
                        assert response.status == 200
                await eventually_cut_off(server)
            grown = resident(pids[1]) - before
        finally:
            os.kill(pids[2], signal.SIGCONT)
        assert grown < 50_000_000 + MOST_BEHIND + 32_000_000, "what the topic keeps, what waits, and some more"
        await eventually(lambda: all(len(reader.items) >= 1000 for reader in readers))
        seqs = [[item.seq for item in reader.items if isinstance(item, Event)] for reader in readers]
        assert seqs == [list(range(1, 1001))] * len(readers)
    assert "Traceback" not in server.log
    assert "Exception" not in server.log


@on_one_loop
async def test_while_the_owner_is_stopped_publishers_are_refused_and_subscribers_stay(server: WorkersProcess) -> None:
    async with Client(server.url) as client:
        await client.create_topic("waits")
    async with reading(server, "waits") as readers:
        owner = server.pids[1]
        os.kill(owner, signal.SIGSTOP)
        try:
            async with http_of_a_running_worker(server) as http:
                async with http.post("/topics/waits/messages", json={"payload": "refused"}) as response:
                    assert response.status == 503
                await health(http, "degraded")
                os.kill(owner, signal.SIGCONT)
                await health(http, "")
                async with http.post("/topics/waits/messages", json={"payload": "after"}) as response:
                    assert response.status == 200
        finally:
            os.kill(owner, signal.SIGCONT)
        await eventually(lambda: all(reader.facts[-1:] == ["after"] for reader in readers))
        # A publish that was refused may be done all the same: the owner had it already.
        assert all(reader.facts in (["after"], ["refused", "after"]) for reader in readers)


async def health(http: aiohttp.ClientSession, status: str) -> None:
    """Wait until a worker tells this status of itself."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with http.get("/health") as response:
                if (await response.json()).get("status", "") == status:
                    return


def resident(pid: int) -> int:
    """The resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextlib.asynccontextmanager
async def http_of_a_running_worker(server: WorkersProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose one connection is not at a worker that has stopped."""
    while True:
        async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=1)) as http:
            try:
                async with http.get("/topics?scope=server", timeout=aiohttp.ClientTimeout(0.5)) as response:
                    assert response.status == 200
            except TimeoutError:
                continue
            yield http
            return


async def eventually_cut_off(server: WorkersProcess) -> None:
    await asyncio.to_thread(server.read_log_until, "A worker is disconnected: it is .* bytes behind")
