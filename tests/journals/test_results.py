"""Results of large groups: they are told in turns, and in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pubsub.journals.operations import Create
from pubsub.journals.results import COSTS, TOLD_AT_ONCE
from pubsub.protocol.requests import TopicOptions
from tests.journals.world import Outcomes, World, message

COUNT = 2 * TOLD_AT_ONCE + 10


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.create(history=100_000)
    yield world
    world.close()


def test_many_publishes_of_a_group_are_answered_in_turns(world: World) -> None:
    outcomes, ended = Outcomes(), list[str]()
    for _ in range(COUNT):
        world.broker.publish([message()], outcomes)
    world.write_group()
    assert len(outcomes.given) == TOLD_AT_ONCE
    assert world.broker.topic("t").seq == TOLD_AT_ONCE
    assert world.durable is not None
    world.durable.call_after(lambda: ended.append("ended"))
    world.take_turn()
    assert len(outcomes.given) == 2 * TOLD_AT_ONCE
    assert ended == []
    world.settle()
    assert outcomes.given == list(range(1, COUNT + 1))
    assert ended == ["ended"]


def test_a_list_takes_a_turn_of_its_own_and_counts_with_all_its_messages(world: World) -> None:
    given = list[Any]()
    for _ in range(3):
        world.broker.publish_all("t", [message() for _ in range(TOLD_AT_ONCE)], "", given.append)
    world.write_group()
    assert len(given) == 1
    world.take_turn()
    assert len(given) == 2
    world.settle()
    assert [assignments[-1].seq for assignments in given] == [TOLD_AT_ONCE, 2 * TOLD_AT_ONCE, 3 * TOLD_AT_ONCE]


def test_a_topic_that_begins_or_ends_counts_as_much_as_some_messages(world: World) -> None:
    at_once = TOLD_AT_ONCE // COSTS[Create]
    for number in range(3 * at_once):
        world.broker.create_topic(f"new.{number}", TopicOptions(durable=True))
    world.write_group()
    assert world.broker.topic_count == 1 + at_once
    world.take_turn()
    assert world.broker.topic_count == 1 + 2 * at_once
    world.settle()
    assert world.broker.topic_count == 1 + 3 * at_once


def test_a_purged_topic_is_empty_at_the_moment_of_the_answer(world: World) -> None:
    """The sizes of the topics after a group come in a later turn."""
    world.publish(message())
    sizes = list[int]()
    topic = world.broker.topic("t")
    world.broker.purge("t", lambda _: sizes.append(topic.stored_bytes))
    world.broker.publish_all("t", [message() for _ in range(TOLD_AT_ONCE)], "", lambda _: None)
    world.broker.publish([message()], Outcomes())
    world.write_group()
    assert sizes == [0]
    world.settle()
    assert topic.stored_bytes > 100 * TOLD_AT_ONCE


def test_the_bytes_of_publishes_count_until_their_results_are_told(world: World) -> None:
    assert world.durable is not None
    for _ in range(COUNT):
        world.broker.publish([message("x" * 10_000)], Outcomes())
    assert world.durable.full
    writable = list[str]()
    assert world.broker.call_when_writable(lambda: writable.append("now"))
    world.write_group()
    assert (world.durable.full, writable) == (False, [])
    world.settle()
    assert writable == ["now"]


def test_a_fault_of_one_publisher_leaves_the_others_their_answers(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Outcomes):
        def published(self, *_: object) -> None:
            raise RuntimeError("a fault")

    outcomes = Outcomes()
    for publisher in (outcomes, Faulty(), outcomes):
        world.broker.publish([message()], publisher)
    world.settle()
    assert outcomes.given == [1, 3]
    assert caplog.text.count("Internal error at the end of a group of the journal") == 1
