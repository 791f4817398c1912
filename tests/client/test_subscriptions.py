"""The subscriptions of a connection: begun, refused, ended, and begun again, by name and by pattern."""

from __future__ import annotations

from typing import Any

import pytest

from pubsub.client.errors import (
    AnswerTimeout,
    BadRequest,
    Disconnected,
    Forbidden,
    LimitExceeded,
    PubsubError,
    ServerFault,
    TopicNotFound,
)
from pubsub.client.events import Event, Gap, Notice, Position
from pubsub.client.interest import Status
from tests.client.hosts import ANSWER_TIMEOUT, Json, Talk, seqs, take_all

CODES: dict[str, type[PubsubError]] = {
    "TOPIC_NOT_FOUND": TopicNotFound,
    "FORBIDDEN": Forbidden,
    "BAD_REQUEST": BadRequest,
    "LIMIT_EXCEEDED": LimitExceeded,
}


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


def topics(**positions: tuple[str, int]) -> Json:
    """The positions of the topics of a pattern: ``a_b`` is the topic a.b."""
    return {name.replace("_", "."): {"epoch": epoch, "seq": seq} for name, (epoch, seq) in positions.items()}


def test_a_subscription_is_asked_for_with_all_that_the_user_wants(talk: Talk) -> None:
    talk.subscribe("t", last_n=5, filter="payload > 1")
    (request,) = talk.host.sent
    wanted = {"topic": "t", "client_id": "tester", "last_n": 5, "filter": "payload > 1"}
    assert request == {"type": "subscribe", "request_id": "1"} | wanted
    talk.answer(topic="t", epoch="e", seq=7)
    assert talk.begun["t"] == [None]


def test_a_subscription_that_is_made_without_a_connection_waits_for_one() -> None:
    talk = Talk()
    talk.subscribe("t")
    assert not talk.host.sent
    talk.open()
    talk.answer(topic="t", epoch="e", seq=7)
    assert talk.begun["t"] == [None]


@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_the_first_refusal_is_told(talk: Talk, code: str, kind: type[PubsubError]) -> None:
    interest = talk.subscribe("t")
    talk.refuse(code)
    (error,) = talk.begun["t"]
    assert type(error) is kind
    assert interest.status is Status.ENDED
    assert not talk.conversation.has_subscriptions


def test_an_answer_of_another_kind_is_told(talk: Talk) -> None:
    talk.subscribe("t")
    talk.answer("pong")
    (error,) = talk.begun["t"]
    assert isinstance(error, ServerFault)


def test_a_first_answer_that_does_not_come_is_told(talk: Talk) -> None:
    talk.subscribe("t")
    talk.host.pass_time(ANSWER_TIMEOUT)
    (error,) = talk.begun["t"]
    assert isinstance(error, AnswerTimeout)


def test_a_later_answer_that_does_not_come_ends_the_connection(talk: Talk) -> None:
    talk.begin("t")
    talk.reopen()
    talk.host.pass_time(ANSWER_TIMEOUT)
    assert talk.host.dropped == ["a subscribe was not answered: no answer came within 10 s"]


def test_the_next_connection_resumes_after_the_last_event_that_came(talk: Talk) -> None:
    interest = talk.begin("t", seq=3, last_n=2)
    talk.send_event("t", 2)
    talk.send_event("t", 3)
    talk.reopen()
    request = talk.answer(topic="t", epoch="e", seq=5, recovered=True)
    assert (request["resume"], request.get("last_n", 0)) == ({"t": {"epoch": "e", "seq": 3}}, 0)
    talk.send_event("t", 4)
    assert seqs(interest) == [2, 3, 4]
    assert talk.begun["t"] == [None]


def test_a_replay_that_did_not_begin_is_resumed_from_its_start(talk: Talk) -> None:
    talk.begin("t", seq=10, last_n=2)
    talk.reopen()
    assert talk.answer(topic="t", epoch="e", seq=10)["resume"] == {"t": {"epoch": "e", "seq": 8}}


def test_positions_of_an_earlier_run_are_resumed(talk: Talk) -> None:
    interest = talk.subscribe("t", resume={"t": Position("e", 41)})
    assert talk.answer(topic="t", epoch="e", seq=43, recovered=True)["resume"] == {"t": {"epoch": "e", "seq": 41}}
    assert interest.position == {"t": Position("e", 41)}
    talk.send_event("t", 42)
    assert seqs(interest) == [42]


def test_positions_of_an_earlier_life_of_the_topic_are_told(talk: Talk) -> None:
    interest = talk.subscribe("t", resume={"t": Position("e", 41)})
    talk.answer(topic="t", epoch="f", seq=1, recovered=False)
    talk.send_event("t", 1)
    gap, found = take_all(interest)
    assert gap == Gap("t", "f", None, None, None, "created_again")
    assert isinstance(found, Event)


def test_a_topic_that_is_gone_is_asked_for_until_it_exists(talk: Talk) -> None:
    interest = talk.begin("t", seq=4, notices=True)
    talk.send_info("topic_deleted", topic="t")
    for _ in range(3):
        talk.host.pass_time(5)
        assert talk.refuse("TOPIC_NOT_FOUND")["resume"] == {"t": {"epoch": "e", "seq": 4}}
    talk.host.pass_time(5)
    talk.answer(topic="t", epoch="f", seq=1, recovered=False)
    talk.send_event("t", 1)
    notice, gap, found = take_all(interest)
    assert notice == Notice("topic_deleted", "t")
    assert gap == Gap("t", "f", None, None, None, "created_again")
    assert isinstance(found, Event)


@pytest.mark.parametrize("code", ["TOPIC_NOT_FOUND", "INTERNAL", "LIMIT_EXCEEDED"])
def test_a_refusal_after_a_reconnect_is_no_end(talk: Talk, code: str) -> None:
    interest = talk.begin("t")
    talk.reopen()
    talk.refuse(code)
    talk.host.pass_time(1)
    talk.answer(topic="t", epoch="e", seq=0, recovered=True)
    talk.send_event("t", 1)
    assert seqs(interest) == [1]


def test_the_pauses_end_with_the_connection(talk: Talk) -> None:
    talk.begin("t")
    talk.send_info("topic_deleted", topic="t")
    talk.reopen()
    assert len(talk.host.take_sent()) == 1
    talk.host.pass_time(5)
    assert talk.host.take_sent() == []


@pytest.mark.parametrize("code", ["FORBIDDEN", "BAD_REQUEST"])
def test_what_is_forbidden_after_a_reconnect_is_the_end_behind_what_came(talk: Talk, code: str) -> None:
    interest = talk.begin("t")
    talk.send_event("t", 1)
    talk.reopen()
    talk.refuse(code)
    assert isinstance(interest.error, CODES[code])
    assert seqs(interest) == [1]
    talk.host.pass_time(60)
    assert [sent for sent in talk.host.take_sent() if sent["type"] == "subscribe"] == []


def test_rights_that_end_are_the_end(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("unsubscribed", topic="t", reason="forbidden")
    assert isinstance(interest.error, Forbidden)
    assert str(interest.error) == "the token does not allow t any more"


def test_filters_that_are_too_many_are_no_end(talk: Talk) -> None:
    talk.begin("t")
    talk.send_info("unsubscribed", topic="t", reason="limit")
    talk.host.pass_time(5)
    assert [sent["type"] for sent in talk.host.sent] == ["subscribe"]


def test_the_user_unsubscribes(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_event("t", 1)
    talk.conversation.unsubscribe(interest)
    talk.send_event("t", 2)
    assert talk.answer()["type"] == "unsubscribe"
    assert (interest.status, interest.error) == (Status.ENDED, None)
    assert seqs(interest) == [1]
    talk.conversation.unsubscribe(interest)
    assert not talk.host.sent


def test_an_ack_that_comes_after_the_end_begins_nothing(talk: Talk) -> None:
    interest = talk.subscribe("t")
    talk.conversation.unsubscribe(interest)
    talk.answer(topic="t", epoch="e", seq=0)
    talk.send_event("t", 1)
    assert interest.status is Status.ENDED
    assert take_all(interest) == []
    assert talk.begun["t"] == []


def test_a_later_subscription_to_the_same_topic_gets_nothing_of_the_earlier_one(talk: Talk) -> None:
    talk.conversation.unsubscribe(talk.begin("t"))
    interest = talk.subscribe("t")
    talk.send_event("t", 1)
    talk.answer()
    talk.send_event("t", 2)
    talk.answer(topic="t", epoch="e", seq=2)
    talk.send_event("t", 3)
    assert seqs(interest) == [3]


def test_an_unsubscribe_that_was_refused_does_not_end_a_later_subscription(talk: Talk) -> None:
    talk.conversation.unsubscribe(talk.begin("t"))
    talk.subscribe("t")
    talk.refuse("RATE_LIMITED", retry_after_ms=100)
    talk.answer(topic="t", epoch="e", seq=2)
    talk.host.pass_time(5)
    assert not talk.host.sent


def test_a_subscribe_that_was_refused_for_the_rate_is_not_sent_again_behind_its_end(talk: Talk) -> None:
    talk.conversation.unsubscribe(talk.subscribe("t"))
    talk.refuse("RATE_LIMITED", retry_after_ms=100)
    assert talk.answer(topic="t", status="ok")["type"] == "unsubscribe"
    talk.host.pass_time(5)
    assert not talk.host.sent


def test_two_subscriptions_that_overlap_are_told() -> None:
    talk = Talk()
    talk.subscribe("orders.*")
    overlaps = talk.conversation.overlaps
    assert [name for name in ("orders.*", "orders.eu", ">", "*.eu", "orders", "sales.*") if overlaps(name)] == [
        "orders.*", "orders.eu", ">", "*.eu",
    ]  # fmt: skip


def begin_pattern(talk: Talk, **wish: Any) -> Any:
    interest = talk.subscribe("o.*", **wish)
    talk.answer(topic="o.*", topics=topics(o_eu=("e", 5), o_us=("u", 0)))
    return interest


def test_the_topics_of_a_pattern_have_their_own_positions(talk: Talk) -> None:
    interest = begin_pattern(talk)
    talk.send_event("o.eu", 6)
    talk.send_event("o.us", 1)
    talk.send_info("topic_created", topic="o.new", epoch="n")
    talk.send_event("o.new", 1)
    assert seqs(interest) == [6, 1, 1]
    assert interest.position == {"o.eu": Position("e", 6), "o.us": Position("u", 1), "o.new": Position("n", 1)}
    talk.reopen()
    request = talk.answer(topic="o.*", topics={})
    assert request["resume"] == {
        "o.eu": {"epoch": "e", "seq": 6}, "o.us": {"epoch": "u", "seq": 1}, "o.new": {"epoch": "n", "seq": 1},
    }  # fmt: skip


def test_a_topic_that_appeared_while_there_was_no_connection_begins_at_its_first_event(talk: Talk) -> None:
    interest = begin_pattern(talk)
    talk.reopen()
    found = topics(o_eu=("e", 5), o_us=("u", 0), o_new=("n", 2))
    talk.answer(topic="o.*", topics={name: each | {"recovered": True} for name, each in found.items()}, recovered=True)
    talk.send_event("o.new", 1)
    talk.send_event("o.new", 2)
    assert seqs(interest) == [1, 2]


def test_a_topic_of_a_pattern_that_is_created_again_is_told(talk: Talk) -> None:
    interest = begin_pattern(talk, notices=True)
    talk.send_info("topic_deleted", topic="o.eu")
    talk.send_info("topic_created", topic="o.eu", epoch="f")
    talk.send_event("o.eu", 1)
    deleted, again, created, found = take_all(interest)
    assert deleted == Notice("topic_deleted", "o.eu")
    assert again == Gap("o.eu", "f", None, None, None, "created_again")
    assert created == Notice("topic_created", "o.eu", epoch="f")
    assert isinstance(found, Event)
    talk.send_event("o.us", 1)  # the pattern goes on
    assert seqs(interest) == [1]


def test_a_topic_of_a_pattern_that_is_allowed_again_is_the_same(talk: Talk) -> None:
    interest = begin_pattern(talk)
    talk.send_info("unsubscribed", topic="o.eu", reason="forbidden")
    talk.send_info("topic_created", topic="o.eu", epoch="e")
    talk.send_event("o.eu", 9)
    assert seqs(interest) == [9]


def test_a_pattern_that_is_forbidden_ends(talk: Talk) -> None:
    interest = begin_pattern(talk)
    talk.send_info("unsubscribed", topic="o.*", reason="forbidden")
    assert isinstance(interest.error, Forbidden)


def test_a_topic_that_has_not_announced_itself_is_taken_in(talk: Talk) -> None:
    interest = begin_pattern(talk)
    talk.send_event("o.new", 3)
    assert seqs(interest) == [3]
    talk.reopen()
    talk.answer(topic="o.*", topics={"o.new": {"epoch": "n", "seq": 3, "recovered": False}}, recovered=False)
    talk.send_event("o.new", 3)
    talk.send_event("o.new", 4)
    assert seqs(interest) == [4]
    assert interest.position["o.new"] == Position("n", 4)


def test_events_of_no_subscription_are_ignored(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_event("other", 1)
    talk.send_info("dropped", topic="other", count=1, from_seq=1, to_seq=1)
    talk.send_info("topic_deleted", topic="other")
    assert take_all(interest) == []
    assert not talk.host.sent


def test_the_end_of_the_client_is_the_end_of_all(talk: Talk) -> None:
    interest = talk.begin("t")
    waiting = talk.subscribe("u")
    error = Disconnected(4403, "bye")
    talk.conversation.end(error)
    assert interest.error is waiting.error is error
    assert talk.begun["u"] == [error]
    assert talk.subscribe("v").error is error
    assert talk.begun["v"] == [error]
    assert talk.host.timers == []


def test_the_user_closes_the_client(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.conversation.leave()
    assert (interest.status, interest.error) == (Status.ENDED, None)
    assert isinstance(talk.subscribe("v").error, Disconnected)
    assert talk.host.timers == []


def test_a_topic_that_is_gone_after_a_restart_is_told_once(talk: Talk) -> None:
    interest = talk.begin("t", notices=True)
    talk.reopen()
    for _ in range(3):
        talk.refuse("TOPIC_NOT_FOUND")
        talk.host.pass_time(5)
    assert take_all(interest) == [Notice("topic_deleted", "t")]
    talk.answer(topic="t", epoch="e", seq=0, recovered=True)
    talk.send_info("topic_deleted", topic="t")
    assert take_all(interest) == [Notice("topic_deleted", "t")]


def test_topics_of_a_pattern_that_are_gone_after_a_restart_are_told_and_no_longer_asked_for(talk: Talk) -> None:
    interest = begin_pattern(talk, notices=True)
    talk.reopen()
    talk.answer(topic="o.*", topics={"o.us": {"epoch": "u", "seq": 0, "recovered": True}}, recovered=True)
    assert take_all(interest) == [Notice("topic_deleted", "o.eu")]
    assert interest.position == {"o.eu": Position("e", 5), "o.us": Position("u", 0)}
    talk.reopen()
    back = {"epoch": "e", "seq": 7, "recovered": True}
    assert list(talk.answer(topic="o.*", topics={"o.eu": back}, recovered=True)["resume"]) == ["o.us"]
    talk.send_event("o.eu", 5)
    talk.send_event("o.eu", 6)
    deleted, found = take_all(interest)
    assert deleted == Notice("topic_deleted", "o.us")
    assert isinstance(found, Event)
    assert found.seq == 6
