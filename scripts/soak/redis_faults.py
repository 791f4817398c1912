"""The faults of a soak of several servers on Redis: of Redis, and of the network between it and each server."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Sequence
from random import Random

from cluster_faults import SLACK_SEC, Check, Fault, ServerFaults
from clusters import FLEETING, SETTINGS, RedisCluster, create_topics, restart
from engines import limit_files
from redis.asyncio import Redis
from victim import until

SPARE = 20_000  # bytes that still fit when a disk or a memory is to be full
ENDING_SEC = 10.0
WRITING_SEC = 20.0  # Redis tries a snapshot again after five seconds
LASTING_SEC = 5.0  # a few signs of life of each server
WAIT_SEC = float(SETTINGS["JOURNAL_WAIT_SEC"])
MIB = 1 << 20


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
            Fault(self._fill_the_memory, 3),
            Fault(self._fill_the_disk, 3),
            Fault(self._fill_the_disk_until_redis_ends, 3, renews=True),
            Fault(self._fill_the_disk_of_snapshots),
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
        """SIGKILL to Redis, which starts again with its data."""
        await self._cluster.engine.end(number)
        await self._wait(0, 0.5, 3)
        await self._cluster.engine.start()

    async def _end_redis_in_good_order(self) -> None:
        """SIGTERM to Redis, which starts again with its data."""
        await self._restart_redis(signal.SIGTERM)

    async def _restart_redis_and_a_server(self) -> None:
        """The server starts while Redis is away: it serves, degraded, until Redis is there."""
        await self._cluster.engine.end()
        server = self._server()
        await restart(server, signal.SIGKILL)
        await self._until_degraded(server)
        await self._cluster.engine.start()

    async def _wipe_redis(self) -> None:
        """Redis is killed, and starts again without its data."""
        await self._cluster.engine.end()
        self._cluster.engine.wipe()
        await self._wait(0, 0.5, 3)
        await self._cluster.engine.start()

    async def _flush_redis(self) -> None:
        """FLUSHALL."""
        async with self._cluster.engine.admin() as redis:
            await redis.flushall()
        await self._wait(0.5)

    async def _stop_redis(self) -> None:
        """SIGSTOP to Redis."""
        self._cluster.engine.pause()
        if await self._lasts():
            await self._until_degraded(self._server())
        self._cluster.engine.go_on()

    async def _kill_clients_of_redis(self) -> None:
        """CLIENT KILL for connections of servers."""
        async with self._cluster.engine.admin() as redis:
            for _ in range(self._random.choice([1, 1, 4])):
                for kind in self._random.choice([["pubsub"], ["normal"], ["normal", "pubsub"]]):
                    await redis.client_kill_filter(_type=kind, skipme=True)
                await self._wait(0, 0.1)

    async def _fill_the_memory(self) -> None:
        """Redis reaches maxmemory, at once or after some messages: it refuses what needs memory."""
        async with self._cluster.engine.admin() as redis:
            limit = self._random.choice([0, (await redis.info("memory"))["used_memory"]]) + SPARE
            await redis.config_set("maxmemory", limit)
            await self._check_refusing(redis, "its memory is full")
            await redis.config_set("maxmemory", 0)

    async def _fill_the_disk(self) -> None:
        """With `appendfsync everysec`: Redis refuses writes until it can append to its file again."""
        engine = self._cluster.engine
        async with engine.admin() as redis:
            await redis.config_set("appendfsync", "everysec")
            engine.fill_disk(self._random.randrange(SPARE))
            await self._check_refusing(redis, "its disk is full")
            engine.free_disk()
            await self._until_persisted(redis, aof_last_write_status="ok")
            await redis.config_set("appendfsync", "always")

    async def _fill_the_disk_until_redis_ends(self) -> None:
        """With `appendfsync always`: Redis ends itself, once or twice, and starts again."""
        engine = self._cluster.engine
        for _ in range(self._random.choice([1, 2])):
            engine.fill_disk(self._random.randrange(SPARE))
            self._check("an engine that must write ends if it cannot", await until(self._has_ended, ENDING_SEC), "")
            await self._check_answers("")
            await engine.start()

    async def _fill_the_disk_of_snapshots(self) -> None:
        """With snapshots alone: Redis refuses writes until it has made one again."""
        engine = self._cluster.engine
        async with engine.admin() as redis:
            await redis.config_set("appendonly", "no")
            await redis.config_set("save", "1 1")
            limit_files(engine.process, 0)
            await self._check_refusing(redis, "its disk is full")
            engine.free_disk()
            await self._until_persisted(redis, rdb_last_bgsave_status="ok")
            await redis.config_set("save", "")
            await redis.config_set("appendonly", "yes")
            await self._until_persisted(redis, aof_rewrite_in_progress=0, aof_rewrite_scheduled=0)

    async def _has_ended(self) -> bool:
        return self._cluster.engine.process.poll() is not None

    async def _check_refusing(self, redis: Redis, reason: str) -> None:
        """Check what must hold from the moment that Redis refuses to write, and for a while."""
        await self._check_answers(reason)
        status, _ = await self._server().ask("GET", "/topics/keep.plain/messages?last_n=1")
        self._check("messages can be read while writes are refused", status == 200, status)
        before = await redis.info()
        if await self._lasts():
            await self._wait(LASTING_SEC)
        after = await redis.info()
        more = after["total_connections_received"] - before["total_connections_received"]
        self._check("no server connects again because writes are refused", more == 0, more)
        grown = after["used_memory"] - before["used_memory"]
        self._check("an engine that refuses writes does not grow", grown < MIB, f"{grown / MIB:.1f} MiB")

    async def _check_answers(self, reason: str) -> None:
        """Check that servers say degraded, with the reason, and that publishers are answered in time."""
        for server in self._cluster.servers:
            await self._until_degraded(server, reason)
        began = time.monotonic()
        message = {"id": str(uuid.uuid4()), "payload": {"kind": 0}}
        status, _ = await self._server().ask("POST", "/topics/brief.plain/messages", message)
        took = time.monotonic() - began
        self._check(
            "a publish is answered in time", status in (200, 503) and took < WAIT_SEC + SLACK_SEC, (status, took)
        )

    async def _until_persisted(self, redis: Redis, **wanted: object) -> None:
        """Wait until INFO says that Redis is well, on a disk that has space again."""

        async def is_so() -> bool:
            found = await redis.info("persistence")
            return all(found[name] == value for name, value in wanted.items())

        self._check("an engine writes again by itself", await until(is_so, WRITING_SEC), wanted)

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
        """Nothing passes between a server and Redis."""
        number = self._random.randrange(len(self._cluster.lines))
        self._cluster.lines[number].stall()
        if await self._lasts():
            await self._until_degraded(self._cluster.servers[number])
        self._cluster.lines[number].heal()

    async def _partition_all(self) -> None:
        """Nothing passes between any server and Redis."""
        for line in self._cluster.lines:
            line.stall()
        if await self._lasts():
            await self._until_degraded(self._server())
        for line in self._cluster.lines:
            line.heal()

    async def _cut(self) -> None:
        """Connections to Redis are reset."""
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
        """The network of a server delays or throttles."""
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
