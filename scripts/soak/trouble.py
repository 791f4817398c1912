"""Trouble for the client libraries: a server that is killed, restarted and drained, and networks that fail."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from oracle import Json
from victim import Victim

from tests.faults import FaultyLine

DEDUP_SEC = 3600  # longer than any publish is repeated
# The topics that always exist, and those that are deleted and created again. A long partition is longer than the
# history of `durable.short`: then its subscribers have to be told of a gap.
LASTING: dict[str, Json] = {
    "durable.long": {"durable": True, "history": 1_000_000, "dedup_sec": DEDUP_SEC},
    "durable.short": {"durable": True, "history": 60, "dedup_sec": DEDUP_SEC},
}
FLEETING: dict[str, Json] = {
    "brief.durable": {"durable": True, "history": 10_000, "dedup_sec": DEDUP_SEC},
    "brief.plain": {"dedup_sec": DEDUP_SEC},
    "brief.plain.sensor": {"overflow": "drop_newest", "history": 50},
}


class Trouble:
    """See the module. ``lines``: the networks between the clients and the server."""

    def __init__(self, victim: Victim, lines: Sequence[FaultyLine], random: Random) -> None:
        self._victim = victim
        self._lines = lines
        self._random = random
        self._steps = [
            (self._kill, 4),
            (self._drain, 3),
            (self._cut, 4),
            (self._partition, 3),
            (self._swallow, 3),
            (self._throttle, 2),
            (self._create_again, 4),
            (self._purge, 1),
        ]
        self.counts: Counter[str] = Counter()
        self.statuses: list[int] = []  # of servers that were drained

    async def create_topics(self) -> None:
        """Create all topics that do not exist."""
        for name, options in {**LASTING, **FLEETING}.items():
            status, answer = await self._victim.ask("POST", "/topics", {"name": name, **options})
            if status not in (201, 409):
                raise RuntimeError(f"{name} could not be created: {answer}")

    async def make(self, seconds: float) -> None:
        """Kill the server, then make trouble for the rest of so many seconds; at the end everything works again."""
        steps, weights = zip(*self._steps, strict=True)
        ends = asyncio.get_running_loop().time() + seconds
        await asyncio.sleep(1)
        await self._go_through(self._kill)
        while asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(self._random.uniform(0.1, 2.5))
            (step,) = self._random.choices(steps, weights)
            await self._go_through(step)
        await self.create_topics()

    async def _go_through(self, step: Callable[[], Awaitable[None]]) -> None:
        self.counts[step.__name__.strip("_")] += 1
        await step()
        for line in self._lines:
            line.heal()
            line.delay = line.rate = 0.0

    def _line(self) -> FaultyLine:
        return self._random.choice(self._lines)

    async def _kill(self) -> None:
        await self._victim.end(signal.SIGKILL)
        await self._start()

    async def _drain(self) -> None:
        self.statuses.append(await self._victim.end())
        await self._start()

    async def _start(self) -> None:
        """Start the server again, often some time later, and often without its topics for a while."""
        await asyncio.sleep(self._random.choice([0, 0, 0.5, 3]))
        await self._victim.start(guarded=True)
        await asyncio.sleep(self._random.choice([0, 0.5, 2]))
        await self.create_topics()

    async def _cut(self) -> None:
        self._line().cut()

    async def _partition(self) -> None:
        self._line().stall()
        await asyncio.sleep(self._random.choice([0.5, 3, 8]))

    async def _swallow(self) -> None:
        """Both sides see a peer that takes everything and says nothing."""
        self._line().swallows = True
        await asyncio.sleep(self._random.choice([1, 8]))
        for line in self._lines:
            if line.swallows:
                line.cut()  # what was swallowed is missing in the stream

    async def _throttle(self) -> None:
        line = self._line()
        line.delay, line.rate = self._random.choice([0, 0.05]), self._random.choice([20_000, 200_000])
        await asyncio.sleep(3)

    async def _create_again(self) -> None:
        await self._victim.ask("DELETE", f"/topics/{self._random.choice(list(FLEETING))}")
        await asyncio.sleep(self._random.choice([0, 0, 0.3, 2]))
        await self.create_topics()

    async def _purge(self) -> None:
        await self._victim.ask("DELETE", f"/topics/{self._random.choice(['durable.short', *FLEETING])}/messages")
