"""Dead letters: each loss is in one letter, gathered for a second, bounded in number and in size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.dead_letters import GATHER_SEC, LETTER_BYTES, MAX_GATHERED, MAX_LETTERS, DeadLetters
from pubsub.core.event import StoredEvent
from pubsub.core.losses import Loss
from pubsub.core.topic_rules import TopicRules
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import BadRequest, NotStored, TopicNotFound
from pubsub.protocol.requests import TopicOptions
from tests.core.held import HeldJournal
from tests.core.test_broker import Ticks
from tests.harness import nothing_left

LETTERS = 3  # of a topic in a second


class FullJournal(HeldJournal):
    """It may be full."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting_for_room: list[Callable[[], None]] = []

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        self.waiting_for_room.append(callback)


class World:
    """A Broker with the topics ``t``, whose losses go to ``dead``, and ``plain``."""

    def __init__(self, *rules: TopicRule, **dead: Any) -> None:
        self.ticks = Ticks()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.journal = FullJournal()
        clock = Clock(lambda: 0, lambda: 0.0)
        self.broker = Broker(
            defer=self.ticks.defer,
            clock=clock,
            memory=MemoryJournal(clock),
            ring_size=100_000,
            make_durable=lambda: self.journal,
            rules=TopicRules(rules),
        )
        numbers = iter(range(1_000_000))
        self.letters = DeadLetters(
            self.broker,
            per_second=LETTERS,
            new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012d}",
            call_later=lambda delay, callback: self.timers.append((delay, callback)),
            take_turn=self.broker.turns.take,
        )
        self.broker.losses.write = self.letters.lose
        self.broker.create_topic("dead", TopicOptions(**dead))
        self.broker.create_topic("t", TopicOptions(dead_letter="dead"))
        self.broker.create_topic("plain")

    def lose(
        self, client: str, first: int, last: int, reason: Loss = Loss.OVERFLOW, topic: str = "t", size: int = 0
    ) -> None:
        events = [StoredEvent(seq, b'{"seq":%d,"x":"%b"}' % (seq, b"x" * size)) for seq in range(first, last + 1)]
        self.broker.losses.lose(client, self.broker.topic(topic), events, reason)

    def pass_second(self) -> None:
        timers, self.timers = self.timers, []
        for delay, callback in timers:
            assert delay == GATHER_SEC
            callback()
        self.end_ticks()

    def end_ticks(self) -> None:
        while self.ticks.deferred:
            self.ticks.end()

    def written(self) -> list[dict[str, Any]]:
        topic = self.broker.topic("dead")
        return [msgspec.json.decode(event.text)["message"]["payload"] for event in topic.ring.after(0, 100_000)]


def test_losses_of_a_second_are_one_letter() -> None:
    world = World()
    world.lose("alice", 3, 4)
    world.lose("alice", 6, 8)
    assert world.written() == []
    world.pass_second()
    assert world.written() == [
        {
            "reason": "overflow",
            "topic": "t",
            "client_id": "alice",
            "from_seq": 3,
            "to_seq": 8,
            "count": 5,
            "messages": [{"seq": seq, "x": ""} for seq in (3, 4, 6, 7, 8)],
        }
    ]
    world.lose("alice", 9, 9)
    world.pass_second()
    assert [letter["from_seq"] for letter in world.written()] == [3, 9]
    assert world.letters.written == 2


def test_each_client_and_reason_has_a_letter() -> None:
    world = World()
    world.lose("alice", 1, 1)
    world.lose("bob", 1, 1)
    world.lose("alice", 2, 2, Loss.DISCONNECTED)
    world.pass_second()
    found = [(letter["client_id"], letter["reason"], letter["count"]) for letter in world.written()]
    assert found == [("alice", "overflow", 1), ("bob", "overflow", 1), ("alice", "disconnected", 1)]


def test_a_topic_without_the_option_writes_nothing() -> None:
    world = World()
    world.lose("alice", 1, 9, topic="plain")
    world.lose("alice", 1, 9, topic="dead")
    world.pass_second()
    assert world.written() == []


def test_more_clients_than_letters_are_counted_in_one() -> None:
    world = World()
    for number in range(10):
        world.lose(f"c{number}", 1, 2)
        world.lose("c0", 3, 3)
    world.pass_second()
    found = [(letter["client_id"], letter["count"], len(letter["messages"])) for letter in world.written()]
    assert found == [("c0", 12, 12), ("c1", 2, 2), ("c2", 2, 2), (None, 14, 14)]
    world.lose("c9", 5, 5)
    world.pass_second()
    assert world.written()[-1]["client_id"] == "c9"


def test_a_letter_is_bounded_and_its_count_is_exact() -> None:
    world = World()
    for first in range(1, 1000, 10):
        world.lose("alice", first, first + 9, size=1000)
    world.pass_second()
    (letter,) = world.written()
    assert (letter["from_seq"], letter["to_seq"], letter["count"]) == (1, 1000, 1000)
    kept = [message["seq"] for message in letter["messages"]]
    assert kept == list(range(1, len(kept) + 1))
    assert LETTER_BYTES - 1100 < sum(len(msgspec.json.encode(each)) for each in letter["messages"]) <= LETTER_BYTES


def test_all_letters_together_keep_a_bounded_number_of_bytes() -> None:
    world = World()
    for number in range(600):
        world.broker.create_topic(f"t{number}", TopicOptions(dead_letter="dead"))
        world.lose("alice", 1, 60, topic=f"t{number}", size=1000)
    assert MAX_GATHERED - 2000 < world.letters._size <= MAX_GATHERED
    world.pass_second()
    assert world.letters._size == 0
    assert sum(letter["count"] for letter in world.written()) == 600 * 60


def test_letters_are_published_one_in_a_turn() -> None:
    world = World()
    for client in ("a", "b", "c"):
        world.lose(client, 1, 1)
    (_, close), *_ = world.timers
    close()
    counts = []
    while world.ticks.deferred:
        counts.append(len(world.written()))
        world.ticks.end()
    assert [count for count, before in zip(counts, [-1, *counts], strict=False) if count != before][:3] == [0, 1, 2]
    assert len(world.written()) == 3


def test_losses_whose_letters_cannot_be_written_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.broker.delete_topic("dead")
    world.end_ticks()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            world.lose("alice", 1, 5)
            world.pass_second()
    assert world.letters.unwritten == {"dead": 15}
    (record,) = [each for each in caplog.records if "Dead letters" in each.message]
    assert record.getMessage() == ("Dead letters of topic t cannot be published to dead: Topic 'dead' does not exist")
    world.broker.create_topic("dead")
    world.lose("alice", 6, 6)
    world.pass_second()
    assert [letter["from_seq"] for letter in world.written()] == [6]
    assert world.letters.unwritten == {}


def test_letters_wait_for_a_full_journal_and_are_bounded_meanwhile() -> None:
    world = World()
    world.broker.create_topic("slow", TopicOptions(durable=True))
    world.journal.end()
    world.broker.create_topic("u", TopicOptions(dead_letter="slow"))
    world.journal.full = True
    for _ in range(MAX_LETTERS // LETTERS + 2):
        for client in ("a", "b", "c"):
            world.lose(client, 1, 1, topic="u")
        world.pass_second()
    assert len(world.letters._letters) == MAX_LETTERS
    assert world.letters.unwritten == {"slow": (MAX_LETTERS // LETTERS + 2) * LETTERS - MAX_LETTERS}
    world.journal.full = False
    world.journal.waiting_for_room[0]()
    world.end_ticks()
    world.journal.end()
    assert world.broker.topic("slow").seq == world.letters.written == MAX_LETTERS


def test_a_letter_that_the_journal_refuses_is_counted() -> None:
    world = World()
    world.broker.create_topic("slow", TopicOptions(durable=True))
    world.journal.end()
    world.broker.create_topic("u", TopicOptions(dead_letter="slow"))
    world.lose("alice", 1, 4, topic="u")
    world.pass_second()
    world.journal.end(failure=NotStored())
    assert world.letters.unwritten == {"slow": 4}
    assert world.letters._size == 0


def test_at_the_end_all_letters_are_written_at_once() -> None:
    world = World()
    world.lose("alice", 1, 1)
    world.pass_second()
    world.lose("bob", 2, 2)
    world.letters.close_all()
    assert [letter["client_id"] for letter in world.written()] == ["alice", "bob"]
    world.pass_second()
    assert len(world.written()) == 2


@pytest.mark.parametrize(
    ("name", "dead", "text"),
    [
        ("new", "none", "dead_letter: topic 'none' does not exist"),
        ("new", "new", "dead_letter: expected another topic than 'new' itself"),
        ("new", "t", "dead_letter: topic 't' has a dead_letter of its own"),
        ("new", "orders.*", "dead_letter: expected"),
        ("new", "", "dead_letter: expected"),
        ("gone", "plain", "dead_letter: expected none, because topic 'gone' is the dead_letter of another"),
    ],
)
def test_a_dead_letter_topic_exists_and_has_none_itself(name: str, dead: str, text: str) -> None:
    world = World()
    world.broker.create_topic("gone")
    world.broker.create_topic("u", TopicOptions(dead_letter="gone"))
    world.broker.delete_topic("gone")
    with pytest.raises(BadRequest, match=text.replace("*", r"\*")):
        world.broker.create_topic(name, TopicOptions(dead_letter=dead))
    with pytest.raises(TopicNotFound):
        world.broker.find_topic(name)


def test_a_topic_is_free_again_once_no_other_names_it() -> None:
    world = World()
    world.broker.delete_topic("t")
    world.broker.delete_topic("dead")
    world.broker.create_topic("dead", TopicOptions(dead_letter="plain"))
    assert world.broker.topic("dead").options.dead_letter == "plain"


def test_a_rule_gives_dead_letters_to_all_topics_but_the_one_that_gets_them() -> None:
    options = {"dead_letter": "lost"}
    world = World(TopicRule(pattern=">", create=True, options=options))
    assert world.broker.rules.options_of("room", {}).dead_letter == "lost"
    assert world.broker.rules.options_of("lost", {}).dead_letter is None
    world.broker.create_topic("room", world.broker.rules.options_of("room", {}))
    assert world.broker.topic("lost").options.dead_letter is None


def test_nothing_is_left_of_a_topic_that_is_gone() -> None:
    world = World()
    world.lose("alice", 1, 1)
    world.pass_second()
    with nothing_left(DeadLetters):
        del world
