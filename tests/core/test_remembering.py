"""Topics with a history in memory: resume, expiry, duplicates. Step by step, with a clock that the test sets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.history import MAX_ANSWER
from pubsub.journals.dedup import RecentIds, id_key
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.requests import Message, Publish, TopicOptions
from tests.core.test_broker import RING, Client, Ticks, seqs
from tests.harness import new_id


class World:
    """A Broker, a client and a clock that shows ``now``."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ticks = Ticks()
        epochs = iter(range(1000))
        clock = Clock(lambda: 0, lambda: self.now)
        self.broker = Broker(
            defer=self.ticks.defer,
            clock=clock,
            memory=MemoryJournal(clock, lambda: f"e{next(epochs)}"),
            ring_size=RING,
        )
        self.client = self.connect()

    def connect(self) -> Client:
        return Client(self.broker, "c")

    def publish(self, count: int = 1, **more: Any) -> list[int]:
        """Publish to ``t``; return the ``seq`` of each message."""
        given = []
        for number in range(count):
            request = {"type": "publish", "topic": "t", "message": {"id": new_id(), "payload": number}} | more
            given.append(self.client.ask(**request)["seq"])
            self.client.take()
        self.ticks.end()
        return given

    def subscribe(self, **more: Any) -> tuple[Any, list[Any]]:
        """Subscribe on a new connection; return the ack, and all messages that followed it at once."""
        client = self.connect()
        ack = client.ask(type="subscribe", topic="t", **more)
        return ack, client.take()[1:]

    def resume(self, seq: int, epoch: str = "e0") -> tuple[bool, list[Any]]:
        """Resume; return True if it was recovered, and what followed: a number for an event, a pair for a gap."""
        ack, told = self.subscribe(resume={"t": {"epoch": epoch, "seq": seq}})
        return ack["recovered"], [facts(message) for message in told]


def facts(message: Any) -> Any:
    return message["seq"] if message["type"] == "event" else (message["from_seq"], message["to_seq"])


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("seq", "recovered", "told"),
    [
        (10, True, []),
        (9, True, [10]),
        (6, True, [7, 8, 9, 10]),
        (5, False, [(6, 6), 7, 8, 9, 10]),
        (0, False, [(1, 6), 7, 8, 9, 10]),
        (11, False, [(1, 6), 7, 8, 9, 10]),  # numbers that this topic never assigned
    ],
)
def test_row_41_resume_replays_what_was_missed_or_tells_what_is_gone(
    world: World, seq: int, recovered: bool, told: list[Any]
) -> None:
    world.broker.create_topic("t")
    world.publish(10)
    assert world.resume(seq) == (recovered, told)


def test_row_41_another_epoch_is_never_recovered_and_gets_all_that_is_kept(world: World) -> None:
    world.broker.create_topic("t")
    world.publish(3)
    assert world.resume(3, epoch="another") == (False, [1, 2, 3])
    assert world.resume(0, epoch="another") == (False, [1, 2, 3])


def test_an_empty_topic_is_recovered_from_its_beginning(world: World) -> None:
    world.broker.create_topic("t")
    assert world.resume(0) == (True, [])


def test_resume_wins_over_last_n_and_counts_for_its_own_topic_alone(world: World) -> None:
    world.broker.create_topic("t")
    world.publish(4)
    _, told = world.subscribe(last_n=4, resume={"t": {"epoch": "e0", "seq": 3}})
    assert seqs(told) == [4]
    ack, told = world.subscribe(last_n=2, resume={"other": {"epoch": "e0", "seq": 3}})
    assert seqs(told) == [3, 4]
    assert "recovered" not in ack


def test_resume_while_a_tick_is_full_of_publishes_misses_nothing(world: World) -> None:
    world.broker.create_topic("t")
    early = world.connect()
    early.ask(type="subscribe", topic="t")
    for number in range(3):
        world.client.publish("t", number)
    late = world.connect()
    late.ask(type="subscribe", topic="t", resume={"t": {"epoch": "e0", "seq": 1}})
    world.client.publish("t", 3)
    world.ticks.end()
    assert seqs(late.take()) == [2, 3, 4]
    assert seqs(early.take()) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "resume",
    [7, [], {"t": 7}, {"t": {"epoch": "e0"}}, {"t": {"seq": 1}}, {"t": {"epoch": "e0", "seq": -1}},
     {"t": {"epoch": 7, "seq": 1}}, {"t": {"epoch": "e0", "seq": 1.5}}],
    ids=str,
)  # fmt: skip
def test_a_resume_that_makes_no_sense_is_a_bad_request_that_names_it(world: World, resume: Any) -> None:
    world.broker.create_topic("t")
    error = world.connect().ask(type="subscribe", topic="t", resume=resume)["error"]
    assert error["code"] == "BAD_REQUEST"
    assert error["message"].startswith("resume")
    assert world.broker.subscriber_count == 0


def test_history_is_the_topic_s_own(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(history=7))
    world.publish(10)
    _, told = world.subscribe(last_n=10)
    assert seqs(told) == list(range(4, 11))
    world.broker.delete_topic("t")
    world.broker.create_topic("t", TopicOptions(history=0))
    world.publish(2)
    assert world.subscribe(last_n=10)[1] == []


def test_a_topic_in_memory_can_t_be_told_to_keep_without_end(world: World) -> None:
    with pytest.raises(BadRequest, match="history: expected at most 1000000 of a topic that is not durable"):
        world.broker.create_topic("t", TopicOptions(history=1_000_001))
    assert world.broker.topic_count == 0


def test_row_44_what_has_expired_is_neither_replayed_nor_in_the_history(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(ttl_sec=10))
    world.publish(2)
    world.now += 6
    world.publish(1)
    world.now += 4
    assert seqs(world.subscribe(last_n=10)[1]) == [3]
    assert world.resume(0) == (False, [(1, 2), 3])
    assert world.resume(2) == (True, [3])
    answer = world.client.ask(type="history", topic="t", last_n=3)
    assert ([event["seq"] for event in answer["messages"]], answer["complete"]) == ([3], False)
    world.now += 6
    assert world.subscribe(last_n=10)[1] == []
    assert world.resume(2) == (False, [(3, 3)])
    assert world.resume(3) == (True, [])


def test_row_44_a_publish_may_set_a_shorter_time_but_no_longer_one(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(ttl_sec=10))
    world.publish(ttl_sec=100)
    world.publish(ttl_sec=5)
    world.publish()
    world.now += 5
    assert seqs(world.subscribe(last_n=10)[1]) == [1, 3]
    assert world.resume(0) == (False, [1, (2, 2), 3])
    world.now += 5
    assert world.subscribe(last_n=10)[1] == []


def test_row_44_a_time_of_a_message_s_own_holds_where_the_topic_has_none(world: World) -> None:
    world.broker.create_topic("t")
    world.publish(2)
    world.publish(ttl_sec=5)
    assert world.resume(1) == (True, [2, 3])
    world.now += 5
    assert world.resume(1) == (False, [2, (3, 3)])


def test_row_44_an_expired_message_lets_go_of_its_memory_at_the_next_publish(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(ttl_sec=10))
    world.publish(3)
    world.now += 10
    world.publish(1)
    assert [event.seq for event in world.broker.topics[0].ring.after(0, 10)] == [4]


def test_row_44_a_list_of_messages_frees_as_many_expired_ones_as_it_adds(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(ttl_sec=10, history=100_000))
    for _ in range(3):
        requests = [Publish(topic="t", message=Message(new_id(), Raw(b"1"))) for _ in range(1000)]
        world.broker.publish_all("t", requests, "", lambda _: None)
        assert len(world.broker.topics[0].ring) == 1000
        world.now += 10


@pytest.mark.parametrize("ttl", [0, -1, "1", True, None, 1e300], ids=str)
def test_a_ttl_that_makes_no_sense_is_a_bad_request_that_names_it(world: World, ttl: Any) -> None:
    world.broker.create_topic("t")
    request = {"type": "publish", "topic": "t", "message": {"id": new_id(), "payload": 1}, "ttl_sec": ttl}
    error = world.client.ask(**request)["error"]
    assert error["code"] == "BAD_REQUEST"
    assert error["message"].startswith("ttl_sec: expected a number")


def test_row_42_a_message_with_an_id_that_was_seen_is_acknowledged_and_delivered_to_no_one(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(dedup_sec=10))
    subscriber = world.connect()
    subscriber.ask(type="subscribe", topic="t")
    subscriber.take()
    request: Any = {"type": "publish", "topic": "t", "message": {"id": new_id(), "payload": 1}}
    first = world.client.ask(**request)
    world.client.take()
    request["message"]["id"] = request["message"]["id"].upper()
    again = world.client.ask(**request | {"request_id": "again"})
    world.client.take()
    world.ticks.end()
    assert "duplicate" not in first
    assert again == first | {"duplicate": True}
    assert seqs(subscriber.take()) == [1]
    assert world.broker.topics[0].seq == 1
    world.now += 10
    later = world.client.ask(**request)
    assert later["seq"] == 2
    assert "duplicate" not in later


def test_row_42_ids_are_remembered_for_each_topic_apart_and_not_without_dedup_sec(world: World) -> None:
    for name in ("t", "u"):
        world.broker.create_topic(name, TopicOptions(dedup_sec=10))
    world.broker.create_topic("v")
    message = {"id": new_id(), "payload": 1}
    for name, expected in (("t", [1, 1]), ("u", [1, 1]), ("v", [1, 2])):
        given = []
        for _ in range(2):
            given.append(world.client.ask(type="publish", topic=name, message=message)["seq"])
            world.client.take()
        assert given == expected


def test_a_topic_made_anew_remembers_no_id(world: World) -> None:
    message = {"id": new_id(), "payload": 1}
    for _ in range(2):
        world.broker.create_topic("t", TopicOptions(dedup_sec=10))
        assert "duplicate" not in world.client.ask(type="publish", topic="t", message=message)
        world.client.take()
        world.broker.delete_topic("t")


def test_remembered_ids_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    seen = RecentIds("t", window=10, limit=3)
    keys = [id_key(new_id()) for _ in range(5)]
    for seq, key in enumerate(keys, 1):
        assert seen.find(key, 0) is None
        seen.add(key, seq, now=0)
    assert len(seen) == 3
    assert [seen.find(key, 9.9) for key in keys] == [None, None, 3, 4, 5]
    assert [seen.find(key, 10) for key in keys] == [None] * 5
    assert len(seen) == 0
    assert caplog.text.count("the oldest are forgotten") == 1


def test_an_answer_of_history_has_a_limit_in_bytes_that_says_what_to_ask_for(world: World) -> None:
    world.broker.create_topic("t", TopicOptions(history=100))
    size = MAX_ANSWER // 10
    for _ in range(20):
        world.client.session.receive(
            json.dumps({"type": "publish", "topic": "t", "message": {"id": new_id(), "payload": "x" * size}})
        )
    error = world.connect().ask(type="history", topic="t", after=0)["error"]
    assert error["code"] == "LIMIT_EXCEEDED"
    assert f"{MAX_ANSWER} bytes" in error["message"]
    assert "about 9 messages" in error["message"]


def test_a_single_message_above_that_limit_is_answered(world: World) -> None:
    world.broker.create_topic("t")
    request = {"type": "publish", "topic": "t", "message": {"id": new_id(), "payload": "x" * MAX_ANSWER}}
    world.client.session.receive(json.dumps(request))
    kept: list[Any] = []
    world.broker.history_last("t", 1, kept.append)
    assert len(kept[0].events) == 1
