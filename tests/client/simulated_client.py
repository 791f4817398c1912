"""One client of a simulated world: its connections, what its user does, and the checks of what the user is told.

A Driver is the client library itself, in Python or in JavaScript. The library learns nothing but what a network and a
user could tell it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from kinds import predicate_of
from oracle import Broken, Json
from reading import Place, Reading, Told

from tests.client.simulated_calls import Call, check_order
from tests.client.simulated_link import Link
from tests.client.simulated_server import Life

if TYPE_CHECKING:
    from tests.client.simulated_world import World

Positions = Mapping[str, tuple[str, int]]

# Errors after which a message may be in its topic all the same.
UNCERTAIN = frozenset({"AnswerTimeout", "Disconnected", "Unreachable"})
# Errors that may be the answer to a first subscribe.
REFUSALS = frozenset({"TopicNotFound", "Disconnected", "Unreachable", "AnswerTimeout", "RateLimited"})


class Driver(Protocol):
    """A client library in the simulated world. Sockets, subscriptions and publishes have numbers."""

    def start(self) -> None:
        """Begin to connect."""

    def opened(self, socket: int) -> None: ...

    def received(self, socket: int, text: str) -> None: ...

    def closed(self, socket: int, code: int, reason: str) -> None: ...

    def refused(self, socket: int, status: int) -> None:
        """The handshake failed with this HTTP status; 0 if nobody answered."""

    def reads(self, socket: int) -> bool:
        """Return False if the library does not read from this socket now."""

    def subscribe(self, number: int, topic: str, options: Json) -> None: ...

    def take(self, number: int) -> bool:
        """Take the next item, or wait for it. Returns False if there is none now."""

    def reload(self, number: int) -> bool:
        """Forget what has come and was not taken. Returns False if the library does that in another way."""

    def unsubscribe(self, number: int) -> None: ...

    def publish(self, number: int, topic: str, message: Json, options: Json) -> None: ...

    def cancel(self, number: int) -> None: ...

    def close(self) -> None: ...

    def leftovers(self) -> list[str]:
        """Return what the library has left behind: timers, waiting users."""


class SimulatedSubscription:
    """A subscription, and what its user has got."""

    def __init__(self, client: SimulatedClient, number: int, topic: str, reading: Reading) -> None:
        self.client = client
        self.number = number
        self.topic = topic
        self.reading = reading
        self.chosen: Json = {}
        self.options: Json = {}
        self.is_begun = False
        self.ended = ""  # the name of the error
        self.positions: Positions = {}

    def take(self) -> bool:
        return not self.ended and self.client.driver.take(self.number)


class SimulatedClient:
    """See the module. The driver calls the methods of the second part."""

    def __init__(self, world: World, name: str, start: Callable[[SimulatedClient], Driver]) -> None:
        self.world = world
        self.name = name
        self.links: dict[int, Link] = {}
        self.waiting: dict[int, str] = {}  # sockets that are not connected yet, with the tokens of their handshakes
        self.subscriptions: list[SimulatedSubscription] = []
        self.calls: list[Call] = []
        self.is_closed = False
        self._numbers = 0
        self._opened = 0  # links so far
        self._acked: dict[str, int] = {}  # by topic, in the last ack of a subscribe
        self._by_number: dict[int, SimulatedSubscription] = {}
        self.driver = start(self)

    # What its user does

    def subscribe(self, topic: str, chosen: Json, options: Json, reading: Reading | None = None) -> None:
        self._numbers += 1
        wants = predicate_of(chosen) if chosen else None
        leaves_out = self._is_own if options.get("echo") is False else lambda _: False
        truth = self.world.truth
        keeps = truth.keeps if options.get("mend", True) else lambda _: False
        fresh = Reading(
            truth.record,
            topic,
            wants=wants,
            leaves_out=leaves_out,
            keeps=keeps,
            deleted=truth.is_deleted,
            knows_all=True,
        )
        if reading is not None:
            fresh.cursors = reading.cursors
        subscription = SimulatedSubscription(self, self._numbers, topic, fresh)
        subscription.chosen, subscription.options = chosen, options
        self.subscriptions.append(subscription)
        self._by_number[self._numbers] = subscription
        self._note(f"{self._numbers} subscribes to {topic} {chosen} {options}")
        self.driver.subscribe(self._numbers, topic, {**chosen, **options})

    def resume(self, earlier: SimulatedSubscription, exported: Positions) -> None:
        """Go on from an exported position of another client's subscription."""
        reading = Reading(self.world.truth.record, earlier.topic)
        reading.begin(exported)
        resume = {topic: {"epoch": epoch, "seq": seq} for topic, (epoch, seq) in exported.items()}
        self.subscribe(earlier.topic, earlier.chosen, {"resume": resume}, reading)

    def reload(self, subscription: SimulatedSubscription) -> None:
        """Forget what waits, as a subscription with a loader does; it has neither last_n nor resume."""
        loads = not subscription.options.get("last_n") and "resume" not in subscription.options
        if loads and subscription.is_begun and self.driver.reload(subscription.number):
            self._note(f"{subscription.number} reloads")

    def reloaded(self, number: int, positions: Positions) -> None:
        """A subscription goes on after these positions."""
        subscription = self._by_number[number]
        subscription.reading.begin(positions)
        self._check_positions(subscription, positions)

    def unsubscribe(self, subscription: SimulatedSubscription) -> None:
        self.subscriptions.remove(subscription)
        del self._by_number[subscription.number]
        self.driver.unsubscribe(subscription.number)

    def publish(self, topic: str, message: Json, options: Json) -> None:
        dedup = self.world.OPTIONS[topic].dedup_sec is not None
        call = Call(self.name, topic, message["id"], self._opened, dedup, options.get("expect_seq"))
        self.calls.append(call)
        self.driver.publish(len(self.calls) - 1, topic, message, options)

    def cancel_a_publish(self) -> None:
        waiting = [number for number, call in enumerate(self.calls) if not call.has_outcome]
        if waiting:
            number = self.world.random.choice(waiting)
            self.calls[number].cancelled = True
            self.driver.cancel(number)

    def take_all(self) -> None:
        for subscription in list(self.subscriptions):
            while subscription.take():
                pass

    def close(self) -> None:
        self.is_closed = True
        self.driver.close()

    def _note(self, what: str) -> None:
        self.world.note(self.name, what)

    def _is_own(self, place: Place) -> bool:
        return any(place in self.world.truth.ids.get(call.message_id, ()) for call in self.calls)

    # The network

    def connect(self, life: Life | None) -> None:
        """Let the server answer the handshakes that wait; without one they fail."""
        for socket, token in list(self.waiting.items()):
            del self.waiting[socket]
            transport = None if life is None else life.accept(self.name, token)
            if transport is None:
                self.driver.refused(socket, 0 if life is None else 401)
                continue
            assert life is not None
            self._opened += 1
            self.links[socket] = Link(life, transport)
            self._note(f"{socket} is open")
            self.driver.opened(socket)

    def move_up(self, size: int) -> None:
        for link in list(self.links.values()):
            link.move_up(size)

    def move_down(self, size: int) -> None:
        for socket, link in list(self.links.items()):
            if self.driver.reads(socket):
                for text in link.move_down(size):
                    if '"msg":"ping"' not in text:
                        self._note(f"{socket} < {text}")
                    self._note_ack(text)
                    self.driver.received(socket, text)
                self._notice_end(socket, link)

    def _note_ack(self, text: str) -> None:
        """Remember the ``seq`` of each topic in the ack of a subscribe."""
        if ('"epoch"' in text or '"topics"' in text) and '"type":"ack"' in text:
            ack = json.loads(text)
            entered: dict[str, Json] = ack["topics"] if "topics" in ack else {ack["topic"]: ack}
            self._acked = {topic: each["seq"] for topic, each in entered.items()}

    def cut(self, *, server_notices: bool) -> None:
        for socket, link in list(self.links.items()):
            link.cut(server_notices=server_notices)
            self._notice_end(socket, link)

    def _notice_end(self, socket: int, link: Link) -> None:
        if link.closed is not None and self.links.get(socket) is link:
            self._drop(socket)
            self._note(f"{socket} is closed: {link.closed}")
            self.driver.closed(socket, *link.closed)

    def _drop(self, socket: int) -> None:
        """The client has no connection any more; the server may still have one."""
        if (link := self.links.pop(socket, None)) is not None:
            self.world.gone.append(link)

    @property
    def is_quiet(self) -> bool:
        return not self.waiting and all(
            link.is_quiet or not self.driver.reads(socket) for socket, link in self.links.items()
        )

    # What the driver tells

    def want_link(self, socket: int, token: str) -> None:
        assert not self.is_closed, "a closed client connects"
        self.waiting[socket] = token

    def send(self, socket: int, text: str) -> None:
        if (link := self.links.get(socket)) is not None:
            self._note(f"{socket} > {text}")
            link.send(text)

    def send_close(self, socket: int, code: int) -> None:
        """The library closes a socket, or gives up the attempt to open one."""
        self.waiting.pop(socket, None)
        if (link := self.links.get(socket)) is not None:
            link.send_close(code)

    def abort(self, socket: int) -> None:
        """The library ends a connection at once."""
        self.waiting.pop(socket, None)
        self._drop(socket)

    def begun(self, number: int, positions: Positions) -> None:
        if (subscription := self._by_number.get(number)) is not None:
            subscription.is_begun = True
            if "resume" not in subscription.options:
                self._check_start(subscription, positions)
                filtered = bool(subscription.chosen and subscription.options["last_n"])
                start = {topic: (epoch, 0 if filtered else seq) for topic, (epoch, seq) in positions.items()}
                subscription.reading.begin(start, self._acked if subscription.options["last_n"] else {})
            self._check_positions(subscription, positions)

    def _check_start(self, subscription: SimulatedSubscription, positions: Positions) -> None:
        """Check the first positions: those of the ack, or as far before them as the user asked for."""
        last_n = subscription.options["last_n"]
        for topic, seq in self._acked.items():
            if not max(0, seq - last_n) <= positions[topic][1] <= seq:
                raise Broken(f"{self.name}: {topic} begins at {positions[topic]}, but {seq} was acknowledged")

    def failed(self, number: int, error: str) -> None:
        if (subscription := self._by_number.get(number)) is not None:
            if subscription.is_begun or error not in REFUSALS:
                raise Broken(f"{self.name}: the subscription to {subscription.topic} failed: {error}")
            subscription.ended = error
            self.subscriptions.remove(subscription)

    def take_event(self, number: int, place: Place, message: Json, positions: Positions) -> None:
        if (subscription := self._by_number.get(number)) is not None:
            self._note(f"{number} takes {place}")
            subscription.reading.take_event(place, message)
            self._check_positions(subscription, positions)

    def take_gap(self, number: int, gap: Told, positions: Positions) -> None:
        if (subscription := self._by_number.get(number)) is not None:
            self._note(f"{number} takes {gap}")
            subscription.reading.take_gap(gap)
            self._check_positions(subscription, positions)

    def _check_positions(self, subscription: SimulatedSubscription, positions: Positions) -> None:
        subscription.reading.check_positions(positions)
        subscription.positions = dict(positions)

    def published(self, number: int, seq: int, *, duplicate: bool) -> None:
        self.calls[number].succeed(self.world.truth, seq, duplicate=duplicate)

    def refused(self, number: int, error: str) -> None:
        self.calls[number].fail(
            self.world.truth, error, uncertain=error in UNCERTAIN or self.is_closed, links=self._opened
        )

    # Checks

    def behind(self, lives: Mapping[str, str]) -> list[str]:
        """Return what this client still waits for."""
        found = [f"{call} has no outcome" for call in self.calls if not call.has_outcome]
        for each in self.subscriptions:
            covered = {topic: epoch for topic, epoch in lives.items() if each.reading.covers(topic)}
            if not each.is_begun:
                found.append(f"{self.name}: {each.topic} has not begun")
            elif missing := each.reading.missing(covered):
                found.append(f"{self.name}: {each.topic} lacks {missing[0]} and {len(missing) - 1} more")
        return found

    def check(self) -> None:
        for call in self.calls:
            call.check(self.world.truth)
        if not self.world.rate:
            check_order(self.calls, self.world.truth)

    def check_end(self) -> None:
        """Check that a closed client has left nothing behind, and every publish has had its outcome."""
        self.check()
        if left := self.driver.leftovers():
            raise Broken(f"{self.name} has left {left}")
        if self.waiting or self.links:
            raise Broken(f"{self.name} is closed, but has {[*self.waiting, *self.links]}")
