"""The queue of one subscription: its limits, what is left out beyond them, and the payloads of users."""

from __future__ import annotations

import pytest

from pubsub.client.errors import PayloadError
from pubsub.client.events import Event, Gap, Notice, Position
from pubsub.client.stalls import PATIENCE_SEC
from tests.client.hosts import Talk, event, seqs, take_all


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


def send_events(talk: Talk, first: int, last: int, topic: str = "t") -> None:
    for seq in range(first, last + 1):
        talk.send_event(topic, seq)


def test_reading_pauses_when_the_queue_is_full_and_resumes_when_half_is_taken(talk: Talk) -> None:
    interest = talk.begin("t", limit=4)
    send_events(talk, 1, 3)
    assert not talk.conversation.paused
    send_events(talk, 4, 4)
    assert talk.conversation.paused
    interest.inbox.take()
    assert talk.conversation.paused
    interest.inbox.take()
    assert not talk.conversation.paused
    assert seqs(interest) == [3, 4]


def test_reading_goes_on_while_an_answer_is_awaited(talk: Talk) -> None:
    talk.begin("t", limit=4)
    send_events(talk, 1, 4)
    outcome = talk.publish()
    assert not talk.conversation.paused
    talk.answer(topic="t", seq=5)
    assert outcome
    assert talk.conversation.paused


def test_beyond_twice_the_limit_events_are_left_out_and_fetched_later(talk: Talk) -> None:
    interest = talk.begin("t", limit=4)
    talk.publish()
    send_events(talk, 1, 12)
    talk.host.take_sent()
    assert [interest.inbox.take() for _ in range(5)]
    assert not talk.host.sent
    interest.inbox.take()  # the sixth of eight: now there is room for a page
    request = talk.answer("history", topic="t", epoch="e", messages=[event("t", seq) for seq in range(9, 13)])
    assert (request["after"], request["limit"]) == (8, 4)
    send_events(talk, 13, 13)
    assert seqs(interest) == [7, 8, 9, 10, 11, 12, 13]


def test_without_mending_what_is_left_out_is_a_gap(talk: Talk) -> None:
    interest = talk.begin("t", limit=2, mends=False)
    talk.publish()
    send_events(talk, 1, 6)
    taken = [item.seq if isinstance(item, Event) else item for item in take_all(interest)]
    assert taken == [1, 2, 3, 4, Gap("t", "e", 5, 6, 2, "dropped")]


def test_one_full_queue_does_not_fill_another(talk: Talk) -> None:
    slow, quick = talk.begin("slow", limit=2), talk.begin("quick", limit=2)
    send_events(talk, 1, 2, "slow")
    assert talk.conversation.paused
    send_events(talk, 1, 1, "quick")
    assert seqs(quick) == [1]
    assert talk.conversation.paused
    talk.conversation.unsubscribe(slow)
    assert not talk.conversation.paused


def test_events_behind_a_gap_count_to_the_limit(talk: Talk) -> None:
    interest = talk.begin("t", limit=3)
    talk.send_info("dropped", topic="t", count=1, from_seq=1, to_seq=1)
    send_events(talk, 2, 8)  # six of them are kept
    talk.answer("history", topic="t", epoch="e", messages=[event("t", 1)])
    assert not talk.host.sent
    assert [interest.inbox.take() for _ in range(6)]
    assert talk.answer("history", topic="t", epoch="e", messages=[event("t", 8)])["after"] == 7
    assert seqs(interest) == [7, 8]


def test_the_user_is_woken_once(talk: Talk) -> None:
    woken: list[None] = []
    interest = talk.begin("t")
    interest.inbox.wake = lambda: woken.append(None)
    send_events(talk, 1, 2)
    assert len(woken) == 1
    assert interest.inbox.wake is None


def test_a_payload_that_is_not_of_the_type_is_an_error_and_the_next_one_follows(talk: Talk) -> None:
    interest = talk.begin("t", kind=int)
    talk.send_event("t", 1, "text")
    talk.send_event("t", 2, 7)
    with pytest.raises(PayloadError, match="topic t, seq 1: Expected `int`, got `str`") as raised:
        interest.inbox.take()
    assert raised.value.event is not None
    assert bytes(raised.value.event.payload) == b'"text"'
    assert interest.position == {"t": Position("e", 1)}
    (found,) = take_all(interest)
    assert isinstance(found, Event)
    assert found.payload == 7


def test_notices_come_in_their_place(talk: Talk) -> None:
    interest = talk.begin("t", notices=True)
    talk.send_info("dropped", topic="t", count=1, from_seq=1, to_seq=1)
    talk.send_info("joined", topic="t", client_id="bob")
    assert take_all(interest) == []
    talk.answer("history", topic="t", epoch="e", messages=[event("t", 1)])
    found, notice = take_all(interest)
    assert isinstance(found, Event)
    assert notice == Notice("joined", "t", client_id="bob")


def test_news_of_clients_are_left_out_where_there_is_no_room(talk: Talk) -> None:
    interest = talk.begin("t", notices=True, limit=1)
    talk.publish()
    send_events(talk, 1, 2)
    talk.send_info("joined", topic="t", client_id="bob")
    assert seqs(interest) == [1, 2]


def test_forgotten_items_do_not_come_and_the_position_is_behind_them(talk: Talk) -> None:
    interest = talk.begin("t", limit=3)
    talk.publish()
    send_events(talk, 1, 9)
    talk.host.take_sent()
    interest.forget_waiting()
    assert interest.position == {"t": Position("e", 9)}
    assert not interest.inbox.full
    send_events(talk, 10, 10)
    assert seqs(interest) == [10]
    assert not talk.host.sent  # what was left out is not asked for


def test_users_that_wait_for_each_other_are_found(talk: Talk) -> None:
    orders, replies = talk.begin("orders", limit=2), talk.begin("replies", limit=2)
    send_events(talk, 1, 2, "orders")
    replies.inbox.wake = lambda: None
    assert talk.conversation.paused
    talk.host.pass_time(PATIENCE_SEC)
    assert not talk.conversation.paused
    send_events(talk, 3, 9, "orders")  # beyond twice the limit
    send_events(talk, 1, 1, "replies")
    assert seqs(replies) == [1]
    assert [orders.inbox.take() for _ in range(3)]
    assert talk.answer("history", topic="orders", epoch="e", messages=[event("orders", 5), event("orders", 6)])
    talk.host.pass_time(PATIENCE_SEC)
    assert talk.conversation.paused


def test_a_user_that_takes_something_is_not_stuck(talk: Talk) -> None:
    orders, replies = talk.begin("orders", limit=4), talk.begin("replies")
    send_events(talk, 1, 4, "orders")
    replies.inbox.wake = lambda: None
    talk.host.pass_time(PATIENCE_SEC / 2)
    orders.inbox.take()
    talk.host.pass_time(PATIENCE_SEC / 2)
    assert talk.conversation.paused


def test_a_full_queue_alone_is_no_stall_and_leaves_no_timer(talk: Talk) -> None:
    talk.begin("orders", limit=2)
    send_events(talk, 1, 2, "orders")
    talk.host.pass_time(5 * PATIENCE_SEC)
    assert talk.conversation.paused
    talk.reopen()
    assert talk.conversation.paused is False  # the answer to the subscribe is awaited
    talk.conversation.leave()
    assert talk.host.timers == []
