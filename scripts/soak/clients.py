"""`make soak ARGS=--clients`: the client libraries against a server and a network that fail again and again.

Python and JavaScript clients publish and subscribe, while the server is killed, drained, restarted and cut off. At the
end every acknowledged message must have reached every subscriber once, in order, or be told as a gap, and nothing of
the clients may be left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Protocol

import jwt
from clients_node import NodeClients
from clients_python import PythonClients
from judge import Judge
from oracle import Json
from trouble import FLEETING, LASTING, Trouble
from verdict import Figures, Verdict
from victim import Victim, until

from tests.faults import FaultyLine

TOKEN_SEC = 20  # life of a token: clients have to renew theirs again and again
SETTLE_SEC = 180.0
PHASE = "clients"
LIBRARIES = ("python", "javascript")


@dataclass(frozen=True, slots=True)
class Belongings:
    """All that a process has which a client could leave behind."""

    descriptors: int
    tasks: int
    threads: int

    @classmethod
    def now(cls) -> Belongings:
        # The loop keeps the threads of its executor.
        threads = [each for each in threading.enumerate() if not each.name.startswith(("asyncio_", "uvloop_"))]
        return cls(len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), len(threads))

    def within(self, before: Belongings) -> bool:
        return all(getattr(self, name) <= getattr(before, name) for name in self.__slots__)


class Population(Protocol):
    """The clients of one library."""

    async def arrive(self) -> None:
        """Connect all, subscribe and publish."""

    async def pause(self) -> None:
        """Publish no more, and wait for the outcome of every publish."""

    async def leave(self) -> Sequence[tuple[str, bool, object]]:
        """Close all clients; return what must hold afterwards, as Verdict.check wants it."""

    def kill(self) -> None:
        """End at once."""


class ClientSoak:
    """One run. ``victim``: a server that is not started yet. ``libraries``: those that take part."""

    def __init__(
        self, victim: Victim, verdict: Verdict, random: Random, seconds: float, libraries: Sequence[str] = LIBRARIES
    ) -> None:
        self._victim = victim
        self._verdict = verdict
        self._random = random
        self._seconds = seconds
        self._libraries = libraries
        self._judge = Judge(lambda topic, epoch: topic in FLEETING)

    async def run(self) -> None:
        await self._victim.start(guarded=True)
        with logged_faults() as faults:
            await self._run()
            gc.collect()  # tasks and sockets that were forgotten are reported now
            await asyncio.sleep(0)
        self._check("nothing is logged as forgotten or unhandled", not faults, "; ".join(faults[:3]))
        status = await self._victim.end()
        self._check("exit status 0", status == 0, status)
        logged = self._victim.faults_logged()
        self._check("no traceback in the server's log", not logged, "; ".join(logged[:3]))

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(FaultyLine.to(self._victim.port)) for _ in self._libraries]
            trouble = Trouble(self._victim, lines, self._random)
            await trouble.create_topics()
            before = Belongings.now()
            population = self._population([f"http://127.0.0.1:{line.port}" for line in lines])
            try:
                for each in population:
                    await each.arrive()
                await trouble.make(self._seconds)
                await asyncio.gather(*(each.pause() for each in population))
                await self._settle()
                for each in population:
                    for name, holds, found in await each.leave():
                        self._check(name, holds, found)
                await self._check_left(before)
            finally:
                for each in population:
                    each.kill()
            self._verdict.figures[PHASE] = self._figures(trouble)
        self._check("every drained server ended with status 0", not any(trouble.statuses), trouble.statuses)

    def _population(self, urls: Sequence[str]) -> list[Population]:
        found: list[Population] = []
        for library, url in zip(self._libraries, urls, strict=True):
            if library == "python":
                found.append(PythonClients(self._judge, url, self._make_token, self._random))
            else:
                found.append(NodeClients(self._judge, url, self._victim.secret))
        return found

    def _make_token(self, client_id: str) -> str:
        rights = {"subscribe": [">"], "publish": [">"], "admin": False}
        claims = {"sub": client_id, "exp": int(time.time()) + TOKEN_SEC, "pubsub": rights}
        return jwt.encode(claims, self._victim.secret, "HS256")

    async def _settle(self) -> None:
        """Wait until every subscriber has everything, then compare it with what the server has."""
        lives = await self._lives()

        async def all_came() -> bool:
            return bool(self._judge.broken) or not self._judge.behind(lives)

        await until(all_came, SETTLE_SEC)
        behind = {client: f"{len(missing)} from {missing[0]}" for client, missing in self._judge.behind(lives).items()}
        self._check("every message reached every subscriber, or was told as a gap", not behind, behind)
        await self._read_again("durable.long", lives["durable.long"])
        self._check("each once, in order, without a false position", not self._judge.broken, self._judge.shown)
        judge = self._judge
        outcomes = dict(judge.outcomes)
        self._check("every publish had an outcome", sum(outcomes.values()) == judge.calls, (judge.calls, outcomes))

    async def _lives(self) -> dict[str, str]:
        answers = {topic: await self._victim.get(f"/topics/{topic}") for topic in (*LASTING, *FLEETING)}
        return {topic: answer["epoch"] for topic, answer in answers.items()}

    async def _read_again(self, topic: str, epoch: str) -> None:
        """Compare the acknowledged publishes with all that the topic keeps."""
        messages: list[Json] = []
        while page := (await self._victim.get(f"/topics/{topic}/messages?after={len(messages)}"))["messages"]:
            messages += page
        self._judge.check_kept(topic, epoch, messages)

    async def _check_left(self, before: Belongings) -> None:
        async def nothing_left() -> bool:
            gc.collect()
            return Belongings.now().within(before)

        held = await until(nothing_left, 10)
        self._check("no task, thread or descriptor is left", held, f"{before}, then {Belongings.now()}")
        await until(self._is_alone, 10)
        self._check("the server has no client left", await self._is_alone(), await self._victim.get("/clients"))

    async def _is_alone(self) -> bool:
        return not (await self._victim.get("/clients"))["clients"]

    def _figures(self, trouble: Trouble) -> Figures:
        judge = self._judge
        gaps = [gap.reason for reading in judge.readings.values() for gap in reading.gaps]
        return {
            "events": sum(reading.events for reading in judge.readings.values()),
            "publishes": judge.calls,
            "outcomes": dict(judge.outcomes),
            "gaps": {reason: gaps.count(reason) for reason in sorted(set(gaps))},
            "trouble": dict(trouble.counts),
            "lives_of_the_server": self._victim.starts,
        }

    def _check(self, name: str, holds: bool, found: object = "") -> None:
        self._verdict.check(PHASE, name, holds, found)


@contextmanager
def logged_faults() -> Iterator[list[str]]:
    """Collect what Python and the libraries log: forgotten tasks and sockets, exceptions that nobody took."""
    faults: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or record.name != "pubsub.client":  # it warns of each lost connection
                faults.append(self.format(record))

    collector = Collector(level=logging.WARNING)
    root = logging.getLogger()
    root.addHandler(collector)
    logging.captureWarnings(True)
    warnings.simplefilter("always", ResourceWarning)
    try:
        yield faults
    finally:
        warnings.simplefilter("default", ResourceWarning)
        logging.captureWarnings(False)
        root.removeHandler(collector)
