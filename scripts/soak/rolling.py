"""A rolling restart under load: three servers on one Redis behind HAProxy are drained and started again, one by one.

    python scripts/soak/rolling.py --clients 100 --rounds 3

Prints a report: the clients that moved to another server, those that resumed without a gap, the gaps that were told,
and the messages that were lost. The exit status is 1 if a message is lost, comes twice or out of order, or if anybody
was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiohttp
import uvloop
from clients import logged_faults
from clusters import RedisCluster, await_health
from items import positions_of, take_item
from judge import Acked, Judge
from verdict import percentile
from victim import REPOSITORY, Victim, free_port, until

from pubsub.client import Client, PubsubError, State, StateChange

PATH = f"{os.environ['PATH']}:/usr/sbin"  # the folder of HAProxy, which is not in an ordinary user's PATH
TOPIC = "roll.orders"
OPTIONS = {"history": 100_000, "dedup_sec": 600}
PUBLISHERS = 3
RATE = 50.0  # publishes a second of each publisher
MARK_SEC = 20.0


@dataclass
class Report:
    """The outcome. ``refused``: publishes and calls over REST that failed, with their reasons."""

    clients: int
    restarts: int = 0
    moved: int = 0
    told: int = 0
    lost: int = 0
    events: int = 0
    acked: int = 0
    calls: int = 0
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    away: list[float] = field(default_factory=list)  # seconds without a connection, for each move

    @property
    def recovered(self) -> int:
        return self.moved - self.told

    @property
    def holds(self) -> bool:
        return not (self.lost or self.refused or self.broken)

    def __str__(self) -> str:
        away = sorted(self.away)
        lines = [
            f"{self.restarts} restarts, {self.clients} clients, {self.acked} messages, {self.events} deliveries",
            f"moved {self.moved}, recovered {self.recovered}, told {self.told}, lost {self.lost}",
            f"away for {percentile(away, 0.5):.2f} s (median), {percentile(away, 1.0):.2f} s (longest)",
            f"refused {len(self.refused)} of {self.acked} publishes and {self.calls} calls over REST",
            *self.refused[:3],
            *self.broken[:3],
        ]
        return "\n".join(lines)


class HAProxy:
    """deploy/cluster/haproxy.cfg before these servers. ``interval``: between two checks of a server."""

    def __init__(self, folder: Path, servers: list[Victim], interval: str = "1s") -> None:
        self.port = free_port()
        self._stats = folder / "haproxy.sock"
        text = (REPOSITORY / "deploy/cluster/haproxy.cfg").read_text()
        text = replaced(text, "bind :8080", f"bind 127.0.0.1:{self.port}")
        text = replaced(text, "global\n", f"global\n    stats socket {self._stats}\n")
        text = replaced(text, "maxconn 20000", "maxconn 2000")  # within the limit of open files of any machine
        text = replaced(text, "inter 1s", f"inter {interval}")
        for number, server in enumerate(servers, 1):
            text = replaced(text, f"pubsub-{number}:8080", f"127.0.0.1:{server.port}")
        config = folder / "haproxy.cfg"
        config.write_text(text)
        with open(folder / "haproxy.log", "wb") as log:
            command = ["haproxy", "-db", "-f", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": PATH})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def states(self) -> list[str]:
        """Return the state of each server: UP, DOWN, or what HAProxy says in between."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._stats))
        except OSError:
            return []
        writer.write(b"show stat\n")
        text = (await reader.read()).decode()
        writer.close()
        header, *rows = [line.split(",") for line in text.splitlines() if line]
        columns = [name.lstrip("# ") for name in header]
        name, status = columns.index("svname"), columns.index("status")
        return [row[status] for row in rows if row[name].startswith("pubsub-")]

    async def all_up(self) -> bool:
        return await self.states() == ["UP"] * 3

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def replaced(text: str, before: str, after: str) -> str:
    if before not in text:
        raise RuntimeError(f"haproxy.cfg has no {before!r}")
    return text.replace(before, after)


class Roll:
    """One run. ``url``: of HAProxy."""

    def __init__(self, url: str, count: int, random: Random) -> None:
        self._url = url
        self._random = random
        self._judge = Judge()
        self.report = Report(count)
        self._ready = [asyncio.Event() for _ in range(count)]
        self._lost_at: dict[str, float] = {}
        self._publishing = True
        self._readers: list[asyncio.Task[None]] = []
        self._publishers: list[asyncio.Task[None]] = []

    async def arrive(self) -> None:
        """Create the topic, and begin to read and to publish."""
        async with (
            aiohttp.ClientSession(self._url) as http,
            http.post("/topics", json={"name": TOPIC, **OPTIONS}) as answer,
        ):
            answer.raise_for_status()
        self._readers = [asyncio.create_task(self._read(number)) for number in range(self.report.clients)]
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in self._ready)), 60)
        work = [*(self._publish(number) for number in range(PUBLISHERS)), self._call()]
        self._publishers = [asyncio.create_task(each) for each in work]

    def _note(self, name: str, change: StateChange) -> None:
        now = time.monotonic()
        if change.state is State.OPEN and name in self._lost_at:
            self.report.away.append(now - self._lost_at.pop(name))
            self.report.moved += 1
        elif change.state is not State.OPEN and name in self._judge.readings:
            self._lost_at.setdefault(name, now)

    async def _read(self, number: int) -> None:
        name = f"reader-{number}"
        client = Client(
            self._url, client_id=name, connect_timeout=None, on_state=lambda change: self._note(name, change)
        )
        async with client, client.subscribe(TOPIC) as events:
            self._judge.new_reading(name, TOPIC)
            self._judge.begin(name, positions_of(events.position))
            self._ready[number].set()
            async for item in events:
                take_item(self._judge, name, item)

    async def _publish(self, number: int) -> None:
        async with Client(self._url, client_id=f"publisher-{number}", connect_timeout=None) as client:
            tasks: set[asyncio.Task[None]] = set()
            while self._publishing:
                await asyncio.sleep(self._random.expovariate(RATE))
                task = asyncio.create_task(self._publish_one(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _publish_one(self, client: Client) -> None:
        try:
            done = await client.publish(TOPIC, {"kind": 0, "at": time.time()})
        except PubsubError as error:
            self.report.refused.append(f"publish: {error!r}")
        else:
            self._judge.acknowledge(Acked(done.topic, done.id, done.seq, done.duplicate))

    async def _call(self) -> None:
        """Ask over REST again and again, on connections that stay open: nobody may get an error."""
        async with aiohttp.ClientSession(self._url) as http:
            while self._publishing:
                await asyncio.sleep(0.02)
                self.report.calls += 1
                try:
                    async with http.get(f"/topics/{TOPIC}") as answer:
                        if answer.status != 200:
                            self.report.refused.append(f"REST: {answer.status} {await answer.text()}")
                except aiohttp.ClientError as error:
                    self.report.refused.append(f"REST: {error!r}")

    async def restart(self, server: Victim, proxy: HAProxy) -> None:
        """Drain a server under load, and start it again; return once new clients reach it."""
        status = await server.end(signal.SIGTERM)
        if status:
            self.report.broken.append(f"a server ended with status {status}")
        await server.start(guarded=False)
        if not await until(proxy.all_up, MARK_SEC):
            self.report.broken.append(f"HAProxy says {await proxy.states()}")
        if not await until(self._all_connected, MARK_SEC):
            self.report.broken.append(f"still away: {sorted(self._lost_at)[:3]}")
        self.report.restarts += 1

    async def _all_connected(self) -> bool:
        return not self._lost_at

    async def leave(self) -> None:
        """Publish no more, wait until everybody has everything, and count."""
        self._publishing = False
        await asyncio.gather(*self._publishers)
        async with aiohttp.ClientSession(self._url) as http, http.get(f"/topics/{TOPIC}") as answer:
            lives = {TOPIC: (await answer.json())["epoch"]}

        async def all_came() -> bool:
            return not self._judge.behind(lives)

        await until(all_came, MARK_SEC)
        for task in self._readers:
            task.cancel()
        ended = await asyncio.gather(*self._readers, return_exceptions=True)
        self.report.broken += [repr(each) for each in ended if isinstance(each, Exception)]
        self._count(lives)

    def _count(self, lives: dict[str, str]) -> None:
        judge, report = self._judge, self.report
        report.broken += judge.broken
        report.acked = judge.outcomes["acked"]
        report.events = sum(reading.events for reading in judge.readings.values())
        report.told = sum(len(reading.gaps) for reading in judge.readings.values())
        report.lost = sum(len(missing) for missing in judge.behind(lives).values())
        seen = judge.record.last(TOPIC, lives[TOPIC])
        report.lost += sum(each.seq > seen for each in judge.acked)


@asynccontextmanager
async def a_deployment(folder: Path, drain_sec: float, interval: str) -> AsyncIterator[tuple[RedisCluster, HAProxy]]:
    async with AsyncExitStack() as stack:
        settings = {"DRAIN_SEC": str(drain_sec), "TRUSTED_PROXIES": "127.0.0.1", "JOURNAL_WAIT_SEC": "5"}
        cluster = await stack.enter_async_context(RedisCluster.of(folder, 3, settings))
        proxy = HAProxy(folder, cluster.servers, interval)
        stack.callback(proxy.kill)
        if not await until(proxy.all_up, MARK_SEC):
            raise RuntimeError((folder / "haproxy.log").read_text())
        yield cluster, proxy


async def roll(folder: Path, clients: int, rounds: int, seed: int, *, drain_sec: float, interval: str) -> Report:
    """Restart each server ``rounds`` times under load."""
    async with a_deployment(folder, drain_sec, interval) as (cluster, proxy):
        rolling = Roll(proxy.url, clients, Random(seed))
        await rolling.arrive()
        for _ in range(rounds):
            for server in cluster.servers:
                await rolling.restart(server, proxy)
        if still := await await_health(cluster.servers):
            rolling.report.broken.append(str(still))
        await rolling.leave()
        rolling.report.broken += [line for server in cluster.servers for line in server.faults_logged()]
        return rolling.report


def main() -> int:
    parser = argparse.ArgumentParser(description="Restart three servers behind HAProxy, one by one, under load.")
    parser.add_argument("--clients", type=int, default=100, help="subscribers (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, help="restarts of each server (default: 3)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drain-sec", type=float, default=5, help="DRAIN_SEC of the servers (default: 5)")
    parser.add_argument("--interval", default="1s", help="time between two checks of HAProxy (default: 1s)")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rolling-") as folder,
        logged_faults() as faults,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        report = runner.run(
            roll(
                Path(folder), chosen.clients, chosen.rounds, chosen.seed,
                drain_sec=chosen.drain_sec, interval=chosen.interval,
            )
        )  # fmt: skip
    report.broken += faults
    print(report)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
