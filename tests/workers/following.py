"""An owner and workers in one process, over a real socket. The workers have a Follower that notes what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.journals.shared.engine import (
    Append,
    Appended,
    Create,
    Deleted,
    Known,
    Operation,
    Outcome,
    Purged,
    Record,
    State,
    Told,
)
from pubsub.journals.sqlite import SqliteJournal
from pubsub.journals.workers.batches import Epochs
from pubsub.journals.workers.engine import WorkerEngine
from pubsub.journals.workers.owner import Owner
from pubsub.journals.workers.relay import Relay
from pubsub.journals.workers.service import Service
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish, TopicOptions
from pubsub.system.cores import SharedCore
from tests.harness import eventually

RING = 100


class Following:
    """A Follower: all that it was told, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.names: set[str] = set()
        self.syncs = 0
        self.reasons: list[str] = []

    def apply(self, record: Record) -> None:
        self.records.append(record)

    def synced(self, names: Collection[str], holds: Callable[[str], bool]) -> None:
        assert all(map(holds, names))
        self.names = set(names)
        self.syncs += 1

    def failing(self, reason: str, *, partly: bool = False) -> None:
        self.reasons.append(reason)

    @property
    def states(self) -> dict[str, State]:
        return {each.name: each for each in self.records if isinstance(each, State)}

    def stored(self, name: str) -> list[tuple[int, bytes]]:
        """The events of a topic."""
        return [
            (event.seq, event.text)
            for each in self.records
            if isinstance(each, Appended) and each.name == name
            for event in each.events
        ]

    @property
    def others(self) -> list[Deleted | Purged | Told]:
        return [each for each in self.records if isinstance(each, Deleted | Purged | Told)]


class Worker:
    """A worker's engine with its Follower; its methods ask one thing and wait for the outcome."""

    def __init__(self, path: str) -> None:
        self.engine = WorkerEngine(path)
        self.following = Following()

    async def start(self) -> Worker:
        await self.engine.start(self.following)
        return self

    async def ask(self, *operations: Operation) -> list[Outcome]:
        given: list[Sequence[Outcome]] = []
        self.engine.ask(operations, given.append)
        await eventually(lambda: bool(given))
        return list(given[0])

    async def create(self, name: str, epoch: str = "e1", **options: Any) -> None:
        outcomes = await self.ask(Create(name, epoch, TopicOptions(history=1000, **options), 0))
        assert outcomes == [None], outcomes

    async def publish(self, *requests: Publish, sender: str = "", together: bool = False) -> Any:
        (outcome,) = await self.ask(appending(requests, sender=sender, together=together))
        return outcome

    async def sync(self) -> None:
        given: list[Failure | None] = []
        self.engine.sync(given.append)
        await eventually(lambda: bool(given))
        assert given == [None]

    async def read(self, known: Known, after: int, until: int, limit: int = 1000) -> Any:
        given: list[Any] = []
        self.engine.read(known, after, until, limit, given.append)
        await eventually(lambda: bool(given))
        return given[0]

    async def find_missing(self, known: Known, after: int, until: int) -> Any:
        given: list[Any] = []
        self.engine.find_missing(known, after, until, given.append)
        await eventually(lambda: bool(given))
        return given[0]


def appending(requests: Sequence[Publish], *, sender: str = "", together: bool = False) -> Append:
    known = Known(requests[0].topic, "e1", 0)
    return Append(known, requests, "2025-08-25T10:00:00Z", sender, [], together)


class Parts:
    """An owner with its Broker. ``directory``: of its durable topics. A first use creates topics ``used.*``."""

    def __init__(self, path: str, directory: Path) -> None:
        loop = asyncio.get_running_loop()
        clock = Clock()
        epochs = Epochs()
        self.relay = Relay(defer=loop.call_soon, call_later=loop.call_later)
        self.broker = Broker(
            defer=loop.call_soon,
            clock=clock,
            memory=MemoryJournal(clock, epochs),
            ring_size=RING,
            call_later=loop.call_later,
            host_before=self.relay.before,
            make_durable=lambda: SqliteJournal(
                directory,
                clock,
                SharedCore(),
                post=loop.call_soon_threadsafe,
                defer=loop.call_soon,
                call_later=loop.call_later,
                new_epoch=epochs,
            ),
            rules=TopicRules([TopicRule(pattern="used.*", create=True)]),
        )
        if directory.exists():
            self.broker.restore_topics()
        self.service = Service(self.broker, clock, self.relay, epochs, max_message_bytes=1 << 20)
        self.owner = Owner(self.service, path)

    async def stop(self) -> None:
        self.owner.stop()
        if self.broker.durable_journal is not None:
            await asyncio.to_thread(self.broker.durable_journal.close)


class Place:
    """The owners and workers of a test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "s")
        self._owners: list[Parts] = []
        self._workers: list[Worker] = []

    async def own(self) -> Parts:
        parts = Parts(self.path, self.directory / "data")
        parts.owner.start()
        self._owners.append(parts)
        return parts

    async def work(self) -> Worker:
        worker = Worker(self.path)
        self._workers.append(worker)
        return await worker.start()

    async def stop(self) -> None:
        for worker in self._workers:
            await worker.engine.stop()
        for parts in self._owners:
            await parts.stop()


@contextlib.asynccontextmanager
async def place(directory: Path) -> AsyncIterator[Place]:
    found = Place(directory)
    try:
        yield found
    finally:
        await found.stop()
