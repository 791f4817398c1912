"""The subscriptions of the console, over reconnects."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec import UNSET

from pubsub.client.replies import Ack, Event, Info, Reply, decode
from pubsub.client.requests import MAX_POSITIONS, Position, Subscribe, encode
from pubsub.console.pauses import LONGEST_PAUSE_SEC, pauses
from pubsub.console.subscriptions import MAX_RESUME_BYTES, Subscriptions
from pubsub.protocol.replies import TopicPosition

ID = "550e8400-e29b-41d4-a716-446655440000"


def test_pauses_grow_to_their_limit() -> None:
    tops = [0.5, 1, 2, 4, 8, LONGEST_PAUSE_SEC, LONGEST_PAUSE_SEC]
    assert all(top / 2 <= pause <= top for top, pause in zip(tops, itertools.islice(pauses(), 7), strict=True))


def event(topic: str, seq: int) -> Event:
    text = f'{{"type":"event","topic":"{topic}","message":{{"id":"{ID}","payload":1}},"seq":{seq},"ts":"x"}}'
    decoded = decode(text)
    assert isinstance(decoded, Event)
    return decoded


def asked(name: str, **more: Any) -> Subscribe:
    return Subscribe(topic=name, client_id="me", **more)


def ack_of(recovered: bool | None = None, **topics: tuple[str, int] | tuple[str, int, bool]) -> Ack:
    return Ack(topics={name.replace("_", "."): TopicPosition(*each) for name, each in topics.items()},
               recovered=recovered)  # fmt: skip


def resume_of(subscriptions: Subscriptions, name: str) -> dict[str, Position]:
    request = subscriptions.resume(name)
    assert request is not None
    assert request.last_n == 0
    assert isinstance(request.resume, dict)
    return request.resume


@pytest.mark.parametrize(
    ("ack", "told"),
    [
        (Ack(epoch="e", seq=7, recovered=True), "no message is missing"),
        (Ack(epoch="e", seq=9, recovered=True), "no message is missing"),
        (Ack(epoch="e", seq=9, recovered=False), "some messages are no longer kept"),
        (Ack(epoch="other", seq=9, recovered=False), "it was created again; its messages follow"),
        (Ack(epoch="e", seq=6, recovered=False), "it was created again; its messages follow"),
        (Ack(), "messages may be missing"),
    ],
)
def test_account_of_what_is_missing(ack: Ack, told: str) -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("t"), Ack(epoch="e", seq=5))
    subscriptions.note(event("t", 7))
    subscriptions.disconnect()
    assert subscriptions.missing == {"t"}
    assert subscriptions.describe_resume("t", ack) == told


@pytest.mark.parametrize(
    ("ack", "told"),
    [
        (ack_of(True, a_b=("e", 9, True), a_c=("e", 5, True)), "no message is missing"),
        (ack_of(True, a_b=("e", 9, True)), "no message is missing; topics that are gone: a.c"),
        (
            ack_of(False, a_b=("e", 9, False), a_c=("f", 1, False), a_d=("e", 9, True)),
            "created again, their messages follow: a.c; no longer complete: a.b",
        ),
        (
            ack_of(False, **{f"a_{letter}": ("f", 1, False) for letter in "bcdefg"}),
            "created again, their messages follow: a.b, a.c, a.d and 3 more",
        ),
        (ack_of(False), "messages may be missing; topics that are gone: a.b, a.c"),
    ],
)
def test_account_of_what_is_missing_in_the_topics_of_a_pattern(ack: Ack, told: str) -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("a.*"), ack_of(a_b=("e", 5), a_c=("e", 5)))
    assert subscriptions.describe_resume("a.*", ack) == told


@pytest.mark.parametrize(
    ("told", "ack", "position"),
    [
        ([event("t", 7)], Ack(epoch="e", seq=9, recovered=True), ("e", 7)),  # 8 and 9 follow
        ([Info(msg="dropped", topic="t", to_seq=8)], Ack(epoch="e", seq=9, recovered=False), ("e", 8)),
        ([event("t", 7)], Ack(epoch="other", seq=9, recovered=False), ("other", 0)),
        ([event("t", 7)], Ack(epoch="other", seq=9), ("other", 9)),
        ([event("t", 7)], Ack(epoch="e", seq=9), ("e", 7)),  # 8 and 9 may be on their way
    ],
)
def test_a_position_moves_with_what_comes(told: list[Reply], ack: Ack, position: tuple[str, int]) -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("t"), Ack(epoch="e", seq=5))
    for reply in told:
        subscriptions.note(reply)
    subscriptions.begin(asked("t"), ack)
    assert resume_of(subscriptions, "t") == {"t": Position(*position)}


def test_positions_of_a_pattern_are_those_of_its_topics() -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("a.*", last_n=3, filter="true"), ack_of(a_b=("e", 5), a_c=("f", 0)))
    subscriptions.begin(asked("other"), Ack(epoch="o", seq=1))
    for reply in (
        event("a.b", 6),
        Info(msg="topic_created", topic="a.d", epoch="g"),
        event("a.d", 1),
        Info(msg="topic_deleted", topic="a.c"),
    ):
        assert subscriptions.note(reply)
    subscriptions.disconnect()
    assert subscriptions.missing == {"a.*", "other"}
    assert resume_of(subscriptions, "a.*") == {"a.b": Position("e", 6), "a.d": Position("g", 1)}
    assert subscriptions.resume("a.*") == asked(
        "a.*", filter="true", resume={"a.b": Position("e", 6), "a.d": Position("g", 1)}
    )


def test_a_topic_that_went_while_the_client_was_away_has_no_position() -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("a.*"), ack_of(a_b=("e", 5), a_c=("f", 2)))
    subscriptions.disconnect()
    subscriptions.begin(asked("a.*"), ack_of(True, a_c=("f", 4, True), a_new=("n", 3, True)))
    assert resume_of(subscriptions, "a.*") == {"a.c": Position("f", 2), "a.new": Position("n", 0)}


def test_a_deleted_topic_is_no_longer_subscribed_to() -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("t"), Ack())
    subscriptions.begin(asked("*"), ack_of(t=("", 0)))
    subscriptions.note(Info(msg="topic_deleted", topic="t"))
    subscriptions.disconnect()
    assert subscriptions.missing == {"*"}
    assert resume_of(subscriptions, "*") == {}


@pytest.mark.parametrize(("name", "left"), [("a.*", {"b"}), ("a.b", {"a.*", "b"})])
def test_a_subscription_that_the_server_ends_is_not_resumed(name: str, left: set[str]) -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("a.*"), ack_of(a_b=("e", 5)))
    subscriptions.begin(asked("b"), Ack(epoch="b", seq=1))
    subscriptions.note(Info(msg="unsubscribed", topic=name, reason="forbidden"))
    assert set(subscriptions.names) == left
    if name == "a.b":
        assert resume_of(subscriptions, "a.*") == {}


def test_a_subscription_begins_anew_after_its_end() -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("a.b"), Ack(epoch="e", seq=5))
    subscriptions.end("a.b")
    assert subscriptions.resume("a.b") is None
    subscriptions.begin(asked("a.b"), Ack(epoch="e", seq=9))
    assert resume_of(subscriptions, "a.b") == {"a.b": Position("e", 9)}


def noted(subscriptions: Subscriptions, *seqs: int) -> list[int]:
    """Note events of the topic a.b; return those that are new."""
    return [seq for seq in seqs if subscriptions.note(event("a.b", seq))]


def test_messages_that_two_resumed_subscriptions_repeat_are_old() -> None:
    subscriptions = Subscriptions()
    subscriptions.begin(asked("a.*", last_n=3), ack_of(a_b=("e", 5)))
    subscriptions.begin(asked("a.b"), Ack(epoch="e", seq=5))
    assert noted(subscriptions, 3, 4, 5, 4, 5) == [3, 4, 5, 4, 5], "replays were asked for"
    subscriptions.disconnect()
    subscriptions.begin(asked("a.*"), ack_of(True, a_b=("e", 7, True)))
    assert noted(subscriptions, 6, 7, 8) == [6, 7, 8]
    assert resume_of(subscriptions, "a.b") == {"a.b": Position("e", 5)}
    subscriptions.begin(asked("a.b"), Ack(epoch="e", seq=9, recovered=True))
    assert noted(subscriptions, 6, 7, 8, 9, 10, 11) == [9, 10, 11]
    assert noted(subscriptions, 6) == [6], "nothing is remembered for longer than it is needed"


def test_subscriptions_without_a_filter_are_resumed_first() -> None:
    subscriptions = Subscriptions()
    for name, more in (("a.*", {"filter": "true"}), ("b", {}), ("*", {}), ("a", {"filter": "true"})):
        subscriptions.begin(asked(name, **more), Ack())
    subscriptions.disconnect()
    assert subscriptions.to_resume() == ["*", "b", "a", "a.*"]


def test_a_filter_does_not_move_the_position_of_a_subscription_that_is_resumed_later() -> None:
    subscriptions = Subscriptions()
    for name in ("a.*", "a.b"):
        subscriptions.begin(asked(name), ack_of(a_b=("e", 5)) if name == "a.*" else Ack(epoch="e", seq=5))
    subscriptions.disconnect()
    subscriptions.begin(asked("a.*", filter="payload == 2"), ack_of(True, a_b=("e", 9, True)))
    assert noted(subscriptions, 7) == [7]
    subscriptions.disconnect()
    assert resume_of(subscriptions, "a.*") == {"a.b": Position("e", 7)}
    assert resume_of(subscriptions, "a.b") == {"a.b": Position("e", 5)}
    subscriptions.begin(asked("a.*"), ack_of(True, a_b=("e", 9, True)))
    subscriptions.begin(asked("a.b"), Ack(epoch="e", seq=9, recovered=True))
    assert noted(subscriptions, 6, 7, 8, 9, 10) == [6, 8, 9, 10]
    assert resume_of(subscriptions, "a.*") == resume_of(subscriptions, "a.b") == {"a.b": Position("e", 10)}


@pytest.mark.parametrize("ending", ["topic_deleted", "topic_created"])
def test_a_topic_that_is_created_again_repeats_nothing(ending: str) -> None:
    subscriptions = Subscriptions()
    for name in ("a.*", "*.b"):
        subscriptions.begin(asked(name), ack_of(a_b=("e", 5)))
    subscriptions.disconnect()
    for name in ("a.*", "*.b"):
        subscriptions.begin(asked(name), ack_of(True, a_b=("e", 9, True)))
    assert noted(subscriptions, 6) == [6]
    subscriptions.note(Info(msg=ending, topic="a.b", epoch="f"))
    assert noted(subscriptions, 6) == [6]


def test_replays_that_are_asked_for_are_shown_again() -> None:
    subscriptions = Subscriptions()
    for name in ("a.*", "*.b"):
        subscriptions.begin(asked(name), ack_of(a_b=("e", 5)))
    subscriptions.disconnect()
    for name in ("a.*", "*.b"):
        subscriptions.begin(asked(name), ack_of(True, a_b=("e", 9, True)))
    assert noted(subscriptions, 6, 7) == [6, 7]
    subscriptions.begin(asked("a.b", last_n=2), Ack(epoch="e", seq=9))
    assert noted(subscriptions, 6, 7) == [6, 7]


def test_a_request_has_no_more_positions_than_the_server_takes() -> None:
    subscriptions = Subscriptions()
    topics = {f"a_{number}": (f"{number:010}", 2**53) for number in range(MAX_POSITIONS + 1)}
    subscriptions.begin(asked("a.*"), ack_of(None, **topics))
    resume = subscriptions.resume("a.*")
    assert resume is not None
    assert resume.resume is not UNSET
    assert 5000 < len(resume.resume) <= MAX_POSITIONS
    assert len(encode(resume)) < MAX_RESUME_BYTES + 1000
