"""The work of the writing thread, without the thread: groups of operations, and their results."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw, structs

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.journal import random_epoch
from pubsub.journals.cleaning import DELETED_AT_ONCE, TRIM_ROWS
from pubsub.journals.operations import Append, AppendAll, Create, Delete, Operation, Purge, TopicHandle
from pubsub.journals.store import MAX_SEQ, Store
from pubsub.journals.writer import Writer
from pubsub.protocol.errors import NotStored, TopicExists, TopicNotFound
from pubsub.protocol.requests import Message, Publish, TopicOptions
from tests.harness import new_id


def make_writer(directory: Path) -> Writer:
    clock = Clock()
    return Writer(directory, now=lambda: 0.0, monotonic=clock.monotonic)


def make_topic(name: str, **options: Any) -> TopicHandle:
    options = {"history": 1000, "durable": True} | options
    return TopicHandle(name, random_epoch(), TopicOptions(**options))


def append(topic: TopicHandle) -> Append:
    return Append(topic, [new_publish(topic)], None, "2026-01-01T00:00:00Z")


def new_publish(topic: TopicHandle) -> Publish:
    return Publish(topic=topic.name, message=Message(new_id(), Raw(b"1")))


def seqs(operation: Append | AppendAll) -> list[int]:
    """The ``seq`` of each event."""
    events = operation.outcomes if isinstance(operation, Append) else operation.events
    return [outcome.seq for outcome in events if isinstance(outcome, StoredEvent)]


def append_all(topic: TopicHandle, count: int) -> AppendAll:
    return AppendAll(topic, [new_publish(topic) for _ in range(count)], lambda _: None, "2026-01-01T00:00:00Z")


def delete(topic: TopicHandle) -> Delete:
    return Delete(topic, lambda _: None)


def purge(topic: TopicHandle) -> Purge:
    return Purge(topic, lambda _: None)


def write(writer: Writer, *group: Operation) -> None:
    assert not writer.write(group).failure


def create(writer: Writer, topic: TopicHandle) -> TopicHandle:
    creation = Create(topic, lambda _: None)
    write(writer, creation)
    topic.number = creation.number
    return topic


def test_what_comes_late_for_a_deleted_topic_does_not_reach_the_one_that_has_its_number(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    old = create(writer, make_topic("old"))
    write(writer, delete(old))
    writer.clean_up()
    new = create(writer, make_topic("new"))
    assert new.number == old.number
    late: list[Append | Delete] = [append(old), delete(old)]
    first = append(new)
    write(writer, *late, first)
    assert [type(each.failure) for each in late] == [TopicNotFound, TopicNotFound]
    assert seqs(first) == [1]
    writer.close()


@contextlib.contextmanager
def unsynced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write the log, but let ``fsync`` fail: the next program that opens the log finds the refused operations."""
    original = Store.transaction

    @contextlib.contextmanager
    def transaction(store: Store) -> Iterator[None]:
        with original(store):
            yield
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", transaction)
        yield


def test_what_was_refused_is_taken_back_where_the_disk_has_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path)
    topic = create(writer, make_topic("t", history=1, dedup_sec=60))
    gone = create(writer, make_topic("gone"))
    coming = make_topic("coming")
    write(writer, append(topic), append(gone))
    refused = [append(topic) for _ in range(100)]
    lists = append_all(topic, 3)
    with unsynced(monkeypatch):
        for _ in range(2):
            assert writer.write([lists, *refused, append(gone), delete(gone), Create(coming, lambda _: None)]).failure
            assert all(each.failure is not None and not each.outcomes for each in refused)
            assert lists.failure is not None
            assert not lists.events
    again = Append(topic, refused[0].requests, None, "2026-01-01T00:00:00Z")
    result = writer.write([again])
    assert seqs(again) == [2]
    assert {extent.number for extent in result.extents} == {topic.number, gone.number}
    rows = {row.name: row for row in writer.open().topics()}
    assert {name: row.seq for name, row in rows.items()} == {"t": 2, "gone": 1}
    assert rows["t"].bytes == sum(
        len(event.text) for event in writer.open().read(topic.number, 0, MAX_SEQ, 10, 1_000_000, now=0)
    )
    create(writer, coming)
    writer.close()


def test_a_conflict_in_a_group_that_fails_is_a_failure_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seq counts messages that are not on disk: the publisher must not be told of it."""
    writer = make_writer(tmp_path)
    topic = create(writer, make_topic("t", dedup_sec=60))
    first = append(topic)
    again = Append(topic, first.requests, None, first.ts)
    late = append(topic)
    late.requests = [structs.replace(late.requests[0], expect_seq=0)]
    with unsynced(monkeypatch):
        assert writer.write([first, again, late]).failure
    assert [type(each.failure) for each in (first, again, late)] == [NotStored] * 3
    alone = Append(topic, late.requests, None, late.ts)
    write(writer, alone)
    assert seqs(alone) == [1]
    writer.close()


def test_messages_can_be_appended_in_the_group_that_creates_their_topic(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    old = create(writer, make_topic("t"))
    new = make_topic("t")
    late, first, more = append(old), append(new), append_all(new, 2)
    write(writer, delete(old), Create(new, lambda _: None), late, first, more)
    assert isinstance(late.failure, TopicNotFound)
    assert (seqs(first), seqs(more)) == ([1], [2, 3])
    assert [(row.name, row.epoch, row.seq) for row in writer.open().topics()] == [("t", new.epoch, 3)]
    writer.close()


def test_a_topic_that_was_not_created_takes_no_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those in later groups. The disk may have it all the same, and then nothing of it stays."""
    writer = make_writer(tmp_path)
    lost = make_topic("lost")
    refused: list[Append | AppendAll] = [append(lost), append_all(lost, 2), append(lost), append_all(lost, 2)]
    with unsynced(monkeypatch):
        assert writer.write([Create(lost, lambda _: None), *refused[:2]]).failure
    write(writer, *refused[2:])
    assert [type(each.failure) for each in refused] == [NotStored] * 4
    assert writer.open().topics() == []
    other = create(writer, make_topic("other"))
    assert writer.open().read(other.number, 0, MAX_SEQ, 10, 1_000_000, now=0) == []
    first = append(other)
    write(writer, first)
    assert seqs(first) == [1]
    writer.close()


def test_a_name_is_taken_only_once(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    create(writer, make_topic("t"))
    second = make_topic("t")
    creation, refused = Create(second, lambda _: None), append(second)
    write(writer, creation, refused)
    assert [type(creation.failure), type(refused.failure)] == [TopicExists, NotStored]
    writer.close()


def test_the_events_of_deleted_topics_are_deleted_in_slices(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    large = create(writer, make_topic("large", history=10_000, dedup_sec=60))
    write(writer, append_all(large, TRIM_ROWS + 1))
    small = [make_topic(f"small.{number}") for number in range(DELETED_AT_ONCE)]
    write(writer, *[operation for topic in small for operation in (Create(topic, lambda _: None), append(topic))])
    write(writer, *[delete(topic) for topic in [large, *small]])
    left = [len(small) + 1]
    while writer.clean_up().more:
        left.append(len(writer.open().deleted(1000)))
    assert left == [101, 101, 101, 1, 0]  # the events of the large one, its ids, then most of the small ones
    assert create(writer, make_topic("next")).number == 1
    assert writer.open().read(1, 0, MAX_SEQ, 10, 1_000_000, now=0) == []
    writer.close()


def test_a_number_is_not_lost_where_a_name_is_taken(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    create(writer, make_topic("t"))
    write(writer, Create(make_topic("t"), lambda _: None))
    assert create(writer, make_topic("u")).number == 2
    writer.close()
