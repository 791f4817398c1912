"""Measures what topics and messages of several servers weigh: memory and traffic of Redis and of a server.

    python scripts/bench/shared_sizes.py --topics 100000

Prints one figure a line, under the name that scripts/capacity.py has for it. Memory is that of the kernel and of INFO;
µs are CPU time of the process, which says the same on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "soak"))

import aiohttp
import uvloop
from clusters import Cluster, new_server
from engines import RedisProgram
from victim import Victim, until

from pubsub.client import Client

PAYLOAD = "x" * 198  # 200 bytes of JSON
AT_ONCE = 50
KEPT = 20_000  # messages whose memory is measured
PUBLISHED = 20_000  # messages whose traffic is measured


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def rss_of(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Sizes:
    """One Redis and two servers. ``count``: of topics."""

    def __init__(self, redis: RedisProgram, folder: Path, count: int) -> None:
        self._redis = redis
        self._folder = folder
        self._count = count
        url = f"redis://127.0.0.1:{redis.port}/0"
        self._cluster = Cluster([new_server(folder, number, {"JOURNAL_URL": url}) for number in range(2)])

    @property
    def _first(self) -> Victim:
        return self._cluster.servers[0]

    async def info(self, section: str, name: str) -> int:
        async with self._redis.admin() as redis:
            return int((await redis.info(section))[name])

    async def measure(self) -> dict[str, float]:
        """Return all figures."""
        first, second = self._cluster.servers
        await first.start(guarded=False)
        empty = await self._start(second)
        await second.end()
        figures = await self._make_topics()
        full = await self._start(second)
        figures["TOPIC_IN_SERVER"] = (full["rss"] - empty["rss"]) / self._count
        figures["STATE"] = (full["sent"] - empty["sent"]) / self._count
        figures["STATE_US"] = 1e6 * (full["cpu"] - empty["cpu"]) / self._count
        figures["STATE_IN_REDIS_US"] = 1e6 * (full["redis"] - empty["redis"]) / self._count
        figures["start with all topics, s"] = full["seconds"]
        return figures | await self._keep_messages() | await self._publish(second)

    async def _start(self, server: Victim) -> dict[str, float]:
        sent, redis = await self.info("stats", "total_net_output_bytes"), cpu_seconds(self._redis.process.pid)
        began = time.monotonic()
        await server.start(guarded=False)
        seconds = time.monotonic() - began
        process = server.process.pid
        return {
            "seconds": seconds,
            "rss": rss_of(process),
            "cpu": cpu_seconds(process),
            "sent": await self.info("stats", "total_net_output_bytes") - sent,
            "redis": cpu_seconds(self._redis.process.pid) - redis,
        }

    async def _make_topics(self) -> dict[str, float]:
        before = await self.info("memory", "used_memory")
        names = iter(range(self._count))

        async def make(http: aiohttp.ClientSession) -> None:
            for number in names:
                async with http.post("/topics", json={"name": f"sizes.{number:06}"}) as answer:
                    answer.raise_for_status()

        async with aiohttp.ClientSession(self._first.url) as http:
            await asyncio.gather(*(make(http) for _ in range(AT_ONCE)))
        return {"TOPIC_IN_REDIS": (await self.info("memory", "used_memory") - before) / self._count}

    async def _keep_messages(self) -> dict[str, float]:
        """Fill topics with 100 messages each."""
        before = await self.info("memory", "used_memory")
        async with aiohttp.ClientSession(self._first.url) as http:
            for number in range(KEPT // 100):
                body = json.dumps([{"payload": PAYLOAD}] * 100)
                async with http.post(f"/topics/sizes.{number:06}/messages", data=body) as answer:
                    answer.raise_for_status()
        return {"KEPT": (await self.info("memory", "used_memory") - before) / KEPT}

    async def _publish(self, receiving: Victim) -> dict[str, float]:
        """Publish single messages to many topics at one server."""
        processes = {"redis": self._redis.process.pid, "receiving": receiving.process.pid}
        async with Client(self._first.url, max_outgoing=AT_ONCE) as client:
            sent = await self.info("stats", "total_net_output_bytes")
            before = {name: cpu_seconds(each) for name, each in processes.items()}
            names = iter(range(PUBLISHED))

            async def publish() -> None:
                for number in names:
                    await client.publish(f"sizes.{number % self._count:06}", PAYLOAD)

            await asyncio.gather(*(publish() for _ in range(AT_ONCE)))
            await until(self._both_know_all, 20)
            spent = {name: 1e6 * (cpu_seconds(each) - before[name]) / PUBLISHED for name, each in processes.items()}
            sent = await self.info("stats", "total_net_output_bytes") - sent
        return {
            "RECORD": sent / PUBLISHED / 2,
            "APPEND_US, with two pushes": spent["redis"],
            "RECEIVE_US": spent["receiving"],
        }

    async def _both_know_all(self) -> bool:
        name = f"sizes.{(PUBLISHED - 1) % self._count:06}"
        answers: list[Any] = [await server.get(f"/topics/{name}") for server in self._cluster.servers]
        return bool(answers[0]["seq"] == answers[1]["seq"] > 0)

    def kill(self) -> None:
        for server in self._cluster.servers:
            server.kill()


async def run(folder: Path, count: int) -> dict[str, float]:
    redis = RedisProgram(folder / "redis", ["--appendonly", "no"])
    await redis.start()
    sizes = Sizes(redis, folder, count)
    try:
        return await sizes.measure()
    finally:
        sizes.kill()
        redis.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what topics and messages of several servers weigh.")
    parser.add_argument("--topics", type=int, default=100_000)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="sizes-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(run(Path(folder), chosen.topics))
    for name, value in figures.items():
        print(f"{name:<28} {value:,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
