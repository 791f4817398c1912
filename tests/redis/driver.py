"""An engine driven by a test, and what it told (Follower)."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Self

from msgspec import UNSET, Raw, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.journals.redis import make_engine
from pubsub.journals.shared.engine import (
    Append,
    Appended,
    Create,
    Delete,
    Engine,
    Known,
    Operation,
    Outcome,
    Purge,
    Record,
    State,
)
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Message, Publish, TopicOptions
from tests.harness import PATIENCE, eventually, new_id

TS = "2026-01-01T00:00:00Z"
prefixes = (f"test-{number}" for number in itertools.count())


def publish(payload: Any = 1, *, message_id: str = "", expect_seq: int | UnsetType = UNSET) -> Publish:
    content = Message(message_id or new_id(), Raw(json.dumps(payload).encode()))
    return Publish(topic="t", message=content, expect_seq=expect_seq)


class Driver:
    """See the module. ``told``: all records, ``"synced"`` and reasons, in order. ``seq``: the last of each topic."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = make_engine(url, Clock())
        self.told: list[Record | str] = []
        self.reason = ""
        self.partly = False
        self.names: set[str] = set()
        self.synchronized = 0
        self.epoch: dict[str, str] = {}
        self.seq: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def run(cls, url: str) -> AsyncIterator[Self]:
        driver = cls(url)
        await driver.engine.start(driver)
        try:
            yield driver
        finally:
            await driver.engine.stop()

    # Follower

    def apply(self, record: Record) -> None:
        self.told.append(record)
        if isinstance(record, State):
            self.epoch[record.name], self.seq[record.name] = record.epoch, record.seq
        elif isinstance(record, Appended):
            self.seq[record.name] = record.events[-1].seq

    def synced(self, names: Collection[str], holds: Callable[[str], bool]) -> None:
        self.told.append("synced")
        self.names = {name for name in self.names if not holds(name)} | set(names)
        self.synchronized += 1

    def failing(self, reason: str, *, partly: bool = False) -> None:
        self.partly = partly
        self.told.append(f"failing: {reason}")
        self.reason = reason

    # Questions

    def begin(self, *operations: Operation) -> asyncio.Future[Sequence[Outcome]]:
        """Ask a batch, and wait for nothing."""
        given: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self.engine.ask(operations, given.set_result)
        return given

    async def ask(self, *operations: Operation) -> Sequence[Outcome]:
        async with asyncio.timeout(PATIENCE):
            return await self.begin(*operations)

    async def ask_one(self, operation: Operation) -> Any:
        (outcome,) = await self.ask(operation)
        return outcome

    async def create(self, name: str = "t", **options: Any) -> None:
        assert await self.ask_one(self.creation(name, **options)) is None

    def creation(self, name: str = "t", most: int = 0, **options: Any) -> Create:
        return Create(name, f"e{name}", TopicOptions(**({"history": 1000} | options)), most)

    def known(self, name: str = "t") -> Known:
        return Known(name, self.epoch.get(name, ""), self.seq.get(name, 0))

    def append(self, *requests: Publish, name: str = "t", together: bool = False, lifetime: float = inf) -> Append:
        return Append(self.known(name), requests, TS, "", [lifetime] * len(requests), together)

    async def publish(self, *requests: Publish, **options: Any) -> Any:
        return await self.ask_one(self.append(*requests, **options))

    async def delete(self, name: str = "t") -> Any:
        return await self.ask_one(Delete(self.known(name)))

    async def purge(self, name: str = "t") -> Any:
        return await self.ask_one(Purge(self.known(name)))

    async def sync(self) -> None:
        done: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self.engine.sync(done.set_result)
        async with asyncio.timeout(PATIENCE):
            assert await done is None

    async def read(self, after: int = 0, until: int = 10**9, limit: int = 1000, name: str = "t") -> Any:
        page: asyncio.Future[Sequence[StoredEvent] | Failure] = asyncio.get_running_loop().create_future()
        self.engine.read(self.known(name), after, until, limit, page.set_result)
        async with asyncio.timeout(PATIENCE):
            return await page

    async def payloads(self, after: int = 0, limit: int = 1000) -> list[Any]:
        return [json.loads(event.text)["message"]["payload"] for event in await self.read(after, limit=limit)]

    async def is_missing(self, after: int, until: int, name: str = "t") -> Any:
        answer: asyncio.Future[bool | Failure] = asyncio.get_running_loop().create_future()
        self.engine.find_missing(self.known(name), after, until, answer.set_result)
        async with asyncio.timeout(PATIENCE):
            return await answer

    # What was told

    @property
    def heard(self) -> list[tuple[int, Any]]:
        """The messages of all topics, as ``seq`` and payload."""
        return [
            (event.seq, json.loads(event.text)["message"]["payload"])
            for record in self.told
            if isinstance(record, Appended)
            for event in record.events
        ]

    def states(self, name: str = "t") -> list[State]:
        return [record for record in self.told if isinstance(record, State) and record.name == name]

    async def works_again(self, synchronized: int) -> None:
        """Wait until it has connected so many times in all."""
        await eventually(lambda: self.synchronized >= synchronized and not self.reason)
