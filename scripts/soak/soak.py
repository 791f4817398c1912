"""`make soak MINUTES=20`: runs good clients and every kind of bad client at a new server; an oracle checks the results.

Prints a readable table and one line of JSON; --markdown names a file for the figures of docs/reliability.md. The exit
status is 1 if an invariant is broken. The server runs on the first core, all clients on the others.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

import beside
import jwt
import phases
import uvloop
from clients import LIBRARIES, ClientSoak
from cluster_soak import ENGINES, Chosen, describe_faults, soak_cluster
from members import Findings, Place
from oracle import Record
from phases import Stage
from population import Population
from verdict import Figures, Verdict
from victim import Victim, until
from watchers import EVERYTHING, rights_of
from yarl import URL

Phase = Callable[[Stage], Awaitable[Figures]]
PHASES: dict[str, Phase] = {
    "quiet": phases.quiet,
    "crowd": phases.crowd,
    "connects": phases.connects,
    "wander": phases.wander,
    "ceilings": phases.ceilings,
    "names": phases.names,
    "hang_ups": beside.hang_ups,
    "few_files": beside.few_files,
}
RESTARTING = {"storm": phases.storm, "kill": phases.kill}


class Soak:
    """One run. The server requires tokens after every second start (``guarded``)."""

    def __init__(self, victim: Victim, verdict: Verdict, random: Random, chosen: argparse.Namespace) -> None:
        self._victim = victim
        self._verdict = verdict
        self._random = random
        self._chosen = chosen
        self._record = Record()
        self._findings = Findings()
        self._durable = False

    async def run(self) -> None:
        await self._victim.start(guarded=False)
        watching = [asyncio.create_task(each) for each in (self._victim.watch(), self._findings.watch_own_lag())]
        self._durable = await self._offers_durable_topics()
        population = Population(self._victim, self._place(), self._random, durable=self._durable)
        stage = Stage(
            self._victim, self._verdict, population, self._random, self._chosen.minutes * 60, self._chosen.rounds,
            timed=not self._chosen.untimed,
        )  # fmt: skip
        try:
            await population.arrive()
            gc.collect()
            gc.freeze()
            for name in self._chosen.phases:
                await self._go_through(name, stage)
            await self._end(stage)
        finally:
            for task in watching:
                task.cancel()
            await population.leave()

    async def _go_through(self, name: str, stage: Stage) -> None:
        print(f"{name} …", file=sys.stderr, flush=True)

        async def restart(number: signal.Signals) -> None:
            await self._restart(name, stage.population, number)

        figures = await (RESTARTING[name](stage, restart) if name in RESTARTING else PHASES[name](stage))
        peak = max((sample.rss for sample in self._victim.samples), default=0)
        self._verdict.figures[name] = figures | {"rss_mib": peak / phases.MIB}

    async def _offers_durable_topics(self) -> bool:
        status, _ = await self._victim.ask("POST", "/topics", {"name": "probe", "durable": True})
        if status == 201:
            await self._victim.ask("DELETE", "/topics/probe")
        return status == 201

    def _place(self) -> Place:
        token = self._make_token if self._victim.guarded else lambda client_id: ""
        rights = rights_of if self._victim.guarded else lambda client_id: EVERYTHING
        return Place(URL(self._victim.url), token, rights, self._record, self._findings, resumes=self._durable)

    def _make_token(self, client_id: str) -> str:
        own = rights_of(client_id)
        rights = {"subscribe": own.patterns, "filters": dict(own.filters), "publish": [">"], "admin": False}
        claims = {"sub": client_id, "exp": int(time.time()) + 36_000, "pubsub": rights}
        return jwt.encode(claims, self._victim.secret, "HS256")

    async def _restart(self, phase: str, population: Population, number: signal.Signals) -> None:
        status = await self._victim.end(number)
        graceful = number is signal.SIGTERM
        self._verdict.check(phase, f"exit status after {number.name}", status == (0 if graceful else -number), status)
        if self._durable:
            faults = await self._victim.check_journal()
            self._verdict.check(phase, f"the journal is intact after {number.name}", not faults, faults)
        await population.wait_for_disconnects(graceful=graceful)
        await self._victim.start(guarded=not self._victim.guarded)
        population.place = self._place()
        await population.arrive()

    async def _end(self, stage: Stage) -> None:
        """Close all clients and delete all topics; check that the server is empty and its log is clean."""
        await stage.population.pause()
        stage.check_findings("end")
        await stage.population.leave()
        await phases.drop_foreign_topics(stage)
        for topic in stage.population.topics:
            await self._victim.ask("DELETE", f"/topics/{topic}")
        await until(lambda: phases.has_subscribers(self._victim, 0), 20)
        health = await self._victim.get("/health")
        counts = {name: health[name] for name in ("topics", "subscribers")}
        stage.check("end", "no topic and no subscriber remains", not any(counts.values()), counts)
        clients = (await self._victim.get("/clients"))["clients"]
        stage.check("end", "no connection remains", not clients, len(clients))
        status = await self._victim.end()
        stage.check("end", "exit status 0", status == 0, status)
        faults = self._victim.faults_logged()
        stage.check("end", "no traceback in the log", not faults, "; ".join(faults[:3]))
        self._verdict.figures["all"] = {
            "deliveries": self._findings.deliveries,
            "acks": self._findings.acks,
            "resumes": self._findings.resumes,
            "published_by_rest": stage.population.rooms.published,
            "lives_of_the_server": self._victim.starts,
            "durable_topics": "yes" if self._durable else "no",
        }


@asynccontextmanager
async def a_victim(core: int | None) -> AsyncIterator[Victim]:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        victim = Victim(Path(folder), core, secrets.token_hex(32))
        try:
            yield victim
        finally:
            victim.kill()


async def soak(seed: int, chosen: argparse.Namespace) -> Verdict:
    about = {"minutes": chosen.minutes, "seed": seed, "python": platform.python_version(), "cores": os.cpu_count()}
    verdict = Verdict(about)
    if chosen.cluster is not None:
        with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
            folder = chosen.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            options = Chosen(chosen.cluster, chosen.servers, chosen.rounds, chosen.faults, chosen.engine)
            await soak_cluster(folder, verdict, Random(seed), options)
        return verdict
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    async with a_victim(cores[0] if len(cores) > 1 else None) as victim:
        if chosen.clients is not None:
            await ClientSoak(victim, verdict, Random(seed), chosen.minutes * 60, chosen.clients or LIBRARIES).run()
        else:
            await Soak(victim, verdict, Random(seed), chosen).run()
    return verdict


def main() -> int:
    faults = describe_faults()
    parser = argparse.ArgumentParser(
        description="Run good and bad clients, and check all invariants.",
        epilog="\n".join(["faults of --cluster:", *(f"  {name:32}{about}" for name, about in faults.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=2, help="approximate duration (default: 2); 20 or more reach all figures"
    )
    parser.add_argument("--seed", type=int, help="seed of an earlier run, to repeat it")
    parser.add_argument(
        "--phases", nargs="+", choices=[*PHASES, *RESTARTING], default=[*PHASES, "storm"], help="phases to run"
    )
    parser.add_argument(
        "--rounds", type=int, default=200, help="rounds of --cluster, or of the phase kill, which runs only if named"
    )
    parser.add_argument(
        "--clients", nargs="*", choices=LIBRARIES, help="run these client libraries, or all, instead of the phases"
    )
    parser.add_argument(
        "--cluster", nargs="?", choices=ENGINES, const="redis", help="run several servers on this engine instead"
    )
    parser.add_argument(
        "--engine", choices=["redis", "valkey"], default="redis", help="program of --cluster (default: redis)"
    )
    parser.add_argument("--servers", type=int, default=3, help="servers of --cluster (default: 3)")
    parser.add_argument(
        "--faults", nargs="+", choices=faults, metavar="NAME", help="faults of --cluster (default: all); see below"
    )
    parser.add_argument(
        "--folder", type=Path, help="empty folder for the files of --cluster (default: a temporary one)"
    )
    parser.add_argument("--untimed", action="store_true", help="report times without a check: for a busy machine")
    parser.add_argument("--markdown", type=Path, help="file for the result")
    chosen = parser.parse_args()
    seed = secrets.randbits(32) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        verdict = runner.run(soak(seed, chosen))
    print(verdict.as_table(), file=sys.stderr)
    print(verdict.as_json())
    if chosen.markdown:
        chosen.markdown.write_text(verdict.as_markdown())
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
