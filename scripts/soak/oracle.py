"""The invariants of every answer and every event, which hold for any misbehaving client. No I/O, no clock, no aiohttp.

A Ledger belongs to one connection and checks each message that it gets. All ledgers share the Record, which stores the
message at each ``seq`` of each epoch of a topic, as publishers and subscribers have seen it.
"""

from __future__ import annotations

import uuid
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

MISSING = 0  # the value in a Record for a message that no client has seen yet


class Broken(Exception):
    """An invariant does not hold. The text names the invariant and the message."""


class Record:
    """All messages by topic, epoch and ``seq``, as 64 bits of the id: with 8 bytes a message, hours fit in memory."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], array[int]] = {}

    def note(self, topic: str, epoch: str, seq: int, message_id: str) -> None:
        """Store that a client has seen this message; raise Broken if another one was seen at the same ``seq``."""
        ids = self._ids.setdefault((topic, epoch), array("Q"))
        if len(ids) < seq:
            ids.extend([MISSING] * (seq - len(ids)))
        mark = uuid.UUID(message_id).int >> 64 or 1
        if ids[seq - 1] not in (MISSING, mark):
            raise Broken(f"{topic} {epoch}: two messages at seq {seq}, one of them {message_id}")
        ids[seq - 1] = mark

    def last(self, topic: str, epoch: str) -> int:
        """Return the highest ``seq`` that any client has seen."""
        return len(self._ids.get((topic, epoch), ()))


@dataclass
class Subscription:
    """The position of a subscriber in one epoch of a topic; ``next_seq`` is None until the first event sets it.

    ``recovered``: the server said that no event is missing since the resumed position.
    """

    epoch: str
    next_seq: int | None
    recovered: bool = False
    events: int = 0
    gaps: list[range] = field(default_factory=list)


class Ledger:
    """The requests and answers of one connection. ``tolerant``: gaps are allowed if the server reports them.

    ``ring``: number of messages that each topic keeps, if a test knows it; then a replay must begin exactly there.
    """

    def __init__(self, record: Record, *, tolerant: bool = False, ring: int | None = None) -> None:
        self._record = record
        self._tolerant = tolerant
        self._ring = ring
        self._asked: deque[Json] = deque()
        self.subscriptions: dict[str, Subscription] = {}
        self._acked: dict[str, int] = {}
        self._renewals: dict[str, int] = {}
        self.acks = 0
        self.errors: list[str] = []

    @property
    def unanswered(self) -> int:
        return len(self._asked)

    def ask(self, request: Json) -> None:
        """Store a request that is sent now."""
        self._asked.append(request)

    def take(self, message: Json) -> None:
        """Check a message that came; raise Broken if it must not come, or not now."""
        match message["type"]:
            case "event":
                self._take_event(message)
            case "info":
                self._take_info(message)
            case _:
                self._take_answer(message)

    def is_complete(self, topic: str) -> bool:
        """Return True if every event of the topic that any client has seen has come here too."""
        subscription = self.subscriptions[topic]
        last = self._record.last(topic, subscription.epoch)
        return subscription.next_seq is None or subscription.next_seq > last

    def _take_event(self, event: Json) -> None:
        subscription = self._subscription(event)
        seq = event["seq"]
        if subscription.next_seq not in (None, seq):
            raise Broken(f"expected seq {subscription.next_seq} of {event['topic']}, got {seq}")
        self._record.note(event["topic"], subscription.epoch, seq, event["message"]["id"])
        subscription.next_seq = seq + 1
        subscription.events += 1

    def _take_info(self, info: Json) -> None:
        match info["msg"]:
            case "dropped":
                self._take_gap(info)
            case "topic_deleted" | "unsubscribed":
                self._subscription(info)
                del self.subscriptions[info["topic"]]
            case "joined" | "left":
                self._subscription(info)

    def _take_gap(self, gap: Json) -> None:
        subscription = self._subscription(gap)
        first, last = gap["from_seq"], gap["to_seq"]
        if subscription.next_seq not in (None, first) or gap["count"] != last - first + 1:
            raise Broken(f"expected a gap from {subscription.next_seq} of {gap['topic']}, got {gap}")
        if not self._tolerant:
            raise Broken(f"a subscriber that keeps up lost messages: {gap}")
        subscription.next_seq = last + 1
        subscription.gaps.append(range(first, last + 1))

    def _subscription(self, message: Json) -> Subscription:
        subscription = self.subscriptions.get(message["topic"])
        if subscription is None:
            raise Broken(f"without a subscription: {message}")
        return subscription

    def _take_answer(self, answer: Json) -> None:
        if not self._asked:
            raise Broken(f"no request asked for {answer}")
        request = self._asked.popleft()
        if answer.get("request_id") != request.get("request_id"):
            raise Broken(f"expected the answer to {request.get('request_id')}, got {answer}")
        if answer["type"] == "error":
            self.errors.append(answer["error"]["code"])
            return
        self.acks += 1
        match request["type"]:
            case "subscribe":
                self._begin(request, answer)
            case "unsubscribe":
                self.subscriptions.pop(request["topic"], None)
            case "publish":
                self._take_publish(request, answer)

    def _begin(self, request: Json, ack: Json) -> None:
        topic, epoch, newest = request["topic"], ack["epoch"], ack["seq"]
        resumed = request.get("resume", {}).get(topic)
        if resumed is not None:
            known = resumed["epoch"] == epoch
            if ack.get("recovered") is True and not known:
                raise Broken(f"recovered another epoch of {topic}: {ack}")
            next_seq = resumed["seq"] + 1 if known else None
        else:
            next_seq = self._first_replayed(request.get("last_n", 0), newest)
        self.subscriptions[topic] = Subscription(epoch, next_seq, ack.get("recovered") is True)

    def _first_replayed(self, last_n: int, newest: int) -> int | None:
        if not last_n:
            return int(newest) + 1
        return None if self._ring is None else newest - min(last_n, self._ring, newest) + 1

    def _take_publish(self, request: Json, ack: Json) -> None:
        topic, seq = request["topic"], ack["seq"]
        if not ack.get("duplicate"):
            self._check_order(topic, seq)
        # A lagging client may get acknowledgements of its publishes before it learns that the topic's epoch has ended.
        if topic in self.subscriptions and not self._tolerant:
            self._record.note(topic, self.subscriptions[topic].epoch, seq, request["message"]["id"])

    def _check_order(self, topic: str, seq: int) -> None:
        if seq <= self._acked.get(topic, 0):
            if not self._renewals.get(topic):
                raise Broken(f"acknowledged {topic} {seq} after {self._acked[topic]}")
            self._renewals[topic] -= 1
        self._acked[topic] = seq

    def renew(self, topic: str) -> None:
        """Note that the topic has begun another epoch, in which ``seq`` counts from 1 again."""
        self._renewals[topic] = self._renewals.get(topic, 0) + 1
