"""A server that says anything at any time: the rules of the client raise nothing, keep their bounds, and leave nothing.

What a right server says is in test_simulation. Here most answers have the right shape and wrong values, because those
come further than noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Raw

from pubsub.client.conversation import Conversation
from pubsub.client.errors import PubsubError, Unreachable
from pubsub.client.inbox import InboxRules
from pubsub.client.interest import Interest, Wish
from pubsub.client.outcomes import Published
from pubsub.client.pacing import Pacing
from pubsub.client.publishes import OwnIds
from pubsub.protocol.patterns import covers, has_wildcard
from pubsub.protocol.requests import Message, Publish

LIMIT = 4
ID = "550e8400-e29b-41d4-a716-446655440000"
TOPICS = ("a", "a.b", "c")

topics = st.sampled_from((*TOPICS, "a.*", ">", "", "x" * 300))
numbers = st.sampled_from((0, 1, 2, 3, 5, 9, -1, 10**6, 2**62)) | st.integers(0, 30)
epochs = st.sampled_from(("e", "f", ""))
names = st.text(max_size=5)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
events = st.fixed_dictionaries(
    {"type": st.just("event"), "topic": topics, "seq": numbers, "ts": st.just("t"),
     "message": st.fixed_dictionaries({"id": st.just(ID), "payload": anything})}
)  # fmt: skip
positions = st.fixed_dictionaries({"epoch": epochs, "seq": numbers}, optional={"recovered": st.booleans()})
answers = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("ack"), "topic": topics, "epoch": epochs, "seq": numbers},
        optional={"topics": st.dictionaries(topics, positions, max_size=3), "recovered": st.booleans(),
                  "duplicate": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"type": st.just("history"), "topic": topics, "epoch": epochs, "messages": st.lists(events, max_size=6)},
        optional={"complete": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"type": st.just("error"), "error": st.fixed_dictionaries(
            {"code": st.sampled_from(("BAD_REQUEST", "TOPIC_NOT_FOUND", "RATE_LIMITED", "CONFLICT", "INTERNAL",
                                      "LIMIT_EXCEEDED", "FORBIDDEN", "UNAUTHORIZED", "NEWS")),
             "message": st.text(max_size=5)},
            optional={"retry_after_ms": numbers, "seq": numbers})},
    ),
    st.fixed_dictionaries({"type": st.just("pong")}),
    st.fixed_dictionaries({"type": st.just("presence"), "topic": topics, "count": numbers, "clients": st.just([])}),
)  # fmt: skip
infos = st.fixed_dictionaries(
    {"type": st.just("info"),
     "msg": st.sampled_from(("ping", "dropped", "topic_created", "topic_deleted", "unsubscribed", "joined", "left",
                             "draining", "news"))},
    optional={"topic": topics, "epoch": epochs, "from_seq": numbers, "to_seq": numbers, "count": numbers,
              "reason": st.sampled_from(("forbidden", "limit", "")), "reconnect_after_ms": numbers,
              "client_id": topics},
)  # fmt: skip


def event_of(topic: str, seq: int) -> dict[str, Any]:
    return {"type": "event", "topic": topic, "seq": seq, "ts": "t", "message": {"id": ID, "payload": seq}}


class FakeTimer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeHost:
    """A clock and timers that a test moves, and everything that was sent (Host)."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.now = 0.0
        self.timers: list[FakeTimer] = []
        self.asked: list[dict[str, Any]] = []  # requests with an id
        self.dropped = False

    def send(self, text: bytes) -> None:
        request = json.loads(text)
        if "request_id" in request:
            self.asked.append(request)

    def drop(self, reason: str) -> None:
        self.dropped = True

    def read(self) -> None:
        pass

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        assert delay >= 0
        timer = FakeTimer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def report(self, error: PubsubError) -> None:
        pass

    @property
    def waiting(self) -> list[FakeTimer]:
        return [each for each in self.timers if each.callback is not None]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for timer in [each for each in self.waiting if each.at <= self.now]:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self.timers = self.waiting


class Machine(RuleBasedStateMachine):
    """One client and a server that is not to be believed."""

    def __init__(self) -> None:
        super().__init__()
        self.host = FakeHost()
        self.conversation = Conversation(self.host, answer_timeout=10, heartbeat=30, own_ids=OwnIds(), pacing=Pacing())
        self.is_open = False
        self.interests: list[Interest] = []
        self.outcomes: list[list[object]] = []

    @initialize()
    def begin(self) -> None:
        """Most of what can go wrong needs a subscription that has begun."""
        self.connect()
        for topic in ("a", "a.*"):
            self.subscribe(topic, 0, resumes=False)
        ack = {"type": "ack", "topic": "a", "epoch": "e", "seq": 3, "request_id": "1"}
        self._tell(ack)
        self._tell(ack | {"topics": {"a.b": {"epoch": "e", "seq": 0}}, "request_id": "2"})
        self.host.asked.clear()

    @precondition(lambda self: not self.is_open)
    @rule()
    def connect(self) -> None:
        self.host.asked.clear()
        self.is_open = True
        self.conversation.opened("me")

    @precondition(lambda self: self.is_open)
    @rule(code=st.sampled_from((1001, 1011, 1013, 1009, 1000, 3000, None)))
    def close(self, code: int | None) -> None:
        self.is_open = False
        if code is None:
            self.conversation.lost(Unreachable("lost"))
        else:
            self.conversation.closed(code, "")

    @rule(topic=st.sampled_from((*TOPICS, "a.*", ">")), last_n=st.sampled_from((0, 3)), resumes=st.booleans())
    def subscribe(self, topic: str, last_n: int, resumes: bool) -> None:
        if not self.conversation.overlaps(topic):
            rules = InboxRules(decode=msgspec.json.decode, limit=LIMIT)
            wish = Wish(topic=topic, last_n=last_n, resume={} if resumes else None)
            self.interests.append(self.conversation.subscribe(wish, rules, lambda error: None))

    @precondition(lambda self: self.interests)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        interest = data.draw(st.sampled_from(self.interests))
        self.interests.remove(interest)
        self.conversation.unsubscribe(interest)

    @rule(expect_seq=st.none() | st.just(3))
    def publish(self, expect_seq: int | None) -> None:
        told: list[object] = []
        self.outcomes.append(told)
        request = Publish(topic="a", message=Message(ID, Raw(b"1")))
        if expect_seq is not None:
            request = Publish(topic="a", message=Message(ID, Raw(b"1")), expect_seq=expect_seq)

        def done(outcome: Published | PubsubError) -> None:
            told.append(outcome)

        self.conversation.publish(request, done)

    @rule(message=answers, data=st.data())
    def answer(self, message: dict[str, Any], data: st.DataObject) -> None:
        """Answer a request, or one that nobody has made."""
        ids = st.sampled_from((*(each["request_id"] for each in self.host.asked[-3:]), "nobody's"))
        self._tell(message | {"request_id": data.draw(ids)})

    @precondition(lambda self: self.is_open and self.host.asked)
    @rule(data=st.data(), epoch=epochs, seq=st.integers(0, 20), complete=st.booleans())
    def answer_well(self, data: st.DataObject, epoch: str, seq: int, complete: bool) -> None:
        """Answer the next request as a right server could, but for the numbers."""
        request = self.host.asked.pop(0)
        answer: dict[str, Any] = {"type": "ack", "topic": request.get("topic", ""), "epoch": epoch, "seq": seq}
        match request["type"]:
            case "subscribe" if has_wildcard(request["topic"]):
                covered = [each for each in TOPICS if covers(request["topic"], each)]
                answer["topics"] = {topic: {"epoch": epoch, "seq": seq} for topic in covered}
            case "subscribe" if "resume" in request:
                answer["recovered"] = complete
            case "history":
                seqs = data.draw(st.lists(st.integers(0, 30), max_size=request["limit"]))
                messages = [event_of(request["topic"], each) for each in seqs]
                answer |= {"type": "history", "messages": messages, "complete": complete}
        self._tell(answer | {"request_id": request["request_id"]})

    @rule(topic=st.sampled_from(TOPICS), first=st.integers(1, 25), count=st.integers(1, 8))
    def flood(self, topic: str, first: int, count: int) -> None:
        for seq in range(first, first + count):
            self._tell(event_of(topic, seq))

    @rule(topic=st.sampled_from(TOPICS), first=st.integers(1, 25), count=st.integers(1, 8))
    def drop(self, topic: str, first: int, count: int) -> None:
        gap = {"from_seq": first, "to_seq": first + count - 1, "count": count}
        self._tell({"type": "info", "msg": "dropped", "topic": topic} | gap)

    @rule(message=events | infos)
    def tell(self, message: dict[str, Any]) -> None:
        self._tell(message)

    @rule(message=answers | events | infos, key=st.text(max_size=8), value=anything)
    def tell_with_something_wrong(self, message: dict[str, Any], key: str, value: Any) -> None:
        self._tell(message | {(key if key else next(reversed(message))): value})

    @rule(noise=st.binary(max_size=20) | anything.map(lambda value: json.dumps(value).encode()))
    def make_noise(self, noise: bytes) -> None:
        if self.is_open and not self.conversation.paused:
            self.conversation.received(noise)

    def _tell(self, message: dict[str, Any]) -> None:
        if self.is_open and not self.conversation.paused:
            self.conversation.received(json.dumps({"ts": "t"} | message))

    @precondition(lambda self: self.interests)
    @rule(data=st.data(), count=st.integers(1, 10))
    def take(self, data: st.DataObject, count: int) -> None:
        interest = data.draw(st.sampled_from(self.interests))
        for _ in range(count):
            interest.inbox.take()
            assert interest.position is not None

    @rule(seconds=st.sampled_from((0.1, 5, 40)))
    def wait(self, seconds: float) -> None:
        self.host.pass_time(seconds)
        if self.host.dropped:
            self.host.dropped = False
            if self.is_open:
                self.close(None)

    @invariant()
    def queues_are_bounded(self) -> None:
        for interest in self.interests:
            inbox = interest.inbox
            assert len(inbox._queue) + inbox._held <= 3 * LIMIT + len(TOPICS)
            assert len(interest.feeds) <= len(TOPICS) + 3

    @invariant()
    def outcomes_are_told_once(self) -> None:
        assert all(len(told) <= 1 for told in self.outcomes)

    def teardown(self) -> None:
        self.conversation.leave()
        assert all(len(told) == 1 for told in self.outcomes)
        assert not self.host.waiting


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=50)
TestHostileServer = Machine.TestCase
