"""The Python client in a simulated world: its Conversations, with a shell that needs no asyncio and no socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from oracle import Broken, Json
from reading import Place, Told

from pubsub.client.conversation import Conversation
from pubsub.client.errors import Disconnected, PubsubError, Unreachable
from pubsub.client.events import Event, Gap
from pubsub.client.exchange import Question
from pubsub.client.inbox import InboxRules
from pubsub.client.interest import Interest, Wish
from pubsub.client.outcomes import Published
from pubsub.client.pacing import Pacing
from pubsub.client.positions import read_positions
from pubsub.client.publishes import OwnIds
from pubsub.client.reconnects import Retry
from pubsub.protocol.requests import Message, Publish
from tests.client.simulated_client import Positions, SimulatedClient
from tests.client.simulated_link import LOST
from tests.simulation import Timer

HEARTBEAT = 6.0
RENEWAL = 0.7  # of the life of a token


class Line:
    """One connection of the client, made again and again (Host). ``socket``: its number; 0 between two connections."""

    def __init__(self, driver: PythonDriver) -> None:
        self.random = driver.random
        self.timers: set[Timer] = set()
        self.socket = 0
        self.is_ended = False
        self._driver = driver
        self._client = driver.client
        self._loop = driver.client.world.loop
        self._renewal: Timer | None = None
        self.conversation = Conversation(
            self, answer_timeout=driver.answer_timeout, heartbeat=HEARTBEAT, own_ids=driver.own_ids,
            pacing=driver.pacing, renewable=self._client.world.guarded,
        )  # fmt: skip
        self.connect()

    def connect(self) -> None:
        self.socket = self._driver.new_socket(self)
        self._client.want_link(self.socket, self._client.world.token(self._client.name))

    def opened(self) -> None:
        self.conversation.opened(self._client.name)
        if self._client.world.guarded:
            self._renewal = self.call_later(RENEWAL * self._client.world.TOKEN_SEC, self._renew)

    def _renew(self) -> None:
        self.conversation.renew(self._client.world.token(self._client.name))
        self._renewal = self.call_later(RENEWAL * self._client.world.TOKEN_SEC, self._renew)

    def ended(self, decide: Callable[[], Retry | Disconnected]) -> None:
        """The connection has ended, or could not be made."""
        self.socket = 0
        if self._renewal is not None:
            self._renewal.cancel()
        if self.is_ended:
            return
        decision = decide()
        if isinstance(decision, Disconnected):
            raise Broken(f"{self._client.name} gave up: {decision.code} {decision}")
        self.call_later(decision.pause, self.connect)

    def end(self) -> None:
        """The user closes the client, or the last subscription of this connection has ended."""
        self.is_ended = True
        for timer in self.timers:
            timer.cancel()
        socket, self.socket = self.socket, 0
        self.conversation.leave()
        if socket:
            self._driver.forget_socket(socket)
            self._client.abort(socket)

    # Host

    def send(self, text: bytes) -> None:
        if self.socket:
            self._client.send(self.socket, text.decode())

    def drop(self, reason: str) -> None:
        socket = self.socket
        if socket and not self.is_ended:
            self._client.abort(socket)
            self._loop.call_soon(self._driver.lost, socket, reason)

    def read(self) -> None:
        pass

    def clock(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        assert delay >= 0, "a timer in the past"
        timer = self._loop.call_later(delay, lambda: self._fire(timer, callback))
        self.timers.add(timer)
        return timer

    def _fire(self, timer: Timer, callback: Callable[[], None]) -> None:
        self.timers.discard(timer)
        callback()

    def report(self, error: PubsubError) -> None:
        raise Broken(f"{self._client.name} reports {error!r}")


class PythonDriver:
    """See the module (Driver). As the shell does it, two subscriptions that overlap have a connection each."""

    def __init__(self, client: SimulatedClient, seed: int) -> None:
        self.client = client
        self.random = Random(seed)
        self.own_ids = OwnIds()
        self.pacing = Pacing()
        self.answer_timeout = self.random.choice([3.0, 10.0, 100.0])
        self._limit = self.random.choice([2, 5, 20])
        self._sockets: dict[int, Line] = {}
        self._interests: dict[int, tuple[Line, Interest]] = {}
        self._questions: dict[int, Question] = {}
        self._numbers = 0
        self._lines: list[Line] = []

    def start(self) -> None:
        self._lines = [Line(self)]

    def new_socket(self, line: Line) -> int:
        self._numbers += 1
        self._sockets[self._numbers] = line
        return self._numbers

    def forget_socket(self, socket: int) -> None:
        del self._sockets[socket]

    # Driver: the network

    def opened(self, socket: int) -> None:
        self._sockets[socket].opened()

    def received(self, socket: int, text: str) -> None:
        if (line := self._sockets.get(socket)) is not None:
            line.conversation.received(text)

    def closed(self, socket: int, code: int, reason: str) -> None:
        if code == LOST:
            self.lost(socket, "the connection was lost")
        elif (line := self._sockets.pop(socket, None)) is not None:
            line.ended(partial(line.conversation.closed, code, reason))

    def refused(self, socket: int, status: int) -> None:
        if not status:
            self.lost(socket, "nobody answers")
        elif (line := self._sockets.pop(socket, None)) is not None:
            line.ended(partial(line.conversation.refused, status))

    def lost(self, socket: int, reason: str) -> None:
        if (line := self._sockets.pop(socket, None)) is not None:
            line.ended(partial(line.conversation.lost, Unreachable(reason)))

    def reads(self, socket: int) -> bool:
        line = self._sockets.get(socket)
        return line is None or not line.conversation.paused

    # Driver: the user

    def subscribe(self, number: int, topic: str, options: Json) -> None:
        wish = Wish(
            topic=topic,
            last_n=options.get("last_n", 0),
            filter=options.get("filter", UNSET),
            params=Raw(json.dumps(options["params"]).encode()) if "params" in options else UNSET,
            resume=read_positions(topic, options["resume"]) if "resume" in options else None,
            notices=options.get("notices", False),
        )
        own = self.own_ids if options.get("echo") is False else None
        rules = InboxRules(decode=_decode, limit=self._limit, own=own, mends=options.get("mend", True))
        line = next((each for each in self._lines if not each.conversation.overlaps(topic)), None)
        if line is None:
            line = Line(self)
            self._lines.append(line)
        begun = partial(self._begin, number)
        interest = line.conversation.subscribe(wish, rules, begun)
        self._interests[number] = line, interest

    def _begin(self, number: int, error: PubsubError | None) -> None:
        if error is not None:
            self._interests.pop(number, None)
            self.client.failed(number, type(error).__name__)
        elif number in self._interests:
            self.client.begun(number, self._positions(number))

    def _positions(self, number: int) -> Positions:
        return {topic: (each.epoch, each.seq) for topic, each in self._interests[number][1].position.items()}

    def take(self, number: int) -> bool:
        if number not in self._interests:
            return False
        _, interest = self._interests[number]
        item = interest.inbox.take()
        match item:
            case Event():
                place = Place(item.topic, item.epoch, item.seq)
                message = {"id": item.id, "payload": item.payload}
                self.client.take_event(number, place, message, self._positions(number))
            case Gap():
                gap = Told(item.topic, item.epoch, item.reason, item.from_seq, item.to_seq, item.count)
                self.client.take_gap(number, gap, self._positions(number))
            case None if interest.error is not None:
                self.client.failed(number, type(interest.error).__name__)
        return item is not None

    def reload(self, number: int) -> bool:
        if number not in self._interests:
            return False
        self._interests[number][1].forget_waiting()
        self.client.reloaded(number, self._positions(number))
        return True

    def unsubscribe(self, number: int) -> None:
        line, interest = self._interests.pop(number)
        line.conversation.unsubscribe(interest)
        if line is not self._lines[0] and not line.conversation.has_subscriptions:
            self._lines.remove(line)
            line.end()

    def publish(self, number: int, topic: str, message: Json, options: Json) -> None:
        request = Publish(
            topic=topic,
            message=Message(message["id"], Raw(json.dumps(message["payload"]).encode())),
            ttl_sec=options.get("ttl_sec", UNSET),
            expect_seq=options.get("expect_seq", UNSET),
        )
        self._questions[number] = self._lines[0].conversation.publish(request, partial(self._published, number))

    def _published(self, number: int, outcome: Published | PubsubError) -> None:
        self._questions.pop(number, None)
        if isinstance(outcome, Published):
            self.client.published(number, outcome.seq, duplicate=outcome.duplicate)
        else:
            self.client.refused(number, type(outcome).__name__)

    def cancel(self, number: int) -> None:
        self._lines[0].conversation.forget(self._questions.pop(number))

    def close(self) -> None:
        self._interests.clear()
        for line in self._lines:
            line.end()

    def leftovers(self) -> list[str]:
        timers = [str(each) for line in self._lines for each in line.timers if each.is_waiting]
        return [*timers, *(f"publish {number}" for number in self._questions)]


def _decode(payload: Raw) -> Any:
    return msgspec.json.decode(payload)
