"""Several servers on one engine, as real programs, with a faulty network between each server and the engine."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from zlib import crc32

from engines import START_SEC, RedisProgram, SentinelProgram
from oracle import Json
from victim import Victim, until

from tests.faults import FaultyLine

HEALTHY_SEC = 40.0  # in which all servers must have recovered from any fault
DEDUP_SEC = 3600  # longer than any publish is repeated
# The topics that always exist, and those that are deleted and created again. `keep.short` forgets: a subscriber that
# was cut off for long is told of a gap there.
LASTING: dict[str, Json] = {
    "keep.durable": {"durable": True, "history": 1_000_000, "dedup_sec": DEDUP_SEC},
    "keep.plain": {"history": 1_000_000, "dedup_sec": DEDUP_SEC},
    "keep.short": {"history": 60, "dedup_sec": DEDUP_SEC},
    "room.present": {"presence": True, "history": 1000, "dedup_sec": DEDUP_SEC},
}
FLEETING: dict[str, Json] = {
    "brief.plain": {"history": 10_000, "dedup_sec": DEDUP_SEC},
    "brief.durable": {"durable": True, "history": 10_000, "dedup_sec": DEDUP_SEC},
}
TOPICS = {**LASTING, **FLEETING}
SETTINGS: Mapping[str, str] = {"JOURNAL_WAIT_SEC": "2", "RECONNECT_SPREAD_SEC": "0.5", "SHUTDOWN_TIMEOUT_SEC": "5"}


@dataclass
class Cluster:
    """Servers that share an engine."""

    servers: list[Victim] = field(default_factory=list)
    two_primaries: ClassVar[bool] = False  # for a while, an old engine may go on beside the new one

    @property
    def views(self) -> list[Victim]:
        """The servers to ask; one that hides several processes is there once for each of them."""
        return self.servers

    @property
    def urls(self) -> list[str]:
        """The addresses of all servers, for clients."""
        return [server.url for server in self.views]

    def may_lose(self, topic: str) -> bool:
        """Return True if the faults of the engine touch this topic."""
        return True

    @property
    def processes(self) -> list[int]:
        """The process ids of the servers."""
        return [server.process.pid for server in self.servers]

    async def start(
        self, stack: AsyncExitStack, folder: Path, urls: Sequence[str], settings: Mapping[str, str]
    ) -> None:
        """Start a server for each URL of an engine. ``settings``: beside SETTINGS."""
        for number, url in enumerate(urls):
            server = new_server(folder, number, {"JOURNAL_URL": url, **settings})
            stack.callback(server.kill)
            self.servers.append(server)
        await asyncio.gather(*(server.start(guarded=False) for server in self.servers))


@dataclass
class RedisCluster(Cluster):
    """Servers that share one Redis, or several instances of which the first has faults.

    ``lines``: the networks between each server and the first Redis.
    """

    engine: RedisProgram = field(kw_only=True)
    lines: list[FaultyLine] = field(kw_only=True)
    instances: int = 1

    @classmethod
    @asynccontextmanager
    async def of(
        cls, folder: Path, count: int, settings: Mapping[str, str] = {}, instances: int = 1, name: str = "redis"
    ) -> AsyncIterator[RedisCluster]:
        """Start everything. ``settings``: of the servers, beside SETTINGS. ``name``: `redis` or `valkey`."""
        engine, *others = [RedisProgram(folder / f"{name}-{number}", name=name) for number in range(instances)]
        async with AsyncExitStack() as stack:
            for each in (engine, *others):
                stack.callback(each.kill)
                await each.start()
            lines = [await stack.enter_async_context(FaultyLine.to(engine.port)) for _ in range(count)]
            cluster = cls(engine=engine, lines=lines, instances=instances)
            places = ["", *(f"127.0.0.1:{each.port}" for each in others)]
            urls = [f"redis://127.0.0.1:{line.port}{','.join(places)}/0" for line in lines]
            await cluster.start(stack, folder, urls, settings)
            yield cluster

    def may_lose(self, topic: str) -> bool:
        return crc32(topic.encode()) % self.instances == 0


@dataclass
class SentinelCluster(Cluster):
    """Servers that share two instances of Redis, one of them a replica, with a sentinel."""

    two_primaries: ClassVar[bool] = True
    engines: list[RedisProgram] = field(kw_only=True)
    sentinel: SentinelProgram = field(kw_only=True)

    @classmethod
    @asynccontextmanager
    async def of(cls, folder: Path, count: int, name: str = "redis") -> AsyncIterator[SentinelCluster]:
        """Start everything. ``name``: `redis` or `valkey`."""
        at_once = ["--repl-diskless-sync-delay", "0"]
        first = RedisProgram(folder / f"{name}-1", at_once, name)
        of_first = ["--replicaof", "127.0.0.1", str(first.port)]
        second = RedisProgram(folder / f"{name}-2", [*at_once, *of_first], name)
        sentinel = SentinelProgram(folder / "sentinel", first.port, name)
        async with AsyncExitStack() as stack:
            for program in (first, second, sentinel):
                stack.callback(program.kill)
                await program.start()
            if not await until(second.is_replica, START_SEC):
                raise RuntimeError("the replica has no data")
            cluster = cls(engines=[first, second], sentinel=sentinel)
            await cluster.start(stack, folder, [f"redis+sentinel://127.0.0.1:{sentinel.port}/soak"] * count, {})
            yield cluster

    async def primary_and_replica(self) -> tuple[RedisProgram, RedisProgram]:
        """Return the two as the sentinel has them."""
        primary = await self.sentinel.find_master()
        first, second = self.engines
        return (first, second) if first.port == primary else (second, first)


@dataclass
class WorkerCluster(Cluster):
    """One server with several worker processes, which share the journal of the first one."""

    count: int = field(kw_only=True)

    @classmethod
    @asynccontextmanager
    async def of(cls, folder: Path, count: int) -> AsyncIterator[WorkerCluster]:
        """Start everything."""
        async with AsyncExitStack() as stack:
            cluster = cls(count=count)
            await cluster.start(stack, folder, [""], {"WORKERS": str(count)})
            yield cluster

    @property
    def views(self) -> list[Victim]:
        return self.servers * self.count

    @property
    def processes(self) -> list[int]:
        return children_of(self.servers[0].process.pid)

    @property
    def owner(self) -> int | None:
        """The process that has the journals: it listens on a Unix socket. None while it starts."""
        return next(filter(listens_on_unix, self.processes), None)


def children_of(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def listens_on_unix(process: int) -> bool:
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    listening = {f"socket:[{each[6]}]" for each in sockets if int(each[3], 16) & 0x10000}
    try:
        return any(str(link.readlink()) in listening for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False  # it has ended


def new_server(folder: Path, number: int, settings: Mapping[str, str]) -> Victim:
    own = folder / f"server-{number}"
    own.mkdir()
    return Victim(own, None, secrets.token_hex(32), settings={**SETTINGS, **settings})


async def create_topics(server: Victim) -> None:
    """Create all topics that do not exist. Of several processes, one may not have recovered yet."""

    async def all_exist() -> bool:
        answers = [await server.ask("POST", "/topics", {"name": name, **options}) for name, options in TOPICS.items()]
        if refused := [answer for status, answer in answers if status not in (201, 409, 503)]:
            raise RuntimeError(f"not created: {refused}")
        return all(status != 503 for status, _ in answers)

    if not await until(all_exist, HEALTHY_SEC):
        raise RuntimeError("not created: 503")


async def await_health(servers: list[Victim]) -> list[str]:
    """Wait until every server is well and knows all the others; return what is still wrong in the end."""
    found: list[str] = []

    async def all_well() -> bool:
        found[:] = await ailments(servers)
        return not found

    await until(all_well, HEALTHY_SEC)
    return found


async def ailments(servers: list[Victim]) -> list[str]:
    found = []
    for number, server in enumerate(servers):
        try:
            health = await server.get("/health")
        except OSError as error:
            found.append(f"server {number}: {error!r}")
            continue
        if "status" in health or health.get("servers", len(servers)) < len(servers):  # a dead one is there for a while
            found.append(f"server {number}: {health}")
    return found


async def restart(server: Victim, number: signal.Signals) -> int:
    """End a server by a signal, and start it again; return its exit status."""
    status = await server.end(number)
    await server.start(guarded=False)
    return status
