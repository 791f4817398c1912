"""Several servers over one simulated engine, driven by a seed, and an oracle that judges what their clients see.

Everything that happens is one of the steps of ``Cluster.step``: with its seed, a run repeats itself exactly.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from msgspec import UNSET

from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.joining import Joining
from pubsub.core.lane import Subscriber
from pubsub.core.log import Assignment
from pubsub.core.subscription import Asked, Subscription
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.journals.shared.engine import Appended, Record, State
from pubsub.journals.shared.journal import SharedJournal
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import Conflict, Failure, LimitExceeded, NotStored, TopicExists, TopicNotFound
from pubsub.protocol.patterns import covers
from pubsub.protocol.requests import Position, Publish, TopicOptions
from tests.doubles import ALL_GRANTED, Sink
from tests.harness import messages_in
from tests.journals.simulated_engine import Link, SimulatedEngine
from tests.journals.world import message

NAMES = ("a.1", "a.2", "b.1", "used.1")
PATTERNS = ("a.*", ">")
RING = 8
QUEUE = 12
WAIT = 5.0


class Truth:
    """The messages that each epoch of each topic ever had, as the engine decided."""

    def __init__(self) -> None:
        self.lives: dict[tuple[str, str], dict[int, str]] = {}
        self.assigned: dict[str, list[tuple[str, int]]] = {}  # by message id: its topic and seq, each time

    def note(self, record: Record) -> None:
        if isinstance(record, State):
            life = self.lives.setdefault((record.name, record.epoch), {})
            if record.before and not life:
                before = self.lives[record.name, record.before]
                life.update({seq: message for seq, message in before.items() if seq <= record.base})
        elif isinstance(record, Appended):
            life = self.lives[record.name, record.epoch]
            for event in record.events:
                seq, message_id = event.seq, json.loads(event.text)["message"]["id"]
                assert seq not in life, f"{record.name} {record.epoch} gives {seq} to two messages"
                life[seq] = message_id
                self.assigned.setdefault(message_id, []).append((record.name, seq))


class WatchedEngine(SimulatedEngine):
    """An engine whose decisions the oracle knows."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self.truth = Truth()

    def record(self, record: Record) -> None:
        self.truth.note(record)
        super().record(record)

    def fail_over(self, random: Random) -> None:
        self._fail_over(lambda: random.choice([0, 0, 1, 3]))

    def fail_over_with(self, lost: int) -> None:
        self._fail_over(lambda: lost)

    def _fail_over(self, lost: Callable[[], int]) -> None:
        """Lose tails, with all connections. Every topic begins a new epoch before anybody is served."""
        for link in self.links:
            if link.connected:
                link.disconnect("failover")
        for topic in self.topics.values():
            self.lose_tail(topic, lost())
            self.renew(topic)


@dataclass
class Place:
    """The position of a client in a topic: the next event is ``seq`` + 1, or a gap is told first."""

    epoch: str
    seq: int


class Client:
    """A client that checks all that it gets. It remembers its positions when it goes to another server."""

    def __init__(self, cluster: Cluster, server: Server, name: str) -> None:
        self.cluster = cluster
        self.server = server
        self.name = name
        self.places: dict[str, Place] = {}
        self.loose: set[str] = set()  # topics whose next event may be any: it did not resume
        self.joined = False
        self.failed = False
        self.got: list[str] = []
        self.created: dict[str, int] = {}  # where topics went on, or 0
        options = OutboxOptions(QUEUE, server.clock, server.broker.turns.take)
        self.subscriber = Subscriber(Sink(self._write), options)
        self.subscriber.client_id = name

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name or ">" in self.name

    def subscribe(self, resume: dict[str, Place] | None, last_n: int = 0) -> None:
        positions = None if resume is None else {name: Position(each.epoch, each.seq) for name, each in resume.items()}
        self._resume = resume
        asked = Asked(Subscription(self.name), ALL_GRANTED, last_n, positions)
        try:
            self.server.broker.subscribe(asked, self.subscriber, self._take_answer)
        except TopicNotFound:
            # A session asks again after a round trip.
            self.server.broker.sync(lambda failure: self._try_again(asked, failure))

    def _try_again(self, asked: Asked, failure: Failure | None) -> None:
        if failure is not None:
            self.failed = True
            return
        try:
            self.server.broker.subscribe(asked, self.subscriber, self._take_answer)
        except Failure:
            self.failed = True

    def _take_answer(self, joining: Joining | Failure) -> None:
        if isinstance(joining, Failure):
            self.failed = True
            return
        self.subscriber.call_when_ready(lambda: self._begin(joining))

    def _begin(self, joining: Joining) -> None:
        if self.failed:
            return
        try:
            joining.confirm()
        except TopicNotFound:
            self.failed = True
            return
        with self.cluster.judging():
            for each in joining.topics:
                self._begin_at(each.topic.name, each.topic.epoch, each.seq, each.recovered)
        self.joined = True
        joining.advance()

    def _begin_at(self, name: str, epoch: str, seq: int, recovered: Any) -> None:
        before = (self._resume or {}).get(name)
        if recovered is not UNSET:
            self.cluster.seen["recovered" if recovered else "not recovered"] += 1
        self.loose.discard(name)
        if recovered is UNSET:
            self.places[name] = Place(epoch, seq)
            self.loose.add(name)
        elif recovered:
            start = before or Place(epoch, 0)
            assert start.epoch == epoch, f"{self.name}: {name} is recovered in another epoch"
            assert start.seq <= seq, f"{self.name}: {name} is recovered at {seq}, before {start.seq}"
            self.places[name] = Place(epoch, start.seq)
        elif before is not None and before.epoch == epoch and before.seq <= seq:
            self.places[name] = Place(epoch, before.seq)  # a part is gone, and told
        else:
            self.places[name] = Place(epoch, 0)

    def _write(self, encoded: bytes) -> None:
        for told in messages_in(encoded):
            with self.cluster.judging():
                self._take(told)

    def _take(self, told: dict[str, Any]) -> None:
        name = told["topic"]
        self.cluster.seen[told.get("msg", "event")] += 1
        self.got.append(f"{told['type']} {told.get('msg', '')} {name} {told.get('seq', told.get('epoch', ''))}")
        if told["type"] == "event":
            self._take_event(name, told["seq"], told["message"]["id"])
        elif told["msg"] == "dropped":
            place = self.places[name]
            assert told["count"] == told["to_seq"] - told["from_seq"] + 1, told
            if name not in self.loose:
                assert told["from_seq"] == place.seq + 1, f"{self.name}: gap {told} after {place}: {self.got[-20:]}"
            self.loose.discard(name)
            place.seq = told["to_seq"]
        elif told["msg"] == "topic_created":
            self.created[name] = told.get("seq", 0)
            self.places[name] = Place(told["epoch"], told.get("seq", 0))
            self.loose.discard(name)
        elif told["msg"] == "topic_deleted":
            self.places.pop(name, None)
            self.loose.discard(name)
            if not self.is_pattern:
                self.failed = True

    def _take_event(self, name: str, seq: int, message_id: str) -> None:
        place = self.places[name]
        if name in self.loose:
            self.loose.discard(name)
        else:
            assert seq == place.seq + 1, f"{self.name}: {name} {seq} after {place}: {self.got[-20:]}"
        place.seq = seq
        life = self.cluster.engine.truth.lives.get((name, place.epoch), {})
        assert life.get(seq) == message_id, (
            f"{self.name}: {name} {place.epoch} {seq} is another message: {self.got[-20:]}"
        )

    def leave(self) -> None:
        self.server.broker.leave(self.subscriber)
        self.failed = True

    def check_end(self) -> None:
        """Everything is quiet: the client has all, or knows of what it does not have."""
        if self.failed:
            return
        assert self.joined, f"{self.name} has no answer"
        for name, topic in self.cluster.engine.topics.items():
            if name == self.name or (self.is_pattern and covers(self.name, name)):
                place = self.places.get(name)
                assert place is not None, f"{self.name} does not know {name}"
                assert (place.epoch, place.seq) == (topic.epoch, topic.seq), (
                    f"{self.name} is at {place} of {name}, which is at {topic.epoch} {topic.seq}: {self.got[-30:]}"
                )


@dataclass
class Ledger:
    """A publisher that notes each outcome."""

    cluster: Cluster
    client_id: str = ""
    order: deque[str] = field(default_factory=deque)

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        for seq, request in enumerate(requests, first):
            self.cluster.check_ack(request, seq)
            self._end(request, "acked")

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        self._end(request, "repeated")

    def refused(self, request: Publish, failure: Failure) -> None:
        if not isinstance(failure, NotStored):
            self.cluster.refused.append(request)
        self._end(request, type(failure).__name__)

    def wait(self, requests: Sequence[Publish]) -> None:
        self.order += [request.message.id for request in requests]

    def _end(self, request: Publish, outcome: str) -> None:
        self.cluster.seen[outcome] += 1
        with self.cluster.judging():
            assert self.order.popleft() == request.message.id, "outcomes come in the order of the publishes"


class Server:
    """One server: its Broker, its journal, and its loop."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.clock = Clock(lambda: cluster.now, lambda: cluster.now)
        self.deferred: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.link: Link = cluster.engine.link(name)
        self.journal = SharedJournal(
            self.link,
            self.clock,
            defer=self.deferred.append,
            call_later=self._call_later,
            wait=WAIT,
            new_epoch=lambda: f"e{next(cluster.epochs)}",
        )
        self.broker = Broker(
            defer=self.deferred.append,
            clock=self.clock,
            memory=MemoryJournal(self.clock),
            shared=self.journal,
            ring_size=RING,
            rules=TopicRules([TopicRule(pattern="used.*", create=True, options={"history": 20})]),
            call_later=self._call_later,
        )
        self.ledger = Ledger(cluster)
        self.link.begin(self.journal)
        self.link.connect()

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.cluster.now + seconds, next(self._numbers), callback))

    def tick(self) -> bool:
        """Run what is deferred so far, and timers that are due."""
        work = len(self.deferred)
        for _ in range(work):
            self.deferred.popleft()()
        while self.timers and self.timers[0][0] <= self.cluster.now:
            heapq.heappop(self.timers)[2]()
            work += 1
        return work > 0


class Cluster:
    """See the module."""

    def __init__(self, seed: int, servers: int = 3) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        self.epochs = itertools.count(1)
        self.engine = WatchedEngine(lambda: self.now)
        self.faults: list[Exception] = []
        self.seen = Counter[str]()  # the kinds of what has happened
        self.refused: list[Publish] = []  # without doubt
        self.published: list[tuple[str, str]] = []  # topics and ids, each as often as it was published
        self.servers = [Server(self, f"s{number}") for number in range(servers)]
        self.clients: list[Client] = []
        self.steps: list[tuple[int, Callable[[], None]]] = [
            (40, self._move),
            (25, self._tick),
            (14, self._publish),
            (3, self._publish_list),
            (5, self._subscribe),
            (3, self._move_client),
            (2, self._leave),
            (3, self._block),
            (3, self._create),
            (1, self._delete),
            (2, self._delete_idle),
            (1, self._purge),
            (2, self._lose_record),
            (1, self._disconnect),
            (3, self._connect),
            (1, self._states),
            (1, self._trim),
            (1, self._pass_time),
        ]
        self._weights = [weight for weight, _ in self.steps]
        self._fail_over_in = self.random.randrange(50, 600)

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """Note what is wrong: the code under test logs the exceptions of its callbacks, and goes on."""
        try:
            yield
        except Exception as fault:
            self.faults.append(fault)
            raise

    def run(self, steps: int) -> None:
        choices = self.random.choices([step for _, step in self.steps], self._weights, k=steps)
        for number, step in enumerate(choices):
            step()
            self._raise_faults()
            # Three in a row: some servers miss the first.
            if number > self._fail_over_in and number % self._fail_over_in in (0, 12, 30):
                self.engine.fail_over(self.random)
        self.settle()
        self._raise_faults()
        self.check_end()

    def _raise_faults(self) -> None:
        if self.faults:
            raise self.faults[0]

    # Steps

    def _server(self) -> Server:
        return self.random.choice(self.servers)

    def _move(self) -> None:
        link = self._server().link
        pipe = self.random.choice([link.outbound, link.inbound, link.inbound, link.reads])
        for _ in range(self.random.choice([1, 2, 8])):
            link.step(pipe)

    def _tick(self) -> None:
        self._server().tick()

    def _request(self, name: str) -> Publish:
        known = ""
        if self.published and self.random.random() < 0.15:  # a second try of a client
            topic, known = self.random.choice(self.published[-20:])
            known = known if topic == name else ""
        expect: Any = UNSET
        if self.random.random() < 0.1 and name in self.engine.topics:
            expect = self.engine.topics[name].seq
        ttl: Any = self.random.choice([UNSET] * 9 + [3.0])
        request = message(topic=name, message_id=known, expect_seq=expect, ttl_sec=ttl)
        self.published.append((name, request.message.id))
        return request

    def _publish(self) -> None:
        server = self._server()
        name = self.random.choice(NAMES)
        requests = [self._request(name) for _ in range(self.random.randrange(1, 4))]
        if self.random.random() < 0.5:
            requests = requests[:1]
        with contextlib.suppress(TopicNotFound, Conflict):
            server.broker.publish(requests, server.ledger)

    def _publish_list(self) -> None:
        server = self._server()
        name = self.random.choice(NAMES)
        requests = [self._request(name) for _ in range(self.random.randrange(1, 5))]
        log = server.broker.publish_all

        def answer(outcome: Sequence[Assignment] | Failure) -> None:
            if not isinstance(outcome, Failure):
                for request, place in zip(requests, outcome, strict=True):
                    if not place.duplicate:
                        self.check_ack(request, place.seq)

        with contextlib.suppress(TopicNotFound, Conflict):
            log(name, requests, "", answer)

    def check_ack(self, request: Publish, seq: int) -> None:
        with self.judging():
            assert (request.topic, seq) in self.engine.truth.assigned.get(request.message.id, []), (
                f"{request.message.id} is acknowledged as {request.topic} {seq}, and is not in the engine"
            )

    def _subscribe(self) -> None:
        if len(self.clients) < 12:
            client = Client(self, self._server(), self.random.choice(NAMES + PATTERNS))
            self.clients.append(client)
            client.subscribe(None, self.random.choice([0, 0, 3, 50]))

    def _move_client(self) -> None:
        """A client goes to another server, and resumes there."""
        ready = [each for each in self.clients if each.joined and not each.failed and not each.loose]
        if not ready:
            return
        old = self.random.choice(ready)
        old.leave()
        self.clients.remove(old)
        new = Client(self, self._server(), old.name)
        self.clients.append(new)
        new.subscribe({name: Place(place.epoch, place.seq) for name, place in old.places.items()})

    def _leave(self) -> None:
        if self.clients:
            client = self.random.choice(self.clients)
            client.leave()
            self.clients.remove(client)

    def _block(self) -> None:
        if self.clients:
            subscriber = self.random.choice(self.clients).subscriber
            if subscriber.blocked:
                subscriber.unblock()
            else:
                subscriber.block()

    def _create(self) -> None:
        options = TopicOptions(
            history=self.random.choice([0, 5, 30, 1000]), dedup_sec=self.random.choice([None, 60.0]),
            ttl_sec=self.random.choice([None, None, None, 20.0]),
        )  # fmt: skip
        with contextlib.suppress(TopicExists, LimitExceeded):
            self._server().broker.create_topic(self.random.choice(NAMES), options)

    def _delete(self) -> None:
        with contextlib.suppress(TopicNotFound):
            self._server().broker.delete_topic(self.random.choice(NAMES))

    def _delete_idle(self) -> None:
        """Delete a topic that nobody uses here: another server may use it."""
        broker = self._server().broker
        name = self.random.choice(NAMES)
        if broker.exists(name) and not broker.idle.is_used(topic := broker.topic(name)) and not topic.log.appending:
            broker.idle._delete(topic)

    def _purge(self) -> None:
        with contextlib.suppress(TopicNotFound):
            self._server().broker.purge(self.random.choice(NAMES), lambda _: None)

    def _lose_record(self) -> None:
        self._server().link.lose_record(self.random)

    def _disconnect(self) -> None:
        link = self._server().link
        if link.connected:
            link.disconnect()

    def _connect(self) -> None:
        for server in self.servers:
            if not server.link.connected and self.random.random() < 0.5:
                server.link.connect()

    def _states(self) -> None:
        link = self._server().link
        if link.connected:
            link.tell_states()

    def _trim(self) -> None:
        if self.engine.topics:
            self.engine.trim(self.random.choice(list(self.engine.topics.values())), self.random.randrange(1, 6))

    def _pass_time(self) -> None:
        self.now += self.random.choice([0.1] * 6 + [1.0, 1.0, 6.0])

    # The end

    def settle(self) -> None:
        """Let everything come to an end: all connections are there, and nothing is lost any more."""
        for server in self.servers:
            if not server.link.connected:
                server.link.connect()
        for client in self.clients:
            if client.subscriber.blocked:
                client.subscriber.unblock()
        for round_ in range(4):
            self._run_all()
            self.now += WAIT + 1
            if round_ < 3:
                for server in self.servers:
                    server.link.tell_states()

    def _run_all(self) -> None:
        for _ in range(10_000):
            if not any([server.tick() | server.link.pump() for server in self.servers]):
                return
        raise AssertionError("it does not come to an end")

    def check_end(self) -> None:
        engine = self.engine
        times = Counter(message_id for _, message_id in self.published)
        for request in self.refused:
            if times[request.message.id] == 1:
                assert request.message.id not in engine.truth.assigned, "a publish was refused, and done"
        for message_id, places in engine.truth.assigned.items():
            if times[message_id] == 1:
                assert len(places) == 1, f"{message_id} was published once, and is there twice: {places}"
        for server in self.servers:
            broker = server.broker
            assert {topic.name: (topic.epoch, topic.seq) for topic in broker.topics} == {
                name: (topic.epoch, topic.seq) for name, topic in engine.topics.items()
            }, server.link.server
            assert not server.ledger.order, "a publish has no outcome"
            assert server.journal.measures.waiting_bytes == 0
            assert server.journal.failure == ""
            assert not any(topic.log.appending for topic in broker.topics)
        for client in self.clients:
            client.check_end()


def run(seed: int, steps: int = 400) -> Cluster:
    cluster = Cluster(seed)
    cluster.run(steps)
    return cluster
