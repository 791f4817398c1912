"""The faults of a soak of several servers on Redis: of Redis, and of the network between it and each server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from random import Random

from cluster_faults import Check, Fault, ServerFaults
from clusters import FLEETING, RedisCluster, create_topics, restart


class RedisFaults(ServerFaults):
    """See the module, and ServerFaults."""

    def __init__(self, cluster: RedisCluster, random: Random, check: Check, names: Sequence[str] | None = None) -> None:
        self._cluster = cluster
        super().__init__(cluster, random, check, names)

    def kinds(self) -> list[Fault]:
        return [
            *super().kinds(),
            Fault(self._restart_redis, 4, renews=True),
            Fault(self._end_redis_in_good_order, renews=True),
            Fault(self._restart_redis_and_a_server, renews=True),
            Fault(self._wipe_redis, 3, keeps=False, renews=True),
            Fault(self._flush_redis, keeps=False, renews=True),
            Fault(self._stop_redis, 3),
            Fault(self._kill_clients_of_redis, 4),
            Fault(self._fill_redis),
            Fault(self._block_redis),
            Fault(self._partition, 4),
            Fault(self._partition_all),
            Fault(self._cut, 3),
            Fault(self._half_open, 3),
            Fault(self._deaf, 3),
            Fault(self._slow),
            Fault(self._create_again_while_partitioned, 3),
        ]

    # Redis

    async def _restart_redis(self, number: signal.Signals = signal.SIGKILL) -> None:
        await self._cluster.engine.end(number)
        await self._wait(0, 0.5, 3)
        await self._cluster.engine.start()

    async def _end_redis_in_good_order(self) -> None:
        await self._restart_redis(signal.SIGTERM)

    async def _restart_redis_and_a_server(self) -> None:
        """The server starts while Redis is away: it serves, degraded, until Redis is there."""
        await self._cluster.engine.end()
        server = self._server()
        await restart(server, signal.SIGKILL)
        await self._until_degraded(server)
        await self._cluster.engine.start()

    async def _wipe_redis(self) -> None:
        await self._cluster.engine.end()
        self._cluster.engine.wipe()
        await self._wait(0, 0.5, 3)
        await self._cluster.engine.start()

    async def _flush_redis(self) -> None:
        async with self._cluster.engine.admin() as redis:
            await redis.flushall()
        await self._wait(0.5)

    async def _stop_redis(self) -> None:
        self._cluster.engine.pause()
        if await self._lasts():
            await self._until_degraded(self._server())
        self._cluster.engine.go_on()

    async def _kill_clients_of_redis(self) -> None:
        async with self._cluster.engine.admin() as redis:
            for _ in range(self._random.choice([1, 1, 4])):
                for kind in self._random.choice([["pubsub"], ["normal"], ["normal", "pubsub"]]):
                    await redis.client_kill_filter(_type=kind, skipme=True)
                await self._wait(0, 0.1)

    async def _fill_redis(self) -> None:
        """Redis refuses what needs memory."""
        async with self._cluster.engine.admin() as redis:
            await redis.config_set("maxmemory", 1)
            await self._wait(0.5, 3)
            await redis.config_set("maxmemory", 0)

    async def _block_redis(self) -> None:
        """Somebody runs a script that does not end: Redis answers BUSY."""
        async with self._cluster.engine.admin() as redis, self._cluster.engine.admin() as killer:
            await redis.config_set("busy-reply-threshold", 100)
            blocking = asyncio.ensure_future(redis.eval("while true do end", 0))
            await self._wait(0.5, 2)
            await killer.script_kill()
            await asyncio.gather(blocking, return_exceptions=True)

    # The network between a server and Redis

    async def _partition(self) -> None:
        number = self._random.randrange(len(self._cluster.lines))
        self._cluster.lines[number].stall()
        if await self._lasts():
            await self._until_degraded(self._cluster.servers[number])
        self._cluster.lines[number].heal()

    async def _partition_all(self) -> None:
        for line in self._cluster.lines:
            line.stall()
        if await self._lasts():
            await self._until_degraded(self._server())
        for line in self._cluster.lines:
            line.heal()

    async def _cut(self) -> None:
        for _ in range(self._random.choice([1, 1, 5])):
            self._random.choice(self._cluster.lines).cut()
            await self._wait(0, 0.2)

    async def _half_open(self) -> None:
        """Both sides of a connection see a peer that takes everything and says nothing."""
        number = self._random.randrange(len(self._cluster.lines))
        line = self._cluster.lines[number]
        line.swallows = True
        if await self._lasts():
            await self._until_degraded(self._cluster.servers[number])
        line.cut()  # what was swallowed is missing in the stream
        line.heal()

    async def _deaf(self) -> None:
        """Redis gets all that a server says, and the server gets nothing of what Redis says."""
        number = self._random.randrange(len(self._cluster.lines))
        line = self._cluster.lines[number]
        line.mutes = True
        if await self._lasts():
            await self._until_degraded(self._cluster.servers[number])
        line.cut()
        line.heal()

    async def _slow(self) -> None:
        line = self._random.choice(self._cluster.lines)
        line.delay, line.rate = self._random.choice([(0.05, 0), (0, 100_000), (0.3, 0)])
        await self._wait(1, 3)
        line.delay = line.rate = 0.0

    # Topics

    async def _create_again_while_partitioned(self) -> None:
        """A topic is deleted and created again, and one server learns of it only later."""
        number = self._random.randrange(len(self._cluster.lines))
        other = self._cluster.servers[(number + 1) % len(self._cluster.servers)]
        self._cluster.lines[number].stall()
        for _ in range(self._random.choice([1, 3])):
            await other.ask("DELETE", f"/topics/{self._random.choice(list(FLEETING))}")
            await self._wait(0, 0.3)
            await create_topics(other)
        await self._wait(0, 1)
        self._cluster.lines[number].heal()
