"""A purge of a topic on disk: its rows go in slices, and it survives a crash at any moment."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pubsub.core.log import Assignment
from pubsub.journals.cleaning import TRIM_ROWS
from pubsub.journals.store import Store
from tests.journals.test_writer import append, append_all, create, make_topic, make_writer, purge, unsynced, write
from tests.journals.world import World, message

ROWS = 2 * TRIM_ROWS + 500


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    world = World(directory)
    yield world
    world.close()


def rows(directory: Path, table: str = "events") -> int:
    with sqlite3.connect(f"file:{directory}/journal.db?mode=ro", uri=True) as disk:
        (count,) = disk.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


def publish_list(world: World, count: int) -> list[Assignment]:
    outcome = world.publish_all(*[message() for _ in range(count)])
    assert isinstance(outcome, list)
    return outcome


def test_the_rows_go_after_the_purge_and_those_of_later_messages_stay(world: World, directory: Path) -> None:
    world.create(history=100_000, dedup_sec=60)
    world.create("other", history=100_000)
    publish_list(world, ROWS)
    world.publish(message(topic="other"))
    assert world.purge() == ROWS
    assert rows(directory) == ROWS + 1
    world.publish(message("after"))
    world.clean_up()
    assert rows(directory) == 2
    assert rows(directory, "seen") == ROWS + 1
    assert [event["seq"] for event in world.kept()] == [ROWS + 1]
    assert world.broker.topic("t").stored_bytes == len(world.broker.topic("t").ring.after(ROWS, 1)[0].text)


def test_one_clean_up_deletes_one_slice(tmp_path: Path) -> None:
    """A publish waits for one slice at most, not for all of them."""
    writer = make_writer(tmp_path)
    topic = create(writer, make_topic("t", history=100_000))
    write(writer, append_all(topic, ROWS), purge(topic))
    left = []
    while writer.clean_up().more:
        left.append(rows(tmp_path))
    assert left == [ROWS - TRIM_ROWS, ROWS - 2 * TRIM_ROWS, 0]
    writer.close()


def test_a_purge_holds_after_a_restart_in_the_middle_of_its_deletion(world: World, directory: Path) -> None:
    world.create(history=100_000, dedup_sec=60)
    last = message()
    publish_list(world, ROWS)
    world.publish(last)
    world.purge()
    before = world.broker.topic("t").epoch
    world.close()
    assert rows(directory) == ROWS + 1
    again = World(directory)
    topic = again.broker.topic("t")
    assert (topic.seq, topic.epoch, topic.stored_bytes, len(topic.ring)) == (ROWS + 1, before, 0, 0)
    assert again.kept() == []
    member = again.subscribe(seq=5)
    member.joining.advance()
    assert (member.recovered, member.facts) == (False, [(6, ROWS + 1)])
    assert again.publish(message(message_id=last.message.id), message()) == [(ROWS + 1,), ROWS + 2]
    again.clean_up()
    assert rows(directory) == 1
    again.close()


def test_a_copy_of_the_files_at_any_moment_has_the_purge_or_has_it_not(world: World, directory: Path) -> None:
    """A crash: the files as they are, without the end of the program."""
    world.create(history=100_000)
    publish_list(world, ROWS)
    shutil.copytree(directory, directory.with_name("before"))
    world.purge()
    shutil.copytree(directory, directory.with_name("after"))
    world.clean_up()
    shutil.copytree(directory, directory.with_name("cleaned"))
    for name, kept in (("before", ROWS), ("after", 0), ("cleaned", 0)):
        copy = World(directory.with_name(name))
        topic = copy.broker.topic("t")
        assert (topic.seq, topic.seq - topic.oldest + 1, topic.stored_bytes > 0) == (ROWS, kept, kept > 0)
        copy.clean_up()
        assert rows(directory.with_name(name)) == kept
        copy.close()


def test_a_topic_that_is_deleted_after_its_purge_leaves_no_rows(world: World, directory: Path) -> None:
    world.create()
    publish_list(world, ROWS)
    world.purge()
    publish_list(world, 3)
    world.broker.delete_topic("t")
    world.settle()
    world.create()
    world.clean_up()
    assert rows(directory) == 0
    assert world.publish(message()) == [1]


def test_a_resume_knows_of_a_purge_before_the_news_of_it_came(world: World) -> None:
    """The disk has the purge, and the loop answers the resume before it gets the result of the group."""
    world.create(history=100_000)
    publish_list(world, 500)
    world.broker.purge("t", lambda _: None)
    results = world.hold_results()
    results()
    member = world.subscribe(seq=20)
    assert member.recovered is False


def test_a_purge_that_was_refused_is_taken_back_where_the_disk_has_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path)
    topic = create(writer, make_topic("t"))
    write(writer, append_all(topic, 10), append(topic))
    (before,) = writer.open().topics()
    refused: list[Any] = [append_all(topic, 3), purge(topic), append(topic), purge(topic), append_all(topic, 2)]
    with unsynced(monkeypatch):
        for _ in range(2):
            assert writer.write(refused).failure
            assert all(each.failure is not None for each in refused)
    assert writer.open().topics() == [before]
    assert [event.seq for event in writer.open().read(topic.number, 0, 99, 99, 1 << 20, now=0)] == list(range(1, 12))
    with unsynced(monkeypatch):
        assert writer.write([purge(topic)]).failure
    assert writer.open().topics() == [before]
    assert not writer.clean_up().more
    writer.close()


def test_a_purge_that_was_refused_and_rolled_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path)
    topic = create(writer, make_topic("t"))
    write(writer, append_all(topic, 10))
    (before,) = writer.open().topics()

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "update", fail)
        assert writer.write([append(topic), purge(topic), append(topic)]).failure
    assert writer.open().topics() == [before]
    writer.close()


def test_a_message_that_was_refused_after_a_purge_leaves_the_size_without_the_purged_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path)
    topic = create(writer, make_topic("t"))
    write(writer, append_all(topic, 10), purge(topic), append(topic))
    (before,) = writer.open().topics()
    with unsynced(monkeypatch):
        assert writer.write([append(topic)]).failure
    assert writer.open().topics() == [before]
    writer.close()
