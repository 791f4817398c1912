"""An engine in memory for several servers, driven step by step: it can lose connections, records and its own tail.

It keeps the promises of pubsub/journals/shared/engine.py and nothing more. What is on its way waits in pipes, and moves
when the test says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from msgspec import UNSET

from pubsub.core.event import StoredEvent, expiring_at, make_event
from pubsub.core.log import Assignment
from pubsub.journals.dedup import RecentIds
from pubsub.journals.placing import place_all, remember
from pubsub.journals.shared.engine import (
    Append,
    Appended,
    Create,
    Delete,
    Deleted,
    Follower,
    Known,
    Operation,
    Outcome,
    Outcomes,
    Purge,
    Purged,
    Record,
    State,
    Tell,
    Told,
)
from pubsub.protocol.errors import Conflict, Failure, LimitExceeded, NotStored, TopicExists, TopicNotFound
from pubsub.protocol.requests import TopicOptions

Work = Callable[[], None]
RESULTS_KEPT = 1000  # batches of a server whose results are remembered


@dataclass
class KeptTopic:
    """A topic in the engine. One clock shows Unix and monotonic time here, so its events expire as those of servers."""

    name: str
    epoch: str
    options: TopicOptions
    seen: RecentIds | None
    seq: int = 0
    base: int = 0
    before: str = ""
    messages: dict[int, StoredEvent] = field(default_factory=dict)

    def state(self) -> State:
        size = sum(len(each.text) for each in self.messages.values())
        first = min(self.messages, default=self.seq + 1)
        return State(self.name, self.epoch, self.options, self.seq, self.base, first, size, self.before)

    def append(self, event: StoredEvent) -> None:
        assert self.options.history is not None
        self.messages[event.seq] = event
        self.seq = event.seq
        self.messages.pop(event.seq - self.options.history, None)


class SimulatedEngine:
    """The program behind all servers. ``now``: Unix time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.topics: dict[str, KeptTopic] = {}
        self.links: list[Link] = []
        self._results: dict[str, dict[int, Sequence[Outcome]]] = {}
        self._renewed = 0

    def link(self, server: str) -> Link:
        link = Link(self, server)
        self.links.append(link)
        return link

    def decide(self, server: str, number: int, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Decide a batch, or give its results again."""
        results = self._results.setdefault(server, {})
        if number not in results:
            results[number] = [self._decide(server, each) for each in operations]
            results.pop(number - RESULTS_KEPT, None)
        return results[number]

    def _decide(self, server: str, operation: Operation) -> Outcome:
        try:
            match operation:
                case Append():
                    return self._append(operation)
                case Create():
                    self._create(operation)
                case Delete():
                    topic = self.find(operation.known)
                    if operation.expect_seq not in (None, topic.seq):
                        raise Conflict(operation.expect_seq or 0, topic.seq)
                    del self.topics[topic.name]
                    self.record(Deleted(topic.name, topic.epoch))
                case Purge():
                    return self._purge(operation)
                case Tell():
                    self.record(Told(server, operation.kind, operation.data))
        except Failure as failure:
            return failure
        return None

    def find(self, known: Known, *, same_life: bool = True) -> KeptTopic:
        topic = self.topics.get(known.name)
        if topic is None or (same_life and topic.epoch != known.epoch):
            raise TopicNotFound(known.name)
        return topic

    def _create(self, operation: Create) -> None:
        if operation.name in self.topics:
            raise TopicExists(operation.name)
        if operation.most and len(self.topics) >= operation.most:
            raise LimitExceeded(f"there are {operation.most} topics")
        dedup = operation.options.dedup_sec
        seen = None if dedup is None else RecentIds(operation.name, dedup)
        topic = self.topics[operation.name] = KeptTopic(operation.name, operation.epoch, operation.options, seen)
        self.record(topic.state())

    def _append(self, operation: Append) -> Outcome:
        topic = self.find(operation.known, same_life=False)
        if topic.epoch == operation.known.epoch and topic.seq < operation.known.seq:
            self.renew(topic)
        if operation.together:
            return self._append_some(topic, operation, range(len(operation.requests)))
        outcomes: list[Assignment | Failure] = []
        for index in range(len(operation.requests)):
            try:
                outcomes += self._append_some(topic, operation, range(index, index + 1))
            except Conflict as failure:
                outcomes.append(failure)
        return outcomes

    def _append_some(self, topic: KeptTopic, operation: Append, chosen: range) -> list[Assignment]:
        requests = [operation.requests[index] for index in chosen]
        places = place_all(requests, topic.seq, topic.seen, self.now())
        if topic.seen is not None:
            remember(places, topic.seen, self.now())
        new: list[StoredEvent] = []
        for index, place in zip(chosen, places.assignments, strict=True):
            if place.duplicate:
                continue
            message = operation.requests[index].message
            life = operation.lifetimes[index] if operation.lifetimes else inf
            sender = operation.sender if topic.options.sender else ""
            event = make_event(topic.name, message, place.seq, operation.ts, sender or UNSET)
            new.append(expiring_at(event, self.now() + life))
            topic.append(new[-1])
        if new:
            state = topic.state()
            self.record(Appended(topic.name, topic.epoch, new, state.first, state.size))
        return places.assignments

    def _purge(self, operation: Purge) -> int:
        topic = self.find(operation.known)
        count = sum(each.expires > self.now() for each in topic.messages.values())
        topic.messages.clear()
        self.record(Purged(topic.name, topic.epoch, topic.seq))
        return count

    def renew(self, topic: KeptTopic) -> None:
        """Begin a new epoch of a topic."""
        self._renewed += 1
        topic.before, topic.base = topic.epoch, topic.seq
        topic.epoch = f"{topic.epoch.partition('~')[0]}~{self._renewed}"
        self.record(topic.state())

    def lose_tail(self, topic: KeptTopic, count: int) -> None:
        """Lose the newest messages of a topic, as a replica that was behind its master. Nobody is told."""
        for _ in range(min(count, topic.seq)):
            kept = topic.messages.pop(topic.seq, None)
            topic.seq -= 1
            if kept is not None and topic.seen is not None:
                topic.seen = RecentIds(topic.name, topic.options.dedup_sec or 0)

    def trim(self, topic: KeptTopic, count: int) -> None:
        """Keep fewer messages, as an engine that runs out of memory."""
        for seq in sorted(topic.messages)[:count]:
            del topic.messages[seq]

    def record(self, record: Record) -> None:
        for link in self.links:
            link.push(record)

    def read(self, known: Known, after: int, until: int, limit: int) -> list[StoredEvent]:
        topic = self.find(known)
        found = [topic.messages[seq] for seq in sorted(topic.messages) if after < seq <= until]
        return [event for event in found if event.expires > self.now()][:limit]

    def is_missing(self, known: Known, after: int, until: int) -> bool:
        topic = self.find(known)
        kept = [seq for seq, each in topic.messages.items() if after < seq <= until and each.expires > self.now()]
        return len(kept) < until - after


@dataclass
class OnItsWay:
    """A record for a server, which can be lost."""

    follower: Follower
    record: Record

    def __call__(self) -> None:
        self.follower.apply(self.record)


class Link:
    """The connection of one server (Engine). ``inbound`` and ``outbound``: what is on its way, in order."""

    kind = "shared"
    lasting = ""

    def __init__(self, engine: SimulatedEngine, server: str) -> None:
        self.server = server
        self.connected = False
        self.inbound: deque[Work] = deque()
        self.outbound: deque[Work] = deque()
        self.reads: deque[Work] = deque()
        self.held_reads: list[Work] | None = None
        self._engine = engine
        self._follower: Follower | None = None
        self._number = 0
        self._asked: dict[int, tuple[Sequence[Operation], Outcomes]] = {}
        self._syncs: list[Callable[[Failure | None], None]] = []

    # Engine

    async def start(self, follower: Follower) -> None:
        self.begin(follower)

    def begin(self, follower: Follower) -> None:
        self._follower = follower

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        self._number += 1
        self._asked[self._number] = (operations, outcomes)
        if self.connected:
            self._send(self._number)

    def withdraw(self, outcomes: Outcomes) -> None:
        self._asked = {number: each for number, each in self._asked.items() if each[1] is not outcomes}

    def sync(self, done: Callable[[Failure | None], None]) -> None:
        self._syncs.append(done)
        if self.connected:
            self._send_sync(done)

    def read(self, known: Known, after: int, until: int, limit: int, done: Callable[[Any], None]) -> None:
        self._question(lambda: self._engine.read(known, after, until, limit), done)

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[Any], None]) -> None:
        self._question(lambda: self._engine.is_missing(known, after, until), done)

    async def stop(self) -> None:
        self.disconnect()

    # Pipes

    @property
    def quiet(self) -> bool:
        return not (self.inbound or self.outbound or self.reads)

    def push(self, record: Record) -> None:
        if self.connected:
            self.inbound.append(OnItsWay(self.follower, record))

    @property
    def follower(self) -> Follower:
        assert self._follower is not None, "begun"
        return self._follower

    def step(self, pipe: deque[Work]) -> bool:
        """Move the next of a pipe, if there is one."""
        if not pipe:
            return False
        pipe.popleft()()
        return True

    def pump(self) -> bool:
        """Move all that is on its way. Returns False if there is nothing."""
        moved = False
        while self.step(self.outbound) or self.step(self.inbound) or self.step(self.reads):
            moved = True
        return moved

    def lose_record(self, random: Random) -> None:
        """Lose one of the records on their way."""
        lost = [work for work in self.inbound if isinstance(work, OnItsWay)]
        if lost:
            self.inbound.remove(random.choice(lost))

    def connect(self) -> None:
        """Connect, and tell of all topics. What was asked and has no outcome is asked again."""
        assert not self.connected
        self.connected = True
        self.tell_states()
        follower = self.follower
        self.inbound.append(lambda: follower.failing(""))
        for number in self._asked:
            self._send(number)
        for done in self._syncs:
            self._send_sync(done)

    def tell_states(self) -> None:
        """Tell of all topics, as every few seconds."""
        names = set(self._engine.topics)
        for topic in self._engine.topics.values():
            self.push(topic.state())
        follower = self.follower
        self.inbound.append(lambda: follower.synced(names, holds_all))

    def disconnect(self, reason: str = "the engine is away") -> None:
        """Lose the connection with all that is on its way."""
        self.connected = False
        self.inbound.clear()
        self.outbound.clear()
        follower = self.follower
        self.inbound.append(lambda: follower.failing(reason))

    def _send(self, number: int) -> None:
        operations, _ = self._asked[number]
        self.outbound.append(lambda: self._decide(number, operations))

    def _decide(self, number: int, operations: Sequence[Operation]) -> None:
        outcomes = self._engine.decide(self.server, number, operations)
        self.inbound.append(lambda: self._end(number, outcomes))

    def _end(self, number: int, outcomes: Sequence[Outcome]) -> None:
        if number in self._asked:
            _, done = self._asked.pop(number)
            done(outcomes)

    def _send_sync(self, done: Callable[[Failure | None], None]) -> None:
        self.outbound.append(lambda: self.inbound.append(lambda: self._end_sync(done)))

    def _end_sync(self, done: Callable[[Failure | None], None]) -> None:
        if done in self._syncs:
            self._syncs.remove(done)
            done(None)

    def _question(self, ask: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def answer() -> None:
            found: Any = NotStored()
            if self.connected:
                try:
                    found = ask()
                except Failure as failure:
                    found = failure
            if self.held_reads is None:
                done(found)
            else:
                self.held_reads.append(lambda: done(found))

        self.reads.append(answer)


def holds_all(_: str) -> bool:
    return True
