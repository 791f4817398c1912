"""The oracle of the client libraries finds each broken invariant of what a subscription hands on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from judge import Acked, Judge
from kinds import FILTERS, predicate_of
from oracle import Broken, Json, Record
from reading import Place, Reading, Told

Step = Callable[[Reading], None]


def message(seq: int, kind: int = 0) -> Json:
    return {"id": f"{seq:08x}-0000-4000-8000-000000000000", "payload": {"kind": kind}}


def event(seq: int, *, topic: str = "a", epoch: str = "e", kind: int = 0) -> Step:
    return lambda reading: reading.take_event(Place(topic, epoch, seq), message(seq, kind))


def gap(first: int, last: int, count: int | None = None, *, reason: str = "lost", topic: str = "a") -> Step:
    told = Told(topic, "e", reason, first, last, last - first + 1 if count is None else count)
    return lambda reading: reading.take_gap(told)


def again(epoch: str, *, topic: str = "a") -> Step:
    return lambda reading: reading.take_gap(Told(topic, epoch, "created_again", None, None, None))


def positions(**places: tuple[str, int]) -> Step:
    return lambda reading: reading.check_positions(places)


def begun(
    *,
    name: str = "a",
    seq: int = 0,
    published: int = 9,
    kinds: tuple[int, ...] = (0,),
    chosen: Json = FILTERS[0],
    kept: range = range(0),
) -> Reading:
    """A reading after ``seq`` of the topic `a`, of which the record has ``published`` messages of these kinds."""
    record = Record()
    for number in range(1, published + 1):
        record.note("a", "e", number, message(number, kinds[number % len(kinds)]))
    wants = predicate_of(chosen) if chosen else None
    reading = Reading(record, name, wants=wants, keeps=lambda place: place.seq in kept, knows_all=True)
    reading.begin({"a": ("e", seq)})
    return reading


def play(reading: Reading, steps: list[Step]) -> None:
    for step in steps:
        step(reading)


@pytest.mark.parametrize(
    "steps",
    [
        [event(1), event(2), positions(a=("e", 2))],
        [event(1), gap(2, 4), event(5)],
        [again("f"), event(1, epoch="f")],
        [event(1), again("f"), positions(a=("f", 0))],
    ],
    ids=["in order", "gap", "another life", "before its first message"],
)
def test_what_is_right_passes(steps: list[Step]) -> None:
    play(begun(), steps)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([event(2)], "expected Place"),
        ([event(1), event(1)], "expected seq 2"),
        ([event(1), event(3)], "expected Place"),
        ([event(2, topic="b")], "without a word"),
        ([event(1), event(1, epoch="f")], "without a word"),
        ([again("e")], "did not begin again"),
        ([again("f"), again("e")], "did not begin again"),
        ([gap(2, 3)], "expected Place"),
        ([gap(1, 2, 3)], "2 messages are missing"),
        ([gap(3, 2)], "without bounds"),
        ([gap(1, 20)], "never published"),
        ([event(1), positions()], "the position of a"),
        ([event(1), positions(a=("e", 0))], "the position of a"),
        ([event(1), positions(a=("f", 1))], "the position of a"),
        ([event(1), positions(a=("e", 2))], "has not come"),
    ],
)
def test_what_is_wrong_is_found(steps: list[Step], told: str) -> None:
    with pytest.raises(Broken, match=told):
        play(begun(), steps)


def test_a_gap_of_messages_that_are_still_kept_is_found() -> None:
    with pytest.raises(Broken, match=r"\[3\] are still kept"):
        play(begun(kept=range(3, 4)), [gap(1, 3)])


def test_a_pattern_begins_at_the_first_message_of_a_new_topic() -> None:
    reading = begun(name="*")
    play(reading, [event(1, topic="b"), event(2, topic="b")])
    with pytest.raises(Broken, match="expected Place"):
        play(reading, [event(2, topic="c")])


def test_a_filter_leaves_out_what_does_not_match_and_nothing_else() -> None:
    reading = begun(chosen=FILTERS[1], kinds=(0, 1))  # the odd ones match
    play(reading, [event(1, kind=1), gap(3, 4, 1), event(5, kind=1), positions(a=("e", 6))])
    assert reading.missing({"a": "e"}) == [Place("a", "e", 7), Place("a", "e", 9)]
    with pytest.raises(Broken, match="expected Place"):
        play(reading, [event(9, kind=1)])
    with pytest.raises(Broken, match="nobody asked"):
        play(begun(chosen=FILTERS[1], kinds=(0, 1), seq=1), [event(2)])


def test_what_was_left_out_before_anybody_knew_its_kind_is_found_later() -> None:
    reading = begun(chosen=FILTERS[1], published=0)
    play(reading, [event(3, kind=1)])
    assert reading.missing({"a": "e"}) == []
    reading._record.note("a", "e", 2, message(2, kind=1))
    assert reading.missing({"a": "e"}) == [Place("a", "e", 2)]


def test_what_never_came_is_missing() -> None:
    reading = begun(published=2)
    play(reading, [event(1)])
    assert reading.missing({"a": "e"}) == [Place("a", "e", 2)]
    reading._record.note("a", "f", 1, message(8))
    assert reading.missing({"a": "f"}) == [Place("a", "f", 1)]


@pytest.mark.parametrize(
    ("seqs", "acked", "told"),
    [([1, 2], 2, ""), ([1, 3], 1, "expected seq 2"), ([1], 2, "not in its topic"), ([1, 1], 1, "expected seq 2")],
)
def test_acknowledged_publishes_are_compared_with_what_is_kept(seqs: list[int], acked: int, told: str) -> None:
    judge = Judge()
    judge.acknowledge(Acked("a", message(acked)["id"], acked, False))
    judge.check_kept("a", "e", [{"seq": seq, "message": message(seq)} for seq in seqs])
    assert (told in judge.shown) if told else not judge.broken


def test_a_message_that_is_there_twice_is_found() -> None:
    judge = Judge()
    judge.check_kept("a", "e", [{"seq": seq, "message": message(1)} for seq in (1, 2)])
    assert "1 messages are there twice" in judge.shown
