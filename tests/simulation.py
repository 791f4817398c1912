"""A simulated server: its real Connections, Sessions and Broker on a loop and transports driven by a seed.

There is no socket and no real time. The seed chooses the order of all steps that a real loop may reorder: the callback
that runs first, the number of bytes that arrive, the number that a client reads, the time at which it vanishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from socket import AF_INET
from typing import Any, ClassVar, Protocol, cast
from zlib import compress, crc32, decompressobj

from kinds import FILTERS, KINDS, REQUIRED
from msgspec import Raw
from oracle import Broken, Json, Ledger, Record, Rights

from pubsub.auth.identity import FilteredIdentity, Identity
from pubsub.auth.permissions import make_rights
from pubsub.auth.quotas import Quotas
from pubsub.core.broker import DEFAULTS, Broker
from pubsub.core.clock import Clock
from pubsub.core.dead_letters import DeadLetters, Letter
from pubsub.core.event import Source, StoredEvent
from pubsub.core.journal import Host, StoredTopic
from pubsub.core.log import Assigned, Done, Found, Publisher, Purged
from pubsub.core.losses import Loss
from pubsub.core.presence import AWAY
from pubsub.core.topic import Topic
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal, MemoryLog
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.deflate import DEFLATED, TAIL, agree
from pubsub.protocol.errors import Failure, TopicNotFound, Unauthorized
from pubsub.protocol.frames import FIN_TEXT
from pubsub.protocol.patterns import covers
from pubsub.protocol.requests import Message, Publish, TopicOptions
from pubsub.websocket.connection import Connection
from pubsub.websocket.peer import Limits
from pubsub.websocket.rules import NO_RULES, ClientRules
from pubsub.websocket.services import Services
from pubsub.websocket.transport import ClientTransport
from tests.doubles import NoPublisher
from tests.harness import masked_frame, take_frame

RING = 8
QUEUE = 6
MAX_MESSAGE_BYTES = 4096
PAGE = 4  # events of a page of the slow log
COMPRESSES_FROM = 1  # bytes of a text; most are shorter than what a client would compress
OFFERS = ["", "permessage-deflate", "permessage-deflate; server_max_window_bits=9"]  # of clients, by their names
DEFLATED_TEXT = DEFLATED | FIN_TEXT
BUFFER = 3000  # bytes that a transport takes before its client is blocked


class Loop:
    """The part of an event loop that the server's own classes use, step by step."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._now = 0.0
        self._ready: list[Callable[[], object]] = []
        self._timers: list[tuple[float, Timer]] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self._ready.append(lambda: callback(*arguments))

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(callback)
        self._timers.append((self._now + delay, timer))
        return timer

    def end_tick(self) -> None:
        """Run all ready callbacks, in any order."""
        ready, self._ready = self._ready, []
        self._random.shuffle(ready)
        for callback in ready:
            callback()

    def pass_time(self, seconds: float) -> None:
        self._now += seconds
        due = [timer for moment, timer in self._timers if moment <= self._now]
        self._timers = [(moment, timer) for moment, timer in self._timers if moment > self._now]
        self._random.shuffle(due)
        for timer in due:
            timer.fire()

    def run_out(self) -> None:
        while self._ready:
            self.end_tick()


class Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self._callback = None

    @property
    def is_waiting(self) -> bool:
        return self._callback is not None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Transport(asyncio.Transport):
    """A transport that buffers written bytes until :meth:`drain`, and pauses its protocol at BUFFER bytes."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop
        self._buffer = bytearray()
        self._blocked = False
        self.connection: Any = None  # a ClientTransport, once it is open
        self.reading = True
        self.closing = False
        self.lost = False

    def write(self, data: Any) -> None:
        if self.closing:
            return
        self._buffer += data
        if len(self._buffer) > BUFFER and not self._blocked:
            self._blocked = True
            self._protocol().pause_writing()

    def drain(self, size: int) -> bytes:
        """Return the bytes that the client reads now."""
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._blocked and len(self._buffer) <= BUFFER // 4:
            self._blocked = False
            self._protocol().resume_writing()
        if self.closing and not self._buffer:
            self._lose()
        return taken

    def vanish(self) -> None:
        """End the connection without a close frame or FIN."""
        self.closing = True
        self._buffer.clear()
        self._lose()

    def hang_up(self) -> None:
        """Send no more. asyncio's TLS may report this twice."""
        for _ in range(2):
            if not self.lost:
                self._protocol().eof_received()

    def close(self) -> None:
        assert not self.closing, (
            "after a second close, every method of asyncio's TLS transport raises, and it never aborts"
        )
        self.closing = True
        self.reading = False
        if not self._buffer:
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.closing = True
        self._buffer.clear()
        self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._protocol().connection_lost(None)

    def _protocol(self) -> ClientTransport:
        assert isinstance(self.connection, ClientTransport), "a transport serves its connection"
        return self.connection

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = not self.closing

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, ClientTransport)
        self.connection = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name != "socket":
            return default
        return (
            None if self.closing else NoSocket()
        )  # a TLS transport has no socket between the end of its connection and connection_lost()


class NoSocket:
    family = AF_INET

    def getsockopt(self, *asked: object) -> bytes:
        raise OSError("there is no kernel behind it")


class WatchedBroker(Broker):
    """A Broker whose record has every message from the step in which it is published."""

    record: Record | None = None  # a test of parts alone has none

    def __init__(self, **options: Any) -> None:
        self.born: list[str] = []  # the names of new topics
        super().__init__(**options)

    def add_topic(self, stored: StoredTopic) -> Topic:
        self.born.append(stored.name)
        return super().add_topic(stored)

    def deliver(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        self._note(topic, events)
        super().deliver(topic, events)

    def deliver_all(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        self._note(topic, events)
        super().deliver_all(topic, events)

    def _note(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        if self.record is not None:
            for event in events:
                self.record.note(topic.name, topic.epoch, event.seq, json.loads(event.text)["message"])


class CountedLetters(DeadLetters):
    """Dead letters that know what they told, and what they should have told: events, by topic and client."""

    def __init__(self, broker: Broker, loop: Loop) -> None:
        ids = (f"00000000-0000-4000-8000-{number:012d}" for number in range(1_000_000))
        super().__init__(
            broker, per_second=2, new_id=lambda: next(ids), call_later=loop.call_later, take_turn=broker.turns.take
        )
        self.lost = Counter[str]()
        self.told = Counter[str]()

    def lose(self, client_id: str, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        self.lost[topic.name] += len(events)
        super().lose(client_id, topic, events, reason)

    def _publish(self, letter: Letter) -> None:
        self.told[letter.topic] += letter.gathered.count
        super()._publish(letter)


class SlowLog(MemoryLog):
    """The log of a durable topic, whose answers to reads come later and in any order."""

    loop: Loop

    def __init__(self, name: str, options: TopicOptions, host: Host, clock: Clock) -> None:
        super().__init__(name, options, host, clock)
        self._kept: list[StoredEvent] = []
        self._early: list[Callable[[], None]] | None = []  # appends before the topic exists
        self._deliver = self._keep

    def begin(self, epoch: str, done: Done) -> None:
        """The topic exists now."""
        self.topic = self._host.add_topic(StoredTopic(self._name, epoch, self._options, self, first=1))
        done(None)
        early, self._early = self._early or [], None
        for append in early:
            append()

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        if self._early is None:
            super().append(requests, publisher)
        else:
            publisher.wait(requests)
            self._early.append(lambda: MemoryLog.append(self, requests, publisher))

    def _keep(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        self._kept += events
        del self._kept[: -topic.history]
        self._host.trim(topic, self._kept[0].seq, 0)
        self._host.deliver(topic, events)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> None:
        """Append each one, for a test of what readers see."""
        self.append(requests, NoPublisher())

    def read(self, after: int, until: int, limit: int, done: Found) -> None:  # type: ignore[override]
        page = [event for event in self._kept if after < event.seq <= until][: min(limit, PAGE)]
        self.loop.call_soon(done, page)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:  # type: ignore[override]
        self.loop.call_soon(done, not self._kept or after + 1 < self._kept[0].seq)

    def purge(self, done: Purged) -> None:
        self._kept.clear()
        self._host.trim(self.topic, self.topic.seq + 1, 0)
        super().purge(done)


class SlowJournal(MemoryJournal):
    """A journal of durable topics, which exist later than their creation was asked for."""

    loop: Loop

    def create(self, name: str, options: TopicOptions, done: Done) -> SlowLog:
        log = SlowLog(name, options, self._host, self._clock)
        log.loop = self.loop
        self.loop.call_soon(log.begin, self._new_epoch(), done)
        return log


def offers_of(name: str) -> str:
    """The compression that a client offers."""
    return OFFERS[crc32(name.encode()) % len(OFFERS)]


class Parts:
    """The parts of a server, without a socket."""

    def __init__(
        self,
        random: Random,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        *,
        rights: Sequence[Rights] = (),
        rules: Sequence[TopicRule] = (),
        max_filters: int = 256,
    ) -> None:
        self._random = random
        self._rights = rights
        self.loop = Loop(random)
        clock = Clock(lambda: 0, self.loop.time)
        epochs = (f"e{number}" for number in range(1_000_000))
        slow = SlowJournal(clock, lambda: next(epochs))
        slow.loop = self.loop
        self.broker = WatchedBroker(
            defer=self.loop.call_soon,
            clock=clock,
            memory=MemoryJournal(clock, lambda: next(epochs)),
            make_durable=lambda: slow,
            ring_size=RING,
            max_filters=max_filters,
            rules=TopicRules(rules),
            call_later=self.loop.call_later,
        )
        self.letters = CountedLetters(self.broker, self.loop)
        self.broker.losses.write = self.letters.lose
        limits = Limits(
            ping_period=30,
            pong_wait=1000,
            write_wait=1000,
            read_timeout=1000,
            max_message_bytes=max_message_bytes,
            queue_size=QUEUE,
        )
        quotas = Quotas(in_all=0, per_client=0)
        client_rules = ClientRules(self._identify, None, quotas, 0) if rights else NO_RULES
        self.services = Services(
            self.broker,
            limits,
            clock,
            cast(asyncio.AbstractEventLoop, self.loop),
            rules=client_rules,
            quotas=quotas,
            compresses_from=COMPRESSES_FROM,
        )

    def connect(self, client_id: str, rights: int | None = None) -> Transport:
        transport = Transport(self.loop)
        identity = None if rights is None else self.identity(client_id, rights)
        agreement = agree(offers_of(client_id))
        Connection(
            transport, self.services, client_id=client_id, named=True, identity=identity, agreement=agreement
        ).open()
        return transport

    def _identify(self, token: str, answer: Callable[[Identity | Unauthorized], None]) -> None:
        """Accept the token of a client: its name, and the number of its rights."""
        client_id, number = token.split("/")
        identity = self.identity(client_id, int(number))
        if self._random.random() < 0.5:
            answer(identity)
        else:
            self.loop.call_soon(answer, identity)

    def identity(self, client_id: str, number: int) -> Identity:
        rights = self._rights[number]
        subscribes, publishes = make_rights(rights.patterns), make_rights((">",))
        if not rights.filters:
            return Identity(client_id=client_id, subscribes=subscribes, publishes=publishes)
        return FilteredIdentity(client_id=client_id, subscribes=subscribes, publishes=publishes, filters=rights.filters)


class Frames:
    """A reader of server frames from pieces of any size: text frames as JSON, others by opcode."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, received: bytes) -> list[Json | int]:
        self._received += received
        found: list[Json | int] = []
        while (frame := take_frame(self._received)) is not None:
            first, payload = frame
            if first == DEFLATED_TEXT:
                first, payload = FIN_TEXT, decompressobj(-15).decompress(payload + TAIL)
            found.append(json.loads(payload) if first == FIN_TEXT else first)
        return found


class Reader(Protocol):
    """A client of either transport."""

    name: str
    transport: Transport
    ledger: Ledger

    @property
    def is_at_rest(self) -> bool: ...

    def send(self, size: int) -> None: ...

    def take(self, size: int) -> None: ...


class Client:
    """A client that sends and receives in pieces; its ledger checks every message."""

    def __init__(self, parts: Parts, ledger: Ledger, name: str, rights: int | None = None) -> None:
        self.name = name
        self.transport = parts.connect(name, rights)
        self.ledger = ledger
        self._deflates = bool(offers_of(name))
        self._frames = Frames()
        self._unsent = bytearray()
        self._asked = 0

    def ask(self, **request: Any) -> None:
        self._asked += 1
        request = request | {"client_id": self.name, "request_id": f"r{self._asked}"}
        self.ledger.ask(request)
        text = json.dumps(request).encode()
        self._unsent += masked_frame(
            *((DEFLATED_TEXT, compress(text, wbits=-15)) if self._deflates else (FIN_TEXT, text))
        )

    def renew(self, number: int) -> None:
        """Send a token with other rights."""
        self.ledger.renew_rights(RIGHTS[number])
        self.ask(type="auth", token=f"{self.name}/{number}")

    @property
    def is_at_rest(self) -> bool:
        """True if nothing is in flight, once the loop has nothing to do."""
        return self.is_served and not self.transport.get_write_buffer_size()

    @property
    def is_served(self) -> bool:
        return not self._unsent and not self.ledger.unanswered

    def send(self, size: int) -> None:
        """Deliver some bytes of its requests to the server, if the server reads."""
        if self.transport.reading and not self.transport.closing and self._unsent:
            sent = bytes(self._unsent[:size])
            del self._unsent[:size]
            assert self.transport.connection is not None
            self.transport.connection.data_received(sent)

    def take(self, size: int) -> None:
        """Read some of the bytes that the server has sent."""
        for message in self._frames.feed(self.transport.drain(size)):
            if isinstance(message, dict):
                self.ledger.take(message)
                assert message["type"] != "info" or message.get("client_id") != self.name, "it was told of itself"


RIGHTS = (
    Rights(),
    Rights((">",), ((">", "payload.kind != 1"),)),
    Rights(("a.*", "b"), (("a.*", "payload.kind < 2"), ("a.b", "payload.kind != 1"))),
    Rights(("a", "a.>"), (("*.c", "payload.kind < 2"),)),
)
assert {text for rights in RIGHTS for _, text in rights.filters} == set(REQUIRED)
RULES = (
    TopicRule(pattern="a.c", create=True, delete_idle_sec=1.0, options={"durable": True, "history": 2 * RING}),
    TopicRule(pattern="c", create=True),
)


class World:
    """Random actions of clients and topics, by a seed. Raises Broken or AssertionError if an invariant is broken.

    Every second seed is a plain world: topics by name. The others have patterns, filters, rights and rules too.
    """

    PLAIN_OPTIONS: ClassVar = {"a": TopicOptions(dead_letter="dead"), "c": TopicOptions(presence=True)}
    OPTIONS: ClassVar = {
        "a": TopicOptions(overflow="drop_newest"),
        "b": TopicOptions(durable=True, history=2 * RING),
        "c": TopicOptions(presence=True, ttl_sec=3),
        "a.b": TopicOptions(presence=True, overflow="latest"),
    }
    NAMES = 5  # clients: some connections are of the same one, and some clients reconnect

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._plain = seed % 2 == 0
        self._topics = ("a", "b", "c") if self._plain else ("a", "b", "c", "a.b", "a.c")
        self._names = self._topics if self._plain else (*self._topics, "a.*", "a.>", "*.b", "*", ">")
        self._limited = not self._plain and seed % 8 == 1
        if self._plain:
            self.parts = Parts(self._random)
            self.parts.broker.create_topic("dead")  # no client looks at it
        else:
            guarded = RIGHTS if seed % 4 == 3 else ()
            self.parts = Parts(self._random, rights=guarded, rules=RULES, max_filters=3 if self._limited else 256)
        self._guarded = seed % 4 == 3
        self.record = self.parts.broker.record = Record()
        self.clients: list[Client] = []
        self._born = 0
        self._published = 0
        self._steps: list[tuple[Callable[[], None], int]] = [
            (self._ask, 30),
            (self._move_bytes, 60),
            (self.parts.loop.end_tick, 20),
            (self._come_or_go, 4),
            (self._make_or_delete, 3),
            (lambda: self.parts.loop.pass_time(self._random.choice([0.05, 0.5, 5])), 2),
        ]
        if not self._plain:
            self._steps += [(self._publish_by_rest, 3), (self._purge, 1), (self._rest, 1)]

    def live(self, steps: int) -> None:
        actions, weights = zip(*self._steps, strict=True)
        for action in self._random.choices(actions, weights, k=steps):
            action()
            self._notice_births()

    @property
    def everyone(self) -> Sequence[Reader]:
        """All clients."""
        return self.clients

    def settle(self) -> None:
        """Send and receive everything that is in flight; then every ledger must be complete."""
        for _ in range(10_000):
            self.parts.loop.run_out()
            for client in self.everyone:
                client.send(1 << 20)
                self._notice_births()
                client.take(1 << 20)
            self.parts.loop.run_out()
            if all(client.is_at_rest for client in self.everyone):
                break
        else:
            raise Broken("a client is never answered")
        for client in self.everyone:
            client.ledger.settle_rights()
        self._check_all()

    def end(self) -> None:
        """Disconnect all clients, and check that nothing of them remains."""
        for client in self.everyone:
            client.transport.vanish()
        self.parts.loop.run_out()
        for _ in range(2):
            self.parts.loop.pass_time(2 * AWAY)
            self.parts.loop.run_out()
        broker = self.parts.broker
        self.parts.letters.close_all()
        assert self.parts.letters.told == self.parts.letters.lost
        assert not broker.clients._topics
        assert len(self.parts.services.connections) == 0
        assert not self.parts.services.timers.blocked
        assert broker.subscriber_count == 0
        assert [topic.lanes for topic in broker.topics] == [()] * broker.topic_count
        memberships = broker._memberships
        assert memberships._placement.index.is_empty
        assert not (memberships._beginning)
        assert not (memberships._ending)
        assert not (memberships._new)

    def _check_all(self) -> None:
        topics = {topic.name: topic for topic in self.parts.broker.topics}
        for topic in topics.values():
            ledgers = [client.ledger for client in self.everyone if topic.name in client.ledger.topics]
            assert topic.subscribers == len(ledgers), topic.name
            for ledger in ledgers:
                assert ledger.topics[topic.name].epoch == topic.epoch
                assert ledger.is_complete(topic.name), topic.name
                assert not self._plain or ledger.topics[topic.name].next_seq == topic.seq + 1
            if topic.options.presence:
                self._check_presence(topic.name)
        for client in self.everyone:
            self._check_reached(client.ledger, set(topics))
        assert self.parts.broker.subscriber_count == sum(bool(each.ledger.subscriptions) for each in self.everyone)

    def _check_presence(self, topic: str) -> None:
        connections = Counter(client.name for client in self.everyone if topic in client.ledger.topics)
        present = {each.client_id: each.connections for each in self.parts.broker.presence(topic).clients}
        assert {name: count for name, count in present.items() if count} == connections

    def _check_reached(self, ledger: Ledger, topics: set[str]) -> None:
        reached = {topic for topic in topics if ledger.reaches(topic)}
        assert ledger.topics.keys() == reached or (self._limited and ledger.topics.keys() < reached)
        assert {name for name in ledger.subscriptions if name in self._topics} <= ledger.topics.keys()

    def _client(self) -> Client | None:
        return self._random.choice(self.clients) if self.clients else None

    def _ask(self) -> None:
        if (client := self._client()) is None:
            return
        topic, name = self._random.choice(self._topics), self._random.choice(self._names)
        match self._random.randrange(11):
            case 0 | 1:
                client.ask(type="subscribe", topic=name, last_n=self._random.choice([0, 0, 3, 20]), **self._filter())
            case 2:
                client.ask(type="unsubscribe", topic=name)
            case 3:
                client.ask(type=self._random.choice(["ping", "nonsense", "presence"]), topic=topic)
            case 4:
                client.ask(type="history", topic=topic, last_n=3, **self._filter())
            case 5:
                self._resume_or_renew(client, name)
            case _:
                for _ in range(self._random.choice([1, 1, 5])):
                    self._publish(client, topic)

    def _filter(self) -> Json:
        return {} if self._plain else self._random.choice(FILTERS)

    def _resume_or_renew(self, client: Client, name: str) -> None:
        if self._plain:
            client.ask(type="ping")
        elif self._guarded and self._random.random() < 0.5:
            client.renew(self._random.randrange(len(RIGHTS)))
        else:
            positions = {
                topic.name: {
                    "epoch": self._random.choice([topic.epoch, topic.epoch, "other"]),
                    "seq": max(0, topic.seq - self._random.choice([0, 2, 12])),
                }
                for topic in self.parts.broker.topics
                if covers(name, topic.name)
            }
            client.ask(type="subscribe", topic=name, resume=positions, **self._filter())

    def _publish(self, client: Client, topic: str) -> None:
        options = {}
        if not self._plain and self._random.random() < 0.2:
            seqs = [each.seq for each in self.parts.broker.topics if each.name == topic]
            options["expect_seq"] = max(0, sum(seqs) + self._random.choice([0, 0, 1, -1]))
        client.ask(type="publish", topic=topic, message=self._new_message(), **options)

    def _new_message(self) -> Json:
        self._published += 1
        message_id = f"{self._published:08x}-0000-4000-8000-000000000000"
        padding = "x" * self._random.choice([0, 100, 1000])
        payload = padding if self._plain else {"kind": self._random.choice(KINDS), "padding": padding}
        return {"id": message_id, "payload": payload}

    def _publish_by_rest(self) -> None:
        messages = [self._new_message() for _ in range(self._random.choice([1, 3, 12]))]
        topic = self._random.choice(self._topics)
        requests = [
            Publish(topic=topic, message=Message(each["id"], Raw(json.dumps(each["payload"]).encode())))
            for each in messages
        ]
        with contextlib.suppress(Failure):
            self.parts.broker.publish_all(topic, requests, "", lambda outcome: None)

    def _purge(self) -> None:
        for topic in self.parts.broker.topics[:1]:
            self.parts.broker.purge(topic.name, lambda count: None)

    def _rest(self) -> None:
        """Let the loop come to rest. Clients with nothing in flight have only the rights of their newest token then."""
        self.parts.loop.run_out()
        for client in self.everyone:
            if client.is_at_rest:
                client.ledger.settle_rights()

    def _move_bytes(self) -> None:
        if self.everyone:
            client = self._random.choice(self.everyone)
            move = self._random.choice([client.send, client.take])
            move(self._random.choice([1, 7, 100, 1000, 10_000]))

    def _come_or_go(self) -> None:
        if self.clients and self._random.random() < 0.4:
            client = self.clients.pop(self._random.randrange(len(self.clients)))
            self._random.choice([client.transport.vanish, client.transport.hang_up])()
            client.transport.vanish()
        elif len(self.clients) < 6:
            self._born += 1
            rights = self._random.randrange(len(RIGHTS)) if self._guarded else None
            ledger = Ledger(
                self.record,
                tolerant=True,
                ring=RING if self._plain else None,  # the others purge their topics
                rights=None if rights is None else RIGHTS[rights],
            )
            self.clients.append(Client(self.parts, ledger, f"client-{self._born % self.NAMES}", rights))

    def _make_or_delete(self) -> None:
        topic = self._random.choice(self._topics)
        try:
            options = self.PLAIN_OPTIONS if self._plain else self.OPTIONS
            self.parts.broker.create_topic(topic, options.get(topic, DEFAULTS))
        except Failure:
            if self._random.random() < 0.3:
                with contextlib.suppress(TopicNotFound):  # its journal is still creating it
                    self.parts.broker.delete_topic(topic)

    def _notice_births(self) -> None:
        for topic in self.parts.broker.born:
            for client in self.everyone:
                client.ledger.renew(topic)
        self.parts.broker.born.clear()
