"""A simulated server: its real Connections, Sessions and Broker on a loop and transports driven by a seed.

There is no socket and no real time. The seed chooses the order of all steps that a real loop may reorder: the callback
that runs first, the number of bytes that arrive, the number that a client reads, the time at which it vanishes.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from socket import AF_INET
from typing import Any, ClassVar, cast

from oracle import Broken, Json, Ledger, Record

from pubsub.core.broker import DEFAULTS, Broker
from pubsub.core.clock import Clock
from pubsub.core.presence import AWAY
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import Failure
from pubsub.protocol.frames import FIN_TEXT
from pubsub.protocol.requests import TopicOptions
from pubsub.websocket.connection import Connection
from pubsub.websocket.peer import Limits
from pubsub.websocket.services import Services
from tests.harness import masked_frame, take_frame

RING = 8
QUEUE = 6
MAX_MESSAGE_BYTES = 4096
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

    def fire(self) -> None:
        if self._callback is not None:
            self._callback()


class Transport(asyncio.Transport):
    """A transport that buffers written bytes until :meth:`drain`, and pauses its protocol at BUFFER bytes."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop
        self._buffer = bytearray()
        self._blocked = False
        self.connection: Connection | None = None
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

    def _protocol(self) -> Connection:
        assert self.connection is not None, "a transport serves its connection"
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
        assert isinstance(protocol, Connection)
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


class Parts:
    """The parts of a server, without a socket."""

    def __init__(self, random: Random, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.loop = Loop(random)
        clock = Clock(lambda: 0, self.loop.time)
        epochs = iter(range(1_000_000))
        self.broker = Broker(
            defer=self.loop.call_soon,
            clock=clock,
            memory=MemoryJournal(clock, lambda: f"e{next(epochs)}"),
            ring_size=RING,
            call_later=self.loop.call_later,
        )
        limits = Limits(
            ping_period=30,
            pong_wait=1000,
            write_wait=1000,
            read_timeout=1000,
            max_message_bytes=max_message_bytes,
            queue_size=QUEUE,
        )
        self.services = Services(self.broker, limits, clock, cast(asyncio.AbstractEventLoop, self.loop))

    def connect(self, client_id: str) -> Transport:
        transport = Transport(self.loop)
        Connection(transport, self.services, client_id=client_id, named=True).open()
        return transport


class Frames:
    """A reader of server frames from pieces of any size: text frames as JSON, others by opcode."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, received: bytes) -> list[Json | int]:
        self._received += received
        found: list[Json | int] = []
        while (frame := take_frame(self._received)) is not None:
            first, payload = frame
            found.append(json.loads(payload) if first == FIN_TEXT else first)
        return found


class Client:
    """A client that sends and receives in pieces; its ledger checks every message."""

    def __init__(self, parts: Parts, record: Record, name: str) -> None:
        self.name = name
        self.transport = parts.connect(name)
        self.ledger = Ledger(record, tolerant=True, ring=RING)
        self._frames = Frames()
        self._unsent = bytearray()
        self._asked = 0

    def ask(self, **request: Any) -> None:
        self._asked += 1
        request = request | {"client_id": "c", "request_id": f"r{self._asked}"}
        self.ledger.ask(request)
        self._unsent += masked_frame(FIN_TEXT, json.dumps(request).encode())

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


class World:
    """Random actions of clients and topics, by a seed. Raises Broken or AssertionError if an invariant is broken."""

    TOPICS = ("a", "b", "c")
    OPTIONS: ClassVar = {"c": TopicOptions(presence=True)}
    NAMES = 5  # clients: some connections are of the same one, and some clients reconnect

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.parts = Parts(self._random)
        self.record = Record()
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

    def live(self, steps: int) -> None:
        actions, weights = zip(*self._steps, strict=True)
        for action in self._random.choices(actions, weights, k=steps):
            action()

    def settle(self) -> None:
        """Send and receive everything that is in flight; then every ledger must be complete."""
        for _ in range(10_000):
            self.parts.loop.run_out()
            for client in self.clients:
                client.send(1 << 20)
                client.take(1 << 20)
            self.parts.loop.run_out()
            if all(client.is_served and not client.transport.get_write_buffer_size() for client in self.clients):
                break
        else:
            raise Broken("a client is never answered")
        self._check_all()

    def end(self) -> None:
        """Disconnect all clients, and check that nothing of them remains."""
        for client in self.clients:
            client.transport.vanish()
        self.parts.loop.run_out()
        assert len(self.parts.services.connections) == 0
        assert not self.parts.services.timers.blocked
        assert self.parts.broker.subscriber_count == 0
        for _ in range(2):
            self.parts.loop.pass_time(2 * AWAY)
            self.parts.loop.run_out()
        assert not self.parts.broker._presence._topics
        assert [topic.subscribers for topic in self.parts.broker.topics] == [0] * self.parts.broker.topic_count

    def _check_all(self) -> None:
        for topic in self.parts.broker.topics:
            subscribed = [client.ledger for client in self.clients if topic.name in client.ledger.subscriptions]
            assert topic.subscribers == len(subscribed)
            for ledger in subscribed:
                subscription = ledger.subscriptions[topic.name]
                assert (subscription.epoch, subscription.next_seq) == (topic.epoch, topic.seq + 1)
            if topic.options.presence:
                self._check_presence(topic.name)
        gone = {name for client in self.clients for name in client.ledger.subscriptions}
        assert gone <= {topic.name for topic in self.parts.broker.topics}

    def _check_presence(self, topic: str) -> None:
        connections = Counter(client.name for client in self.clients if topic in client.ledger.subscriptions)
        present = {each.client_id: each.connections for each in self.parts.broker.presence(topic).clients}
        assert {name: count for name, count in present.items() if count} == connections

    def _client(self) -> Client | None:
        return self._random.choice(self.clients) if self.clients else None

    def _ask(self) -> None:
        if (client := self._client()) is None:
            return
        topic = self._random.choice(self.TOPICS)
        match self._random.randrange(10):
            case 0 | 1:
                client.ask(type="subscribe", topic=topic, last_n=self._random.choice([0, 0, 3, 20]))
            case 2:
                client.ask(type="unsubscribe", topic=topic)
            case 3:
                client.ask(type=self._random.choice(["ping", "nonsense", "presence"]), topic=topic)
            case 4:
                client.ask(type="history", topic=topic, last_n=3)
            case _:
                for _ in range(self._random.choice([1, 1, 5])):
                    self._publish(client, topic)

    def _publish(self, client: Client, topic: str) -> None:
        self._published += 1
        message_id = f"{self._published:08x}-0000-4000-8000-000000000000"
        padding = "x" * self._random.choice([0, 100, 1000])
        client.ask(type="publish", topic=topic, message={"id": message_id, "payload": padding})

    def _move_bytes(self) -> None:
        if (client := self._client()) is not None:
            move = self._random.choice([client.send, client.take])
            move(self._random.choice([1, 7, 100, 1000, 10_000]))

    def _come_or_go(self) -> None:
        if self.clients and self._random.random() < 0.4:
            client = self.clients.pop(self._random.randrange(len(self.clients)))
            self._random.choice([client.transport.vanish, client.transport.hang_up])()
            client.transport.vanish()
        elif len(self.clients) < 6:
            self._born += 1
            self.clients.append(Client(self.parts, self.record, f"client-{self._born % self.NAMES}"))

    def _make_or_delete(self) -> None:
        topic = self._random.choice(self.TOPICS)
        try:
            self.parts.broker.create_topic(topic, self.OPTIONS.get(topic, DEFAULTS))
        except Failure:
            if self._random.random() < 0.3:
                self.parts.broker.delete_topic(topic)
                for client in self.clients:
                    client.ledger.renew(topic)
