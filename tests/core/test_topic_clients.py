"""The clients of one topic: what each member is told, in which form, and when not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.event import WebSocketText
from pubsub.core.lane import Lane, Subscriber
from pubsub.core.spans import Span
from pubsub.core.subscription import Subscription
from pubsub.core.topic import Topic
from pubsub.core.topic_clients import MAX_ANNOUNCED, TopicClients
from pubsub.core.trail import Since
from tests.core.test_topic import lane_for, make_topic
from tests.doubles import Sink
from tests.harness import messages_in

TS = "2025-08-25T10:00:00Z"


class Counting(WebSocketText):
    """An encoding that counts the messages that it encodes."""

    def __init__(self) -> None:
        self.count = 0

    def message(self, text: bytes) -> bytes:
        self.count += 1
        return super().message(text)


class Arriving:
    """A catch-up that a test begins (Arrival)."""

    after = known = 0
    begun = False
    certain = True
    since = Since(0)

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.spans: list[Span] = []

    def forget(self, name: str) -> None:
        pass

    def limit(self, wanted: Sequence[Subscription]) -> None:
        pass


class Room:
    """A topic with its clients; ``told`` has the infos of each member by client."""

    def __init__(self) -> None:
        self.topic: Topic = make_topic(presence=True)
        self.clients = TopicClients(self.topic)
        self.told: dict[str, list[Any]] = {}

    def enter(self, name: str, encoding: WebSocketText | None = None) -> Subscriber:
        told = self.told.setdefault(name, [])
        options = OutboxOptions(10, Clock(lambda: 0), encoding=encoding or self._encoding)
        member = Subscriber(Sink(lambda encoded: told.extend(messages_in(encoded))), options)
        member.lanes["t"] = lane_for(self.topic, options.encoding)
        member.lanes["t"].join(member, Since(0))
        self.clients.add(member, name)
        return member

    _encoding = WebSocketText()

    def tell(self) -> int:
        """Tell all members; return the number of steps."""
        return sum(1 for _ in self.clients.tell(TS)) if self.clients.has_changes else 0

    def take(self, name: str) -> list[str]:
        told, self.told[name][:] = list(self.told[name]), []
        return [f"{each['msg']} {each['client_id']}" for each in told]


@pytest.fixture
def room() -> Room:
    return Room()


def test_infos_are_encoded_once_for_each_encoding(room: Room) -> None:
    text, stream = Counting(), Counting()
    for number in range(20):
        room.enter(f"c{number}", text if number % 2 else stream)
    room.tell()
    text.count = stream.count = 0
    room.enter("new", text)
    assert room.tell() == 21
    assert (text.count, stream.count) == (1, 1)
    assert room.take("c0")[-1] == room.take("c19")[-1] == "joined new"


def test_a_member_that_arrives_is_told_once_it_knows_that_it_is_subscribed(room: Room) -> None:
    member = room.enter("alice")
    lane = member.lanes["t"]
    arriving = Arriving(lane)
    lane.arrive(member, arriving)
    room.enter("bob")
    room.tell()
    assert room.take("alice") == []
    arriving.begun = True
    room.enter("carol")
    room.tell()
    assert room.take("alice") == ["joined carol"]


def test_a_client_that_returns_after_it_has_left_is_told_twice_and_in_order(room: Room) -> None:
    room.enter("alice")
    bob = room.enter("bob")
    room.tell()
    room.take("alice")
    room.clients.remove(room.clients.release(bob))
    room.enter("bob")
    room.enter("carol")
    room.tell()
    assert room.take("alice") == ["left bob", "joined bob", "joined carol"]
    assert room.take("bob") == ["joined carol"]


def test_a_quiet_topic_forgets_who_came_and_went_unannounced(room: Room) -> None:
    members = [room.enter(f"c{number}") for number in range(MAX_ANNOUNCED)]
    room.tell()
    for number in range(1000):
        room.clients.remove(room.clients.release(room.enter(f"d{number}")))
        assert not room.clients.has_changes or room.tell() == 0
    room.take("c0")
    room.enter("last")
    for member in members[1:3]:
        room.clients.remove(room.clients.release(member))
    room.tell()
    assert room.take("c0") == ["joined last", "left c1", "left c2"]


def test_nobody_is_told_of_changes_of_a_topic_that_has_ended(room: Room) -> None:
    room.enter("alice")
    room.enter("bob")
    telling = room.clients.tell(TS)
    next(telling)
    room.clients.ended = True
    assert list(telling) == [None]
    assert room.take("alice") == []
    assert not room.clients.has_changes


def test_changes_without_a_member_are_dropped(room: Room) -> None:
    member = room.enter("alice")
    room.clients.release(member)
    assert room.clients.has_changes
    assert room.tell() == 0
    assert not room.clients.has_changes
