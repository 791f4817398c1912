"""The start of the journal on disk: topics as they were, from as few statements as possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journals.world import RING, World, message


@pytest.mark.parametrize("later", [0, 1, RING, RING + 1])
@pytest.mark.parametrize("ttl_sec", [5, None])
def test_a_topic_expires_if_any_of_its_messages_does(tmp_path: Path, ttl_sec: int | None, later: int) -> None:
    world = World(tmp_path)
    world.create()
    world.publish(message("first", ttl_sec=5) if ttl_sec else message("first"))
    if later:
        world.publish_all(*[message(number) for number in range(later)])
    kept = world.kept()
    world.close()
    again = World(tmp_path)
    topic = again.broker.topic("t")
    assert topic.expiring is (ttl_sec is not None)
    assert (topic.seq, len(topic.ring)) == (1 + later, min(1 + later, RING))
    assert again.kept() == kept
    again.close()


def test_an_empty_topic_and_a_purged_one_come_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.create("empty")
    world.create()
    world.publish(message(), message())
    world.purge()
    world.close()
    again = World(tmp_path)
    assert again.kept() == []
    assert [(topic.name, topic.seq, len(topic.ring)) for topic in again.broker.topics] == [("empty", 0, 0), ("t", 2, 0)]
    assert again.publish(message("next")) == [3]
    again.clean_up()
    again.close()
