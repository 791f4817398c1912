"""Publishes: their outcomes, repeats over reconnects, conflicts, and messages that are too big."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from pubsub.client.errors import AnswerTimeout, Conflict, Disconnected, ServerFault, TooBig, TopicNotFound, Unreachable
from pubsub.client.outcomes import Published
from pubsub.client.publishes import REMEMBERED, OwnIds
from pubsub.client.reconnects import Retry
from pubsub.client.requests import Message, Publish
from tests.client.hosts import ANSWER_TIMEOUT, Talk, event


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


def history(talk: Talk, *found: dict[str, Any]) -> dict[str, Any]:
    return talk.answer("history", topic="t", epoch="e", messages=list(found), complete=True)


def test_a_publish_is_acknowledged(talk: Talk) -> None:
    outcome = talk.publish("t", {"a": 1}, message_id="i")
    assert talk.answer(topic="t", seq=7)["message"] == {"id": "i", "payload": {"a": 1}}
    assert outcome == [Published("t", "i", 7)]


def test_a_duplicate_is_told(talk: Talk) -> None:
    outcome = talk.publish()
    talk.answer(topic="t", seq=7, duplicate=True)
    assert outcome == [Published("t", "i", 7, duplicate=True)]


def test_a_refusal_is_told(talk: Talk) -> None:
    outcome = talk.publish()
    talk.refuse("TOPIC_NOT_FOUND")
    assert isinstance(outcome[0], TopicNotFound)


def test_an_answer_of_another_kind_is_told(talk: Talk) -> None:
    outcome = talk.publish()
    talk.answer("pong")
    assert isinstance(outcome[0], ServerFault)


def test_an_unanswered_publish_is_sent_again_with_its_id_and_in_order(talk: Talk) -> None:
    outcomes = [talk.publish(message_id=name) for name in "abc"]
    talk.answer(topic="t", seq=1)
    talk.reopen()
    assert [sent["message"]["id"] for sent in talk.host.sent][2:] == ["b", "c"]
    del talk.host.sent[:2]
    talk.answer(topic="t", seq=2)
    talk.answer(topic="t", seq=3)
    assert [outcome[0] for outcome in outcomes] == [Published("t", name, seq) for seq, name in enumerate("abc", 1)]


def test_no_answer_in_time_says_that_the_message_may_be_there(talk: Talk) -> None:
    outcome = talk.publish()
    talk.host.pass_time(ANSWER_TIMEOUT)
    assert isinstance(outcome[0], AnswerTimeout)
    assert str(outcome[0]) == "no answer came within 10 s (the message may or may not be in the topic)"


def test_a_conflict_is_told(talk: Talk) -> None:
    outcome = talk.publish(expect_seq=3)
    talk.refuse("CONFLICT", seq=5)
    (error,) = outcome
    assert isinstance(error, Conflict)
    assert error.seq == 5


def test_a_conflict_with_oneself_after_a_reconnect_is_none(talk: Talk) -> None:
    outcome = talk.publish(message_id="own", expect_seq=3)
    talk.host.take_sent()
    talk.reopen()
    talk.refuse("CONFLICT", seq=4)
    request = history(talk, event("t", 4, message_id="own"))
    assert (request["after"], request["limit"]) == (3, 1)
    assert outcome == [Published("t", "own", 4)]


@pytest.mark.parametrize(
    "found", [[], [event("t", 4, message_id="other")], [event("t", 9, message_id="own")]],
    ids=["nothing is kept", "of another client", "another place"],
)  # fmt: skip
def test_a_conflict_with_another_client_after_a_reconnect_is_one(talk: Talk, found: list[dict[str, Any]]) -> None:
    outcome = talk.publish(message_id="own", expect_seq=3)
    talk.host.take_sent()
    talk.reopen()
    talk.refuse("CONFLICT", seq=9)
    history(talk, *found)
    assert isinstance(outcome[0], Conflict)


def test_a_conflict_after_a_limited_rate_is_one(talk: Talk) -> None:
    """The server did not take the first of the two."""
    outcome = talk.publish(expect_seq=3)
    talk.refuse("RATE_LIMITED", retry_after_ms=10)
    talk.host.pass_time(0.01)
    talk.refuse("CONFLICT", seq=5)
    assert isinstance(outcome[0], Conflict)


def test_the_largest_message_is_the_one_that_was_too_big(talk: Talk) -> None:
    small, big = talk.publish(payload="s", message_id="small"), talk.publish(payload="b" * 100, message_id="big")
    decision = talk.conversation.closed(1009, "message too big")
    assert isinstance(decision, Retry)
    assert isinstance(decision.error, Unreachable)
    assert isinstance(big[0], TooBig)
    assert "the message was too big for the server; it had " in str(big[0])
    talk.open()
    assert [sent["message"]["id"] for sent in talk.host.sent[2:]] == ["small"]
    assert small == []


def test_a_message_that_was_not_sent_was_not_too_big(talk: Talk) -> None:
    outcome = talk.publish()
    talk.answer(topic="t", seq=1)
    talk.send_info("draining", reconnect_after_ms=0)
    waiting = talk.publish()
    decision = talk.conversation.closed(1009, "message too big")
    assert isinstance(decision, Disconnected)
    assert len(outcome) == 1
    assert [str(each) for each in waiting] == [str(decision)]


def test_a_publish_that_nobody_waits_for_is_not_sent_again(talk: Talk) -> None:
    request = Publish(topic="t", message=Message("i", Raw(b"1")))
    question = talk.conversation.publish(request, lambda outcome: None)
    talk.conversation.forget(question)
    talk.host.take_sent()
    talk.reopen()
    assert not talk.host.sent
    assert "i" in talk.own_ids


def test_the_last_own_ids_are_remembered() -> None:
    ids = OwnIds()
    for number in range(REMEMBERED + 2):
        ids.add(str(number))
        if number:
            ids.settle(str(number))
    assert "0" in ids  # without an answer yet
    assert "1" not in ids
    assert "2" in ids
