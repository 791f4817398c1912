"""A subscriber that catches up from the journal; the test decides the time at which each page comes."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import WEBSOCKET_TEXT, StoredEvent
from pubsub.core.history import KeptEvents
from pubsub.core.journal import Host, StoredTopic
from pubsub.core.lane import Subscriber
from pubsub.core.log import Done, Found
from pubsub.journals.memory import MemoryJournal, MemoryLog
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Message, Position, Publish, TopicOptions
from tests.doubles import NoPublisher, Sink, join
from tests.harness import messages_in, new_id

RING = 10


class SlowLog(MemoryLog):
    """A log that keeps every event, and answers a read only when :meth:`answer` is called."""

    def __init__(self, name: str, options: TopicOptions, host: Host, clock: Clock) -> None:
        super().__init__(name, options, host, clock)
        self.kept: list[StoredEvent] = []
        self.asked: list[tuple[int, Found]] = []

    def read(self, after: int, until: int, limit: int, done: Found) -> None:  # type: ignore[override]
        self.asked.append((after, done))

    def answer(self, *, expired: bool = False) -> None:
        """Answer the oldest read with all events after its position, or with none if they have ``expired``."""
        after, done = self.asked.pop(0)
        done([] if expired else [event for event in self.kept if event.seq > after])


class SlowJournal(MemoryJournal):
    """A journal whose topics have a SlowLog."""

    def create(self, name: str, options: TopicOptions, done: Done) -> SlowLog:
        slow = SlowLog(name, options, self._host, self._clock)
        slow.topic = self._host.add_topic(StoredTopic(name, "e", options, slow, first=1))
        done(None)
        return slow


class Bench:
    """A broker with one topic on a slow journal."""

    def __init__(self) -> None:
        self._deferred: list[Callable[[], None]] = []
        clock = Clock()
        self.broker = Broker(
            defer=self._deferred.append,
            clock=clock,
            memory=MemoryJournal(clock),
            ring_size=RING,
            make_durable=lambda: SlowJournal(clock),
        )
        self.broker.create_topic("t", TopicOptions(history=1000, durable=True))
        self.topic = self.broker.topic("t")
        assert isinstance(self.topic.log, SlowLog)
        self.log = self.topic.log

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.broker.publish([Publish(topic="t", message=Message(new_id(), Raw(b"1")))], NoPublisher())
            self.log.kept.append(*self.topic.ring.after(self.topic.seq - 1, 1))
        self.end_tick()

    def end_tick(self) -> None:
        while self._deferred:
            self._deferred.pop(0)()


def test_what_leaves_the_ring_while_an_empty_page_is_read_is_replayed_all_the_same() -> None:
    bench, got = Bench(), bytearray()
    bench.publish(50)
    join(bench.broker, "t", Subscriber(Sink(got.extend), OutboxOptions(100, Clock())), last_n=50).advance()
    bench.publish(30)
    bench.log.answer(expired=True)
    bench.end_tick()
    bench.log.answer()
    bench.publish(1)
    assert bytes(got) == WEBSOCKET_TEXT.events(bench.topic, bench.log.kept[-41:])


def test_a_subscription_that_had_to_wait_is_not_said_to_be_whole_when_a_part_has_gone_meanwhile() -> None:
    bench = Bench()
    bench.publish(50)
    outbox = Subscriber(Sink(lambda frame: None), OutboxOptions(100, Clock()))
    joining = join(bench.broker, "t", outbox, resume={"t": Position(bench.topic.epoch, 45)})
    assert joining.recovered is True
    bench.publish(30)
    assert joining.recovered is True
    bench.topic.trim(60, 0)
    assert joining.recovered is False


def test_what_leaves_the_ring_while_an_empty_page_is_read_is_in_the_history_all_the_same() -> None:
    bench, answers = Bench(), list[KeptEvents | Failure]()
    bench.publish(50)
    bench.broker.history_after("t", 0, 1000, answers.append)
    bench.publish(30)
    bench.log.answer(expired=True)
    bench.log.answer()
    (kept,) = answers
    assert isinstance(kept, KeptEvents)
    assert [event.seq for event in kept.events] == list(range(41, 81))
    assert not kept.complete


def test_what_expires_between_the_subscribe_and_its_first_events_is_a_gap() -> None:
    now = [0.0]
    clock = Clock(lambda: 0, lambda: now[0])
    broker = Broker(defer=lambda callback: None, clock=clock, memory=MemoryJournal(clock), ring_size=RING)
    broker.create_topic("t", TopicOptions(ttl_sec=1))
    told: list[str] = []

    def write(frames: bytes) -> None:
        told.extend(
            str(message.get("seq", (message.get("from_seq"), message.get("to_seq")))) for message in messages_in(frames)
        )

    def publish() -> None:
        broker.publish([Publish(topic="t", message=Message(new_id(), Raw(b"1")))], NoPublisher())

    publish()
    joining = join(broker, "t", Subscriber(Sink(write), OutboxOptions(100, clock)))
    publish()
    publish()
    now[0] = 2.0
    joining.advance()
    publish()
    broker.flush()
    assert told == ["(2, 3)", "4"]
