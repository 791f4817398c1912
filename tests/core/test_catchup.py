"""A subscriber's way through the journal, with a journal whose pages come when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Raw

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker, Kept
from pubsub.core.catchup import Start
from pubsub.core.clock import Clock
from pubsub.core.event import WEBSOCKET_TEXT, StoredEvent
from pubsub.core.journal import Done
from pubsub.core.lane import Subscriber
from pubsub.core.topic import Topic
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Message, Position, Publish, TopicOptions
from tests.harness import new_id

RING = 10


class SlowJournal(MemoryJournal):
    """It holds everything; what is read comes when :meth:`answer` is called."""

    def __init__(self) -> None:
        super().__init__(Clock())
        self.kept: list[StoredEvent] = []
        self.asked: list[tuple[int, Callable[[Sequence[StoredEvent] | Failure], None]]] = []

    def create(self, topic: Topic, done: Done) -> None:
        topic.first = 1
        done(None)

    def read(
        self, topic: Topic, after: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        self.asked.append((after, done))

    def answer(self, *, expired: bool = False) -> None:
        """The oldest of what was asked for; of all that there was up to now, nothing where it has expired."""
        after, done = self.asked.pop(0)
        done([] if expired else [event for event in self.kept if event.seq > after])


class Publisher:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Bench:
    """A broker with one topic on a slow journal."""

    def __init__(self) -> None:
        self.journal = SlowJournal()
        self._deferred: list[Callable[[], None]] = []
        clock = Clock()
        self.broker = Broker(
            defer=self._deferred.append,
            clock=clock,
            memory=MemoryJournal(clock),
            ring_size=RING,
            make_durable=lambda: self.journal,
        )
        self.broker.create_topic("t", TopicOptions(history=1000, durable=True))
        self.topic = self.broker.topic("t")

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.broker.publish(Publish(topic="t", message=Message(new_id(), Raw(b"1"))), Publisher())
            self.journal.kept.append(*self.topic.ring.after(self.topic.seq - 1, 1))
        self.end_tick()

    def end_tick(self) -> None:
        while self._deferred:
            self._deferred.pop(0)()


def test_what_leaves_the_ring_while_an_empty_page_is_read_is_replayed_all_the_same() -> None:
    bench, got = Bench(), bytearray()
    bench.publish(50)
    bench.broker.subscribe(Start(bench.topic, 0), Subscriber(got.extend, OutboxOptions(100, Clock()))).go_on()
    bench.publish(30)
    bench.journal.answer(expired=True)
    bench.end_tick()
    bench.journal.answer()
    bench.publish(1)
    assert bytes(got) == WEBSOCKET_TEXT.events(bench.journal.kept[-41:])


def test_a_subscription_that_had_to_wait_is_not_said_to_be_whole_when_a_part_has_gone_meanwhile() -> None:
    bench, starts = Bench(), list[Start | Failure]()
    bench.publish(50)
    bench.broker.find_start("t", 0, Position(bench.topic.epoch, 45), starts.append)
    (start,) = starts
    assert isinstance(start, Start)
    outbox = Subscriber(lambda frame: None, OutboxOptions(100, Clock()))
    assert bench.broker.subscribe(start, outbox).recovered is True
    bench.publish(30)
    assert bench.broker.subscribe(start, outbox).recovered is True
    bench.topic.first = 60
    assert bench.broker.subscribe(start, outbox).recovered is False


def test_what_leaves_the_ring_while_an_empty_page_is_read_is_in_the_history_all_the_same() -> None:
    bench, answers = Bench(), list[Kept | Failure]()
    bench.publish(50)
    bench.broker.history_after("t", 0, 1000, answers.append)
    bench.publish(30)
    bench.journal.answer(expired=True)
    bench.journal.answer()
    (kept,) = answers
    assert isinstance(kept, Kept)
    assert [event.seq for event in kept.events] == list(range(41, 81))
    assert not kept.complete
