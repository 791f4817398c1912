"""Filtered reads of a topic whose older events are in a slow log with short pages, against a scan of all events."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
from hypothesis import example, given
from msgspec import Raw

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.history import KeptEvents
from pubsub.core.joining import Joining
from pubsub.core.journal import Host, StoredTopic
from pubsub.core.lane import Subscriber
from pubsub.core.log import Done, Found
from pubsub.core.subscription import Asked, Subscription
from pubsub.filters.filters import Filter, Filters
from pubsub.journals.memory import MemoryJournal, MemoryLog
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Message, Position, Publish, TopicOptions
from tests.core.test_broker import ID
from tests.doubles import ALL_GRANTED, NoPublisher, Sink
from tests.harness import messages_in

RING = 3
FILTERS = Filters()
LARGE = FILTERS.compile("payload > 1")

payloads = st.lists(st.integers(0, 3), max_size=25)


class PagedLog(MemoryLog):
    """A log that keeps every event but the expired ones, in pages of ``size``; each read waits for its turn."""

    size = 2
    expired: frozenset[int] = frozenset()

    def __init__(self, name: str, options: TopicOptions, host: Host, clock: Clock) -> None:
        super().__init__(name, options, host, clock)
        self.kept: list[StoredEvent] = []
        self.reads: list[Callable[[], None]] = []

    def read(self, after: int, until: int, limit: int, done: Found) -> None:  # type: ignore[override]
        def answer() -> None:
            found = [each for each in self.kept if after < each.seq <= until and each.seq not in self.expired]
            done(found[: min(limit, self.size)])

        self.reads.append(answer)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:  # type: ignore[override]
        done(any(after < seq <= until for seq in self.expired))


class PagedJournal(MemoryJournal):
    def create(self, name: str, options: TopicOptions, done: Done) -> PagedLog:
        paged = PagedLog(name, options, self._host, self._clock)
        paged.topic = self._host.add_topic(StoredTopic(name, "e", options, paged, first=1))
        done(None)
        return paged


class Bench:
    """A Broker with the topic ``t``, of which a part has expired, and the events of one subscriber."""

    def __init__(self, size: int, before: list[int], expired: frozenset[int]) -> None:
        self._deferred: list[Callable[[], None]] = []
        clock = Clock(lambda: 0)
        self.broker = Broker(
            defer=self._deferred.append,
            clock=clock,
            memory=MemoryJournal(clock),
            ring_size=RING,
            make_durable=lambda: PagedJournal(clock),
        )
        self.broker.create_topic("t", TopicOptions(history=1000, durable=True))
        self.topic = self.broker.topic("t")
        assert isinstance(self.topic.log, PagedLog)
        self.log = self.topic.log
        self.log.size = size
        self.payloads: list[int] = []
        self.publish(before)
        # The ring knows of no expiry here: its events are the newest.
        self.log.expired = frozenset(seq for seq in expired if seq <= len(before) - RING)
        self.told: list[tuple[str, int]] = []
        self.subscriber = Subscriber(Sink(self._write), OutboxOptions(1000, clock, self.broker.turns.take))

    def publish(self, payloads: list[int]) -> None:
        for payload in payloads:
            self.broker.publish([Publish(topic="t", message=Message(ID, Raw(b"%d" % payload)))], NoPublisher())
            self.log.kept.append(*self.topic.ring.after(self.topic.seq - 1, 1))
            self.payloads.append(payload)
        self.broker.flush()

    def _write(self, frames: bytes) -> None:
        for message in messages_in(frames):
            if message["type"] == "event":
                self.told.append(("event", message["seq"]))
            else:
                self.told += [("gone", seq) for seq in range(message["from_seq"], message["to_seq"] + 1)]

    def subscribe(self, wanted: Filter | None, last_n: int, resume: int | None) -> list[Joining | Failure]:
        answers: list[Joining | Failure] = []
        positions = None if resume is None else {"t": Position("e", resume)}
        self.broker.subscribe(
            Asked(Subscription("t", wanted), ALL_GRANTED, last_n, positions), self.subscriber, answers.append
        )
        return answers

    def live(self, later: list[list[int]], answers: list[Joining | Failure]) -> None:
        """Run what waits, one thing after the other; between them publish some ``later`` payloads."""
        later, told = list(later), False
        while later or self.log.reads or self._deferred or not told:
            if answers and not told:
                (joining,) = answers
                assert isinstance(joining, Joining)
                joining.advance()
                told = True
            if later:
                self.publish(later.pop(0))
            if self.log.reads:
                self.log.reads.pop(0)()
            elif self._deferred:
                self._deferred.pop(0)()

    def run(self) -> None:
        """Run all that waits."""
        while self.log.reads or self._deferred:
            (self.log.reads or self._deferred).pop(0)()

    @property
    def seqs(self) -> list[int]:
        return [seq for kind, seq in self.told if kind == "event"]

    def matching(self, until: int) -> list[int]:
        kept = [seq for seq in range(1, until + 1) if seq not in self.log.expired]
        return [seq for seq in kept if self.payloads[seq - 1] > 1]


@given(
    before=payloads,
    later=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8),
    expired=st.frozensets(st.integers(1, 25)),
    size=st.integers(1, 4),
    count=st.integers(1, 12),
)
def test_the_last_events_that_match_are_replayed_whatever_is_published_meanwhile(
    before: list[int], later: list[list[int]], expired: frozenset[int], size: int, count: int
) -> None:
    bench = Bench(size, before, expired)
    wanted = bench.matching(len(before))[-count:]
    bench.live(later, bench.subscribe(LARGE, count, None))
    after = [seq for seq in bench.matching(len(bench.payloads)) if seq > len(before)]
    assert bench.seqs == wanted + after


@given(
    before=payloads,
    later=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8),
    expired=st.frozensets(st.integers(1, 25)),
    size=st.integers(1, 4),
    behind=st.integers(0, 25),
)
def test_a_resume_with_a_filter_tells_as_gaps_only_what_nothing_could_look_at(
    before: list[int], later: list[list[int]], expired: frozenset[int], size: int, behind: int
) -> None:
    bench = Bench(size, before, expired)
    after = max(0, len(before) - behind)
    answers = bench.subscribe(LARGE, 0, after)
    bench.live(later, answers)
    gone = [("gone", seq) for seq in bench.log.expired if seq > after]
    events = [("event", seq) for seq in bench.matching(len(bench.payloads)) if seq > after]
    assert bench.told == sorted(gone + events, key=lambda each: each[1])
    (joining,) = answers
    assert isinstance(joining, Joining)
    assert joining.recovered is (not gone)


@given(
    before=payloads,
    expired=st.frozensets(st.integers(1, 25)),
    size=st.integers(1, 4),
    after=st.integers(0, 25),
    limit=st.integers(1, 12),
    last=st.booleans(),
)
@example([0] * 16 + [2] + [0] * 4, frozenset({18}), 1, 0, 1, True)  # gone behind the last one that matches
def test_history_with_a_filter_is_complete_if_nothing_that_was_asked_for_is_gone(
    before: list[int], expired: frozenset[int], size: int, after: int, limit: int, last: bool
) -> None:
    bench = Bench(size, before, expired)
    answers: list[KeptEvents | Failure] = []
    matching = bench.matching(len(before))
    if last:
        bench.broker.history_last("t", limit, answers.append, LARGE)
        wanted = matching[-limit:]
        first, end = (wanted[0] if len(wanted) == limit else 1), len(before)
    else:
        bench.broker.history_after("t", after, limit, answers.append, LARGE)
        wanted = [seq for seq in matching if seq > after][:limit]
        first, end = after + 1, (wanted[-1] if len(wanted) == limit else len(before))
    bench.run()
    (kept,) = answers
    assert isinstance(kept, KeptEvents)
    assert [event.seq for event in kept.events] == wanted
    assert kept.complete is bench.log.expired.isdisjoint(range(first, end + 1))


def test_what_goes_while_an_empty_page_is_read_is_a_gap_also_for_who_starts_with_what_is_kept() -> None:
    bench = Bench(2, [2] * 10, frozenset())
    bench.log.expired = frozenset(range(1, 11))
    (joining,) = bench.subscribe(None, 10, None)
    assert isinstance(joining, Joining)
    joining.advance()
    bench.publish([2] * 10)
    bench.topic.trim(16, 0)
    bench.run()
    assert bench.told == [*(("gone", seq) for seq in range(8, 16)), *(("event", seq) for seq in range(16, 21))]
