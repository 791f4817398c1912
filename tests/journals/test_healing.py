"""Holes in the records of topics: what is read when, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pubsub.core.event import StoredEvent
from pubsub.journals.shared import healing
from pubsub.journals.shared.engine import Known
from pubsub.journals.shared.healing import HEALING_AT_ONCE, RETRY, Healing
from pubsub.protocol.errors import Failure, NotStored, TopicNotFound

Page = Sequence[StoredEvent] | Failure


class Log:
    """A topic's log, and its topic, as Healing sees them."""

    def __init__(self, name: str = "t") -> None:
        self.name = name
        self.epoch = "e"
        self.seq = self.target = 0
        self.topic: Any = self

    @property
    def known(self) -> Known:
        return Known(self.name, self.epoch, self.target)


class World:
    """A Healing, its questions that wait for an answer, and what it delivered."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, int, int, Callable[[Page], None]]] = []
        self.taken: list[tuple[str, list[int], int]] = []
        self.ended: list[str] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        engine: Any = self
        take: Any = self._take
        end: Any = lambda log: self.ended.append(log.name)  # noqa: E731
        self.healing: Any = Healing(engine, take, end, lambda seconds, work: self.timers.append((seconds, work)))

    def read(self, known: Known, after: int, until: int, limit: int, done: Callable[[Page], None]) -> None:
        assert limit == healing.PAGE
        self.questions.append((known.name, after, until, done))

    def _take(self, log: Log, events: Sequence[StoredEvent], until: int) -> None:
        self.taken.append((log.name, [event.seq for event in events], until))
        log.seq = until

    def answer(self, *seqs: int) -> None:
        """Answer the oldest question with these events."""
        self.questions.pop(0)[3]([StoredEvent(seq, b"") for seq in seqs])

    def refuse(self, failure: Failure) -> None:
        self.questions.pop(0)[3](failure)

    @property
    def asked(self) -> list[tuple[str, int, int]]:
        return [question[:3] for question in self.questions]

    def pass_time(self) -> None:
        timers, self.timers = self.timers, []
        for seconds, work in timers:
            assert seconds == RETRY
            work()


def test_a_hole_is_read_page_by_page_up_to_the_last_event_that_is_known() -> None:
    world, log = World(), Log()
    world.healing.heal(log, 5)
    world.healing.heal(log, 7)
    world.healing.heal(log, 6)
    assert world.asked == [("t", 0, 5)]
    world.answer(1, 2)
    assert world.asked == [("t", 2, 7)]
    assert log in world.healing
    world.answer(3, 5, 6, 7)
    assert world.taken == [("t", [1, 2], 2), ("t", [3, 5, 6, 7], 7)]
    assert (world.asked, world.ended, log in world.healing) == ([], ["t"], False)


def test_events_that_are_gone_are_told_up_to_where_they_were_asked_for() -> None:
    world, log = World(), Log()
    world.healing.heal(log, 5)
    world.healing.heal(log, 7)
    world.answer()
    world.answer(6, 7)
    assert world.taken == [("t", [], 5), ("t", [6, 7], 7)]


def test_few_topics_are_read_at_a_time_and_no_topic_that_has_ended() -> None:
    world = World()
    logs = [Log(f"t{number}") for number in range(HEALING_AT_ONCE + 3)]
    for log in logs:
        world.healing.heal(log, 1)
    assert len(world.asked) == HEALING_AT_ONCE
    world.healing.stop(logs[HEALING_AT_ONCE])
    for number in range(len(logs) - 1):
        assert len(world.asked) == min(HEALING_AT_ONCE, len(logs) - 1 - number)
        world.answer(1)
    assert world.ended == [log.name for log in logs if log is not logs[HEALING_AT_ONCE]]


def test_a_page_of_a_topic_that_has_ended_is_not_taken() -> None:
    world, log = World(), Log()
    world.healing.stop(log)
    world.healing.heal(log, 2)
    world.healing.stop(log)
    world.answer(1, 2)
    assert (world.taken, world.asked) == ([], [])


def test_a_page_of_another_epoch_is_not_taken() -> None:
    world, log = World(), Log()
    world.healing.heal(log, 2)
    world.healing.stop(log)
    log.epoch = "f"
    world.healing.heal(log, 2)
    world.answer(1, 2)
    assert world.taken == []
    world.answer(1, 2)
    assert world.taken == [("t", [1, 2], 2)]


@pytest.mark.parametrize("ends", [True, False])
def test_a_page_that_cannot_be_read_is_read_a_little_later_unless_the_topic_has_ended(ends: bool) -> None:
    world, log = World(), Log()
    world.healing.heal(log, 2)
    world.refuse(NotStored())
    assert world.asked == []
    if ends:
        world.healing.stop(log)
        log.topic = None
    world.pass_time()
    assert world.asked == ([] if ends else [("t", 0, 2)])


def test_a_topic_that_is_gone_is_not_read_again() -> None:
    world, log = World(), Log()
    healed: list[bool] = []
    world.healing.heal(log, 2)
    world.healing.call_when_healed(lambda: healed.append(True))
    world.refuse(TopicNotFound("t"))
    assert (world.asked, world.timers, log in world.healing, healed) == ([], [], False, [True])


def test_who_waits_is_called_once_all_topics_have_what_was_missing_then() -> None:
    world = World()
    first, second, later = Log("first"), Log("second"), Log("later")
    healed: list[str] = []
    world.healing.call_when_healed(lambda: healed.append("nothing is missing"))
    assert healed == ["nothing is missing"]
    world.healing.heal(first, 1)
    world.healing.heal(second, 1)
    world.healing.call_when_healed(lambda: healed.append("both"))
    world.healing.heal(later, 1)
    world.answer(1)
    assert healed == ["nothing is missing"]
    world.healing.stop(second)
    assert healed == ["nothing is missing", "both"]
