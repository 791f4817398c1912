"""An engine of several independent instances (Engine): each topic lives in one of them, which its name decides.

Each has its own order and its own troubles. While one is away, what is asked of it is refused after a time, and the
others go on. Outcomes come in the order of the batches all the same, as the journal wants it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from pubsub.core.event import StoredEvent
from pubsub.core.journal import JournalError
from pubsub.journals.redis.engine import RedisEngine
from pubsub.journals.shared.engine import (
    Create,
    Follower,
    Known,
    Operation,
    Outcome,
    Outcomes,
    Record,
    Tell,
)
from pubsub.protocol.errors import Failure, NotAnswered, NotStored

WAIT: Final = 1.0  # seconds that operations wait for an instance that is away; with them those of their batch


def place_of(name: str, parts: int) -> int:
    """The instance of a topic among so many, from 0."""
    return zlib.crc32(name.encode()) % parts


class Part:
    """The follower of one instance (Follower). ``reason``: for which it fails. ``away``: it cannot be reached at all.

    ``hopeless``: it is away for longer than WAIT.
    """

    def __init__(self, spread: SpreadEngine, place: int, engine: RedisEngine) -> None:
        self.engine = engine
        self.reason = ""
        self.away = False
        self.hopeless = False
        self._spread = spread
        self._place = place
        self._timer: asyncio.TimerHandle | None = None

    def apply(self, record: Record) -> None:
        self._spread.follower.apply(record)

    def synced(self, names: Collection[str], holds: Callable[[str], bool]) -> None:
        self._spread.follower.synced(names, lambda name: self._spread.place_of(name) == self._place)

    def failing(self, reason: str, *, partly: bool = False) -> None:
        self.reason = reason
        self.away = bool(reason) and not partly
        if self.away and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT, self._give_up)
        elif not self.away:
            self.stop()
        self._spread.tell_reason()

    def _give_up(self) -> None:
        self.hopeless = True
        self._spread.refuse(self)

    def stop(self) -> None:
        self.hopeless = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Gathering:
    """The outcomes of a batch. ``waiting``: what is asked of each part, by the numbers of the operations."""

    def __init__(self, outcomes: Outcomes, count: int) -> None:
        self.outcomes = outcomes
        self.waiting: dict[Part, tuple[Sequence[int], Outcomes]] = {}
        self.results: list[Outcome] = [None] * count

    def take(self, part: Part, given: Sequence[Outcome]) -> None:
        numbers, _ = self.waiting.pop(part)
        for number, outcome in zip(numbers, given, strict=True):
            self.results[number] = outcome

    def refuse(self, part: Part) -> None:
        numbers, _ = self.waiting[part]
        self.take(part, [NotStored()] * len(numbers))


class SpreadEngine:
    """See the module and the contract."""

    follower: Follower

    def __init__(self, engines: Sequence[RedisEngine]) -> None:
        self.server = engines[0].server
        self.lasting = ""
        self._parts = [Part(self, place, engine) for place, engine in enumerate(engines)]
        self._gatherings: deque[Gathering] = deque()

    def place_of(self, name: str) -> int:
        return place_of(name, len(self._parts))

    def tell_reason(self) -> None:
        reasons = [part.reason for part in self._parts if part.reason]
        self.follower.failing("; ".join(reasons), partly=not all(part.away for part in self._parts))

    async def start(self, follower: Follower) -> None:
        self.follower = follower
        await self._check()
        await asyncio.gather(*[part.engine.start(part) for part in self._parts])
        self.lasting = "; ".join(part.engine.lasting for part in self._parts if part.engine.lasting)

    async def _check(self) -> None:
        """Raise JournalError before any instance is changed."""
        runs = await asyncio.gather(*[part.engine.check() for part in self._parts])
        for place, run in enumerate(runs):
            if run and run in runs[:place]:
                raise JournalError(f"JOURNAL_URL: instances {runs.index(run) + 1} and {place + 1} are the same one")

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        shares: dict[Part, list[int]] = {}
        for number, operation in enumerate(operations):
            shares.setdefault(self._part_for(operation), []).append(number)
        gathering = Gathering(outcomes, len(operations))
        self._gatherings.append(gathering)
        for part, some in shares.items():
            gathering.waiting[part] = some, partial(self._take, gathering, part)
        for part, (numbers, taking) in list(gathering.waiting.items()):
            if part.hopeless:
                gathering.refuse(part)
            else:
                part.engine.ask([operations[number] for number in numbers], taking)
        self._tell_soon()

    def _take(self, gathering: Gathering, part: Part, given: Sequence[Outcome]) -> None:
        gathering.take(part, given)
        self._tell()

    def _tell(self) -> None:
        gatherings = self._gatherings
        while gatherings and not gatherings[0].waiting:
            gathering = gatherings.popleft()
            gathering.outcomes(gathering.results)

    def _tell_soon(self) -> None:
        """Tell outcomes in a later step: the journal has not told those before them yet."""
        if self._gatherings and not self._gatherings[0].waiting:
            asyncio.get_running_loop().call_soon(self._tell)

    def refuse(self, part: Part) -> None:
        """Refuse all that waits for an instance."""
        for gathering in self._gatherings:
            if part in gathering.waiting:
                part.engine.withdraw(gathering.waiting[part][1])
                gathering.refuse(part)
        self._tell()

    def _part_for(self, operation: Operation) -> Part:
        if isinstance(operation, Tell):  # any will do: all servers follow all of them
            return next((part for part in self._parts if not part.reason), self._parts[0])
        name = operation.name if isinstance(operation, Create) else operation.known.name
        return self._parts[self.place_of(name)]

    def withdraw(self, outcomes: Outcomes) -> None:
        gathering = next((each for each in self._gatherings if each.outcomes == outcomes), None)
        if gathering is not None:
            for part, (_, taking) in gathering.waiting.items():
                part.engine.withdraw(taking)
            self._gatherings.remove(gathering)
            self._tell_soon()

    def sync(self, done: Callable[[Failure | None], None]) -> None:
        answers: list[Failure | None] = []

        def take(answer: Failure | None) -> None:
            answers.append(answer)
            if len(answers) == len(self._parts):
                done(next((each for each in answers if each is not None), None))

        for part in self._parts:
            if part.hopeless:
                take(NotAnswered())
            else:
                part.engine.sync(take)

    def read(
        self, known: Known, after: int, until: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        part = self._parts[self.place_of(known.name)]
        if part.hopeless:
            done(NotAnswered())
        else:
            part.engine.read(known, after, until, limit, done)

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        part = self._parts[self.place_of(known.name)]
        if part.hopeless:
            done(NotAnswered())
        else:
            part.engine.find_missing(known, after, until, done)

    async def stop(self) -> None:
        for part in self._parts:
            part.stop()
        await asyncio.gather(*[part.engine.stop() for part in self._parts])
