"""Requests and answers: order, time limits, rates, and connections that end between them."""

from __future__ import annotations

import pytest

from pubsub.client.errors import AnswerTimeout, Disconnected, Refused
from pubsub.client.exchange import Answer
from pubsub.client.replies import Pong, PresenceReply
from pubsub.client.requests import Ping, Presence
from tests.client.hosts import ANSWER_TIMEOUT, Talk


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


def ask(talk: Talk, topic: str = "t") -> list[Answer]:
    answers: list[Answer] = []
    talk.conversation.ask(Presence(topic=topic), answers.append)
    return answers


def asked(talk: Talk) -> list[str]:
    """The topics of the questions that were sent since the last call."""
    return [sent["topic"] for sent in talk.host.take_sent()]


def test_answers_find_their_questions_in_any_order(talk: Talk) -> None:
    first, second = ask(talk), ask(talk)
    for request in reversed(talk.host.take_sent()):
        talk.send({"type": "presence", "request_id": request["request_id"], "topic": "t", "count": 0, "clients": []})
    assert [type(answer) for answer in first + second] == [PresenceReply, PresenceReply]


def test_an_answer_that_nobody_waits_for_is_ignored(talk: Talk) -> None:
    answers = ask(talk)
    for request_id in ("99", "", "x"):
        talk.send({"type": "pong", "request_id": request_id})
    talk.send({"type": "error", "error": {"code": "INTERNAL", "message": "m"}})
    assert answers == []


def test_a_refusal_is_an_error_also_with_a_code_that_is_not_known(talk: Talk) -> None:
    answers = ask(talk)
    talk.refuse("NEW_CODE")
    (error,) = answers
    assert type(error) is Refused
    assert (error.code, str(error)) == ("NEW_CODE", "told NEW_CODE")


def test_questions_are_asked_again_in_the_next_connection_in_their_order(talk: Talk) -> None:
    answers = ask(talk, "a")
    ask(talk, "b")
    assert asked(talk) == ["a", "b"]
    talk.conversation.closed(1011, "")
    ask(talk, "c")
    assert asked(talk) == []
    talk.open()
    assert asked(talk) == ["a", "b", "c"]
    assert answers == []


def test_requests_of_the_client_itself_come_first(talk: Talk) -> None:
    talk.begin("t")
    talk.conversation.closed(1011, "")
    ask(talk, "a")
    talk.open()
    assert [sent["type"] for sent in talk.host.sent] == ["subscribe", "presence"]


def test_after_draining_nothing_is_sent(talk: Talk) -> None:
    ask(talk, "a")
    assert asked(talk) == ["a"]
    talk.send_info("draining", reconnect_after_ms=100)
    ask(talk, "b")
    assert asked(talk) == []
    talk.conversation.closed(1001, "")
    talk.open()
    assert asked(talk) == ["a", "b"]


def test_a_question_without_an_answer_in_time_fails(talk: Talk) -> None:
    answers = ask(talk)
    talk.host.pass_time(ANSWER_TIMEOUT - 1)
    later = ask(talk)
    talk.host.pass_time(1)
    (error,) = answers
    assert isinstance(error, AnswerTimeout)
    assert str(error) == "no answer came within 10 s"
    assert later == []
    talk.host.pass_time(ANSWER_TIMEOUT - 1)
    assert len(later) == 1


def test_a_question_without_a_connection_in_time_fails() -> None:
    talk = Talk()
    answers = ask(talk)
    talk.host.pass_time(ANSWER_TIMEOUT)
    assert str(answers[0]) == "not sent: there was no connection for 10 s"
    talk.open()
    assert asked(talk) == []


def test_a_question_that_is_forgotten_is_not_asked_again(talk: Talk) -> None:
    answers: list[Answer] = []
    question = talk.conversation.ask(Ping(), answers.append)
    talk.conversation.forget(question)
    talk.conversation.forget(question)
    talk.answer("pong")
    talk.reopen()
    assert not talk.host.sent
    assert answers == []


def test_a_question_that_was_not_sent_is_forgotten_too() -> None:
    talk = Talk()
    talk.conversation.forget(talk.conversation.ask(Ping(), lambda answer: None))
    talk.open()
    assert not talk.host.sent


def test_a_client_that_has_ended_answers_at_once(talk: Talk) -> None:
    answers = ask(talk)
    error = Disconnected(4403, "bye")
    talk.conversation.end(error)
    (told,) = answers
    assert isinstance(told, Disconnected)
    assert told.code == 4403
    assert [str(each) for each in ask(talk)] == ["bye"]
    assert talk.host.timers == []


def test_the_first_requests_of_a_connection_are_few(talk: Talk) -> None:
    """A server that limits the rate closes a client that ignores many refusals."""
    for _ in range(100):
        ask(talk)
    assert len(talk.host.sent) == 3
    for _ in range(3):
        talk.answer("presence", topic="t", count=0, clients=[])
    assert len(talk.host.sent) == 6


def test_a_rate_is_waited_out_and_the_order_is_kept(talk: Talk) -> None:
    answers = [ask(talk, name) for name in "abcd"]  # there is room for three
    for _ in range(3):
        talk.refuse("RATE_LIMITED", retry_after_ms=200)
    assert not talk.host.sent
    talk.host.pass_time(0.2)
    assert [sent["topic"] for sent in talk.host.sent] == ["a"]
    for name in "abcd":
        assert talk.answer("presence", topic=name, count=0, clients=[])["topic"] == name
        talk.host.pass_time(0.2)
    assert [len(each) for each in answers] == [1, 1, 1, 1]


def test_a_request_that_waits_for_the_rate_has_time(talk: Talk) -> None:
    first, second = ask(talk, "a"), ask(talk, "b")
    talk.refuse("RATE_LIMITED", retry_after_ms=15_000)
    talk.refuse("RATE_LIMITED", retry_after_ms=15_000)
    talk.host.pass_time(15)
    assert first == second == []
    talk.answer("presence", topic="a", count=0, clients=[])
    assert len(first) == 1


def test_a_rate_without_a_time_is_waited_out_too(talk: Talk) -> None:
    answers: list[Answer] = []
    talk.conversation.ask(Ping(), answers.append)
    talk.refuse("RATE_LIMITED")
    talk.host.pass_time(0.01)
    talk.answer("pong")
    assert [type(answer) for answer in answers] == [Pong]
