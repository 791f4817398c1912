"""The faults of a soak of several servers on Redis with a replica and a sentinel: failovers."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from random import Random

from cluster_faults import Check, Fault, ServerFaults
from clusters import SentinelCluster
from engines import RedisProgram
from victim import until

FAILOVER_SEC = 60.0
TAIL = 50  # bytes that the replica lacks


class SentinelFaults(ServerFaults):
    """See the module, and ServerFaults."""

    def __init__(
        self, cluster: SentinelCluster, random: Random, check: Check, names: Sequence[str] | None = None
    ) -> None:
        self._cluster = cluster
        super().__init__(cluster, random, check, names)

    def kinds(self) -> list[Fault]:
        return [
            *super().kinds(),
            Fault(self._fail_over, 5, keeps=False, renews=True),
            Fault(self._fail_over_without_the_tail, 5, keeps=False, renews=True),
            Fault(self._fail_over_by_hand, 3, keeps=False, renews=True),
            Fault(self._stop_the_primary, 3, keeps=False, renews=True),
            Fault(self._stop_the_sentinel),
        ]

    async def _fail_over(self) -> None:
        """The primary is killed, and the replica is promoted."""
        primary, replica = await self._cluster.primary_and_replica()
        await self._kill(primary, replica)

    async def _fail_over_without_the_tail(self) -> None:
        """The replica gets nothing of the last second before it is promoted."""
        primary, replica = await self._cluster.primary_and_replica()
        async with primary.admin() as redis:
            await redis.acl_setuser("default", commands=["-psync", "-sync"], enabled=True, nopass=True, reset=False)
            await redis.client_kill_filter(_type="replica")
            sent = await self._offset(primary)
            await self._wait(0.3, 1)
            await until(lambda: self._is_beyond(primary, sent + TAIL), 5)
        await self._kill(primary, replica)

    async def _kill(self, primary: RedisProgram, replica: RedisProgram) -> None:
        """Kill the primary, and start it as a replica of the next one. (The sentinel would do that 10 s later.)"""
        await primary.end(signal.SIGKILL)
        await self._until_primary(replica)
        await primary.start("--replicaof", "127.0.0.1", str(replica.port))
        await self._until_replica(primary)

    async def _offset(self, program: RedisProgram) -> int:
        async with program.admin() as redis:
            return int((await redis.info("replication"))["master_repl_offset"])

    async def _is_beyond(self, program: RedisProgram, offset: int) -> bool:
        return await self._offset(program) > offset

    async def _fail_over_by_hand(self) -> None:
        """As an operator does it, while both run."""
        _, replica = await self._cluster.primary_and_replica()
        async with self._cluster.sentinel.admin() as sentinel:
            await sentinel.sentinel_failover("soak")
        await self._until_primary(replica)
        other = next(each for each in self._cluster.engines if each is not replica)
        await self._until_replica(other)

    async def _stop_the_primary(self) -> None:
        """The old primary still believes that it is one when it goes on."""
        primary, replica = await self._cluster.primary_and_replica()
        primary.pause()
        await self._until_primary(replica)
        primary.go_on()
        await self._until_replica(primary)

    async def _stop_the_sentinel(self) -> None:
        """SIGSTOP to the sentinel."""
        self._cluster.sentinel.process.send_signal(signal.SIGSTOP)
        await self._wait(0.5, 2)
        self._cluster.sentinel.process.send_signal(signal.SIGCONT)

    async def _until_primary(self, program: RedisProgram) -> None:
        async def is_primary() -> bool:
            return await self._cluster.sentinel.find_master() == program.port and await self._role(program) == "master"

        if not await until(is_primary, FAILOVER_SEC):
            raise RuntimeError("the sentinel did not fail over")

    async def _until_replica(self, program: RedisProgram) -> None:
        if not await until(program.is_replica, FAILOVER_SEC):
            raise RuntimeError("the old primary is no replica")

    async def _role(self, program: RedisProgram) -> str:
        async with program.admin() as redis:
            return str((await redis.info("replication"))["role"])
