"""The faults of a soak of several servers that need nothing of their engine: of the servers, and of topics.

Each makes one fault, waits, and heals it. What it says about itself decides what the judge expects afterwards.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from cluster_clients import PRESENT
from clusters import FLEETING, TOPICS, Cluster, create_topics, restart
from oracle import Json
from victim import Victim, until

PRESENCE_SEC = 15.0  # in which the presence of a dead server's clients has ended
SLACK_SEC = 5.0  # for a busy machine
DEGRADED_SEC = 12.0  # in which a server must have noticed that the engine is away

Check = Callable[[str, bool, object], None]  # what must hold during a fault, the result, and what was found


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    ``keeps``: the engine keeps all that it has acknowledged. ``keeps_durable``: at least of durable topics.
    ``renews``: topics may have another epoch afterwards.
    """

    make: Callable[[], Awaitable[None]]
    weight: int = 2
    keeps: bool = True
    keeps_durable: bool = False
    renews: bool = False

    def keeps_topic(self, topic: str) -> bool:
        return self.keeps or (self.keeps_durable and "durable" in TOPICS[topic])

    @property
    def name(self) -> str:
        return self.make.__name__.strip("_").replace("_", "-")

    @property
    def about(self) -> str:
        """Return the first line of its description."""
        return (self.make.__doc__ or "").partition("\n")[0]


class Faults(Protocol):
    """All faults of a soak."""

    counts: Counter[str]

    def choose(self) -> Fault: ...

    async def make(self, fault: Fault) -> None: ...


class ServerFaults:
    """See the module. ``names``: the faults to make; None for all."""

    def __init__(self, cluster: Cluster, random: Random, check: Check, names: Sequence[str] | None = None) -> None:
        self._servers = cluster.servers
        self._random = random
        self._check = check
        self.counts: Counter[str] = Counter()
        self._all = [each for each in self.kinds() if names is None or each.name in names]

    @classmethod
    def list_kinds(cls) -> list[Fault]:
        """Return all kinds, to tell of them: they cannot be made."""
        return cls.__new__(cls).kinds()

    def kinds(self) -> list[Fault]:
        return [
            Fault(self._kill_a_server, 4),
            Fault(self._kill_a_server_for_long, 1),
            Fault(self._drain_a_server, 3),
            Fault(self._stop_a_server),
            *self.harmless(),
        ]

    def harmless(self) -> list[Fault]:
        return [Fault(self._nothing, 1), Fault(self._purge), Fault(self._create_again)]

    def choose(self) -> Fault:
        """Choose one at random; first come those that were not made yet."""
        among = [each for each in self._all if not self.counts[each.name]] or self._all
        (fault,) = self._random.choices(among, [each.weight for each in among])
        return fault

    async def make(self, fault: Fault) -> None:
        self.counts[fault.name] += 1
        await fault.make()

    async def _wait(self, *seconds: float) -> None:
        await asyncio.sleep(self._random.choice(seconds))

    async def _lasts(self) -> bool:
        """Wait for a short time, or return True if the fault is to last until it is noticed."""
        await self._wait(0.3, 2)
        return self._random.random() < 0.4

    def _server(self) -> Victim:
        return self._random.choice(self._servers)

    async def _until_degraded(self, server: Victim, reason: str = "") -> None:
        """Wait until a server says that it is not well. ``reason``: a part of what it must say."""
        health: Json = {}

        async def is_degraded() -> bool:
            health.update(await server.get("/health"))
            return health.get("status") == "degraded" and reason in health["reason"]

        degraded = await until(is_degraded, DEGRADED_SEC)
        self._check(f"a server that has lost its engine says degraded {reason}".rstrip(), degraded, health)

    # Servers

    async def _nothing(self) -> None:
        """No fault."""
        await self._wait(0.5, 1)

    async def _kill_a_server(self) -> None:
        """SIGKILL to a server, which starts again."""
        server = self._server()
        await server.end(signal.SIGKILL)
        await self._wait(0, 0.5, 2)
        await server.start(guarded=False)

    async def _kill_a_server_for_long(self) -> None:
        """The clients of a server that is dead leave, as the others see it."""
        number = self._random.randrange(len(self._servers))
        server = self._servers[number]
        other = self._servers[(number + 1) % len(self._servers)]
        await server.end(signal.SIGKILL)
        began = time.monotonic()

        async def has_left() -> bool:
            present = await other.get(f"/topics/{PRESENT}/presence")
            return f"present-{number}" not in {each["client_id"] for each in present["clients"]}

        ended = await until(has_left, PRESENCE_SEC + SLACK_SEC)
        found = f"{time.monotonic() - began:.1f} s"
        self._check(f"the presence of a dead server ends within {PRESENCE_SEC:.0f} s", ended, found)
        await server.start(guarded=False)

    async def _drain_a_server(self) -> None:
        """SIGTERM to a server, which starts again."""
        status = await restart(self._server(), signal.SIGTERM)
        self._check("a server that is drained ends with status 0", status == 0, status)

    async def _stop_a_server(self) -> None:
        """SIGSTOP to a server, for up to 6 s."""
        server = self._server()
        server.process.send_signal(signal.SIGSTOP)
        await self._wait(0.5, 2, 6)
        server.process.send_signal(signal.SIGCONT)

    # Topics

    async def _purge(self) -> None:
        """A topic forgets its messages."""
        await self._server().ask("DELETE", f"/topics/{self._random.choice(list(FLEETING))}/messages")
        await self._wait(0.5)

    async def _create_again(self) -> None:
        """A topic is deleted and created again."""
        await self._server().ask("DELETE", f"/topics/{self._random.choice(list(FLEETING))}")
        await self._wait(0, 0, 0.3)
        await create_topics(self._server())
