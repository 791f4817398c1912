"""The Redis engine in a loop of its own, driven by a test that runs in no loop (AnyLink)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from pubsub.journals.redis.address import parse_address
from pubsub.journals.redis.engine import RedisEngine
from pubsub.journals.shared.engine import Follower, Known, Operation, Outcomes
from tests.journals.world import World
from tests.redis.programs import RedisServer

START = 1000.0  # the time of a world at its start


class RedisLink:
    """See the module. A key tells scripts that read it how far the world's clock has stepped."""

    kind = "redis"
    lasting = ""
    held_reads: list[Callable[[], None]] | None = None

    def __init__(self, world: World, server: RedisServer, prefix: str) -> None:
        self.server = secrets.token_hex(8)
        self._loop = asyncio.new_event_loop()
        self._world = world
        self._prefix = prefix
        self._admin = server.admin
        self._step = 0.0
        address = parse_address(server.url(prefix))
        self._engine = RedisEngine(address, world._clock, self.server)

    def begin(self, follower: Follower) -> None:
        self._follower = follower

    def connect(self) -> None:
        self._loop.run_until_complete(self._engine.start(self._follower))

    async def start(self, follower: Follower) -> None:
        raise AssertionError("the world connects")

    def pump(self) -> bool:
        self._loop.run_until_complete(asyncio.sleep(0.0002))
        return True

    def close(self) -> None:
        self._loop.run_until_complete(self._engine.stop())
        self._loop.close()
        self._admin.close()

    def _take_time(self) -> None:
        if (step := self._world.now - START) != self._step:
            self._step = step
            self._admin.set(f"{self._prefix}:step", step)

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        self._take_time()
        self._engine.ask(operations, outcomes)

    def withdraw(self, outcomes: Outcomes) -> None:
        self._engine.withdraw(outcomes)

    def sync(self, done: Callable[[Any], None]) -> None:
        self._engine.sync(done)

    def read(self, known: Known, after: int, until: int, limit: int, done: Callable[[Any], None]) -> None:
        self._take_time()
        self._engine.read(known, after, until, limit, self._hold(done))

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[Any], None]) -> None:
        self._take_time()
        self._engine.find_missing(known, after, until, done)

    def _hold(self, done: Callable[[Any], None]) -> Callable[[Any], None]:
        def take(page: Any) -> None:
            if self.held_reads is None:
                done(page)
            else:
                self.held_reads.append(lambda: done(page))

        return take

    async def stop(self) -> None:
        await self._engine.stop()
