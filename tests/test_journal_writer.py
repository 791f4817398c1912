"""The writing thread's work, without the thread: groups of operations, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Raw

from pubsub.clock import Clock
from pubsub.errors import TopicNotFound
from pubsub.journal.memory import MemoryJournal
from pubsub.journal.writer import Append, Create, Delete, Operation, Writer
from pubsub.protocol import Message, Publish, TopicOptions
from pubsub.topic import Topic, random_epoch
from tests.harness import new_id


def make_writer(directory: Path) -> Writer:
    clock = Clock()
    return Writer(directory, now=lambda: 0.0, monotonic=clock.monotonic)


def make_topic(name: str, **options: Any) -> Topic:
    options = {"history": 1000, "durable": True} | options
    return Topic(name, random_epoch(), TopicOptions(**options), MemoryJournal(Clock()), ring_size=0)


def append(topic: Topic) -> Append:
    return Append(topic, Publish(topic=topic.name, message=Message(new_id(), Raw(b"1"))), None, "2026-01-01T00:00:00Z")


def delete(topic: Topic) -> Delete:
    return Delete(topic, lambda _: None)


def write(writer: Writer, *group: Operation) -> None:
    assert not writer.write(group).failure


def create(writer: Writer, topic: Topic) -> Topic:
    creation = Create(topic, lambda _: None)
    write(writer, creation)
    topic.number = creation.number
    return topic


def test_what_comes_late_for_a_deleted_topic_does_not_reach_the_one_that_has_its_number(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    old = create(writer, make_topic("old"))
    write(writer, delete(old))
    writer.tidy()
    new = create(writer, make_topic("new"))
    assert new.number == old.number
    late: list[Append | Delete] = [append(old), delete(old)]
    first = append(new)
    write(writer, *late, first)
    assert [type(each.failure) for each in late] == [TopicNotFound, TopicNotFound]
    assert first.event is not None
    assert first.seq == 1
    writer.close()
