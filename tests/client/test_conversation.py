"""The conversation as a whole: nonsense of servers, and random servers and users."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsub.client.errors import ServerFault
from pubsub.client.events import Event, Gap
from pubsub.client.reconnects import Retry
from tests.client.hosts import TS, Talk, event, is_terminal, seqs, take_all

NONSENSE: list[str | bytes] = [
    "", "[]", "null", "{", '"text"', "1e999", "[" * 100_000, "\ud800", b"\xff\xfe", b"",
    '{"type":"unknown"}', '{"type":"event"}', '{"type":"event","topic":"t","message":{"id":1},"seq":"x"}',
    '{"type":"ack","seq":-1,"topics":3}', '{"type":"info"}', '{"type":"info","msg":"dropped","count":"many"}',
    '{"type":"history","topic":"t","messages":[1]}',
]  # fmt: skip


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_told_once_in_a_connection_which_goes_on(talk: Talk, text: str | bytes) -> None:
    interest = talk.begin("t")
    talk.conversation.received(text)
    talk.conversation.received(text)
    (fault,) = talk.host.reports
    assert isinstance(fault, ServerFault)
    talk.send_event("t", 1)
    assert seqs(interest) == [1]
    talk.reopen()
    talk.conversation.received(text)
    assert len(talk.host.reports) == 2


@pytest.mark.parametrize(
    "message",
    [
        {"type": "info", "msg": "something_new", "topic": "t"},
        {"type": "info", "msg": "dropped"},
        {"type": "info", "msg": "dropped", "topic": "t", "count": -5, "from_seq": -9, "to_seq": -3},
        {"type": "info", "msg": "topic_deleted"},
        {"type": "info", "msg": "topic_created", "topic": "t"},
        {"type": "info", "msg": "joined", "topic": "t"},
        {"type": "info", "msg": "ping", "more": 1},
        {"type": "event", "topic": "t", "message": {"id": "", "payload": 1}, "seq": -1},
        {"type": "ack", "request_id": "1", "topic": "t"},
        {"type": "error", "error": {"code": "", "message": ""}},
    ],
    ids=lambda message: json.dumps(message)[:60],
)
def test_messages_that_say_little_do_no_harm(talk: Talk, message: dict[str, Any]) -> None:
    interest = talk.begin("t")
    talk.send(message)
    talk.send_event("t", 1)
    assert seqs(interest) == [1]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["t", "u.a", "1", "2", "e", "f", "dropped", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "payload", "a"]), inner),
    max_leaves=5,
)
wild_messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["ack", "event", "error", "pong", "info", "history", "presence"])},
    optional={
        "request_id": st.sampled_from(["1", "2", "3", "4", "5"]),
        "topic": st.sampled_from(["t", "u.a", "u.b", "u.*"]),
        "msg": st.sampled_from(["dropped", "topic_created", "topic_deleted", "unsubscribed", "joined", "draining"]),
        "seq": st.integers(-2, 12),
        "from_seq": st.integers(-2, 12),
        "to_seq": st.integers(-2, 12),
        "count": st.integers(-2, 12),
        "epoch": st.sampled_from(["e", "f", ""]),
        "recovered": st.booleans(),
        "reason": st.sampled_from(["forbidden", "limit", ""]),
        "reconnect_after_ms": st.integers(-1, 100_000),
        "topics": st.dictionaries(
            st.sampled_from(["u.a", "u.b"]),
            st.fixed_dictionaries({"epoch": st.sampled_from(["e", "f"]), "seq": st.integers(0, 12)}),
        ),
        "message": st.just({"id": "m", "payload": 1}) | anything,
        "messages": st.lists(st.builds(event, st.sampled_from(["t", "u.a"]), st.integers(-2, 12)), max_size=3),
        "complete": st.booleans(),
        "clients": st.just([]),
        "error": st.fixed_dictionaries(
            {"code": st.sampled_from(["TOPIC_NOT_FOUND", "RATE_LIMITED", "CONFLICT", "INTERNAL", "FORBIDDEN", "X"]),
             "message": st.just("m")},
            optional={"retry_after_ms": st.integers(-1, 5000), "seq": st.integers(-1, 5)},
        ),
        "ts": st.just(TS),
    },
)  # fmt: skip
steps = st.lists(
    wild_messages | st.sampled_from(["take", "reopen", "time", "publish", "subscribe", "unsubscribe"]), max_size=40
)


@given(steps)
@settings(max_examples=150)
def test_no_server_makes_the_rules_raise_or_an_event_come_twice(steps: list[Any]) -> None:
    """Whatever comes in whatever order: nothing raises, and the numbers of each life of a topic grow."""
    talk = Talk()
    talk.open()
    interests = [talk.subscribe("t", limit=3, notices=True), talk.subscribe("u.*", limit=2, mends=False)]
    reached: dict[tuple[int, str], tuple[str, int]] = {}

    def take() -> None:
        for number, interest in enumerate(interests):
            for item in take_all(interest):
                if isinstance(item, Gap) and item.reason == "created_again":
                    reached[number, item.topic] = (item.epoch, 0)
                elif isinstance(item, Event):
                    epoch, seq = reached.get((number, item.topic), (item.epoch, -(10**9)))
                    assert epoch in (item.epoch, "")
                    assert item.seq > seq
                    reached[number, item.topic] = (item.epoch, item.seq)

    for step in steps:
        match step:
            case "take":
                take()
            case "reopen":
                talk.reopen()
            case "time":
                talk.host.pass_time(7)
            case "publish":
                talk.publish()
            case "subscribe" if not talk.conversation.overlaps("v"):
                interests.append(talk.subscribe("v"))
            case "unsubscribe" if len(interests) > 2:
                talk.conversation.unsubscribe(interests.pop())
            case dict():
                talk.send(step)
    take()
    talk.conversation.leave()
    assert talk.host.timers == []


def test_a_client_that_was_closed_for_its_rate_slows_down_and_connects_again(talk: Talk) -> None:
    outcomes = [talk.publish(message_id=str(number)) for number in range(3)]
    for _ in range(3):
        talk.refuse("RATE_LIMITED", retry_after_ms=500)
    decision = talk.conversation.closed(1008, "too many requests")
    assert isinstance(decision, Retry)
    assert str(decision.error) == "this client sent more requests than its rate allows"
    talk.open()
    assert not talk.host.sent  # what is known of the rate holds in the next connection
    talk.host.pass_time(0.5)
    assert len(talk.host.sent) == 1
    assert outcomes == [[]] * 3
    assert is_terminal(talk.conversation.closed(1008, "message not complete in time"))
