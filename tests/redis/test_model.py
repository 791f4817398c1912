"""Random batches for Redis and for the simulated engine: the same outcomes, records and pages."""

from __future__ import annotations

import json
from math import inf
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from pubsub.journals.shared.engine import (
    Append,
    Appended,
    Create,
    Delete,
    Deleted,
    Known,
    Operation,
    Purge,
    Purged,
    Record,
    State,
    Tell,
    Told,
)
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import TopicOptions
from tests.harness import new_id, on_one_loop
from tests.journals.simulated_engine import KeptTopic, SimulatedEngine
from tests.redis.driver import TS, Driver, publish

NAMES = ["a", "b.c", "d"]
STEPS = 60


class Model:
    """The simulated engine, and the records that it told."""

    def __init__(self) -> None:
        self.engine = SimulatedEngine(lambda: 1000.0)
        self.told: list[Record] = []
        self.engine.record = self.told.append  # type: ignore[method-assign, assignment]

    @property
    def topics(self) -> dict[str, KeptTopic]:
        return self.engine.topics


class Batches:
    """Random batches. The epochs of the two engines differ where one was renewed, so operations are made twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ids = [new_id() for _ in range(6)]

    def operation(self, driver: Driver, model: Model) -> tuple[Operation, Operation]:
        random = self._random
        name = random.choice(NAMES)
        topic = model.topics.get(name)
        seq = 0 if topic is None else topic.seq
        epochs = ("stale", "stale") if topic is None or random.random() < 0.1 else (driver.epoch[name], topic.epoch)
        kind = random.choices(["append", "create", "delete", "purge", "tell"], [12, 3, 1, 1, 1])[0]
        if kind == "create":
            options = TopicOptions(
                history=random.choice([0, 1, 5, 100]),
                dedup_sec=random.choice([None, 1000]),
                ttl_sec=random.choice([None, 1000.0]),
            )
            made = Create(name, f"e{random.random()}", options, random.choice([0, 2]))
            return made, made
        if kind == "tell":
            return Tell("k", name.encode()), Tell("k", name.encode())
        first, second = (Known(name, epoch, seq) for epoch in epochs)
        if kind == "delete":
            return Delete(first), Delete(second)
        if kind == "purge":
            return Purge(first), Purge(second)
        append = self._append(first, seq)
        return append, msgspec.structs.replace(append, known=Known(name, second.epoch, append.known.seq))

    def _append(self, known: Known, seq: int) -> Append:
        random = self._random
        lost = random.random() < 0.03
        count = random.choice([0, 1, 1, 1, 2, 5, 30])
        requests = [
            publish(
                random.randrange(1000),
                message_id=self._case(random.choice(self._ids)) if random.random() < 0.3 else "",
                expect_seq=seq + random.randrange(4) if random.random() < 0.2 else UNSET,
            )
            for _ in range(count)
        ]
        lifetimes = [random.choice([inf, 500.0, 1000.0]) for _ in requests]
        known = Known(known.name, known.epoch, seq + 3 if lost else seq)
        return Append(known, requests, TS, "", lifetimes, random.random() < 0.3)

    def _case(self, message_id: str) -> str:
        return self._random.choice([str.lower, str.upper])(message_id)


def plain(value: Any) -> Any:
    """Outcomes in a form that can be compared. For an append, one failure is that of each message."""
    if isinstance(value, Failure):
        return type(value).__name__, getattr(value, "seq", None)
    return [plain(each) for each in value] if isinstance(value, list) else value


def outcome_of(operation: Operation, value: Any) -> Any:
    if isinstance(operation, Append) and not operation.together and isinstance(value, Failure):
        return [plain(value)] * len(operation.requests)
    return plain(value)


def facts(told: list[Any]) -> list[Any]:
    """Records without what engines may do in their own way: names of renewed epochs, bytes, and groups."""
    found: list[Any] = []
    for record in told:
        match record:
            case State():
                found.append(("state", record.name, record.seq, record.base, record.options, bool(record.before)))
            case Appended():
                found += [(record.name, event.seq, event.text, event.expires == inf) for event in record.events]
            case Purged() | Deleted():
                found.append((type(record).__name__, record.name))
            case Told():
                found.append((record.kind, record.data))
    return found


async def compare_pages(driver: Driver, model: Model) -> None:
    for name, topic in model.topics.items():
        known = Known(name, topic.epoch, topic.seq)
        after = max(0, topic.seq - 7)
        expected = [(event.seq, json.loads(event.text)) for event in model.engine.read(known, 0, topic.seq, 1000)]
        assert [(event.seq, json.loads(event.text)) for event in await driver.read(name=name)] == expected
        missing = model.engine.is_missing(known, after, topic.seq)
        assert await driver.is_missing(after, topic.seq, name) == missing


@pytest.mark.parametrize("seed", range(6))
@on_one_loop
async def test_redis_decides_as_the_simulated_engine_does(seed: int, driver: Driver) -> None:
    random, model = Random(seed), Model()
    batches = Batches(random)
    for step in range(STEPS):
        pairs: list[tuple[Operation, Operation]] = []
        names: set[str] = set()
        while len(pairs) < random.randint(1, 5):
            pair = batches.operation(driver, model)
            name = pair[0].name if isinstance(pair[0], Create) else getattr(getattr(pair[0], "known", None), "name", "")
            if name not in names:  # what an operation knows of its topic is from before the batch
                names.add(name)
                pairs.append(pair)
            elif len(names) > len(NAMES):
                break
        given = await driver.ask(*[pair[0] for pair in pairs])
        expected = model.engine.decide(driver.engine.server, step, [pair[1] for pair in pairs])
        for pair, one, other in zip(pairs, given, expected, strict=True):
            assert outcome_of(pair[0], one) == outcome_of(pair[1], other), pair[0]
    await driver.sync()
    told = driver.told[driver.told.index("synced") + 1 :]
    assert facts(told) == facts(model.told)
    await compare_pages(driver, model)
