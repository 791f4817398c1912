"""The faults of a soak of a server with several worker processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from cluster_faults import Check, Fault, ServerFaults
from clusters import WorkerCluster, restart
from victim import until


class WorkerFaults(ServerFaults):
    """See the module, and ServerFaults."""

    def __init__(
        self, cluster: WorkerCluster, random: Random, check: Check, names: Sequence[str] | None = None
    ) -> None:
        self._cluster = cluster
        super().__init__(cluster, random, check, names)

    def kinds(self) -> list[Fault]:
        lossy = {"keeps": False, "keeps_durable": True, "renews": True}
        return [
            *self.harmless(),
            Fault(self._kill_a_worker, 5),
            Fault(self._kill_workers_again_and_again, 2),
            Fault(self._stop_a_worker, 4),
            Fault(self._stop_the_owner, 3),
            Fault(self._kill_the_owner, 4, **lossy),
            Fault(self._kill_the_owner_and_a_worker, 2, **lossy),
            Fault(self._restart_all, 2, **lossy),
            Fault(self._kill_all, 2, **lossy),
        ]

    def _worker(self) -> int:
        """A worker that is not the owner."""
        owner = self._cluster.owner
        return self._random.choice([each for each in self._cluster.processes if each != owner])

    async def _the_owner(self) -> int:
        async def is_there() -> bool:
            return self._cluster.owner is not None

        await until(is_there, 10)
        owner = self._cluster.owner
        assert owner is not None, "it runs"
        return owner

    async def _kill_a_worker(self) -> None:
        """SIGKILL to a worker that does not own the journals."""
        os.kill(self._worker(), signal.SIGKILL)
        await self._wait(0, 0.5)

    async def _kill_workers_again_and_again(self) -> None:
        """SIGKILL to such workers, three times."""
        for _ in range(3):
            with suppress(IndexError, ProcessLookupError):
                os.kill(self._worker(), signal.SIGKILL)
            await self._wait(0.1, 1)

    async def _stop_a_worker(self) -> None:
        """SIGSTOP to such a worker, for up to 6 s."""
        await self._stop(self._worker(), 0.5, 2, 6)

    async def _stop_the_owner(self) -> None:
        """SIGSTOP to the owner of the journals, for up to 4 s."""
        await self._stop(await self._the_owner(), 0.3, 1.5, 4)

    async def _stop(self, process: int, *seconds: float) -> None:
        os.kill(process, signal.SIGSTOP)
        await self._wait(*seconds)
        os.kill(process, signal.SIGCONT)

    async def _kill_the_owner(self) -> None:
        """SIGKILL to the owner."""
        os.kill(await self._the_owner(), signal.SIGKILL)
        await self._wait(0, 0.5)

    async def _kill_the_owner_and_a_worker(self) -> None:
        """SIGKILL to both."""
        victims = [await self._the_owner(), self._worker()]
        for each in victims:
            os.kill(each, signal.SIGKILL)
        await self._wait(0, 0.5)

    async def _restart_all(self) -> None:
        """SIGTERM to the server, which starts again."""
        status = await restart(self._cluster.servers[0], signal.SIGTERM)
        self._check("a server that is drained ends with status 0", status == 0, status)

    async def _kill_all(self) -> None:
        """SIGKILL to the supervisor: no worker stays behind."""
        processes = self._cluster.processes
        server = self._cluster.servers[0]
        await server.end(signal.SIGKILL)

        async def all_gone() -> bool:
            return not any(map(is_running, processes))

        self._check("no worker outlives its supervisor", await until(all_gone, 10), processes)
        await server.start(guarded=False)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
