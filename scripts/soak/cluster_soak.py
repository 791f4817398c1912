"""`make soak ARGS="--cluster --rounds 200"`: several servers on one engine, and a random fault in each round.

After each round everything must be well again: nothing that was acknowledged is lost as far as the engine kept it,
nothing comes twice, all servers have one order, every gap was told, and no server grows.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from clients import logged_faults
from cluster_clients import ClusterClients
from cluster_faults import Check, Fault, Faults, ServerFaults
from clusters import (
    FLEETING,
    LASTING,
    TOPICS,
    Cluster,
    RedisCluster,
    SentinelCluster,
    WorkerCluster,
    await_health,
    create_topics,
)
from judge import Judge
from oracle import Json
from redis_faults import RedisFaults
from sentinel_faults import SentinelFaults
from verdict import Verdict
from victim import Victim, until
from worker_faults import WorkerFaults

PHASE = "cluster"
SETTLE_SEC = 40.0
PAGE = 1000
MIB = 1 << 20
GROWTH = 48 * MIB  # of a server over a run: rings that fill, and fragmentation
WARM_ROUNDS = 5

Epochs = Mapping[str, str]
Parts = tuple[Cluster, Callable[[Check], Faults]]


class ClusterSoak:
    """One run. ``cluster``: its servers have started. ``rounds``: number of faults. ``faults``: makes them."""

    def __init__(
        self, cluster: Cluster, verdict: Verdict, random: Random, rounds: int, faults: Callable[[Check], Faults]
    ) -> None:
        self._cluster = cluster
        self._verdict = verdict
        self._random = random
        self._rounds = rounds
        self._judge = Judge(
            lambda topic, epoch: topic in FLEETING or epoch in self._lost, goes_back=cluster.two_primaries
        )
        self._faults = faults(self._check)
        self._clients = ClusterClients(self._judge, cluster.urls, random)
        self._lost: set[str] = set()  # epochs that ended with the engine's data
        self._round = 0
        self._fault = ""
        self._first: dict[int, list[int]] = {}  # the first figures of the memory of each process, in bytes
        self._compared: dict[str, int] = {}  # the last seq of each topic that was compared

    async def run(self) -> None:
        await create_topics(self._servers[0])
        try:
            await self._clients.arrive()
            while self._round < self._rounds and self._verdict.holds:
                self._round += 1
                await self._go_through(self._faults.choose())
        finally:
            await self._clients.leave()
        self._check("no client failed", not self._clients.failures, self._clients.failures[:3])
        for number, server in enumerate(self._cluster.servers):
            status = await server.end()
            self._check("exit status 0", status == 0, f"server {number}: {status}")
            logged = server.faults_logged()
            self._check("no traceback in the logs", not logged, logged[:3])
        self._verdict.figures[PHASE] = self._figures()

    @property
    def _servers(self) -> list[Victim]:
        return self._cluster.views

    def _check(self, name: str, holds: bool, found: object = "") -> None:
        where = "" if holds else f"round {self._round}, {self._fault}: "
        self._verdict.check(PHASE, name, holds, f"{where}{found}")
        if not holds:
            print(f"BROKEN {name}: {where}{found}", file=sys.stderr, flush=True)

    async def _go_through(self, fault: Fault) -> None:
        """Make one fault under load, and check everything once it is healed."""
        self._fault = fault.name
        began = time.monotonic()
        before = await self._epochs(self._servers[0])
        self._clients.resume()
        await self._pause_of_the_load()
        await self._faults.make(fault)
        still = await await_health(self._servers)
        recovered = time.monotonic() - began
        self._check("all servers recover", not still, still)
        self._forget({topic: epoch for topic, epoch in before.items() if not self._keeps(fault, topic)})
        await create_topics(self._random.choice(self._servers))
        await self._pause_of_the_load()
        await self._clients.pause()
        await self._compare(fault, before)
        await self._settle()
        self._check_memory()
        took = time.monotonic() - began
        print(f"{self._round}: {fault.name}, {recovered:.1f} s, {took:.1f} s in all", file=sys.stderr, flush=True)

    async def _pause_of_the_load(self) -> None:
        """Let the clients publish for a short time."""
        calls = self._judge.calls

        async def more_calls() -> bool:
            return self._judge.calls > calls + 30

        await until(more_calls, 10)

    def _keeps(self, fault: Fault, topic: str) -> bool:
        return fault.keeps_topic(topic) or not self._cluster.may_lose(topic)

    def _forget(self, lost: Epochs) -> None:
        """The engine has lost these topics: what was acknowledged before may be gone."""
        self._lost |= set(lost.values())
        self._judge.acked = [each for each in self._judge.acked if each.topic not in lost]

    async def _epochs(self, server: Victim) -> Epochs:
        found = {}
        for topic in TOPICS:
            _, answer = await server.ask("GET", f"/topics/{topic}")
            found[topic] = answer["epoch"]
        return found

    async def _compare(self, fault: Fault, before: Epochs) -> None:
        """Compare all topics at all servers, with each other and with the acknowledgements of this round."""
        lives = [await self._epochs(server) for server in self._servers]
        self._check("all servers know the same topics and epochs", all(each == lives[0] for each in lives), lives)
        after = lives[0]
        for topic in LASTING:
            if not self._keeps(fault, topic):
                self._check("an engine that lost its data begins new epochs", after[topic] != before[topic], topic)
            elif not fault.renews or not self._cluster.may_lose(topic):
                self._check("an epoch lasts as long as the engine", after[topic] == before[topic], topic)
        for topic in TOPICS:
            await self._compare_topic(topic, keeps=self._keeps(fault, topic))
        self._judge.acked.clear()

    async def _compare_topic(self, topic: str, *, keeps: bool) -> None:
        start = self._compared.get(topic, 0) if topic in LASTING and keeps else 0
        pages = [await self._read(server, topic, start) for server in self._servers]
        same = all(each == pages[0] for each in pages)
        self._check("all servers have the same history", same, (topic, [shown(each) for each in pages]))
        seqs = [event["seq"] for event in pages[0]]
        self._compared[topic] = seqs[-1] if seqs else start
        ids = {event["message"]["id"]: event["seq"] for event in pages[0]}
        self._check("nothing is there twice", len(ids) == len(seqs), topic)
        self._check("no number is left out", seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True, topic)
        if topic in LASTING and topic != "keep.short":
            self._check_acked(topic, ids, start)

    def _check_acked(self, topic: str, ids: Mapping[str, int], start: int) -> None:
        lost = [
            each
            for each in self._judge.acked
            if each.topic == topic and each.seq > start and ids.get(each.id) != each.seq
        ]
        self._check("nothing that was acknowledged is lost", not lost, f"{len(lost)}, {lost[:2]}")

    async def _read(self, server: Victim, topic: str, after: int) -> list[Json]:
        found: list[Json] = []
        while True:
            path = f"/topics/{topic}/messages?after={after}&limit={PAGE}"
            page = (await server.get(path))["messages"]
            found += page
            if len(page) < PAGE:
                return found
            after = page[-1]["seq"]

    async def _settle(self) -> None:
        """Wait until every subscriber has everything."""
        lives = await self._epochs(self._servers[0])
        judge = self._judge

        async def all_came() -> bool:
            return bool(judge.broken) or not judge.behind(lives)

        await until(all_came, SETTLE_SEC)
        behind = {client: f"{len(missing)} from {missing[0]}" for client, missing in judge.behind(lives).items()}
        self._check("every message reached every subscriber, or was told as a gap", not behind, behind)
        self._check("each once, in one order, without a false position", not judge.broken, judge.shown)
        self._check("no reader fails", not self._clients.failures, self._clients.failures[:3])

    def _check_memory(self) -> None:
        for process in self._cluster.processes:
            rss = rss_of(process)
            self._first.setdefault(process, []).append(rss)
            del self._first[process][WARM_ROUNDS:]
            grown = rss - max(self._first[process])
            self._check(f"memory grows by less than {GROWTH // MIB} MiB", grown < GROWTH, f"{grown / MIB:.1f} MiB")

    def _figures(self) -> dict[str, object]:
        judge = self._judge
        gaps = [gap.reason for reading in judge.readings.values() for gap in reading.gaps]
        return {
            "rounds": self._round,
            "events": sum(reading.events for reading in judge.readings.values()),
            "publishes": judge.calls,
            "outcomes": dict(judge.outcomes),
            "gaps": {reason: gaps.count(reason) for reason in sorted(set(gaps))},
            "faults": dict(self._faults.counts),
        }


def rss_of(process: int) -> int:
    """Return the memory of a process in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def shown(events: list[Json]) -> str:
    return f"{len(events)} from {events[0]['seq']} to {events[-1]['seq']}" if events else "none"


def describe_faults() -> Mapping[str, str]:
    """Return the names of all faults, with a line about each."""
    kinds = [each for faults in FAULTS for each in faults.list_kinds()]
    return {each.name: each.about for each in sorted(kinds, key=lambda each: each.name)}


@dataclass(frozen=True)
class Chosen:
    """The options of a soak. ``program``: `redis` or `valkey`. ``names``: the faults to make; None for all."""

    engine: str
    servers: int
    rounds: int
    names: Sequence[str] | None = None
    program: str = "redis"


async def soak_cluster(folder: Path, verdict: Verdict, random: Random, chosen: Chosen) -> None:
    """Start everything, and go through all rounds."""
    with logged_faults() as logged:
        async with AsyncExitStack() as stack:
            cluster, faults = await ENGINES[chosen.engine](stack, folder, random, chosen)
            await ClusterSoak(cluster, verdict, random, chosen.rounds, faults).run()
        verdict.check(PHASE, "no client logs a fault", not logged, "; ".join(logged[:3]))


async def _with_redis(stack: AsyncExitStack, folder: Path, random: Random, chosen: Chosen) -> Parts:
    cluster = await stack.enter_async_context(RedisCluster.of(folder, chosen.servers, name=chosen.program))
    return cluster, lambda check: RedisFaults(cluster, random, check, chosen.names)


async def _with_instances(stack: AsyncExitStack, folder: Path, random: Random, chosen: Chosen) -> Parts:
    running = RedisCluster.of(folder, chosen.servers, instances=2, name=chosen.program)
    cluster = await stack.enter_async_context(running)
    return cluster, lambda check: RedisFaults(cluster, random, check, chosen.names)


async def _with_sentinel(stack: AsyncExitStack, folder: Path, random: Random, chosen: Chosen) -> Parts:
    cluster = await stack.enter_async_context(SentinelCluster.of(folder, chosen.servers, chosen.program))
    return cluster, lambda check: SentinelFaults(cluster, random, check, chosen.names)


async def _with_workers(stack: AsyncExitStack, folder: Path, random: Random, chosen: Chosen) -> Parts:
    cluster = await stack.enter_async_context(WorkerCluster.of(folder, chosen.servers))
    return cluster, lambda check: WorkerFaults(cluster, random, check, chosen.names)


FAULTS: tuple[type[ServerFaults], ...] = (RedisFaults, SentinelFaults, WorkerFaults)
ENGINES = {
    "redis": _with_redis,
    "instances": _with_instances,
    "sentinel": _with_sentinel,
    "workers": _with_workers,
}
