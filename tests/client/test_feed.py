"""One topic of a subscription: order, repeats, gaps, and their repair from the history."""

from __future__ import annotations

from typing import Any

import pytest

from pubsub.client.errors import Internal
from pubsub.client.events import Event, Gap, Position
from tests.client.hosts import Talk, event, seqs, take_all


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


def history(talk: Talk, numbers: list[int], *, complete: bool = True, epoch: str = "e") -> dict[str, Any]:
    """Answer a history request with these events; return the request."""
    messages = [event("t", seq) for seq in numbers]
    return talk.answer("history", topic="t", epoch=epoch, messages=messages, complete=complete)


def lost(from_seq: int, to_seq: int, count: int | None = None) -> Gap:
    return Gap("t", "e", from_seq, to_seq, to_seq - from_seq + 1 if count is None else count, "lost")


def test_an_event_that_came_before_is_left_out(talk: Talk) -> None:
    interest = talk.begin("t", seq=3)
    for seq in (2, 3, 4, 4, 3, 5):
        talk.send_event("t", seq)
    assert seqs(interest) == [4, 5]
    assert interest.position == {"t": Position("e", 5)}


def test_the_position_is_that_of_the_last_item_that_was_taken(talk: Talk) -> None:
    interest = talk.begin("t", seq=3)
    assert interest.position == {"t": Position("e", 3)}
    talk.send_event("t", 4)
    talk.send_event("t", 5)
    interest.inbox.take()
    assert interest.position == {"t": Position("e", 4)}


def test_what_was_dropped_is_fetched_before_later_events(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_event("t", 1)
    talk.send_info("dropped", topic="t", count=3, from_seq=2, to_seq=4)
    talk.send_event("t", 5)
    assert seqs(interest) == [1]
    request = history(talk, [2, 3, 4])
    assert (request["type"], request["topic"], request["after"], request["limit"]) == ("history", "t", 1, 3)
    assert seqs(interest) == [2, 3, 4, 5]


def test_what_was_dropped_is_fetched_page_by_page(talk: Talk) -> None:
    interest = talk.begin("t", limit=4)
    talk.send_info("dropped", topic="t", count=9, from_seq=1, to_seq=9)
    talk.send_event("t", 10)
    assert history(talk, [1, 2, 3, 4])["limit"] == 4
    assert not talk.host.sent  # no room for a page
    assert seqs(interest) == [1, 2, 3, 4]
    assert history(talk, [5, 6, 7, 8])["after"] == 4
    assert seqs(interest) == [5, 6, 7, 8]
    assert history(talk, [9])["limit"] == 1
    assert seqs(interest) == [9, 10]


def test_two_gaps_are_fetched_one_after_the_other(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=1, from_seq=1, to_seq=1)
    talk.send_event("t", 2)
    talk.send_info("dropped", topic="t", count=1, from_seq=3, to_seq=3)
    talk.send_event("t", 4)
    assert len(talk.host.sent) == 1
    history(talk, [1])
    history(talk, [3])
    assert seqs(interest) == [1, 2, 3, 4]


def test_what_the_server_no_longer_keeps_is_a_gap(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=6, from_seq=1, to_seq=6)
    talk.send_event("t", 7)
    history(talk, [3, 5], complete=False)
    taken = [item.seq if isinstance(item, Event) else item for item in take_all(interest)]
    assert taken == [lost(1, 2), 3, lost(4, 4), 5, lost(6, 6), 7]


def test_with_a_filter_a_gap_ends_before_the_next_event_and_the_rest_is_asked_for_again(talk: Talk) -> None:
    """Otherwise the position after the gap would be behind events that are still to come."""
    interest = talk.begin("t", filter="payload > 1")
    talk.send_info("dropped", topic="t", count=6, from_seq=1, to_seq=6)
    assert history(talk, [3, 5], complete=False)["filter"] == "payload > 1"
    assert interest.inbox.take() == Gap("t", "e", 1, 2, None, "lost")
    assert interest.position == {"t": Position("e", 2)}
    assert history(talk, [5])["after"] == 3
    assert seqs(interest) == [3, 5]


def test_with_a_filter_a_page_without_an_event_may_lack_all(talk: Talk) -> None:
    interest = talk.begin("t", filter="payload > 1")
    talk.send_info("dropped", topic="t", count=6, from_seq=1, to_seq=6)
    history(talk, [], complete=False)
    assert take_all(interest) == [Gap("t", "e", 1, 6, None, "lost")]
    assert not talk.host.sent


def test_what_does_not_match_is_no_gap(talk: Talk) -> None:
    interest = talk.begin("t", filter="payload > 1")
    talk.send_info("dropped", topic="t", count=6, from_seq=1, to_seq=6)
    history(talk, [2, 5])
    assert seqs(interest) == [2, 5]


@pytest.mark.parametrize("code", ["TOPIC_NOT_FOUND", "FORBIDDEN", "BAD_REQUEST", "SOMETHING_NEW"])
def test_a_history_that_is_refused_is_a_gap(talk: Talk, code: str) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=2, from_seq=1, to_seq=2)
    talk.send_event("t", 3)
    talk.refuse(code)
    gap, found = take_all(interest)
    assert gap == lost(1, 2)
    assert isinstance(found, Event)


def test_a_history_of_another_life_of_the_topic_is_a_gap(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=2, from_seq=1, to_seq=2)
    history(talk, [1, 2], epoch="another")
    assert take_all(interest) == [lost(1, 2)]


def test_a_page_with_too_many_bytes_is_halved(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=4, from_seq=1, to_seq=4)
    assert talk.refuse("LIMIT_EXCEEDED")["limit"] == 4
    assert history(talk, [1, 2])["limit"] == 2
    history(talk, [3, 4])
    assert seqs(interest) == [1, 2, 3, 4]


def test_a_server_that_fails_is_asked_again_after_a_pause(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=1, from_seq=1, to_seq=1)
    talk.refuse("INTERNAL")
    talk.send_event("t", 2)
    assert not talk.host.sent
    talk.host.pass_time(1)
    history(talk, [1])
    assert seqs(interest) == [1, 2]
    assert Internal.code == "INTERNAL"


def test_without_mending_what_was_dropped_is_a_gap(talk: Talk) -> None:
    interest = talk.begin("t", mends=False)
    talk.send_info("dropped", topic="t", count=3, from_seq=2, to_seq=4)
    talk.send_event("t", 5)
    gap, found = take_all(interest)
    assert gap == Gap("t", "e", 2, 4, 3, "dropped")
    assert isinstance(found, Event)
    assert not talk.host.sent


def test_a_repair_is_begun_again_in_the_next_connection(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_event("t", 1)
    talk.send_info("dropped", topic="t", count=2, from_seq=2, to_seq=3)
    talk.send_event("t", 4)
    talk.host.take_sent()
    talk.reopen()
    assert talk.answer(epoch="e", seq=5, recovered=True)["resume"] == {"t": {"epoch": "e", "seq": 4}}
    talk.send_event("t", 5)
    assert history(talk, [2, 3])["after"] == 1
    assert seqs(interest) == [1, 2, 3, 4, 5]


def test_a_gap_in_the_replay_of_a_resume_is_asked_for(talk: Talk) -> None:
    """A part of it may be kept: the server may have dropped it from the replay, because the client was too slow."""
    interest = talk.begin("t")
    talk.reopen()
    talk.answer(epoch="e", seq=9, recovered=False)
    talk.send_info("dropped", topic="t", count=5, from_seq=1, to_seq=5)
    talk.send_event("t", 6)
    history(talk, [4, 5], complete=False)
    assert take_all(interest)[0] == lost(1, 3)
    assert interest.position == {"t": Position("e", 6)}


def test_a_topic_that_was_created_again_says_so_and_begins_at_its_first_event(talk: Talk) -> None:
    interest = talk.begin("t", seq=7)
    talk.reopen()
    talk.answer(epoch="f", seq=2, recovered=False)
    talk.send_event("t", 1)
    gap = interest.inbox.take()
    assert gap == Gap("t", "f", None, None, None, "created_again")
    assert interest.position == {"t": Position("f", 0)}
    assert seqs(interest) == [1]
    assert interest.position == {"t": Position("f", 1)}


def test_a_topic_that_goes_on_in_another_epoch_begins_behind_what_is_left(talk: Talk) -> None:
    """The engine of several servers lost the message 7; nothing before it is asked for again."""
    interest = talk.begin("t", seq=5)
    talk.send_event("t", 6)
    talk.send_event("t", 7)
    talk.send_info("topic_created", topic="t", epoch="f", seq=6)
    talk.send_event("t", 7)
    talk.send_info("dropped", topic="t", count=1, from_seq=8, to_seq=8)
    talk.send_event("t", 9)
    history(talk, [8], epoch="f")
    *old, gap, seven, eight, nine = take_all(interest)
    assert [(each.epoch, each.seq) for each in old if isinstance(each, Event)] == [("e", 6), ("e", 7)]
    assert gap == Gap("t", "f", None, 6, None, "created_again")
    new = [(each.epoch, each.seq) for each in (seven, eight, nine) if isinstance(each, Event)]
    assert new == [("f", 7), ("f", 8), ("f", 9)]
    assert interest.position == {"t": Position("f", 9)}


def test_the_old_life_of_a_topic_is_handed_on_first(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_event("t", 1)
    talk.send_info("dropped", topic="t", count=1, from_seq=2, to_seq=2)
    talk.send_event("t", 3)
    talk.host.take_sent()
    talk.reopen()
    talk.answer(epoch="f", seq=1, recovered=False)
    talk.send_event("t", 1)
    assert interest.position == {"t": Position("e", 0)}
    first, gap, third, again, new = take_all(interest)
    assert isinstance(first, Event)
    assert isinstance(third, Event)
    assert isinstance(new, Event)
    assert [(each.epoch, each.seq) for each in (first, third, new)] == [("e", 1), ("e", 3), ("f", 1)]
    assert gap == lost(2, 2)
    assert again == Gap("t", "f", None, None, None, "created_again")


def test_a_topic_whose_numbers_went_back_is_another_one(talk: Talk) -> None:
    interest = talk.begin("t", seq=7)
    talk.reopen()
    talk.answer(epoch="e", seq=2, recovered=False)
    talk.send_event("t", 1)
    gap, found = take_all(interest)
    assert gap == Gap("t", "e", None, None, None, "created_again")
    assert isinstance(found, Event)


def test_own_messages_are_left_out_and_move_the_position(talk: Talk) -> None:
    interest = talk.begin("t", echo=False)
    talk.publish(message_id="own")
    talk.send_event("t", 1, message_id="own")
    talk.send_event("t", 2, message_id="other")
    talk.send_event("t", 3, message_id="own")
    assert seqs(interest) == [2]
    assert interest.position == {"t": Position("e", 3)}


def test_a_part_that_ends_while_there_is_no_room_is_not_asked_for_again(talk: Talk) -> None:
    interest = talk.begin("t", limit=4)
    talk.send_event("t", 1)
    talk.send_event("t", 2)
    talk.send_info("dropped", topic="t", count=2, from_seq=3, to_seq=4)
    history(talk, [3, 4])
    assert seqs(interest) == [1, 2, 3, 4]
    talk.send_event("t", 5)
    assert seqs(interest) == [5]
    assert not talk.host.sent


def test_an_answer_to_an_earlier_question_repairs_nothing(talk: Talk) -> None:
    interest = talk.begin("t")
    talk.send_info("dropped", topic="t", count=2, from_seq=1, to_seq=2)
    (request,) = talk.host.take_sent()
    interest.forget_waiting()
    talk.send_info("dropped", topic="t", count=2, from_seq=3, to_seq=4)
    messages = [event("t", seq) for seq in (1, 2)]
    answer = {"type": "history", "request_id": request["request_id"], "topic": "t", "epoch": "e", "complete": True}
    talk.send(answer | {"messages": messages})
    assert take_all(interest) == []
    history(talk, [3, 4])
    assert seqs(interest) == [3, 4]


def test_an_earlier_life_of_a_topic_is_forgotten_once_the_user_knows(talk: Talk) -> None:
    interest = talk.begin("t", seq=7)
    for epoch in "fgh":
        talk.reopen()
        talk.answer(epoch=epoch, seq=0, recovered=False)
    assert interest.position == {"t": Position("e", 7)}
    assert [item.epoch for item in take_all(interest) if isinstance(item, Gap)] == ["f", "g", "h"]
    assert interest.feeds["t"].previous is None
