"""A Broker over a journal in memory or on disk, driven step by step: the same tests run on both."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import UNSET, Raw, UnsetType

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.history import KeptEvents
from pubsub.core.joining import Joining
from pubsub.core.journal import Journal
from pubsub.core.lane import Subscriber
from pubsub.core.log import Assignment
from pubsub.core.subscription import Asked, Subscription
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.journals.shared.engine import Engine, Follower
from pubsub.journals.shared.journal import SharedJournal
from pubsub.journals.sqlite import SqliteJournal
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Message, Position, Publish, TopicOptions
from pubsub.system.cores import SharedCore
from tests.doubles import ALL_GRANTED, Sink
from tests.harness import PATIENCE, messages_in, new_id
from tests.journals.simulated_engine import SimulatedEngine

RING = 100


class Outcomes:
    """A publisher that keeps all outcomes in order (Publisher): a ``seq``, ``(seq,)`` of a duplicate, or a failure."""

    def __init__(self, client_id: str = "") -> None:
        self.client_id = client_id
        self.given: list[int | tuple[int] | Failure] = []

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        self.given += range(first, first + len(requests))

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        self.given.append((seq,))

    def refused(self, request: Publish, failure: Failure) -> None:
        self.given.append(failure)

    def wait(self, requests: Sequence[Publish]) -> None:
        pass


def message(payload: Any = 1, *, topic: str = "t", message_id: str = "", ttl_sec: float | UnsetType = UNSET,
            expect_seq: int | UnsetType = UNSET) -> Publish:  # fmt: skip
    content = Message(message_id or new_id(), Raw(json.dumps(payload).encode()))
    return Publish(topic=topic, message=content, ttl_sec=ttl_sec, expect_seq=expect_seq)


class AnyLink(Engine, Protocol):
    """The connection of a server to an engine, which a test drives. ``kind``: of the engine."""

    kind: str
    held_reads: list[Callable[[], None]] | None

    def begin(self, follower: Follower) -> None: ...

    def connect(self) -> None: ...

    def pump(self) -> bool:
        """Move what is on its way. Returns False if there is nothing."""
        ...


class World:
    """See the module. ``directory``: of a journal on disk; None for one in memory. ``now``: what all clocks show.

    ``shared``: the journal is one that servers share, over a simulated engine, or over that of ``make_link``.
    """

    def __init__(
        self, directory: Path | None, *, shared: bool = False, make_link: Callable[[World], AnyLink] | None = None
    ) -> None:
        self.now = 1000.0
        self.link: AnyLink | None = None
        self._make_link = make_link
        self._deferred: list[Callable[[], None]] = []
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._later: list[Callable[[], None]] = []
        self._clock = Clock(lambda: 0, lambda: self.now)
        self.durable = None if directory is None else self._make_durable(directory)
        self.shared = self._make_shared() if shared else None
        self.broker = Broker(
            defer=self._deferred.append,
            clock=self._clock,
            memory=MemoryJournal(self._clock),
            shared=self.shared,
            ring_size=RING,
            make_durable=lambda: self._durable_journal,
            rules=TopicRules([TopicRule(pattern="used.*", create=True, options={"durable": self.durable is not None})]),
        )
        if directory is not None and directory.exists():
            self.broker.restore_topics()
        if self.shared is not None and self.link is not None:
            self.link.begin(self.shared)
            self.link.connect()
            self.settle()

    @property
    def _durable_journal(self) -> SqliteJournal:
        assert self.durable is not None, "only a world on disk makes durable topics"
        return self.durable

    def _make_durable(self, directory: Path) -> SqliteJournal:
        return SqliteJournal(
            directory,
            self._clock,
            SharedCore(),
            post=self._posted.put,
            defer=lambda callback: self._deferred.append(callback),
            call_later=lambda _, callback: self._later.append(callback),
            now=lambda: self.now,
        )

    def _make_shared(self) -> SharedJournal:
        self.link = SimulatedEngine(lambda: self.now).link("s1") if self._make_link is None else self._make_link(self)
        return SharedJournal(
            self.link,
            self._clock,
            defer=lambda callback: self._deferred.append(callback),
            call_later=lambda _, callback: self._later.append(callback),
            wait=5,
        )

    @property
    def kind(self) -> str:
        """The kind of the journal: memory, disk, or that of the engine."""
        if self.link is not None:
            return self.link.kind
        return "memory" if self.durable is None else "disk"

    @property
    def journal(self) -> Journal | None:
        """The journal that ends operations later; None for the one in memory."""
        return self.durable if self.shared is None else self.shared

    def settle(self) -> None:
        """Run everything that is deferred, until the journal has ended all operations."""
        settled = False

        def end() -> None:
            nonlocal settled
            settled = True

        self._run_deferred()
        if self.journal is not None:
            self.journal.call_after(end)
            while not settled:
                self._run_deferred()
                if not settled:
                    self._wait_for_journal()
        self._run_deferred()

    def _wait_for_journal(self) -> None:
        """Let the journal do the next thing."""
        if self.link is None:
            self._posted.get(timeout=PATIENCE)()
        else:
            assert self.link.pump(), "the engine has nothing more to tell"

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def write_group(self) -> None:
        """Write what waits as one group, and take the first turn of its results."""
        self.take_turn()
        self._posted.get(timeout=PATIENCE)()

    def take_turn(self) -> None:
        """Run what is deferred so far."""
        for _ in range(len(self._deferred)):
            self._deferred.pop(0)()

    def _run_deferred(self) -> None:
        while self._deferred:
            self._deferred.pop(0)()

    def clean_up(self) -> None:
        """Let a second pass for the journal's clean-up, and wait until it finds nothing more."""
        later, self._later = self._later, []
        for callback in later:
            callback()
            while not self._later:
                self._run_deferred()
                if not self._later:
                    self._posted.get(timeout=PATIENCE)()

    def close(self) -> None:
        if self.durable is not None:
            self.durable.close()

    def create(self, name: str = "t", **options: Any) -> None:
        options = {"history": 1000} | options
        self.broker.create_topic(name, TopicOptions(durable=self.durable is not None, **options))
        self.settle()

    def publish(self, *requests: Publish, client_id: str = "") -> list[int | tuple[int] | Failure]:
        """Publish messages one by one, and return their outcomes."""
        outcomes = Outcomes(client_id)
        for request in requests:
            self.broker.publish([request], outcomes)
        self.settle()
        return outcomes.given

    def publish_all(self, *requests: Publish, client_id: str = "") -> list[Assignment] | Failure:
        """Publish a list, and return its outcome."""
        given: list[Sequence[Assignment] | Failure] = []
        self.broker.publish_all("t", requests, client_id, given.append)
        self.settle()
        (outcome,) = given
        return outcome if isinstance(outcome, Failure) else list(outcome)

    def purge(self) -> int | Failure:
        given: list[int | Failure] = []
        self.broker.purge("t", given.append)
        self.settle()
        return given[0]

    def kept(self, limit: int = 1000) -> list[Any]:
        """All kept events of the topic, decoded."""
        given: list[KeptEvents | Failure] = []
        self.broker.history_after("t", 0, limit, given.append)
        self.wait_for(given)
        assert isinstance(given[0], KeptEvents)
        return [json.loads(event.text) for event in given[0].events]

    def wait_for(self, given: list[Any]) -> None:
        """Run what a thread has posted, and else what is deferred, until there is an answer."""
        while not given:
            if self._deferred and self._posted.empty():
                self._deferred.pop(0)()
            else:
                self._wait_for_journal()

    def hold_results(self) -> Callable[[], None]:
        """Keep the results of the writing thread from now on; the returned function waits for the next one."""
        assert self.durable is not None
        results: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.durable._writing._post = results.put
        self._run_deferred()

        def wait() -> None:
            results.get(timeout=PATIENCE)

        return wait

    def hold_reads(self) -> Callable[[], list[Callable[[], None]]]:
        """Keep the pages that are read from now on; the result waits for them and returns them."""
        if self.link is not None:
            return self._hold_pages(self.link)
        if self.durable is None:
            return list
        pages: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.durable._reader._worker._post = pages.put
        return lambda: [pages.get(timeout=PATIENCE)]

    def _hold_pages(self, link: AnyLink) -> Callable[[], list[Callable[[], None]]]:
        held: list[Callable[[], None]] = []
        link.held_reads = held

        def release() -> list[Callable[[], None]]:
            link.pump()
            while not held:
                link.pump()
            link.held_reads = None
            return held

        return release

    def subscribe(self, *, seq: int | None = None, last_n: int = 0) -> Member:
        return Member(self, seq, last_n)


class Member:
    """A subscriber whose socket a test can block. ``told``: all that was written. ``recovered``: that of its resume."""

    def __init__(self, world: World, seq: int | None, last_n: int) -> None:
        self.told: list[Any] = []
        self.subscriber = Subscriber(Sink(self._write), OutboxOptions(1000, world._clock, world.broker.turns.take))
        position = None if seq is None else Position(world.broker.topic("t").epoch, seq)
        given: list[Any] = []
        asked = Asked(Subscription("t"), ALL_GRANTED, last_n, None if position is None else {"t": position})
        world.broker.subscribe(asked, self.subscriber, given.append)
        world.wait_for(given)
        self.joining: Joining = given[0]
        self.recovered = self.joining.recovered

    def _write(self, encoded: bytes) -> None:
        self.told += messages_in(encoded)

    @property
    def facts(self) -> list[Any]:
        """The messages in short: the ``seq`` of an event, the first and last ``seq`` of a gap."""
        return [told["seq"] if told["type"] == "event" else (told["from_seq"], told["to_seq"]) for told in self.told]
