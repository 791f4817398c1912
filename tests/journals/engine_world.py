"""A Broker over a shared journal and a real engine, driven step by step as a World is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.journals.shared.engine import Engine
from pubsub.journals.shared.journal import SharedJournal
from pubsub.protocol.answers import TopicRule
from tests.harness import PATIENCE
from tests.journals.world import RING, World

QUIET = 100  # ticks of the loop, after which nothing is deferred any more: turns of the core are few


class EngineWorld(World):
    """See the module. ``make_engine`` is called inside the loop; ``stack`` ends what it began."""

    def __init__(self, make_engine: Callable[[asyncio.AbstractEventLoop, ExitStack], Engine], kind: str) -> None:
        self.now = 1000.0
        self.link = self.durable = None
        self._kind = kind
        self._stack = ExitStack()
        self._loop = asyncio.new_event_loop()
        self._clock = Clock()
        self._run(self._begin(make_engine))

    async def _begin(self, make_engine: Callable[[asyncio.AbstractEventLoop, ExitStack], Engine]) -> None:
        loop = self._loop
        self._engine = make_engine(loop, self._stack)
        self.shared = SharedJournal(
            self._engine, self._clock, defer=loop.call_soon, call_later=loop.call_later, wait=PATIENCE
        )
        self.broker = Broker(
            defer=loop.call_soon,
            clock=self._clock,
            memory=MemoryJournal(self._clock),
            shared=self.shared,
            ring_size=RING,
            rules=TopicRules([TopicRule(pattern="used.*", create=True)]),
        )
        await self._engine.start(self.shared)

    def _run(self, work: Any) -> None:
        self._loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    @property
    def kind(self) -> str:
        return self._kind

    def settle(self) -> None:
        self._run(self._settle())

    async def _settle(self) -> None:
        await self._be_quiet()
        ended = self._loop.create_future()
        assert self.shared is not None
        self.shared.call_after(lambda: ended.set_result(None))
        await ended
        await self._be_quiet()

    async def _be_quiet(self) -> None:
        for _ in range(QUIET):
            await asyncio.sleep(0)

    def wait_for(self, given: list[Any]) -> None:
        deadline = self._loop.time() + PATIENCE
        while not given:
            assert self._loop.time() < deadline, "there is no answer"
            self.take_turn()

    def take_turn(self) -> None:
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def close(self) -> None:
        self._run(self._engine.stop())
        self._stack.close()
        self._run(self._be_quiet())
        self._loop.close()


def on_workers(directory: Path) -> EngineWorld:
    """The journal of a worker, whose owner runs in the same loop."""
    from pubsub.journals.workers import make_engine
    from tests.workers.following import Parts

    def make(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> Engine:
        parts = Parts(str(directory / "s"), directory / "data")
        parts.owner.start()
        stack.callback(lambda: loop.run_until_complete(parts.stop()))
        return make_engine(f"unix:{directory / 's'}", Clock())

    return EngineWorld(make, "workers")
