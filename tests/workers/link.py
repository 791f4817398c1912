"""The engine of a worker with its owner, in a loop of their own, driven by a test that runs in no loop (AnyLink)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from pubsub.core.clock import Clock
from pubsub.journals.shared.engine import Create, Follower, Known, Operation, Outcomes
from pubsub.journals.workers.engine import WorkerEngine
from tests.journals.world import World
from tests.workers.following import Parts


class WorkerLink:
    """See the module. The owner has the clocks of the world. ``durable``: all topics are on its disk."""

    lasting = ""
    held_reads: list[Callable[[], None]] | None = None

    def __init__(self, world: World, directory: Path, *, durable: bool) -> None:
        self.kind = "workers on disk" if durable else "workers"
        self._durable = durable
        self._loop = asyncio.new_event_loop()
        self._engine = WorkerEngine(str(directory / "s"))
        self.server = self._engine.server
        clock = Clock(lambda: 0, lambda: world.now)
        self._parts = self._loop.run_until_complete(self._own(str(directory / "s"), directory / "data", clock))

    async def _own(self, path: str, directory: Path, clock: Clock) -> Parts:
        parts = Parts(path, directory, clock, clock.monotonic, durable_rule=self._durable)
        parts.owner.start()
        return parts

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
        self._loop.run_until_complete(self._parts.stop())
        self._loop.close()

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        if self._durable:
            operations = [_on_disk(each) if isinstance(each, Create) else each for each in operations]
        self._engine.ask(operations, outcomes)

    def withdraw(self, outcomes: Outcomes) -> None:
        self._engine.withdraw(outcomes)

    def sync(self, done: Callable[[Any], None]) -> None:
        self._engine.sync(done)

    def read(self, known: Known, after: int, until: int, limit: int, done: Callable[[Any], None]) -> None:
        self._engine.read(known, after, until, limit, self._hold(done))

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[Any], None]) -> None:
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


def _on_disk(create: Create) -> Create:
    return structs.replace(create, options=structs.replace(create.options, durable=True))
